package servicebus

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Opcodes of RFC 6455.
const (
	wsContinue = 0x0
	wsBinary   = 0x2
	wsClose    = 0x8
	wsPing     = 0x9
	wsPong     = 0xa
)

// maxControl is the size of a control frame's payload that RFC 6455 allows.
const maxControl = 125

// wsKeySuffix is what RFC 6455 has a server append to a client's key.
const wsKeySuffix = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// upgrade makes an HTTP connection a WebSocket on which AMQP is spoken.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	nonce, err := base64.StdEncoding.DecodeString(key)
	switch {
	case !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket") ||
		r.Header.Get("Sec-WebSocket-Version") != "13" || err != nil || len(nonce) != 16:
		http.Error(w, "this is where WebSockets of version 13 begin", http.StatusBadRequest)
		return
	case !hasToken(r.Header, "Sec-WebSocket-Protocol", "amqp"):
		http.Error(w, "the sub-protocol is amqp", http.StatusBadRequest)
		return
	}
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		http.Error(w, "a WebSocket needs HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return
	}
	c, rw, err := hijacker.Hijack()
	if err != nil {
		return
	}
	c.SetDeadline(time.Now().Add(s.bounds.greet))
	sum := sha1.Sum([]byte(key + wsKeySuffix))
	_, err = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: amqp\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	if err != nil {
		c.Close()
		return
	}
	s.serveAMQP(&webSocket{Conn: c, in: rw.Reader})
}

func hasToken(h http.Header, name, token string) bool {
	return slices.ContainsFunc(strings.Split(strings.Join(h.Values(name), ","), ","), func(v string) bool {
		return strings.EqualFold(strings.TrimSpace(v), token)
	})
}

// webSocket is the stream of bytes in the binary messages of a WebSocket.
type webSocket struct {
	net.Conn
	in *bufio.Reader

	left uint64 // of the data frame being read
	mask [4]byte
	at   int // place in the mask

	writing sync.Mutex
}

var errWebSocket = errors.New("the client broke the rules of WebSockets")

// Read reads what is in binary messages; where one ends does not matter.
func (w *webSocket) Read(b []byte) (int, error) {
	for w.left == 0 {
		if err := w.next(); err != nil {
			return 0, err
		}
	}
	n, err := w.in.Read(b[:min(uint64(len(b)), w.left)])
	w.left -= uint64(n)
	for i := range b[:n] {
		b[i] ^= w.mask[w.at&3]
		w.at++
	}
	return n, err
}

// next reads the header of a frame, and answers control frames.
func (w *webSocket) next() error {
	var h [8]byte
	if _, err := io.ReadFull(w.in, h[:2]); err != nil {
		return err
	}
	final, opcode, masked, size := h[0]&0x80 != 0, h[0]&0x0f, h[1]&0x80 != 0, uint64(h[1]&0x7f)
	if h[0]&0x70 != 0 || !masked {
		return errWebSocket
	}
	switch size {
	case 126:
		if _, err := io.ReadFull(w.in, h[:2]); err != nil {
			return err
		}
		size = uint64(binary.BigEndian.Uint16(h[:]))
	case 127:
		if _, err := io.ReadFull(w.in, h[:8]); err != nil {
			return err
		}
		size = binary.BigEndian.Uint64(h[:])
	}
	if _, err := io.ReadFull(w.in, w.mask[:]); err != nil {
		return err
	}
	w.at = 0
	switch opcode {
	case wsBinary, wsContinue:
		w.left = size
		return nil
	case wsClose, wsPing, wsPong:
	default:
		return errWebSocket
	}
	if !final || size > maxControl {
		return errWebSocket
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(w.in, payload); err != nil {
		return err
	}
	for i := range payload {
		payload[i] ^= w.mask[i&3]
	}
	switch opcode {
	case wsPing:
		return w.frame(wsPong, payload)
	case wsClose:
		w.frame(wsClose, payload[:min(len(payload), 2)])
		return io.EOF
	}
	return nil
}

// Write sends bytes as one binary message.
func (w *webSocket) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	return len(b), w.frame(wsBinary, b)
}

func (w *webSocket) frame(opcode byte, payload []byte) error {
	h := []byte{0x80 | opcode}
	switch n := len(payload); {
	case n <= maxControl:
		h = append(h, byte(n))
	case n < 1<<16:
		h = binary.BigEndian.AppendUint16(append(h, 126), uint16(n))
	default:
		h = binary.BigEndian.AppendUint64(append(h, 127), uint64(n))
	}
	w.writing.Lock()
	defer w.writing.Unlock()
	all := net.Buffers{h, payload}
	_, err := all.WriteTo(w.Conn)
	return err
}
