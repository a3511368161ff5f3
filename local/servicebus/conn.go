package servicebus

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"dsvmpools/local/servicebus/amqp"
	"dsvmpools/local/servicebus/queue"
)

// Limits and times of a connection.
const (
	maxFrame        = 64 << 10         // clients never ask for more
	handshakeTime   = 30 * time.Second // to get from the first byte to open
	keepAlive       = 10 * time.Second // between empty frames; clients give up after 60 s of silence
	idleTimeout     = 2 * time.Minute  // without a byte from the client, who sends empty frames each minute
	maxSessions     = 5000             // channels of a connection
	maxLinks        = 5000             // links of a session
	outgoingBacklog = 256              // frames waiting for the socket before writers wait
)

var (
	protoSASL = []byte("AMQP\x03\x01\x00\x00")
	protoAMQP = []byte("AMQP\x00\x01\x00\x00")
)

// conn is one client connection.
type conn struct {
	srv      *Server
	net      net.Conn
	in       *bufio.Reader
	out      chan []byte
	done     chan struct{} // closed when the connection ends
	maxFrame uint32        // of what the client reads

	sessions map[uint16]*session // by the client's channel; reader only

	mu     sync.Mutex
	claims map[string]claim      // by entity path, lower case
	inbox  map[string]*outLink   // reply links of $cbs and $management, by target address and by link name
	held   map[*outLink]struct{} // links that hold a session
}

// claim is what a token allows for an entity, until it expires.
type claim struct {
	rule    Rule
	expires time.Time
}

func newConn(s *Server, c net.Conn) *conn {
	return &conn{srv: s, net: c, in: bufio.NewReaderSize(c, maxFrame), out: make(chan []byte, outgoingBacklog), done: make(chan struct{}),
		maxFrame: 512, sessions: map[uint16]*session{}, claims: map[string]claim{}, inbox: map[string]*outLink{}, held: map[*outLink]struct{}{}}
}

// serve runs the connection to its end.
func (c *conn) serve() {
	var writer sync.WaitGroup
	writer.Go(c.write)
	err := c.read()
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		c.srv.log.Debug("a connection ended", "client", c.net.RemoteAddr().String(), "error", err)
		if errors.Is(err, amqp.ErrMalformed) {
			c.send(0, amqp.Composite(amqp.CodeClose, amqpError("amqp:decode-error", err.Error())))
		}
	}
	for _, s := range c.sessions {
		s.end()
	}
	close(c.done)
	writer.Wait()
	c.net.Close()
}

// read takes the handshake and then frames until the connection ends.
func (c *conn) read() error {
	c.net.SetReadDeadline(time.Now().Add(handshakeTime))
	if err := c.handshake(); err != nil {
		return err
	}
	for {
		c.net.SetReadDeadline(time.Now().Add(idleTimeout))
		f, err := amqp.ReadFrame(c.in, maxFrame)
		if err != nil {
			return err
		}
		if f.Code == 0 {
			continue
		}
		if f.Code == amqp.CodeClose {
			c.send(0, amqp.Composite(amqp.CodeClose))
			return nil
		}
		if err := c.frame(f); err != nil {
			return err
		}
	}
}

// handshake is SASL (ANONYMOUS: claims follow on $cbs), the protocol header and
// open.
func (c *conn) handshake() error {
	var proto [8]byte
	if _, err := io.ReadFull(c.in, proto[:]); err != nil {
		return err
	}
	if bytes.Equal(proto[:], protoSASL) {
		c.raw(protoSASL)
		mechanisms := amqp.Composite(amqp.CodeSASLMechanisms, amqp.Array{amqp.Symbol("ANONYMOUS"), amqp.Symbol("MSSBCBS")})
		c.raw(amqp.AppendFrame(nil, amqp.FrameSASL, 0, mechanisms, nil))
		f, err := amqp.ReadFrame(c.in, maxFrame)
		if err != nil {
			return err
		}
		if f.Code != amqp.CodeSASLInit {
			return errors.New("the client did not choose a SASL mechanism")
		}
		c.raw(amqp.AppendFrame(nil, amqp.FrameSASL, 0, amqp.Composite(amqp.CodeSASLOutcome, uint8(0)), nil))
		if _, err := io.ReadFull(c.in, proto[:]); err != nil {
			return err
		}
	}
	if !bytes.Equal(proto[:], protoAMQP) {
		c.raw(protoAMQP)
		return errors.New("the client does not speak AMQP 1.0")
	}
	c.raw(protoAMQP)
	f, err := amqp.ReadFrame(c.in, maxFrame)
	if err != nil {
		return err
	}
	if f.Code != amqp.CodeOpen {
		return errors.New("the client did not open the connection")
	}
	c.maxFrame = max(512, min(amqp.FieldOr(f.Fields, 2, uint32(maxFrame)), maxFrame))
	c.send(0, amqp.Composite(amqp.CodeOpen, "dsvmpools", nil, uint32(maxFrame), uint16(maxSessions-1), uint32(idleTimeout/time.Millisecond)))
	return nil
}

// frame handles one frame of a session.
func (c *conn) frame(f amqp.Frame) error {
	s := c.sessions[f.Channel]
	switch {
	case f.Code == amqp.CodeBegin:
		if s != nil || len(c.sessions) >= maxSessions {
			return errors.New("the client began a session twice, or too many")
		}
		c.sessions[f.Channel] = beginSession(c, f)
		return nil
	case s == nil:
		return nil // late frames of an ended session
	case f.Code == amqp.CodeEnd:
		delete(c.sessions, f.Channel)
		s.end()
		c.send(s.channel, amqp.Composite(amqp.CodeEnd))
		return nil
	}
	return s.frame(f)
}

// send queues a frame without a payload.
func (c *conn) send(channel uint16, performative any) {
	c.raw(amqp.AppendFrame(nil, amqp.FrameAMQP, channel, performative, nil))
}

// raw queues bytes for the socket.
func (c *conn) raw(b []byte) {
	select {
	case c.out <- b:
	case <-c.done:
	}
}

// write is the only writer. It flushes when nothing more waits, so that many
// frames share a system call, and keeps the connection alive.
func (c *conn) write() {
	w := bufio.NewWriterSize(c.net, 2*maxFrame)
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	empty := amqp.AppendFrame(nil, amqp.FrameAMQP, 0, nil, nil)
	for {
		var b []byte
		select {
		case b = <-c.out:
		case <-tick.C:
			b = empty
		case <-c.done:
			for { // what was said before the end is still said
				select {
				case b := <-c.out:
					w.Write(b)
					continue
				default:
				}
				c.net.SetWriteDeadline(time.Now().Add(time.Second))
				w.Flush()
				return
			}
		}
		c.net.SetWriteDeadline(time.Now().Add(idleTimeout))
		_, err := w.Write(b)
		if err == nil && len(c.out) == 0 {
			err = w.Flush()
		}
		if err != nil {
			c.net.Close() // the reader ends the connection
			for {
				select {
				case <-c.out:
				case <-c.done:
					return
				}
			}
		}
	}
}

// allowed reports whether the connection's claims let it send to or listen on
// an entity. A claim for a queue covers what lies below it.
func (c *conn) allowed(entity string, send, listen bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	path := strings.ToLower(entity)
	for {
		if cl, ok := c.claims[path]; ok && c.srv.now().Before(cl.expires) {
			return cl.rule.may(entity, send, listen)
		}
		i := strings.LastIndexByte(path, '/')
		if i < 0 {
			break
		}
		path = path[:i]
	}
	cl, ok := c.claims[""]
	return ok && c.srv.now().Before(cl.expires) && cl.rule.may(entity, send, listen)
}

// amqpError is an error as it travels in detach, end, close and rejected.
func amqpError(condition, description string) amqp.Described {
	return amqp.Composite(amqp.CodeError, amqp.Symbol(condition), description)
}

// holders are this connection's links that hold a session of a queue.
func (c *conn) holders(q *queue.Queue) []*outLink {
	c.mu.Lock()
	defer c.mu.Unlock()
	var links []*outLink
	for l := range c.held {
		if l.queue == q {
			links = append(links, l)
		}
	}
	return links
}
