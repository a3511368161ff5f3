package relay

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"dsvmpools/shared/door"
)

// Limits of what comes on a control channel.
const (
	maxMessage = 128 << 10 // a message, or a body of up to 64 KB
	maxHeaders = 200
)

// message is what the namespace says on a control channel, or at the address of a request.
type message struct {
	Accept  *acceptMessage  `json:"accept"`
	Request *requestMessage `json:"request"`
}

type acceptMessage struct {
	Address string            `json:"address"`
	ID      string            `json:"id"`
	Headers map[string]string `json:"connectHeaders"`
}

type requestMessage struct {
	Address string            `json:"address"`
	ID      string            `json:"id"`
	Target  string            `json:"requestTarget"`
	Method  string            `json:"method"` // "" = the request is at the address
	Headers map[string]string `json:"requestHeaders"`
	Body    bool              `json:"body"`
}

// answerMessage is the head of an answer.
type answerMessage struct {
	Response answerHead `json:"response"`
}

type answerHead struct {
	RequestID   string            `json:"requestId"`
	Status      int               `json:"statusCode"`
	Description string            `json:"statusDescription"`
	Headers     map[string]string `json:"responseHeaders"`
	Body        bool              `json:"body"`
}

type renewMessage struct {
	Renew struct {
		Token string `json:"token"`
	} `json:"renewToken"`
}

// parseMessage reads a message. secure says that its address must be one with TLS. What this
// client does not know is no error, and nothing.
func parseMessage(text []byte, secure bool) (message, error) {
	var m message
	if err := json.Unmarshal(text, &m); err != nil {
		return message{}, errors.New("the relay's message is no JSON")
	}
	if m.Accept != nil && (!isAddress(m.Accept.Address, secure) || len(m.Accept.Headers) > maxHeaders) {
		return message{}, errors.New("the relay's message has no address to come to")
	}
	if q := m.Request; q != nil {
		if q.Method == "" && !isAddress(q.Address, secure) || len(q.Headers) > maxHeaders {
			return message{}, errors.New("the relay's message has no address to come to")
		}
		if q.Method != "" && (q.ID == "" || !strings.HasPrefix(q.Target, "/")) {
			return message{}, errors.New("the relay's request has no id or no target")
		}
	}
	return m, nil
}

func isAddress(text string, secure bool) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && u.User == nil && strings.HasPrefix(u.Path, socketPath) &&
		(u.Scheme == "wss" || !secure && u.Scheme == "ws" && door.IsLoopback(u.Hostname()))
}

// headersOf makes headers of those in a message.
func headersOf(values map[string]string) http.Header {
	h := make(http.Header, len(values))
	for name, value := range values {
		h.Set(name, value)
	}
	return h
}

// suffixOf is what follows an entity in the path of an address; query is without what is the
// relay's own.
func suffixOf(address, entity string) (suffix, query string) {
	u, err := url.Parse(address)
	if err != nil {
		return "", ""
	}
	path := strings.TrimPrefix(u.Path, socketPath)
	if len(path) < len(entity) || !strings.EqualFold(path[:len(entity)], entity) {
		return "", ""
	}
	var rest []string
	for part := range strings.SplitSeq(u.RawQuery, "&") {
		if part != "" && !strings.HasPrefix(strings.ToLower(part), "sb-hc-") {
			rest = append(rest, part)
		}
	}
	return path[len(entity):], strings.Join(rest, "&")
}
