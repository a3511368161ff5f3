package tolerant

import (
	"encoding/binary"
	"fmt"
)

// Kind is the kind of a message's body.
type Kind int

// Kinds of bodies.
const (
	Data     Kind = iota // bytes
	Value                // one AMQP value
	Sequence             // lists of AMQP values
)

// Original is what a message really holds, when the client reads it as something
// else or not at all. Its parts are copies.
type Original struct {
	Kind       Kind
	Body       any    // []byte, the value, or a list of lists
	Properties []Pair // application properties; nil = there are none
	Odd        []string
}

// Codes of the sections of a message.
const (
	deliveryAnnotations   = 0x71
	annotations           = 0x72
	applicationProperties = 0x74
	data                  = 0x75
	sequence              = 0x76
	value                 = 0x77
	footer                = 0x78
)

// texts are the entries that the client takes for strings without looking.
var texts = map[string]bool{
	"DeadLetterReason": true, "DeadLetterErrorDescription": true, "x-opt-partition-key": true, "x-opt-deadletter-source": true,
}

// patch is a change of bytes that leaves their number as it is.
type patch struct {
	at    int
	bytes []byte
}

// examine takes an encoded message apart. nil says that the client reads it as it
// is; else the patches make of it one that it reads. What is malformed is left to
// the client.
func examine(b []byte) (*Original, []patch) {
	o := &Original{}
	var patches []patch
	var body []byte
	var sequences []any
	for at := 0; at < len(b); {
		d := &decoder{b: b, at: at}
		if c, err := d.take(1); err != nil || c[0] != 0 {
			return nil, nil
		}
		descriptor, err := d.value(0)
		code, ok := descriptor.(uint64)
		if err != nil || !ok {
			return nil, nil
		}
		from := d.at
		d.exotic = false
		v, err := d.value(0)
		if err != nil {
			return nil, nil
		}
		switch code {
		case deliveryAnnotations, annotations, applicationProperties, footer:
			pairs, _ := v.([]Pair)
			for _, p := range d.odd {
				patches = append(patches, patch{p.at, []byte{p.code}})
			}
			if code == applicationProperties {
				o.Properties = pairs
			}
			o.Odd = append(o.Odd, oddities(code, pairs)...)
			patches = append(patches, renames(b, from, pairs)...)
		case data:
			part, _ := v.([]byte)
			body = append(body, part...)
		case sequence:
			o.Kind, sequences = Sequence, append(sequences, v)
			patches = append(patches, opaque(from, d.at)...)
		case value:
			o.Kind, o.Body = Value, v
			if d.exotic || len(d.odd) > 0 {
				patches = append(patches, opaque(from, d.at)...)
			}
		}
		at = d.at
	}
	switch {
	case o.Kind == Data:
		o.Body = body
	case o.Kind == Sequence:
		o.Body = sequences
	}
	return o, patches
}

// oddities names the entries whose values the client does not read, for a person.
func oddities(code uint64, pairs []Pair) (out []string) {
	where := "annotation"
	if code == applicationProperties {
		where = "application property"
	}
	for _, p := range pairs {
		switch p.Value.(type) {
		case Decimal, Char:
			out = append(out, fmt.Sprintf("%s %v of type %s", where, Plain(p.Key), TypeName(p.Value)))
		}
	}
	return out
}

// renames changes the first letter of entries that have to be strings and are not,
// so that the client does not look at them. The entries are the map's that lies at from.
func renames(b []byte, from int, pairs []Pair) (out []patch) {
	for i, p := range pairs {
		name := fmt.Sprint(Plain(p.Key))
		if _, isText := p.Value.(string); !texts[name] || isText || p.Value == nil && name[0] == 'x' {
			continue
		}
		if at := keyAt(b, from, i); at > 0 {
			out = append(out, patch{at, []byte{name[0] ^ 0x20}})
		}
	}
	return out
}

// keyAt is where the text of a map's i-th key begins; 0 = it is no text.
func keyAt(b []byte, from, i int) int {
	wide := func(at int) int { // a length is one byte, or four
		if b[at]&0x10 != 0 {
			return 4
		}
		return 1
	}
	d := &decoder{b: b, at: from + 1 + 2*wide(from)}
	for range 2 * i {
		if _, err := d.value(0); err != nil {
			return 0
		}
	}
	switch b[d.at] {
	case 0xa1, 0xb1, 0xa3, 0xb3:
		return d.at + 1 + wide(d.at)
	}
	return 0
}

// opaque makes a section, whose value lies at from, one of bytes. Values of one
// byte the client reads.
func opaque(from, to int) []patch {
	n := to - from
	switch {
	case n < 2:
		return nil
	case n-2 <= 0xff:
		return []patch{{from - 1, []byte{data}}, {from, []byte{0xa0, byte(n - 2)}}}
	}
	head := binary.BigEndian.AppendUint32([]byte{0xb0}, uint32(n-5))
	return []patch{{from - 1, []byte{data}}, {from, head}}
}
