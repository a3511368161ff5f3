package servicebus

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Limits of tokens.
const (
	maxToken   = 8 << 10
	bearerTime = time.Hour // how long a token counts whose end is not known
)

// errToken is the answer to anything that is not a SAS token signed with a known
// key; what the client says of the token's type is not looked at.
var errToken = errors.New("InvalidSignature: The token has an invalid signature.")

// verify checks a token for an entity (in lower case; empty for the namespace):
// its signature, its time and its audience.
func (s *Server) verify(token, entity string) (Rule, time.Time, error) {
	if len(token) > maxToken {
		return Rule{}, time.Time{}, errToken
	}
	rest, ok := strings.CutPrefix(token, "SharedAccessSignature ")
	if !ok {
		if s.cfg.TrustBearer && token != "" {
			return Rule{Name: "bearer", Send: true, Listen: true, Manage: true}, s.now().Add(bearerTime), nil
		}
		return Rule{}, time.Time{}, errToken
	}
	parts := map[string]string{}
	for _, p := range strings.Split(rest, "&") {
		k, v, _ := strings.Cut(p, "=")
		parts[k] = v
	}
	sig, err1 := url.QueryUnescape(parts["sig"])
	name, err2 := url.QueryUnescape(parts["skn"])
	audience, err3 := url.QueryUnescape(parts["sr"])
	until, err4 := strconv.ParseInt(parts["se"], 10, 64)
	if errors.Join(err1, err2, err3, err4) != nil {
		return Rule{}, time.Time{}, errToken
	}
	rule, keys := s.key(name, entity)
	signed := false
	for _, key := range keys {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(parts["sr"] + "\n" + parts["se"]))
		want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
		signed = signed || key != "" && hmac.Equal([]byte(want), []byte(sig))
	}
	if !signed {
		return Rule{}, time.Time{}, errToken
	}
	expires := time.Unix(until, 0)
	if !s.now().Before(expires) {
		return Rule{}, time.Time{}, errors.New("ExpiredToken: The token is expired. Expiration time: " + expires.UTC().Format(time.RFC1123))
	}
	if path := audiencePath(audience); path != "" && path != entity && !strings.HasPrefix(entity, path+"/") {
		return Rule{}, time.Time{}, errors.New("InvalidAudience: The token is for another entity.")
	}
	return rule, expires, nil
}

// key finds a rule of the namespace, or else of the entity, with its keys.
func (s *Server) key(name, entity string) (Rule, []string) {
	if rule, ok := s.rules[name]; ok {
		return rule, []string{rule.Key}
	}
	e, _ := s.find(strings.TrimSuffix(entity, managementSuffix))
	if e == nil {
		return Rule{}, nil
	}
	return e.rule(name)
}

// audiencePath is the entity that a token's audience names, in lower case; empty
// for the namespace. An audience is an address, its host alone, or a path alone.
func audiencePath(audience string) string {
	path := audience
	if _, rest, ok := strings.Cut(audience, "://"); ok {
		_, path, _ = strings.Cut(rest, "/")
	} else if host, rest, _ := strings.Cut(audience, "/"); isHost(host) {
		path = rest
	}
	path, _, _ = strings.Cut(path, "?")
	return strings.ToLower(strings.Trim(path, "/"))
}

// isHost tells a host, with its port, from a queue.
func isHost(s string) bool {
	_, port, err := net.SplitHostPort(s)
	_, notNumber := strconv.Atoi(port)
	return err == nil && notNumber == nil || net.ParseIP(s) != nil || s == "localhost"
}
