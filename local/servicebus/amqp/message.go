package amqp

import (
	"fmt"
	"time"
)

// Message is an encoded message taken apart. Body, properties and footer stay
// as the sender encoded them; only what a broker may change is decoded.
type Message struct {
	Durable       any // header fields as the sender set them, nil when not
	Priority      any
	TTL           time.Duration // 0 = not set
	FirstAcquirer any
	DeliveryCount uint32
	ForceHeader   bool // write a header even when nothing in it is set: clients read the delivery count only then

	DeliveryAnnotations Map
	Annotations         Map
	Properties          List // decoded copy; nil when absent
	rawProperties       []byte
	ApplicationProps    Map
	rawApplication      []byte // nil after SetApplication
	Body                []byte // data, sequence and value sections as they came
	Footer              []byte
}

// Places in the properties section.
const (
	propMessageID = 0
	propGroupID   = 10
)

// ParseMessage takes an encoded message apart. The parts share b.
func ParseMessage(b []byte) (*Message, error) {
	m := &Message{}
	for len(b) > 0 {
		v, rest, err := Decode(b)
		if err != nil {
			return nil, err
		}
		section, ok := v.(Described)
		if !ok {
			return nil, fmt.Errorf("%w: a message section without a descriptor", ErrMalformed)
		}
		raw := b[:len(b)-len(rest)]
		b = rest
		if err := m.section(section, raw); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Message) section(s Described, raw []byte) error {
	ok := true
	switch s.Code {
	case CodeHeader:
		var h List
		if h, ok = s.Value.(List); ok {
			m.header(h)
		}
	case CodeDeliveryAnnotations:
		m.DeliveryAnnotations, ok = s.Value.(Map)
	case CodeMessageAnnotations:
		m.Annotations, ok = s.Value.(Map)
	case CodeProperties:
		m.Properties, ok = s.Value.(List)
		m.rawProperties = raw
	case CodeApplicationProperties:
		m.ApplicationProps, ok = s.Value.(Map)
		m.rawApplication = raw
	case CodeData, CodeSequence, CodeValue:
		if m.Body == nil {
			m.Body = raw
		} else {
			m.Body = append(m.Body[:len(m.Body):len(m.Body)], raw...)
		}
	case CodeFooter:
		m.Footer = raw
	default:
		ok = false
	}
	if !ok {
		return fmt.Errorf("%w: message section 0x%x holds a %T", ErrMalformed, s.Code, s.Value)
	}
	return nil
}

func (m *Message) header(h List) {
	at := func(i int) any {
		if i < len(h) {
			return h[i]
		}
		return nil
	}
	m.Durable, m.Priority, m.FirstAcquirer = at(0), at(1), at(3)
	if ttl, ok := Field[uint32](h, 2); ok {
		m.TTL = time.Duration(ttl) * time.Millisecond
	}
	m.DeliveryCount = FieldOr(h, 4, uint32(0))
}

// ID is the message-id in its textual form, "" when there is none.
func (m *Message) ID() string {
	if len(m.Properties) == 0 || m.Properties[propMessageID] == nil {
		return ""
	}
	return fmt.Sprint(m.Properties[propMessageID])
}

// SetID gives a message an id.
func (m *Message) SetID(id string) {
	if len(m.Properties) == 0 {
		m.Properties = List{nil}
	}
	m.Properties[propMessageID] = id
	m.rawProperties = nil
}

// SessionID is the group-id; ok is false when there is none.
func (m *Message) SessionID() (string, bool) { return Field[string](m.Properties, propGroupID) }

// SetApplication replaces application properties, or adds them.
func (m *Message) SetApplication(set Map) {
	for _, p := range set {
		key := p.Key
		if s, ok := key.(Symbol); ok {
			key = string(s)
		}
		m.ApplicationProps = m.ApplicationProps.With(key, p.Value)
	}
	m.rawApplication = nil
}

// PropertyBytes is the size of both property sections.
func (m *Message) PropertyBytes() int { return len(m.rawProperties) + len(m.rawApplication) }

// Append encodes the message behind b.
func (m *Message) Append(b []byte) []byte {
	var ttl any
	if m.TTL > 0 {
		ttl = uint32(min(m.TTL.Milliseconds(), 1<<32-1))
	}
	if m.Durable != nil || m.Priority != nil || ttl != nil || m.FirstAcquirer != nil || m.DeliveryCount > 0 || m.ForceHeader {
		b = Append(b, Composite(CodeHeader, m.Durable, m.Priority, ttl, m.FirstAcquirer, m.DeliveryCount))
	}
	if len(m.DeliveryAnnotations) > 0 {
		b = Append(b, Described{Code: CodeDeliveryAnnotations, Value: m.DeliveryAnnotations})
	}
	if len(m.Annotations) > 0 {
		b = Append(b, Described{Code: CodeMessageAnnotations, Value: m.Annotations})
	}
	switch {
	case m.rawProperties != nil:
		b = append(b, m.rawProperties...)
	case m.Properties != nil:
		b = Append(b, Described{Code: CodeProperties, Value: m.Properties})
	}
	switch {
	case m.rawApplication != nil:
		b = append(b, m.rawApplication...)
	case m.ApplicationProps != nil:
		b = Append(b, Described{Code: CodeApplicationProperties, Value: m.ApplicationProps})
	}
	b = append(b, m.Body...)
	return append(b, m.Footer...)
}

// Batch returns the messages of a batch: each data section holds one.
func (m *Message) Batch() ([][]byte, error) {
	var out [][]byte
	for b := m.Body; len(b) > 0; {
		v, rest, err := Decode(b)
		if err != nil {
			return nil, err
		}
		data, ok := v.(Described)
		inner, isBytes := data.Value.([]byte)
		if !ok || data.Code != CodeData || !isBytes {
			return nil, fmt.Errorf("%w: a batch holds something else than messages", ErrMalformed)
		}
		out = append(out, inner)
		b = rest
	}
	return out, nil
}
