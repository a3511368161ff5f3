package servicebus

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/servicebus/amqp"
)

// sign makes a token of the rule "root" for an entity.
func sign(s *Server, entity string, until time.Time) string {
	return signFor(s, "sb://"+s.Addr()+"/"+entity, until)
}

func signFor(s *Server, audience string, until time.Time) string {
	sr, se := url.QueryEscape(audience), fmt.Sprint(until.Unix())
	mac := hmac.New(sha256.New, []byte(s.keys["root"].Key))
	mac.Write([]byte(sr + "\n" + se))
	return fmt.Sprintf(
		"SharedAccessSignature sr=%s&sig=%s&se=%s&skn=root",
		sr,
		url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil))),
		se,
	)
}

func TestTokens(t *testing.T) {
	t.Parallel()
	s := strict(t, usual)
	later, earlier := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	for name, test := range map[string]struct {
		token, entity string
		ok            bool
	}{
		"for the queue":       {sign(s, "plain", later), "plain", true},
		"for what is below":   {sign(s, "plain", later), "plain/$management", true},
		"for the namespace":   {sign(s, "", later), "plain", true},
		"for another queue":   {sign(s, "work", later), "plain", false},
		"for a longer name":   {sign(s, "pla", later), "plain", false},
		"expired":             {sign(s, "plain", earlier), "plain", false},
		"changed":             {sign(s, "plain", later) + "x", "plain", false},
		"a bearer's":          {"eyJhbGciOiJub25lIn0.e30.", "plain", false},
		"nothing":             {"", "plain", false},
		"longer than allowed": {"SharedAccessSignature " + string(make([]byte, maxToken)), "plain", false},
	} {
		if _, _, err := s.verifyToken(test.token, test.entity); (err == nil) != test.ok {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAudiences(t *testing.T) {
	t.Parallel()
	for audience, want := range map[string]string{
		"sb://host/Plain": "plain", "amqps://host:5671/a/b/": "a/b", "https://host/": "", "http://host": "", "https://host/q?api-version=1": "q",
		"127.0.0.2:5671": "", "127.0.0.2": "", "localhost/q": "q", "[::1]:5671/q": "q", "plain": "plain", "/plain": "plain", "a/b": "a/b",
	} {
		if got := audiencePath(audience); got != want {
			t.Errorf("%s: got %q, want %q", audience, got, want)
		}
	}
}

func FuzzToken(f *testing.F) {
	s := strict(f, usual)
	genuine := signFor(s, "sb://bus/plain", time.Unix(4102444800, 0)) // the same in every process
	_, sig, _ := strings.Cut(genuine, "&sig=")
	sig, _, _ = strings.Cut(sig, "&")
	sig, _ = url.QueryUnescape(sig)
	f.Add(genuine, "plain")
	f.Add("SharedAccessSignature sr=%zz&sig=&se=9&skn=root", "")
	f.Add("SharedAccessSignature sr&sig&se&skn", "plain/$management")
	f.Fuzz(func(t *testing.T, token, entity string) {
		if _, _, err := s.verifyToken(token, entity); err == nil {
			if plain, _ := url.QueryUnescape(token); strings.Contains(plain, sig) {
				return // the genuine one, written in another way
			}
			t.Errorf("a token that was not signed is good: %q for %q", token, entity)
		}
	})
}

// FuzzManagement sends requests of any form to the management node.
func FuzzManagement(f *testing.F) {
	s := strict(f, usual)
	for name := range operations {
		for _, body := range []amqp.Map{
			{{Key: "from-sequence-number", Value: int64(0)}, {Key: "message-count", Value: int32(5)}},
			{{Key: "lock-tokens", Value: amqp.Array{amqp.UUID{1}}}, {Key: "disposition-status", Value: "suspended"}, {Key: "deadletter-reason", Value: "r"}},
			{{Key: "sequence-numbers", Value: amqp.Array{int64(1)}}, {Key: "receiver-settle-mode", Value: uint32(1)}},
			{{Key: "session-id", Value: "s"}, {Key: "session-state", Value: []byte("x")}},
			{{Key: "messages", Value: amqp.List{amqp.Map{{Key: "message", Value: amqp.Append(nil, amqp.Described{Code: amqp.CodeData, Value: []byte("x")})}}}}},
			{{Key: "last-updated-time", Value: time.UnixMilli(0)}, {Key: "skip", Value: int32(-1)}, {Key: "top", Value: int32(1 << 30)}},
		} {
			f.Add(name, amqp.Append(nil, body))
		}
	}
	f.Fuzz(func(t *testing.T, operation string, body []byte) {
		c := newConn(s, nil)
		c.claims["plain"] = claim{AccessKey{Manage: true}, time.Now().Add(time.Hour)}
		c.claims["work"] = c.claims["plain"]
		l := &outLink{wake: make(chan struct{}, 1)}
		c.inbox["back"] = l
		request := amqp.Append(nil, amqp.Composite(amqp.CodeProperties, "id", nil, nil, nil, "back"))
		request = amqp.Append(
			request,
			amqp.Described{Code: amqp.CodeApplicationProperties, Value: amqp.Map{{Key: "operation", Value: operation}}},
		)
		request = append(append(request, 0, 0x53, amqp.CodeValue), body...)
		for _, name := range []string{"plain", "work", "plain/$DeadLetterQueue"} {
			e, q := s.find(name)
			before := len(l.answers)
			c.manage(e, q, name, request)
			if _, err := amqp.ParseMessage(request); err == nil && len(l.answers) != before+1 {
				t.Errorf("%s on %s: got %d answers, want one", operation, name, len(l.answers)-before)
			}
		}
	})
}
