// Package relay is a client of Azure Relay Hybrid Connections, as listener and as sender, and
// makes the tokens for both. Microsoft has none for Go.
//
// A listener and a sender both connect out, to the namespace, which joins them: nothing listens
// at an address, and nothing is billed while nobody listens.
//
// It decides nothing about who may come in: the namespace checks the tokens, and whoever
// listens looks at the path before it accepts.
//
// Source: https://learn.microsoft.com/azure/azure-relay/relay-hybrid-connections-protocol.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"

	"dsvmpools/shared/door"
	"dsvmpools/shared/fault"
)

// SSH is what follows the address of an entity to reach an sshd behind it; the id of the session
// follows behind a slash, since the sessions of a node share its entity.
const SSH = "/ssh"

// Desktop is the same for the desktop of the session, by RDP.
const Desktop = "/rdp"

// TicketHeader is the header in which a program shows the door of a node a ticket for a desktop.
const TicketHeader = "Dsvm-Ticket"

// TicketDesktop is what such a ticket says that it is for; one for a browser says nothing.
const TicketDesktop = "rdp"

// Times and limits of a client.
const (
	dialTime   = 40 * time.Second // the namespace waits 30 s for a listener
	pingEvery  = 30 * time.Second // a control channel without traffic is dropped after some 4 minutes
	pingTime   = 20 * time.Second
	maxRefusal = 1 << 10 // of a refusal's text
)

// client makes the connections. Each is one WebSocket, so that nothing is kept for another one.
var client = &http.Client{
	Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTime}).DialContext,
		TLSHandshakeTimeout: dialTime,
		DisableKeepAlives:   true,
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Dial connects to who listens at an entity. address is wss://NAMESPACE/$hc/ENTITY with what
// the listener wants behind it, such as SSH. token, which allows Send, is "" if the entity wants
// none. ctx bounds the connecting alone.
//
// The bytes go both ways in binary messages. Close says to the other end that this one is
// done; what was written before arrives. Neither end can close one direction alone.
//
// Errors: fault.NotFound: nobody listens there; fault.Forbidden: the token is not taken, or the
// listener has refused; fault.Throttled; else fault.Internal.
func Dial(ctx context.Context, address, token string) (net.Conn, error) {
	return DialWith(ctx, address, token, nil)
}

// DialWith is Dial with headers that the listener wants, such as a ticket.
func DialWith(ctx context.Context, address, token string, headers http.Header) (net.Conn, error) {
	at, err := addressWith(address, "connect")
	if err != nil {
		return nil, err
	}
	socket, err := dialWith(ctx, at, token, "", headers)
	if err != nil {
		return nil, err
	}
	socket.SetReadLimit(-1)
	return &stream{websocket.NetConn(context.Background(), socket, websocket.MessageBinary)}, nil
}

// stream is a WebSocket as a stream of bytes.
type stream struct{ net.Conn }

// maxFrame is the most that one message has: the namespace and the other end hold no more of
// it at a time.
const maxFrame = 64 << 10

// Write sends bytes, in messages of up to 64 KiB.
func (s *stream) Write(p []byte) (int, error) {
	done := 0
	for {
		n, err := s.Conn.Write(p[done:min(len(p), done+maxFrame)])
		done += n
		if err != nil || done == len(p) {
			return done, err
		}
	}
}

// addressWith adds an action to the address of an entity.
func addressWith(address, action string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "wss" && u.Scheme != "ws" || u.Host == "" || !strings.HasPrefix(u.Path, socketPath) {
		return "", fault.New(fault.Invalid, "", "the address of a relay is wss://NAMESPACE/$hc/ENTITY")
	}
	if u.Scheme == "ws" && !door.IsLoopback(u.Hostname()) {
		return "", fault.New(fault.Invalid, "", "the address of a relay begins with wss://, since tokens go there")
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += "sb-hc-action=" + action
	return u.String(), nil
}

// dial opens a WebSocket.
func dial(ctx context.Context, address, token, protocol string) (*websocket.Conn, error) {
	return dialWith(ctx, address, token, protocol, nil)
}

func dialWith(ctx context.Context, address, token, protocol string, headers http.Header) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	if headers = headers.Clone(); headers == nil {
		headers = http.Header{}
	}
	if token != "" {
		headers.Set("ServiceBusAuthorization", token)
	}
	options := &websocket.DialOptions{HTTPClient: client, HTTPHeader: headers}
	if protocol != "" {
		options.Subprotocols = []string{protocol}
	}
	socket, answer, err := websocket.Dial(ctx, address, options)
	if err != nil {
		return nil, refusal(answer, err)
	}
	return socket, nil
}

// refusal makes an error of the answer to a handshake. The address is not in it: it may hold
// a secret.
func refusal(answer *http.Response, err error) error {
	if answer == nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return &fault.Error{Code: fault.Internal, Message: "the relay cannot be reached", Err: err}
	}
	text := ""
	if answer.Body != nil {
		b, _ := io.ReadAll(io.LimitReader(answer.Body, maxRefusal))
		text = strings.TrimSpace(string(b))
	}
	if text == "" {
		_, text, _ = strings.Cut(answer.Status, " ")
	}
	code, what := fault.Internal, "the relay answers"
	switch answer.StatusCode {
	case http.StatusNotFound, http.StatusBadGateway, http.StatusGatewayTimeout:
		code, what = fault.NotFound, "nobody listens there"
	case http.StatusUnauthorized, http.StatusForbidden:
		code, what = fault.Forbidden, "the relay lets nobody in with this token"
	case http.StatusGone:
		code, what = fault.Gone, "the address has been used"
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		code, what = fault.Throttled, "the relay is busy"
	}
	return &fault.Error{Code: code, Message: what, Err: fmt.Errorf("%d %s", answer.StatusCode, text)}
}

// socketPath is what the paths of entities begin with.
const socketPath = "/$hc/"
