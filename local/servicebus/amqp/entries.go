package amqp

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Entries is a map of a message. Its entries stay as the sender encoded them: unchanged
// ones are passed on byte for byte. The zero value is an absent map.
type Entries struct {
	raw   []byte // alternately a key and its value
	count int    // of entries
}

// ParseEntries reads an encoded map. Its keys are strings, symbols or numbers.
func ParseEntries(b []byte) (Entries, error) {
	if len(b) == 0 || b[0] != 0xc1 && b[0] != 0xd1 {
		return Entries{}, fmt.Errorf("%w: a section that should be a map is not", ErrMalformed)
	}
	n, err := Check(b)
	if err != nil {
		return Entries{}, err
	}
	raw, count := elements(b[:n])
	e, plain := Entries{raw, count / 2}, true
	e.each(func(k, _ []byte) bool {
		_, isText := text(k)
		_, isFixed := width(k[0])
		plain = isText || isFixed && k[0] != 0x40
		return plain
	})
	if !plain {
		return Entries{}, fmt.Errorf("%w: a key that is neither a name nor a number", ErrMalformed)
	}
	return e, nil
}

// each calls f with every entry until f returns false.
func (e Entries) each(f func(key, value []byte) bool) {
	for b := e.raw; len(b) > 0; {
		k, err := Check(b)
		if err != nil {
			return
		}
		v, err := Check(b[k:])
		if err != nil || !f(b[:k], b[k:k+v]) {
			return
		}
		b = b[k+v:]
	}
}

// text returns the characters of an encoded string or symbol.
func text(b []byte) ([]byte, bool) {
	switch b[0] {
	case 0xa1, 0xa3:
		return b[2:], true
	case 0xb1, 0xb3:
		return b[5:], true
	}
	return nil, false
}

// Get decodes the value of a string or symbol key; nil when there is none.
func (e Entries) Get(key string) (value any) {
	e.each(func(k, v []byte) bool {
		if name, ok := text(k); !ok || string(name) != key {
			return true
		}
		value, _, _ = Decode(v)
		return false
	})
	return value
}

// Largest returns the size of the largest value, in bytes.
func (e Entries) Largest() (n int) {
	e.each(func(_, v []byte) bool {
		n = max(n, len(v))
		return true
	})
	return n
}

// With returns the entries together with those of set, which replace entries of the same
// name. The receiver does not change. Keys of set are strings or symbols.
func (e Entries) With(set ...Pair) Entries {
	if len(set) == 0 {
		return e
	}
	const perEntry = 64 // a guess that is seldom too small
	out := Entries{raw: make([]byte, 0, len(e.raw)+perEntry*len(set))}
	e.each(func(k, v []byte) bool {
		name, ok := text(k)
		if !ok || !named(set, name) {
			out.raw = append(append(out.raw, k...), v...)
			out.count++
		}
		return true
	})
	for _, p := range set {
		out.raw = Append(Append(out.raw, p.Key), p.Value)
		out.count++
	}
	return out
}

// Without returns the entries except the one of a name.
func (e Entries) Without(name string) Entries {
	out := Entries{raw: make([]byte, 0, len(e.raw))}
	e.each(func(k, v []byte) bool {
		if key, ok := text(k); !ok || string(key) != name {
			out.raw = append(append(out.raw, k...), v...)
			out.count++
		}
		return true
	})
	return out
}

func named(set []Pair, name []byte) bool {
	for _, p := range set {
		switch k := p.Key.(type) {
		case string:
			if k == string(name) {
				return true
			}
		case Symbol:
			if string(k) == string(name) {
				return true
			}
		}
	}
	return false
}

// appendSection encodes the entries as a section of a message. It appends nothing if they
// are absent.
func (e Entries) appendSection(b []byte, code byte) []byte {
	if e.count == 0 {
		return b
	}
	b = append(b, 0, 0x53, code, 0xd1)
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.raw)+4))
	b = binary.BigEndian.AppendUint32(b, uint32(2*e.count))
	return append(b, e.raw...)
}

// Added is entries that are added to those of a map when it is encoded, and replace those
// of the same name. The zero value is none. Its methods keep them encoded in one piece.
type Added struct {
	raw   []byte
	count int
}

// NewAdded keeps its entries in the memory of buf while they fit.
func NewAdded(buf []byte) Added { return Added{raw: buf[:0]} }

func (a *Added) name(name string) {
	a.raw = append(appendLength(a.raw, 0xa3, 0xb3, len(name)), name...)
	a.count++
}

// Long adds a long.
func (a *Added) Long(name string, v int64) {
	a.name(name)
	a.raw = appendLong(a.raw, v)
}

// Int adds an int.
func (a *Added) Int(name string, v int32) {
	a.name(name)
	a.raw = binary.BigEndian.AppendUint32(append(a.raw, 0x71), uint32(v))
}

// Time adds a timestamp.
func (a *Added) Time(name string, v time.Time) {
	a.name(name)
	a.raw = appendTimestamp(a.raw, v)
}

// Text adds a string.
func (a *Added) Text(name, v string) {
	a.name(name)
	a.raw = appendText(a.raw, v)
}

// UUID adds a UUID.
func (a *Added) UUID(name string, v UUID) {
	a.name(name)
	a.raw = append(append(a.raw, 0x98), v[:]...)
}

// has reports whether an entry of a name is among them.
func (a *Added) has(name []byte) bool {
	found := false
	Entries{raw: a.raw}.each(func(k, _ []byte) bool {
		own, _ := text(k)
		found = string(own) == string(name)
		return !found
	})
	return found
}

// appendSectionWith encodes the entries with others as a section of a message. It appends
// nothing if there are none.
func (e Entries) appendSectionWith(b []byte, code byte, a Added) []byte {
	if a.count == 0 {
		return e.appendSection(b, code)
	}
	b = append(b, 0, 0x53, code, 0xd1, 0, 0, 0, 0, 0, 0, 0, 0)
	at, count := len(b), a.count
	e.each(func(k, v []byte) bool {
		if name, ok := text(k); !ok || !a.has(name) {
			b = append(append(b, k...), v...)
			count++
		}
		return true
	})
	b = append(b, a.raw...)
	binary.BigEndian.PutUint32(b[at-8:], uint32(len(b)-at+4))
	binary.BigEndian.PutUint32(b[at-4:], uint32(2*count))
	return b
}
