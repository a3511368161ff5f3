package tolerantest

import (
	"bytes"
	"encoding/binary"
)

// rawMark begins a body that is a whole encoded message.
var rawMark = []byte("\x00raw\x00msg")

// Sections in the place of the beginning of a data section with rawMark: delivery
// annotations of as many bytes, which mean nothing.
var (
	shortPad = []byte("\x00\x53\x71\xc1\x08\x02\xa3\x04xpad\x40")
	longPad  = []byte("\x00\x53\x71\xc1\x0b\x02\xa3\x07xpadpad\x40")
)

// Raw is the body of a message that arrives as the encoded message, when it is sent over a
// Conn and in one frame. The encoded message has no header and no delivery annotations.
func Raw(encoded []byte) []byte { return append(bytes.Clone(rawMark), encoded...) }

// unwrapRaw replaces data sections that Raw made by what is in them.
func unwrapRaw(p []byte) []byte {
	for {
		at := bytes.Index(p, rawMark)
		switch {
		case at < 0:
			return p
		case at >= 5 && p[at-2] == 0xa0:
			p = bytes.Replace(p, p[at-5:at+len(rawMark)], shortPad, 1)
		default:
			p = bytes.Replace(p, p[at-8:at+len(rawMark)], longPad, 1)
		}
	}
}

// Sections of a message.
const (
	AnnotationsSection = 0x72
	PropertiesSection  = 0x73
	ApplicationSection = 0x74
	DataSection        = 0x75
	SequenceSection    = 0x76
	ValueSection       = 0x77
	FooterSection      = 0x78
)

// Section encodes a section of a message around an encoded value.
func Section(code byte, value []byte) []byte { return append([]byte{0, 0x53, code}, value...) }

// Text encodes a string.
func Text(s string) []byte { return sized(0xb1, []byte(s)) }

// Bytes encodes a binary value.
func Bytes(b []byte) []byte { return sized(0xb0, b) }

// Symbol encodes a symbol.
func Symbol(s string) []byte { return sized(0xb3, []byte(s)) }

// List encodes a list of encoded values.
func List(values ...[]byte) []byte { return compound(0xd0, values) }

// Map encodes a map of encoded keys and values.
func Map(keysAndValues ...[]byte) []byte { return compound(0xd1, keysAndValues) }

// Described encodes a value with its descriptor.
func Described(descriptor, value []byte) []byte {
	return append(append([]byte{0}, descriptor...), value...)
}

func sized(code byte, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{code}, uint32(len(b))), b...)
}

func compound(code byte, values [][]byte) []byte {
	body := bytes.Join(values, nil)
	out := binary.BigEndian.AppendUint32([]byte{code}, uint32(len(body)+4))
	return append(binary.BigEndian.AppendUint32(out, uint32(len(values))), body...)
}

// Null is the value that says that there is none.
var Null = []byte{0x40}

// Value is a value of one type of AMQP, and how it arrives as an application property on a
// queue to which the app has written it: after the Functions host has made JSON of it.
type Value struct {
	Name    string
	Encoded []byte
	Arrives any
}

// ID is the value as an id of a message, which has one of four types; Null for the others.
func (v Value) ID() []byte {
	switch v.Encoded[0] {
	case 0x44, 0x53, 0x80, 0x98, 0xa0, 0xb0, 0xa1, 0xb1:
		return v.Encoded
	}
	return Null
}

// Values are one of each type, those of .NET with a descriptor included.
func Values() []Value {
	return []Value{
		{"null", Null, nil},
		{"boolean", []byte{0x41}, true},
		{"boolean-wide", []byte{0x56, 0}, false},
		{"ubyte", []byte{0x50, 200}, int64(200)},
		{"ushort", []byte{0x60, 0xff, 0xff}, int64(65535)},
		{"uint", []byte{0x70, 0xff, 0xff, 0xff, 0xff}, int64(4294967295)},
		{"uint-0", []byte{0x43}, int64(0)},
		{"ulong", []byte{0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, uint64(18446744073709551615)},
		{"ulong-small", []byte{0x53, 7}, int64(7)},
		{"byte", []byte{0x51, 0xff}, int64(-1)},
		{"short", []byte{0x61, 0xff, 0xff}, int64(-1)},
		{"int", []byte{0x71, 0x80, 0, 0, 0}, int64(-2147483648)},
		{"int-small", []byte{0x54, 0xff}, int64(-1)},
		{"long", []byte{0x81, 0x80, 0, 0, 0, 0, 0, 0, 0}, int64(-9223372036854775808)},
		{"float", []byte{0x72, 0x3f, 0xc0, 0, 0}, 1.5},
		{"double", []byte{0x82, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0}, 1.5},
		{"not-a-number", []byte{0x82, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0}, "NaN"},
		{"decimal32", []byte{0x74, 0x32, 0, 0, 15}, 1.5},
		{"decimal64", []byte{0x84, 0x31, 0xa0, 0, 0, 0, 0, 0, 15}, 1.5},
		{"decimal128", append([]byte{0x94}, Decimal[:]...), 1.5},
		{"char", []byte{0x73, 0, 0, 0, 0xe9}, "\u00e9"},
		{"timestamp", []byte{0x83, 0, 0, 0x01, 0x9c, 0xae, 0x6b, 0x66, 0}, "2026-03-02T12:00:00Z"},
		{"uuid", []byte{0x98, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, "00010203-0405-0607-0809-0a0b0c0d0e0f"},
		{"binary", Bytes([]byte("abc")), "YWJj"},
		{"string", Text("text"), "text"},
		{"symbol", Symbol("symbol"), "symbol"},
		{"list", List([]byte{0x54, 1}, Text("a")), `[1,"a"]`},
		{"list-0", []byte{0x45}, "[]"},
		{"map", Map(Text("k"), []byte{0x54, 1}), `{"k":1}`},
		{"array", []byte{0xe0, 4, 2, 0x54, 1, 2}, "[1,2]"},
		{"timespan", Described(Symbol("com.microsoft:timespan"), []byte{0x81, 0, 0, 0, 0, 0x35, 0xf1, 0x34, 0x40}), "00:01:30.5000000"},
		{
			"datetimeoffset",
			Described(Symbol("com.microsoft:datetime-offset"), []byte{0x81, 0x08, 0xde, 0x78, 0x53, 0x3a, 0xf5, 0xe0, 0}),
			"2026-03-02T12:00:00+00:00",
		},
		{"uri", Described(Symbol("com.microsoft:uri"), Text("https://a/b")), "https://a/b"},
		{"described", Described([]byte{0x80, 0, 0, 0, 0, 0, 0, 1, 0x23}, Text("x")), `{"descriptor":291,"value":"x"}`},
	}
}
