// Package way leads people to a node by TCP, past the relay. It has the way itself, which the
// app signs and the door of any node checks, the line by which a connection shows it, and the
// client, which people's programs and the doors of nodes are.
//
// Who connects sends one line first, and gets one line as an answer:
//
//	DSVM1 <way>\n            from a person's program
//	DSVM1 hop <way>\n        from the door of another node
//	DSVM1 ok\n               the bytes of the session follow
//	DSVM1 absent <reason>\n  nothing leads there now
//	DSVM1 no <reason>\n      this way is not taken
//
// A way opens nothing by itself: behind it, SSH asks for a certificate, and JupyterLab's door for
// a cookie. Whoever reads it on its path gets as far as they do.
//
// The package knows no pool and no session; it decides nothing about who gets a way.
package way

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// What a way leads to.
const (
	SSH = "ssh" // the session's SSH server
	Web = "web" // the session's JupyterLab
)

// Way leads to one session on one node, until it expires.
type Way struct {
	For     string `json:"for"` // SSH or Web
	Session string `json:"session"`
	// Inside is where the door of the session's node listens for other doors: IP:PORT. "" = the
	// door that is connected to is the one.
	Inside  string `json:"inside,omitempty"`
	Expires int64  `json:"expires"` // seconds since 1970
}

const (
	// purpose is signed before each way: what the same key has signed for something else is none.
	purpose = "dsvmpools way\n"
	// skew is how far the clocks of the app and of a node may differ.
	skew = time.Minute
	// maxWay bounds the text of a way.
	maxWay = 1 << 10
)

// ErrInvalid is all that a stranger learns of a way that is not taken.
var ErrInvalid = errors.New("this way is not valid here, or no more; get another one with `dsvm connect`")

// Sign writes a way as Read reads it.
func Sign(key ed25519.PrivateKey, w Way) (string, error) {
	body, err := json.Marshal(w)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString
	return text(body) + "." + text(ed25519.Sign(key, append([]byte(purpose), body...))), nil
}

// Read reads a way that has not expired and that one of these keys has signed. The error is
// ErrInvalid.
func Read(text string, keys []ed25519.PublicKey, now time.Time) (Way, error) {
	var w Way
	if len(text) > maxWay {
		return w, ErrInvalid
	}
	payload, signature, _ := strings.Cut(text, ".")
	body, err1 := base64.RawURLEncoding.DecodeString(payload)
	sig, err2 := base64.RawURLEncoding.DecodeString(signature)
	if err1 != nil || err2 != nil {
		return w, ErrInvalid
	}
	for _, key := range keys {
		if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, append([]byte(purpose), body...), sig) {
			continue
		}
		if err := json.Unmarshal(body, &w); err != nil || w.Session == "" || now.Unix() > w.Expires+int64(skew/time.Second) {
			return Way{}, ErrInvalid
		}
		return w, nil
	}
	return w, ErrInvalid
}

// ReadKey reads a public key as nodes are told it: base64. nil = it is none.
func ReadKey(text string) ed25519.PublicKey {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil
	}
	return key
}
