package amqp

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Append encodes a value and appends it to b. It panics on a Go type without a counterpart
// in AMQP, because only this program chooses the types.
func Append(b []byte, v any) []byte {
	be := binary.BigEndian
	switch v := v.(type) {
	case nil:
		return append(b, 0x40)
	case bool:
		return appendBool(b, v)
	case uint8:
		return append(b, 0x50, v)
	case int8:
		return append(b, 0x51, byte(v))
	case uint16:
		return be.AppendUint16(append(b, 0x60), v)
	case int16:
		return be.AppendUint16(append(b, 0x61), uint16(v))
	case uint32:
		return appendUint(b, v)
	case int32:
		return be.AppendUint32(append(b, 0x71), uint32(v))
	case uint64:
		switch {
		case v == 0:
			return append(b, 0x44)
		case v <= math.MaxUint8:
			return append(b, 0x53, byte(v))
		}
		return be.AppendUint64(append(b, 0x80), v)
	case int64:
		return appendLong(b, v)
	case float32:
		return be.AppendUint32(append(b, 0x72), math.Float32bits(v))
	case float64:
		return be.AppendUint64(append(b, 0x82), math.Float64bits(v))
	case time.Time:
		return appendTimestamp(b, v)
	case UUID:
		return append(append(b, 0x98), v[:]...)
	case []byte:
		return append(appendLength(b, 0xa0, 0xb0, len(v)), v...)
	case string:
		return appendText(b, v)
	case Symbol:
		return append(appendLength(b, 0xa3, 0xb3, len(v)), v...)
	case Raw:
		return append(b, v...)
	case *Transfer:
		return v.append(b)
	case Described:
		b = append(b, 0)
		if v.Name != "" {
			b = Append(b, v.Name)
		} else {
			b = Append(b, v.Code)
		}
		return Append(b, v.Value)
	case List:
		if len(v) == 0 {
			return append(b, 0x45)
		}
		return appendCompound(b, 0xd0, len(v), func(b []byte) []byte {
			for _, e := range v {
				b = Append(b, e)
			}
			return b
		})
	case Map:
		return appendCompound(b, 0xd1, 2*len(v), func(b []byte) []byte {
			for _, p := range v {
				b = Append(Append(b, p.Key), p.Value)
			}
			return b
		})
	case Array:
		return appendArray(b, v)
	}
	panic(fmt.Sprintf("amqp: no encoding for %T", v))
}

func appendUint(b []byte, v uint32) []byte {
	switch {
	case v == 0:
		return append(b, 0x43)
	case v <= math.MaxUint8:
		return append(b, 0x52, byte(v))
	}
	return binary.BigEndian.AppendUint32(append(b, 0x70), v)
}

func appendLong(b []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0x81), uint64(v))
}

func appendTimestamp(b []byte, v time.Time) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0x83), uint64(v.UnixMilli()))
}

func appendText(b []byte, v string) []byte {
	return append(appendLength(b, 0xa1, 0xb1, len(v)), v...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0x41)
	}
	return append(b, 0x42)
}

func appendLength(b []byte, short, long byte, n int) []byte {
	if n <= math.MaxUint8 {
		return append(b, short, byte(n))
	}
	return binary.BigEndian.AppendUint32(append(b, long), uint32(n))
}

// appendCompound writes constructor, size and count, and then the output of body.
func appendCompound(b []byte, code byte, count int, body func([]byte) []byte) []byte {
	at := len(b) + 1
	b = append(b, code, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(count))
	b = body(b)
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// appendArray uses the widest encoding of the elements' type, because all elements share
// one constructor. It supports the types that Service Bus puts into arrays.
func appendArray(b []byte, v Array) []byte {
	at := len(b) + 1
	b = append(b, 0xf0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	var code byte = 0x81
	if len(v) > 0 {
		switch v[0].(type) {
		case int64:
			code = 0x81
		case time.Time:
			code = 0x83
		case UUID:
			code = 0x98
		case string:
			code = 0xb1
		case Symbol:
			code = 0xb3
		default:
			panic(fmt.Sprintf("amqp: no array of %T", v[0]))
		}
	}
	b = append(b, code)
	for _, e := range v {
		switch e := e.(type) {
		case int64:
			b = binary.BigEndian.AppendUint64(b, uint64(e))
		case time.Time:
			b = binary.BigEndian.AppendUint64(b, uint64(e.UnixMilli()))
		case UUID:
			b = append(b, e[:]...)
		case string:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(e))), e...)
		case Symbol:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(e))), e...)
		}
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// Composite returns a described list. It has all fields that the code has: the service
// leaves no trailing nulls out, and some clients read a field without a look at the count.
func Composite(code uint64, fields ...any) Described {
	all := make(List, max(len(fields), fieldCounts[code]))
	copy(all, fields)
	return Described{Code: code, Value: all}
}

// fieldCounts is the number of fields of each code.
var fieldCounts = [...]int{
	CodeOpen:           10,
	CodeBegin:          8,
	CodeAttach:         14,
	CodeFlow:           11,
	CodeTransfer:       11,
	CodeDisposition:    6,
	CodeDetach:         3,
	CodeEnd:            1,
	CodeClose:          1,
	CodeError:          3,
	CodeReceived:       2,
	CodeRejected:       1,
	CodeModified:       3,
	CodeSource:         11,
	CodeTarget:         7,
	CodeSASLMechanisms: 1,
	CodeSASLInit:       3,
	CodeSASLOutcome:    2,
	CodeHeader:         5,
	CodeProperties:     13,
}
