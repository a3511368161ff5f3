package servicebus

import (
	"bufio"
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"dsvmpools/local/chaos"
	"dsvmpools/local/servicebus/amqp"
)

// Limits and times of a connection.
const (
	maxFrame     = 64 << 10         // clients never ask for more
	minFrame     = 512              // the least that AMQP allows a peer to ask for
	keepAlive    = 10 * time.Second // between empty frames; clients give up after 60 s of silence
	minKeepAlive = 50 * time.Millisecond
	idleTimeout  = 2 * time.Minute // without a byte from the client, who sends empty frames each minute
	maxSessions  = 5000            // channels of a connection
)

var (
	protoSASL = []byte("AMQP\x03\x01\x00\x00")
	protoAMQP = []byte("AMQP\x00\x01\x00\x00")
)

// conn is one client connection.
type conn struct {
	srv             *Server
	net             net.Conn
	in              *bufio.Reader
	out             *outbox
	maxFrame        uint32        // of what the client reads
	emptyFrameEvery time.Duration // between empty frames to the client

	sessions map[uint16]*session // by the client's channel; reader only
	links    int                 // of all sessions; reader only

	mu     sync.Mutex
	claims map[string]claim      // by entity path, lower case
	inbox  map[string]*outLink   // reply links of $cbs and $management, by target address and by link name
	held   map[*outLink]struct{} // links that hold a session
	cbs    map[bool]linkEnd      // the connection's pair of links on $cbs
}

// claim is the right that a token gives for an entity, until it expires.
type claim struct {
	key     AccessKey
	expires time.Time
}

func newConn(s *Server, c net.Conn) *conn {
	return &conn{
		srv:             s,
		net:             c,
		in:              bufio.NewReaderSize(c, maxFrame),
		out:             newOutbox(),
		maxFrame:        minFrame,
		emptyFrameEvery: keepAlive,
		sessions:        map[uint16]*session{},
		claims:          map[string]claim{},
		inbox:           map[string]*outLink{},
		held:            map[*outLink]struct{}{},
		cbs:             map[bool]linkEnd{},
	}
}

// serve runs the connection to its end.
func (c *conn) serve() {
	defer c.net.Close()
	c.net.SetDeadline(time.Now().Add(c.srv.bounds.handshake))
	fate := c.srv.decideFailure(atConnect, "", chaos.Refuse, chaos.Disconnect)
	if fate.Do == chaos.Disconnect {
		return
	}
	err := c.handshake()
	switch {
	case err != nil:
	case fate.Do == chaos.Refuse:
		_ = c.writeFrame(amqp.FrameAMQP, amqp.Composite(amqp.CodeClose, amqpError(condition(fate, "amqp:connection:forced"), injected)))
	default:
		c.net.SetDeadline(time.Time{})
		var writer sync.WaitGroup
		writer.Go(func() { c.out.drainTo(c.net, c.emptyFrameEvery) })
		err = c.read()
		if errors.Is(err, amqp.ErrMalformed) {
			c.send(0, amqp.Composite(amqp.CodeClose, amqpError("amqp:decode-error", err.Error())))
		}
		for _, s := range c.sessions {
			s.close()
		}
		c.out.close()
		writer.Wait()
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		c.srv.log.Debug("connection ended", "client", c.net.RemoteAddr().String(), "error", err)
	}
}

// errIdle ends a connection that has no links for too long.
var errIdle = errors.New("the connection has no links")

// read takes frames until the connection ends.
func (c *conn) read() error {
	limit := c.srv.bounds.noLink
	unused := time.Now()
	for {
		deadline := time.Now().Add(idleTimeout)
		if c.links > 0 {
			limit, unused = c.srv.bounds.idleLink, time.Now()
		} else if over := unused.Add(limit); over.Before(deadline) {
			deadline = over
		}
		c.net.SetReadDeadline(deadline)
		f, err := amqp.ReadFrame(c.in, maxFrame)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && c.links == 0 && !time.Now().Before(unused.Add(limit)):
			c.send(
				0,
				amqp.Composite(
					amqp.CodeClose,
					amqpError("amqp:connection:forced", "The connection was inactive for more than the allowed "+limit.String()+"."),
				),
			)
			return errIdle
		case err != nil:
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

// writeFrame writes at once. It is for the handshake, in which the two sides take
// turns.
func (c *conn) writeFrame(kind byte, performative any) error {
	_, err := c.net.Write(amqp.AppendFrame(nil, kind, 0, performative, nil))
	return err
}

// exchangeHeader answers a protocol header with the same header.
func (c *conn) exchangeHeader() (proto [8]byte, err error) {
	if _, err := io.ReadFull(c.in, proto[:]); err != nil {
		return proto, err
	}
	answer := protoAMQP
	if bytes.Equal(proto[:], protoSASL) {
		answer = protoSASL
	}
	_, err = c.net.Write(answer)
	return proto, err
}

// handshake is SASL, the protocol header and open.
func (c *conn) handshake() error {
	proto, err := c.exchangeHeader()
	if err == nil && bytes.Equal(proto[:], protoSASL) {
		if err = c.authenticate(); err == nil {
			proto, err = c.exchangeHeader()
		}
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(proto[:], protoAMQP) {
		return errors.New("the client does not speak AMQP 1.0")
	}
	f, err := amqp.ReadFrame(c.in, maxFrame)
	if err != nil {
		return err
	}
	if f.Code != amqp.CodeOpen {
		return errors.New("the client did not open the connection")
	}
	c.maxFrame = max(minFrame, min(amqp.FieldOr(f.Fields, 2, uint32(maxFrame)), maxFrame))
	if idle := time.Duration(amqp.FieldOr(f.Fields, 4, uint32(0))) * time.Millisecond; idle > 0 {
		c.emptyFrameEvery = max(min(keepAlive, idle/2), minKeepAlive)
	}
	return c.writeFrame(
		amqp.FrameAMQP,
		amqp.Composite(amqp.CodeOpen, "dsvmpools", nil, uint32(maxFrame), uint16(maxSessions-1), uint32(idleTimeout/time.Millisecond)),
	)
}

// SASL mechanisms. After plain the connection has the rights of its key; after the others
// the claims follow on $cbs.
const (
	saslPlain = amqp.Symbol("PLAIN")

	saslOK      = uint8(0)
	saslRefused = uint8(1)
)

// authenticate performs SASL.
func (c *conn) authenticate() error {
	mechanisms := amqp.Array{amqp.Symbol("MSSBCBS"), saslPlain, amqp.Symbol("ANONYMOUS"), amqp.Symbol("EXTERNAL")}
	if err := c.writeFrame(amqp.FrameSASL, amqp.Composite(amqp.CodeSASLMechanisms, mechanisms)); err != nil {
		return err
	}
	f, err := amqp.ReadFrame(c.in, maxFrame)
	if err != nil {
		return err
	}
	if f.Code != amqp.CodeSASLInit {
		return errors.New("the client did not choose a SASL mechanism")
	}
	chosen, _ := amqp.Field[amqp.Symbol](f.Fields, 0)
	refusal := error(nil)
	if !slices.Contains(mechanisms, any(chosen)) {
		refusal = fmt.Errorf("the client chose the unknown SASL mechanism %q", chosen)
	} else if response, _ := amqp.Field[[]byte](f.Fields, 1); chosen == saslPlain && !c.takeKey(response) {
		refusal = errors.New("the client named no access key of the namespace, or a wrong one")
	}
	outcome := saslOK
	if refusal != nil {
		outcome = saslRefused
	}
	return errors.Join(c.writeFrame(amqp.FrameSASL, amqp.Composite(amqp.CodeSASLOutcome, outcome)), refusal)
}

// takeKey reads the response of SASL PLAIN, the name of an access key and the key, and
// gives the connection its rights.
func (c *conn) takeKey(response []byte) bool {
	parts := strings.Split(string(response), "\x00") // an identity to act as, which is ignored, then name and key
	if len(parts) != 3 {
		return false
	}
	key, ok := c.srv.keys[parts[1]]
	if !ok || key.Key == "" || subtle.ConstantTimeCompare([]byte(key.Key), []byte(parts[2])) != 1 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims[""] = claim{key, farAhead}
	return true
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
		c.links -= len(s.all)
		s.close()
		c.send(s.channel, amqp.Composite(amqp.CodeEnd))
		return nil
	}
	return s.frame(f)
}

// send queues a frame without a payload.
func (c *conn) send(channel uint16, performative any) {
	if !c.out.frame(channel, performative, nil) {
		c.net.Close() // the client does not read its answers
	}
}

// hasClaim reports whether the claims of the connection let it send to, or listen
// on, an entity. A claim for a queue covers what lies below it.
func (c *conn) hasClaim(e *entity, address string, send, listen bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path := strings.ToLower(address); ; {
		if cl, ok := c.claims[path]; ok && c.srv.now().Before(cl.expires) && cl.key.allows(e.name, send, listen) {
			return true
		}
		if path == "" {
			return false
		}
		path = path[:max(strings.LastIndexByte(path, '/'), 0)]
	}
}

// disconnect ends the connection without a frame.
func (c *conn) disconnect() {
	if p, ok := c.net.(*peekedConn); ok {
		p.raw.Close() // as a network fails: without the farewell of TLS
	}
	c.net.Close()
}

// amqpError is the error field of detach, end, close and rejected.
func amqpError(condition, description string) amqp.Described {
	return amqp.Composite(amqp.CodeError, amqp.Symbol(condition), description)
}
