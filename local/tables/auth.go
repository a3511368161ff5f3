package tables

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxClockSkew is how far a request's date may be off, as with the service; it
// bounds how long a recorded request can be sent again.
const maxClockSkew = 15 * time.Minute

// authorize checks who sends a request: with the shared key, in both of its
// forms, or with a shared access signature, which has limited rights.
func (s *Server) authorize(r *http.Request, query url.Values) (*grant, *failure) {
	given := r.Header.Get("Authorization")
	if given == "" && query.Has("sig") {
		return s.readSignature(r, query)
	}
	date := r.Header.Get("x-ms-date")
	if date == "" {
		date = r.Header.Get("Date")
	}
	at, err := http.ParseTime(date)
	if err != nil || time.Since(at).Abs() > maxClockSkew {
		return nil, errRefused
	}
	resource := "/" + s.cfg.Account + r.URL.EscapedPath()
	if query.Has("comp") {
		resource += "?comp=" + query.Get("comp")
	}
	scheme, rest, _ := strings.Cut(given, " ")
	account, signature, _ := strings.Cut(strings.TrimSpace(rest), ":")
	var text string
	switch scheme {
	case "SharedKeyLite":
		text = date + "\n" + resource
	case "SharedKey":
		text = strings.Join([]string{r.Method, r.Header.Get("Content-MD5"), r.Header.Get("Content-Type"), date, resource}, "\n")
	default:
		return nil, errRefused
	}
	if account != s.cfg.Account || !s.isSigned(text, signature) {
		return nil, errRefused
	}
	return nil, nil
}

// isSigned reports whether a signature is that of the account's key.
func (s *Server) isSigned(text, signature string) bool {
	got, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(text))
	return hmac.Equal(mac.Sum(nil), got)
}
