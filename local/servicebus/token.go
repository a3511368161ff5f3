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
	bearerTime = time.Hour // how long a token is valid whose end is unknown
)

// errToken is the answer to all but a SAS token that is signed with a known key. The
// type that the client gives for the token is ignored.
var errToken = errors.New("InvalidSignature: The token has an invalid signature.")

// verifyToken checks a token for an entity (in lower case; empty for the namespace):
// its signature, its time and its audience.
func (s *Server) verifyToken(token, entity string) (AccessKey, time.Time, error) {
	if len(token) > maxToken {
		return AccessKey{}, time.Time{}, errToken
	}
	rest, ok := strings.CutPrefix(token, "SharedAccessSignature ")
	if !ok {
		if s.cfg.TrustBearer && token != "" {
			return AccessKey{Name: "bearer", Send: true, Listen: true, Manage: true}, s.now().Add(bearerTime), nil
		}
		return AccessKey{}, time.Time{}, errToken
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
		return AccessKey{}, time.Time{}, errToken
	}
	rule, keys := s.findKey(name, entity)
	signed := false
	for _, key := range keys {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(parts["sr"] + "\n" + parts["se"]))
		want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
		signed = signed || key != "" && hmac.Equal([]byte(want), []byte(sig))
	}
	if !signed {
		return AccessKey{}, time.Time{}, errToken
	}
	expires := time.Unix(until, 0)
	if !s.now().Before(expires) {
		return AccessKey{}, time.Time{}, errors.New(
			"ExpiredToken: The token is expired. Expiration time: " + expires.UTC().Format(time.RFC1123),
		)
	}
	if path := audiencePath(audience); path != "" && path != entity && !strings.HasPrefix(entity, path+"/") {
		return AccessKey{}, time.Time{}, errors.New("InvalidAudience: The token is for another entity.")
	}
	return rule, expires, nil
}

// findKey finds an access key of the namespace, or else of the entity, and its secrets.
func (s *Server) findKey(name, entity string) (AccessKey, []string) {
	if rule, ok := s.keys[name]; ok {
		return rule, []string{rule.Key}
	}
	e, _ := s.find(strings.TrimSuffix(entity, managementSuffix))
	if e == nil {
		return AccessKey{}, nil
	}
	return e.accessKey(name)
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

// isHost reports whether a text is a host with or without a port, and not a queue.
func isHost(s string) bool {
	_, port, err := net.SplitHostPort(s)
	_, notNumber := strconv.Atoi(port)
	return err == nil && notNumber == nil || net.ParseIP(s) != nil || s == "localhost"
}
