package servicebus

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/coder/websocket"
)

// amqpProtocols are the sub-protocols in which a client asks for AMQP over a WebSocket: the
// registered one, and the older one of the SDKs for Python and JavaScript.
var amqpProtocols = []string{"amqp", "AMQPWSB10"}

// upgrade makes an HTTP connection a WebSocket on which AMQP is spoken: the bytes
// of its binary messages are the stream, wherever one message ends. The origin is
// not looked at here, the door in front of this handler has done so. When a time
// to read is over the connection ends without a word of AMQP, because a WebSocket
// cannot be used after that.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	asked := strings.Split(strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ","), ",")
	if !slices.ContainsFunc(asked, func(name string) bool { return slices.Contains(amqpProtocols, strings.TrimSpace(name)) }) {
		http.Error(w, "the sub-protocol is "+strings.Join(amqpProtocols, " or "), http.StatusBadRequest)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols:       amqpProtocols,
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
