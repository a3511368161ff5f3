package servicebus

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/coder/websocket"
)

// amqpProtocol is the sub-protocol that a client asks for to speak AMQP over a WebSocket.
const amqpProtocol = "amqp"

// upgrade makes an HTTP connection a WebSocket on which AMQP is spoken: the bytes
// of its binary messages are the stream, wherever one message ends. The origin is
// not looked at here, the door in front of this handler has done so. When a time
// to read is over the connection ends without a word of AMQP, because a WebSocket
// cannot be used after that.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	asked := strings.Split(strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ","), ",")
	if !slices.ContainsFunc(asked, func(name string) bool { return strings.TrimSpace(name) == amqpProtocol }) {
		http.Error(w, "the sub-protocol is "+amqpProtocol, http.StatusBadRequest)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols:       []string{amqpProtocol},
		InsecureSkipVerify: true,
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		return // the client has its answer
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.serveAMQP(webSocket{
		Conn:   websocket.NetConn(ctx, ws, websocket.MessageBinary),
		socket: ws,
		cancel: cancel,
	})
}

// webSocket is the stream of bytes in the binary messages of a WebSocket.
type webSocket struct {
	net.Conn
	socket *websocket.Conn
	cancel context.CancelFunc
}

// Close ends the connection at once: AMQP has its own words of farewell.
func (w webSocket) Close() error {
	defer w.cancel()
	return w.socket.CloseNow()
}
