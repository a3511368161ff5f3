package amqp

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Frame types.
const (
	FrameAMQP = 0
	FrameSASL = 1
)

const headerSize = 8

// Frame is a performative with its fields, and for transfers a payload. An empty frame
// (Code 0) only keeps the connection alive.
type Frame struct {
	Type    byte
	Channel uint16
	Code    uint64
	Fields  List
	Payload []byte
}

// ReadFrame reads one frame of at most max bytes. The caller owns the payload's memory.
func ReadFrame(r io.Reader, max uint32) (Frame, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Frame{}, err
	}
	size, offset := binary.BigEndian.Uint32(h[:]), int(h[4])*4
	if size < headerSize || size > max || offset < headerSize || offset > int(size) {
		return Frame{}, fmt.Errorf(
			"%w: a frame of %d bytes with its body at %d; at most %d bytes are read",
			ErrMalformed,
			size,
			offset,
			max,
		)
	}
	f := Frame{Type: h[5], Channel: binary.BigEndian.Uint16(h[6:])}
	body := make([]byte, size-headerSize)
	if _, err := io.ReadFull(r, body); err != nil {
		return Frame{}, err
	}
	body = body[offset-headerSize:]
	if len(body) == 0 {
		return f, nil
	}
	v, rest, err := Decode(body)
	if err != nil {
		return Frame{}, err
	}
	p, ok := v.(Described)
	if !ok {
		return Frame{}, fmt.Errorf("%w: a frame that holds a %T", ErrMalformed, v)
	}
	if f.Fields, ok = p.Value.(List); !ok {
		return Frame{}, fmt.Errorf("%w: performative 0x%x holds a %T", ErrMalformed, p.Code, p.Value)
	}
	f.Code, f.Payload = p.Code, rest
	return f, nil
}

// AppendFrame encodes a frame and appends it to b.
func AppendFrame(b []byte, kind byte, channel uint16, performative any, payload []byte) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0, 2, kind)
	b = binary.BigEndian.AppendUint16(b, channel)
	if performative != nil {
		b = Append(b, performative)
	}
	b = append(b, payload...)
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at))
	return b
}

// Transfer is the performative of a frame that brings a delivery, or a part of one.
type Transfer struct {
	Handle        uint32
	First         bool   // of the parts: only it has an id and a tag
	ID            uint32 // of the delivery
	Tag           [16]byte
	Settled, More bool
}

// append encodes the same bytes as Composite would, and boxes no field.
func (t *Transfer) append(b []byte) []byte {
	count := fieldCounts[CodeTransfer]
	b = append(b, 0, 0x53, CodeTransfer, 0xd0, 0, 0, 0, 0, 0, 0, 0, byte(count))
	at := len(b)
	b = appendUint(b, t.Handle)
	if t.First {
		b = appendUint(b, t.ID)
		b = append(append(b, 0xa0, byte(len(t.Tag))), t.Tag[:]...)
		b = appendUint(b, 0) // the format of the message
	} else {
		b = append(b, null, null, null)
	}
	b = appendBool(appendBool(b, t.Settled), t.More)
	const written = 6
	for range count - written {
		b = append(b, null)
	}
	binary.BigEndian.PutUint32(b[at-8:], uint32(len(b)-at+4))
	return b
}

// Field returns field i as a T; ok is false when it is null, missing or has another type.
func Field[T any](fields List, i int) (v T, ok bool) {
	if i >= len(fields) {
		return v, false
	}
	v, ok = fields[i].(T)
	return v, ok
}

// FieldOr is Field with a default.
func FieldOr[T any](fields List, i int, or T) T {
	if v, ok := Field[T](fields, i); ok {
		return v
	}
	return or
}
