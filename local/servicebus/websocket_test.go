package servicebus

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/coder/websocket"
)

// TestWebSocket has a client of the SDK speak through a WebSocket.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	s := strict(t, usual)
	client, err := azservicebus.NewClientFromConnectionString(s.ConnectionString("root"), &azservicebus.ClientOptions{
		NewWebSocketConn: func(ctx context.Context, _ azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
			ws, _, err := websocket.Dial(ctx, "ws://"+s.Addr()+webSocketPath, &websocket.DialOptions{Subprotocols: []string{"amqp"}})
			if err != nil {
				return nil, err
			}
			return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(t.Context())
	sender, err := client.NewSender("plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("x", 200<<10) // larger than one frame of AMQP
	if err := sender.SendMessage(t.Context(), &azservicebus.Message{Body: []byte(large)}, nil); err != nil {
		t.Fatal(err)
	}
	receiver, err := client.NewReceiverForQueue("plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := receiver.ReceiveMessages(t.Context(), 1, nil)
	if err != nil || len(got) != 1 || string(got[0].Body) != large {
		t.Fatalf("got %d messages, %v", len(got), err)
	}
	if err := receiver.CompleteMessage(t.Context(), got[0], nil); err != nil {
		t.Fatal(err)
	}
}

// shake asks for a WebSocket with the headers of a good request, and those given.
func shake(t *testing.T, s *Server, protocol string) (hostile, *http.Response) {
	t.Helper()
	h := connect(t, s)
	fmt.Fprintf(h, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n", webSocketPath, s.Addr(), protocol)
	reply, err := http.ReadResponse(h.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return h, reply
}

func TestWebSocketHandshake(t *testing.T) {
	t.Parallel()
	s := strict(t, usual)
	for name, tt := range map[string]struct {
		protocol string
		want     int
	}{
		"amqp":           {"Sec-WebSocket-Protocol: amqp\r\n", http.StatusSwitchingProtocols},
		"one of several": {"Sec-WebSocket-Protocol: mqtt, amqp\r\n", http.StatusSwitchingProtocols},
		"another":        {"Sec-WebSocket-Protocol: mqtt\r\n", http.StatusBadRequest},
		"none":           {"", http.StatusBadRequest},
		"a second key":   {"Sec-WebSocket-Protocol: amqp\r\nSec-WebSocket-Key: AAAA\r\n", http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, reply := shake(t, s, tt.protocol)
			if reply.StatusCode != tt.want {
				t.Errorf("got %s, want %d", reply.Status, tt.want)
			}
			if reply.StatusCode == http.StatusSwitchingProtocols && reply.Header.Get("Sec-WebSocket-Protocol") != "amqp" {
				t.Errorf("the sub-protocol is %q", reply.Header.Get("Sec-WebSocket-Protocol"))
			}
		})
	}
}

// TestWebSocketFrames sends the greeting of AMQP in odd frames: good ones are
// answered by the greeting, bad ones end the connection.
func TestWebSocketFrames(t *testing.T) {
	t.Parallel()
	frame := func(first, second byte, payload string) string {
		mask := "\x01\x02\x03\x04"
		b := []byte(payload)
		for i := range b {
			b[i] ^= mask[i&3]
		}
		return string([]byte{first, second}) + mask + string(b)
	}
	greeting := string(protoAMQP)
	head, tail := greeting[:3], greeting[3:]
	for name, tt := range map[string]struct {
		in   string
		good bool
	}{
		"one frame":          {frame(0x82, 0x88, greeting), true},
		"two messages":       {frame(0x82, 0x83, head) + frame(0x82, 0x85, tail), true},
		"a message in parts": {frame(0x02, 0x83, head) + frame(0x80, 0x85, tail), true},
		"a ping in between":  {frame(0x82, 0x83, head) + frame(0x89, 0x82, "hi") + frame(0x82, 0x85, tail), true},
		"a close":            {frame(0x82, 0x83, head) + frame(0x88, 0x80, "") + frame(0x82, 0x85, tail), false},
		"without a mask":     {"\x82\x08" + greeting, false},
		"a text":             {frame(0x81, 0x88, greeting), false},
		"a large ping":       {"\x89\xfe\x01\x00\x00\x00\x00\x00", false},
		"reserved bits":      {frame(0xf2, 0x88, greeting), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, _ := shake(t, strict(t, usual), "Sec-WebSocket-Protocol: amqp\r\n")
			io.WriteString(h, tt.in)
			got, err := messages(h.in, len(protoAMQP))
			if tt.good && (err != nil || !slices.Equal(got, protoAMQP)) {
				t.Errorf("got %q, %v, want the greeting", got, err)
			}
			if !tt.good {
				if len(got) > 0 {
					t.Errorf("got %q, want the end", got)
				}
				h.ended()
			}
		})
	}
}

// messages reads n bytes out of the binary frames of a server, and passes over
// short frames of other kinds. A frame that closes is an error.
func messages(in *bufio.Reader, n int) ([]byte, error) {
	var got []byte
	for len(got) < n {
		h := make([]byte, 2)
		if _, err := io.ReadFull(in, h); err != nil {
			return got, err
		}
		payload := make([]byte, h[1]&0x7f)
		if _, err := io.ReadFull(in, payload); err != nil {
			return got, err
		}
		switch h[0] & 0x0f {
		case 0x0, 0x2:
			got = append(got, payload...)
		case 0x8:
			return got, io.EOF
		}
	}
	return got, nil
}
