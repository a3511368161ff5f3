// Package amqp encodes and decodes the parts of AMQP 1.0 that the local Service Bus needs:
// the types, frames, and the sections of a message. It opens no connection and knows no
// queue. Its input comes from outside, so it reads all of it with limits.
package amqp

import "errors"

// Limits on a decoded value. The connection negotiates the size of a frame; these limits
// bound the memory that its values take.
const (
	maxDepth    = 16      // nesting of values; the deepest that clients send is a map in a list in a map
	maxElements = 100_000 // of all lists, maps and arrays of one value together
)

// ErrMalformed is the error for bytes that AMQP 1.0 does not allow, or that exceed a limit.
var ErrMalformed = errors.New("malformed AMQP data")

// Symbol is a string of ASCII characters with its own type on the wire.
type Symbol string

// UUID is 16 bytes in RFC 4122 order.
type UUID [16]byte

// List is a sequence of values of any types.
type List []any

// Pair is one entry of a Map.
type Pair struct{ Key, Value any }

// Map keeps its entries in the order of the wire.
type Map []Pair

// Get returns the value of a string or symbol key.
func (m Map) Get(key string) any {
	for _, p := range m {
		switch k := p.Key.(type) {
		case string:
			if k == key {
				return p.Value
			}
		case Symbol:
			if string(k) == key {
				return p.Value
			}
		}
	}
	return nil
}

// With returns the map with key set to value. The receiver does not change.
func (m Map) With(key, value any) Map {
	out := make(Map, 0, len(m)+1)
	for _, p := range m {
		if p.Key != key {
			out = append(out, p)
		}
	}
	return append(out, Pair{key, value})
}

// Array is a sequence of values of one type.
type Array []any

// Described is a value with a descriptor: a code, or a symbol.
type Described struct {
	Code  uint64 // 0 when Name is set
	Name  Symbol
	Value any
}

// Raw is an encoded value that is passed on unchanged.
type Raw []byte

// Codes of performatives, terminal states and message sections.
const (
	CodeOpen        = 0x10
	CodeBegin       = 0x11
	CodeAttach      = 0x12
	CodeFlow        = 0x13
	CodeTransfer    = 0x14
	CodeDisposition = 0x15
	CodeDetach      = 0x16
	CodeEnd         = 0x17
	CodeClose       = 0x18
	CodeError       = 0x1d
	CodeReceived    = 0x23
	CodeAccepted    = 0x24
	CodeRejected    = 0x25
	CodeReleased    = 0x26
	CodeModified    = 0x27
	CodeSource      = 0x28
	CodeTarget      = 0x29
	CodeCoordinator = 0x30

	CodeSASLMechanisms = 0x40
	CodeSASLInit       = 0x41
	CodeSASLOutcome    = 0x44

	CodeHeader                = 0x70
	CodeDeliveryAnnotations   = 0x71
	CodeMessageAnnotations    = 0x72
	CodeProperties            = 0x73
	CodeApplicationProperties = 0x74
	CodeData                  = 0x75
	CodeSequence              = 0x76
	CodeValue                 = 0x77
	CodeFooter                = 0x78
)
