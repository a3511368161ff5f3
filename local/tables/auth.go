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
// bounds how long a request that was overheard can be sent again.
const maxClockSkew = 15 * time.Minute

// authorize checks the shared key, in both of its forms.
func (s *Server) authorize(r *http.Request, query url.Values) bool {
	date := r.Header.Get("x-ms-date")
	if date == "" {
		date = r.Header.Get("Date")
	}
	at, err := http.ParseTime(date)
	if err != nil || time.Since(at).Abs() > maxClockSkew {
		return false
	}
	resource := "/" + s.cfg.Account + r.URL.EscapedPath()
	if query.Has("comp") {
		resource += "?comp=" + query.Get("comp")
	}
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	account, signature, _ := strings.Cut(strings.TrimSpace(rest), ":")
	var sign string
	switch scheme {
	case "SharedKeyLite":
		sign = date + "\n" + resource
	case "SharedKey":
		sign = strings.Join([]string{r.Method, r.Header.Get("Content-MD5"), r.Header.Get("Content-Type"), date, resource}, "\n")
	default:
		return false
	}
	got, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(sign))
	return hmac.Equal(mac.Sum(nil), got) && account == s.cfg.Account
}
