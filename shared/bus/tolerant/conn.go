// Package tolerant lets the AMQP client read every message that Service Bus takes.
//
// The client (go-amqp) knows no AMQP decimal and no char, and of some composed
// values no form at all; it answers such a message by closing its link, so that one
// message keeps all those after it. A Conn looks at what comes from the server,
// puts a type of the same width in the place of one that the client does not know,
// and keeps what really came for those who handle the message.
//
// It changes nothing that is sent, knows no queue, and completes nothing.
package tolerant

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// Limits of what is held.
const (
	// maxFrame is far above what any client of Service Bus negotiates (64 KiB).
	maxFrame = 16 << 20
	// maxHeld bounds the parts of one message that wait for its end: the largest of
	// the Standard tier, and room. A larger one is passed on as it is.
	maxHeld = 2 << 20
	// maxKept bounds the originals that nobody has taken yet: those of messages that
	// the client gave back by itself.
	maxKept    = 4096
	readAtOnce = 64 << 10 // a frame of the usual size
	// dialTime bounds the connection's beginning.
	dialTime = 30 * time.Second
)

// Ports of AMQP, with TLS and without.
const (
	securePort = "5671"
	plainPort  = "5672"
)

// Dial connects to a host, with TLS unless plain says that it is an emulator.
func Dial(ctx context.Context, host string, plain bool) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	port := securePort
	if plain {
		port = plainPort
	}
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(host, port)
	}
	dialer := net.Dialer{}
	if plain {
		c, err := dialer.DialContext(ctx, "tcp", host)
		if err != nil {
			return nil, err
		}
		return New(c), nil
	}
	c, err := (&tls.Dialer{NetDialer: &dialer}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	return New(c), nil
}

// Conn is a connection to Service Bus. Its reader is the client; Take may be
// called by others meanwhile.
type Conn struct {
	net.Conn
	r     *bufio.Reader
	ready []byte // for the client to read
	open  map[link]*message
	frame []byte // what has come of the next one

	mu    sync.Mutex
	kept  map[string]*Original // by delivery tag
	order []string
}

// link is one link of one session.
type link struct {
	channel uint16
	handle  uint32
}

// message is the parts of a message whose end has not come.
type message struct {
	tag    []byte
	frames [][]byte
	from   []int // where in each frame the message's bytes begin
	size   int
}

// New wraps a connection on which nothing has been read yet.
func New(c net.Conn) *Conn {
	return &Conn{Conn: c, r: bufio.NewReaderSize(c, readAtOnce), open: map[link]*message{}, kept: map[string]*Original{}}
}

// Take returns what a message really holds, by its delivery tag, and forgets it.
// False: it is what the client has read.
func (c *Conn) Take(tag []byte) (*Original, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, ok := c.kept[string(tag)]
	delete(c.kept, string(tag))
	return o, ok
}

func (c *Conn) keep(tag []byte, o *Original) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.order = append(c.order, string(tag)); len(c.order) > maxKept {
		delete(c.kept, c.order[0])
		c.order = c.order[1:]
	}
	c.kept[string(tag)] = o
}

// Read hands out what has come, frame by frame.
func (c *Conn) Read(p []byte) (int, error) {
	for len(c.ready) == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.ready)
	c.ready = c.ready[n:]
	return n, nil
}

// next reads one frame, or the header that begins a protocol.
func (c *Conn) next() error {
	// A read may end in the middle, at the deadline that the client sets, and go on
	// with the next call.
	if err := c.fill(8); err != nil {
		return err
	}
	size := 8
	if string(c.frame[:4]) != "AMQP" {
		if size = int(binary.BigEndian.Uint32(c.frame)); size < 8 || size > maxFrame {
			return fmt.Errorf("a frame of %d bytes came from the server", size)
		}
		if err := c.fill(size); err != nil {
			return err
		}
	}
	frame := c.frame[:size:size]
	c.frame = nil
	c.ready = c.look(frame)
	return nil
}

// fill reads until there are n bytes of the frame.
func (c *Conn) fill(n int) error {
	for have := len(c.frame); have < n; have = len(c.frame) {
		if cap(c.frame) < n {
			c.frame = append(make([]byte, 0, n), c.frame...)
		}
		k, err := c.r.Read(c.frame[have:n])
		c.frame = c.frame[:have+k]
		if err == io.EOF && have+k > 0 && have+k < n {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && have+k < n {
			return err
		}
	}
	return nil
}

// look returns what the client gets now: the frame itself, nothing while a message
// is under way, or all frames of a message that has ended.
func (c *Conn) look(frame []byte) []byte {
	t, err := parseTransfer(frame)
	if err != nil {
		return frame
	}
	l := link{t.channel, t.handle}
	if t.code != transferCode {
		return append(c.giveUp(l, t.code == endCode), frame...)
	}
	m := c.open[l]
	if m == nil {
		m = &message{tag: t.tag}
	}
	m.frames, m.from, m.size = append(m.frames, frame), append(m.from, t.payload), m.size+len(frame)
	switch {
	case t.aborted || m.size > maxHeld:
		delete(c.open, l) // what follows of a message that is too large begins without a tag, and stays as it is
	case t.more:
		c.open[l] = m
		return nil
	default:
		delete(c.open, l)
		c.mend(m)
	}
	return m.bytes()
}

// bytes are the frames as the client gets them.
func (m *message) bytes() []byte {
	if len(m.frames) == 1 {
		return m.frames[0]
	}
	out := make([]byte, 0, m.size)
	for _, f := range m.frames {
		out = append(out, f...)
	}
	return out
}

// giveUp is what is held of a message whose link ends in the middle of it, or of all
// messages of its session: the link's number may become that of another one, whose
// messages begin with nothing of it.
func (c *Conn) giveUp(ended link, session bool) (held []byte) {
	for l, m := range c.open {
		if l == ended || session && l.channel == ended.channel {
			delete(c.open, l)
			held = append(held, m.bytes()...)
		}
	}
	return held
}

// mend examines a whole message, and changes its frames.
func (c *Conn) mend(m *message) {
	if m.tag == nil {
		return
	}
	var whole []byte
	if len(m.frames) == 1 {
		whole = m.frames[0][m.from[0]:]
	} else {
		for i, f := range m.frames {
			whole = append(whole, f[m.from[i]:]...)
		}
	}
	if readable(whole) {
		return
	}
	o, patches := examine(append([]byte(nil), whole...)) // what is kept is not what the client reads from
	if o == nil {
		return
	}
	for _, p := range patches {
		for i, b := range p.bytes {
			at := p.at + i
			for k, f := range m.frames {
				part := f[m.from[k]:]
				if at < len(part) {
					part[at] = b
					break
				}
				at -= len(part)
			}
		}
	}
	c.keep(m.tag, o)
}

// Mend changes an encoded message so that the client reads it. It returns the original
// form, or nil when nothing is to change.
func Mend(b []byte) *Original {
	if readable(b) {
		return nil
	}
	o, patches := examine(append([]byte(nil), b...))
	for _, p := range patches {
		copy(b[p.at:], p.bytes)
	}
	return o
}

// readable reports that there is nothing to mend and nothing to keep, which is so of
// nearly all messages: a body of one part of bytes, and no type that the client does
// not read. It copies nothing of the body.
func readable(b []byte) bool {
	bodies := 0
	for at := 0; at < len(b); {
		if at+3 > len(b) || b[at] != 0 || b[at+1] != 0x53 {
			return false
		}
		code := b[at+2]
		if end, ok := skipPlainSection(b, at+3, code); ok {
			if code == data {
				if bodies++; bodies > 1 {
					return false
				}
			}
			at = end
			continue
		}
		d := &decoder{b: b, at: at + 3}
		switch code {
		case data:
			if bodies++; bodies > 1 {
				return false
			}
			if c, err := d.take(1); err != nil || c[0] != 0xa0 && c[0] != 0xb0 {
				return false
			}
			d.at--
			if _, err := d.value(0); err != nil {
				return false
			}
		case sequence, value:
			return false
		case deliveryAnnotations, annotations, applicationProperties, footer:
			v, err := d.value(0)
			if err != nil || len(d.odd) > 0 {
				return false
			}
			pairs, _ := v.([]Pair)
			if renames(b, at+3, pairs) != nil || slices.ContainsFunc(pairs, isComposed) {
				return false
			}
		default:
			if _, err := d.value(0); err != nil {
				return false
			}
		}
		at = d.at
	}
	return true
}

// isComposed reports a value that the client keeps in types of its own: a described one in one
// that other packages cannot name, an array in a slice of its elements' type.
func isComposed(p Pair) bool {
	switch p.Value.(type) {
	case Described, []any, []Pair:
		return true
	}
	return false
}

// transfer is what is looked at of a frame that brings a message, or ends its link or
// session: of the last two only whose they are.
type transfer struct {
	code    uint64
	channel uint16
	handle  uint32
	tag     []byte
	more    bool
	aborted bool
	payload int // where the message's bytes begin
}

var errNoTransfer = errors.New("no transfer")

// Codes of those frames, and places in a transfer's list.
const (
	transferCode    = 0x14
	detachCode      = 0x16
	endCode         = 0x17
	transferHandle  = 0
	transferTag     = 2
	transferMore    = 5
	transferAborted = 9
)

func parseTransfer(frame []byte) (t transfer, err error) {
	at := 8
	if len(frame) > 8 {
		at = int(frame[4]) * 4
	}
	if at < 8 || at >= len(frame) || frame[5] != 0 || frame[at] != 0 {
		return t, errNoTransfer
	}
	t.channel = binary.BigEndian.Uint16(frame[6:])
	d := &decoder{b: frame, at: at + 1}
	code, err := d.value(0)
	t.code, _ = code.(uint64)
	switch {
	case err != nil, t.code != transferCode && t.code != detachCode && t.code != endCode:
		return t, errNoTransfer
	case t.code == endCode:
		return t, nil
	}
	if plain := t; plain.readPlain(frame, d.at) {
		return plain, nil
	}
	return t, t.read(d)
}

// read reads the fields with the decoder.
func (t *transfer) read(d *decoder) error {
	v, err := d.value(0)
	fields, ok := v.([]any)
	if err != nil || !ok || len(fields) <= transferHandle {
		return errNoTransfer
	}
	field := func(i int) any {
		if i < len(fields) {
			return fields[i]
		}
		return nil
	}
	if t.handle, ok = field(transferHandle).(uint32); !ok {
		return errNoTransfer
	}
	if t.code == detachCode {
		return nil
	}
	tag, _ := field(transferTag).([]byte)
	t.tag = append([]byte(nil), tag...)
	if len(tag) == 0 {
		t.tag = nil
	}
	t.more, _ = field(transferMore).(bool)
	t.aborted, _ = field(transferAborted).(bool)
	t.payload = d.at
	return nil
}
