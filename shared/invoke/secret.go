package invoke

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"dsvmpools/shared/door"
	"dsvmpools/shared/intake"
)

// SecretSetting is the environment variable in which a host says where its handler
// finds their secret: the number of an inherited file, to be read to its end. The
// secret itself is in no environment and in no list of processes. The real host
// has none, and keeps others out by its sandbox.
const SecretSetting = "DSVM_HOST_SECRET_FILE"

// Headers between a host and a handler that share a secret. The host sends the
// secret on every request. Before the first one it has the handler prove by a
// question that it is the one that was started, since otherwise another program
// that took its port first would learn the secret.
const (
	HeaderSecret   = "X-Dsvm-Host-Secret"
	HeaderQuestion = "X-Dsvm-Host-Question"
	HeaderProof    = "X-Dsvm-Handler-Proof"
)

// maxSecret bounds what is read for a secret.
const maxSecret = 256

// secretTime is far longer than a host, which has written the secret before it
// starts its handler, can need.
const secretTime = 5 * time.Second

// ReadSecret reads the secret that the host has handed over; "" when it has none.
// The file is closed: what this process starts does not inherit it.
func ReadSecret(getenv func(string) string) (string, error) {
	number := getenv(SecretSetting)
	if number == "" {
		return "", nil
	}
	n, err := strconv.Atoi(number)
	if err != nil || n <= 2 {
		return "", fmt.Errorf(
			"%s is %.20q; it is the number of a file that the host has opened, and the local host alone sets it",
			SecretSetting,
			number,
		)
	}
	file := os.NewFile(uintptr(n), "secret")
	if file == nil {
		return "", fmt.Errorf("%s names no open file", SecretSetting)
	}
	defer file.Close()
	_ = file.SetReadDeadline(time.Now().Add(secretTime)) // not every kind of file has one
	secret, err := io.ReadAll(io.LimitReader(file, maxSecret))
	if err != nil || len(secret) == 0 {
		return "", fmt.Errorf("the secret of the host cannot be read from the file that %s names: %w", SecretSetting, err)
	}
	return string(secret), nil
}

// Prove answers the host's question as only one who knows the secret can.
func Prove(secret, question string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("handler " + question))
	return hex.EncodeToString(mac.Sum(nil))
}

// Guard has the app refuse what does not come from its host. With a secret, that
// is whatever lacks it. Without one it is what a web page can have a browser send:
// foreign hosts, unless the app runs in the cloud, whose host may name its own;
// foreign origins; and invocations that are no JSON.
func Guard(secret string, cloud bool) Option {
	return func(a *App) { a.guard = &guard{secret, door.Door{AnyHost: cloud, Forwarded: true, Pages: true}} }
}

type guard struct {
	secret string
	door   door.Door
}

// strangers is the answer to a caller without the secret.
var strangers = &door.Refusal{
	Status: http.StatusForbidden,
	Reason: "this port is for the Functions host alone; call the host, at the address in instance.json",
}

// admits reports whether a request may come in, and answers it otherwise.
func (g *guard) admits(w http.ResponseWriter, r *http.Request) bool {
	if why := g.check(w, r); why != nil {
		intake.Keep(w, r, intake.Pace{Total: time.Second}) // for what nobody reads
		why.Write(w)
		return false
	}
	return true
}

func (g *guard) check(w http.ResponseWriter, r *http.Request) *door.Refusal {
	if g.secret == "" {
		why := g.door.Check(r)
		if why == nil && !strings.HasPrefix(r.URL.Path, "/api/") && !strings.HasPrefix(r.URL.Path, "/web/") {
			why = door.PlainBody(r)
		}
		return why
	}
	given := r.Header.Get(HeaderSecret)
	r.Header.Del(HeaderSecret) // no function and no log has any use for it
	if subtle.ConstantTimeCompare([]byte(given), []byte(g.secret)) == 1 {
		return nil
	}
	if question := r.Header.Get(HeaderQuestion); r.Method == http.MethodGet && r.URL.Path == "/" && question != "" {
		w.Header().Set(HeaderProof, Prove(g.secret, question))
	}
	return strangers
}
