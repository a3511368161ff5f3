package amqp

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Message holds the sections of an encoded message. All except the header stay as the
// sender encoded them. Adding entries to a map does not change the other entries.
type Message struct {
	Header Header

	DeliveryAnnotations Entries
	Annotations         Entries
	// What Append adds to both.
	AddedDeliveryAnnotations, AddedAnnotations Added

	Properties  []byte // the list, without the section's descriptor; nil when absent
	Application Entries
	Body        []byte // data, sequence and value sections as received
	Footer      []byte // the section as received
}

// Header is the section that a broker may change. A nil field is not set.
type Header struct {
	Durable, Priority, FirstAcquirer any
	TTL                              time.Duration // 0 = not set
	DeliveryCount                    uint32
	Present                          bool // written even when no field is set, because clients then read the delivery count
}

// Positions of the fields in the properties section.
const (
	propMessageID = 0
	propReplyTo   = 4
	propExpiry    = 8
	propGroupID   = 10
)

// null is the code of the value that says that there is none.
const null = 0x40

// descriptorSize is the size of the descriptor that begins a section. Its code is small.
const descriptorSize = 3

// ParseMessage splits an encoded message into its sections, which share b.
func ParseMessage(b []byte) (*Message, error) {
	m := &Message{}
	for at := 0; at < len(b); {
		n, err := Check(b[at:])
		if err != nil {
			return nil, err
		}
		section := b[at : at+n : at+n]
		if n <= descriptorSize || section[0] != 0 || section[1] != 0x53 {
			if section, err = canonical(section); err != nil {
				return nil, err
			}
		}
		if err := m.section(section, b, at, n); err != nil {
			return nil, err
		}
		at += n
	}
	return m, nil
}

// canonical rewrites a section with the short form of its descriptor.
func canonical(section []byte) ([]byte, error) {
	if section[0] != 0 {
		return nil, fmt.Errorf("%w: a message section without a descriptor", ErrMalformed)
	}
	code, rest, err := Decode(section[1:])
	if err != nil {
		return nil, err
	}
	if n, ok := code.(uint64); ok && n <= CodeFooter {
		return append([]byte{0, 0x53, byte(n)}, rest...), nil
	}
	return nil, fmt.Errorf("%w: a message section %v", ErrMalformed, code)
}

// section stores one section. It lies at b[at:at+n], unless canonical has rewritten it.
func (m *Message) section(s, b []byte, at, n int) (err error) {
	value := s[descriptorSize:]
	switch s[2] {
	case CodeHeader:
		m.Header, err = parseHeader(value)
	case CodeDeliveryAnnotations:
		m.DeliveryAnnotations, err = ParseEntries(value)
	case CodeMessageAnnotations:
		m.Annotations, err = ParseEntries(value)
	case CodeProperties:
		if !isList(value) {
			return fmt.Errorf("%w: properties that are no list", ErrMalformed)
		}
		m.Properties = value
	case CodeApplicationProperties:
		m.Application, err = ParseEntries(value)
	case CodeData, CodeSequence, CodeValue:
		if m.Body == nil {
			m.Body = s
		} else if end := at + n; len(s) == n && &b[at-len(m.Body)] == &m.Body[0] {
			m.Body = b[at-len(m.Body) : end : end] // the sections are adjacent, so no copy is needed
		} else {
			m.Body = append(m.Body[:len(m.Body):len(m.Body)], s...)
		}
	case CodeFooter:
		m.Footer = s
	default:
		err = fmt.Errorf("%w: a message section 0x%x", ErrMalformed, s[2])
	}
	return err
}

func isList(b []byte) bool { return b[0] == 0x45 || b[0] == 0xc0 || b[0] == 0xd0 }

func parseHeader(b []byte) (Header, error) {
	v, _, err := Decode(b)
	fields, ok := v.(List)
	if err != nil || !ok {
		return Header{}, fmt.Errorf("%w: a header that is no list", ErrMalformed)
	}
	h := Header{Present: true, DeliveryCount: FieldOr(fields, 4, uint32(0))}
	if v, ok := Field[bool](fields, 0); ok {
		h.Durable = v
	}
	if v, ok := Field[uint8](fields, 1); ok {
		h.Priority = v
	}
	if v, ok := Field[uint32](fields, 2); ok {
		h.TTL = time.Duration(v) * time.Millisecond
	}
	if v, ok := Field[bool](fields, 3); ok {
		h.FirstAcquirer = v
	}
	return h, nil
}

// property returns an encoded field of the properties; nil when it is absent.
func (m *Message) property(i int) []byte {
	if m.Properties == nil {
		return nil
	}
	b, count := elements(m.Properties)
	for at := 0; at < count && len(b) > 0; at++ {
		n, err := Check(b)
		if err != nil {
			return nil
		}
		if at == i {
			if b[0] == null {
				return nil
			}
			return b[:n]
		}
		b = b[n:]
	}
	return nil
}

// ID returns the message-id as the sender encoded it; nil when there is none.
func (m *Message) ID() any {
	b := m.property(propMessageID)
	if b == nil {
		return nil
	}
	v, _, _ := Decode(b)
	return v
}

// SessionID returns the group-id; ok is false when there is none.
func (m *Message) SessionID() (string, bool) { return m.text(propGroupID) }

// ReplyTo returns the address for the answer to a request.
func (m *Message) ReplyTo() string {
	s, _ := m.text(propReplyTo)
	return s
}

func (m *Message) text(i int) (string, bool) {
	b := m.property(i)
	if b == nil {
		return "", false
	}
	v, _, _ := Decode(b)
	s, ok := v.(string)
	return s, ok
}

// SetID sets the id of a message that has none.
func (m *Message) SetID(id string) { m.setProperty(propMessageID, id) }

// SetExpiry sets the absolute-expiry-time, or removes it when the time is zero.
func (m *Message) SetExpiry(t time.Time) {
	switch {
	case !t.IsZero():
		m.setProperty(propExpiry, t)
	case m.property(propExpiry) != nil:
		m.setProperty(propExpiry, nil)
	}
}

// setProperty replaces a field of the properties. The other fields stay as they are.
func (m *Message) setProperty(i int, v any) {
	var rest []byte
	count := 0
	if m.Properties != nil {
		rest, count = elements(m.Properties)
	}
	const room = 64 // for the head of a list, absent fields and most values
	b := append(make([]byte, 0, len(m.Properties)+room), 0xd0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(max(count, i+1)))
	for at := range i {
		if at >= count {
			b = append(b, null)
			continue
		}
		n, err := Check(rest)
		if err != nil {
			return // a message is checked when it comes in
		}
		b, rest = append(b, rest[:n]...), rest[n:]
	}
	b = Append(b, v)
	if i < count {
		n, err := Check(rest)
		if err != nil {
			return
		}
		b = append(b, rest[n:]...)
	}
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-5))
	m.Properties = b
}

// Value decodes the body of a message that holds one value.
func (m *Message) Value() any {
	v, _, err := Decode(m.Body)
	if d, ok := v.(Described); ok && err == nil && d.Code == CodeValue {
		return d.Value
	}
	return nil
}

// PropertyBytes returns the size of both property sections, in bytes.
func (m *Message) PropertyBytes() int { return len(m.Properties) + len(m.Application.raw) }

// Append encodes the message and appends it to b.
func (m *Message) Append(b []byte) []byte {
	b = m.Header.append(b)
	b = m.DeliveryAnnotations.appendSectionWith(b, CodeDeliveryAnnotations, m.AddedDeliveryAnnotations)
	b = m.Annotations.appendSectionWith(b, CodeMessageAnnotations, m.AddedAnnotations)
	if m.Properties != nil {
		b = append(append(b, 0, 0x53, CodeProperties), m.Properties...)
	}
	b = m.Application.appendSection(b, CodeApplicationProperties)
	b = append(b, m.Body...)
	return append(b, m.Footer...)
}

func (h Header) append(b []byte) []byte {
	if !h.Present && h.DeliveryCount == 0 && h.TTL <= 0 {
		return b
	}
	b = append(b, 0, 0x53, CodeHeader, 0xd0, 0, 0, 0, 0, 0, 0, 0, byte(fieldCounts[CodeHeader]))
	at := len(b)
	b = Append(Append(b, h.Durable), h.Priority)
	if h.TTL > 0 {
		b = appendUint(b, uint32(min(h.TTL.Milliseconds(), 1<<32-1)))
	} else {
		b = append(b, null)
	}
	b = appendUint(Append(b, h.FirstAcquirer), h.DeliveryCount)
	binary.BigEndian.PutUint32(b[at-8:], uint32(len(b)-at+4))
	return b
}

// Batch returns the messages of a batch: each data section holds one.
func (m *Message) Batch() ([][]byte, error) {
	var out [][]byte
	for b := m.Body; len(b) > 0; {
		n, err := Check(b)
		if err != nil {
			return nil, err
		}
		inner, ok := binaryOf(b[descriptorSize:n])
		if !ok || b[2] != CodeData {
			return nil, fmt.Errorf("%w: a batch holds something else than messages", ErrMalformed)
		}
		out = append(out, inner)
		b = b[n:]
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: a batch without messages", ErrMalformed)
	}
	return out, nil
}

func binaryOf(b []byte) ([]byte, bool) {
	switch b[0] {
	case 0xa0:
		return b[2:len(b):len(b)], true
	case 0xb0:
		return b[5:len(b):len(b)], true
	}
	return nil, false
}
