package relay

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxToken bounds a token; those of the service have a few hundred bytes.
const maxToken = 4 << 10

// right is what a token must allow.
type right int

const (
	toListen right = iota
	toSend
)

// denial is why a token is not taken.
type denial struct {
	status int // 401: it is no valid token; 403: it is one for something else
	reason string
}

// tokenOf takes the token out of a request: from its query, or its header
// ServiceBusAuthorization, or Authorization if the entity wants one.
func tokenOf(r *http.Request, e *entity) string {
	if token := r.URL.Query().Get("sb-hc-token"); token != "" {
		return token
	}
	if token := r.Header.Get("ServiceBusAuthorization"); token != "" {
		return token
	}
	if !e.Anonymous {
		return r.Header.Get("Authorization")
	}
	return ""
}

// verify checks a token: its signature, its time, what it is for and what it allows. It returns
// when the token ends.
func (s *Server) verify(token string, e *entity, want right) (time.Time, *denial) {
	until, isValid, err := s.parse(token, e, want)
	switch {
	case err != nil:
		return time.Time{}, &denial{http.StatusUnauthorized, err.Error()}
	case !isValid:
		return time.Time{}, &denial{http.StatusForbidden, "UnauthorizedAccess: the token is not valid for this path and this action"}
	}
	return until, nil
}

func (s *Server) parse(token string, e *entity, want right) (time.Time, bool, error) {
	if token == "" {
		return time.Time{}, false, errors.New("MissingToken: there is no token")
	}
	rest, isSigned := strings.CutPrefix(token, "SharedAccessSignature ")
	if !isSigned || len(token) > maxToken {
		return time.Time{}, false, errors.New("MalformedToken: the token is no shared access signature")
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(rest, "&") {
		k, v, _ := strings.Cut(part, "=")
		parts[k] = v
	}
	signature, err1 := url.QueryUnescape(parts["sig"])
	name, err2 := url.QueryUnescape(parts["skn"])
	audience, err3 := url.QueryUnescape(parts["sr"])
	end, err4 := strconv.ParseInt(parts["se"], 10, 64)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return time.Time{}, false, errors.New("MalformedToken: the token cannot be read")
	}
	rule := s.signedBy(name, parts["sr"]+"\n"+parts["se"], signature, e)
	if rule == nil {
		return time.Time{}, false, errors.New("InvalidSignature: the token has an invalid signature")
	}
	until := time.Unix(end, 0)
	if !s.now().Before(until) {
		return time.Time{}, false, errors.New("ExpiredToken: the token is expired")
	}
	allowed := want == toListen && rule.Listen || want == toSend && rule.Send
	return until, allowed && covers(audience, e.Name), nil
}

// signedBy returns the rule, of the entity or of the namespace, that has signed a text.
func (s *Server) signedBy(name, text, signature string, e *entity) *Rule {
	for _, rule := range slices.Concat(e.Rules, s.cfg.Rules) {
		mac := hmac.New(sha256.New, []byte(rule.Key))
		mac.Write([]byte(text))
		signed := base64.StdEncoding.EncodeToString(mac.Sum(nil))
		if rule.Name == name && rule.Key != "" && hmac.Equal([]byte(signed), []byte(signature)) {
			return &rule
		}
	}
	return nil
}

// covers reports whether an audience, which is an address, is that of an entity or of the whole
// namespace. The host is not compared: this server has one namespace, and no name.
func covers(audience, entity string) bool {
	_, rest, isAddress := strings.Cut(audience, "://")
	if !isAddress {
		return false
	}
	_, path, _ := strings.Cut(rest, "/")
	path = strings.Trim(strings.TrimPrefix(path, "$hc/"), "/")
	return path == "" || strings.EqualFold(path, entity)
}
