package amqp

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

// Decode reads one value and returns the bytes after it. Only a Raw in the value shares the
// memory of b.
func Decode(b []byte) (any, []byte, error) {
	left := maxElements
	d := decoder{b: b, left: &left}
	v, err := d.value(0)
	return v, d.b, err
}

// decoder reads from b. left bounds the elements of all lists, maps and arrays together:
// elements that are nested or have no bytes take more memory than their encoding.
type decoder struct {
	b    []byte
	left *int
}

// spend takes n elements from left.
func (d *decoder) spend(n int) error {
	if *d.left -= n; *d.left < 0 {
		return d.fail("more than %d elements", maxElements)
	}
	return nil
}

func (d *decoder) fail(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

func (d *decoder) take(n int) ([]byte, error) {
	if n < 0 || n > len(d.b) {
		return nil, d.fail("%d bytes wanted, %d left", n, len(d.b))
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out, nil
}

func (d *decoder) byte() (byte, error) {
	b, err := d.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

func (d *decoder) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, d.fail("values nested deeper than %d", maxDepth)
	}
	code, err := d.byte()
	if err != nil {
		return nil, err
	}
	if code == 0 {
		return d.described(depth)
	}
	return d.coded(code, depth)
}

func (d *decoder) described(depth int) (any, error) {
	desc, err := d.value(depth + 1)
	if err != nil {
		return nil, err
	}
	out := Described{}
	switch desc := desc.(type) {
	case uint64:
		out.Code = desc
	case Symbol:
		out.Name = desc
	default:
		return nil, d.fail("a descriptor of type %T", desc)
	}
	out.Value, err = d.value(depth + 1)
	return out, err
}

// coded reads the value after a constructor.
func (d *decoder) coded(code byte, depth int) (any, error) {
	switch code >> 4 {
	case 0x4:
		return d.empty(code)
	case 0x5, 0x6, 0x7, 0x8, 0x9:
		width := []int{1, 2, 4, 8, 16}[code>>4-5]
		b, err := d.take(width)
		if err != nil {
			return nil, err
		}
		return d.fixed(code, b)
	case 0xa, 0xb:
		return d.variable(code)
	case 0xc, 0xd:
		return d.compound(code, depth)
	case 0xe, 0xf:
		return d.array(code, depth)
	}
	return nil, d.fail("type code 0x%02x", code)
}

func (d *decoder) empty(code byte) (any, error) {
	switch code {
	case 0x40:
		return nil, nil
	case 0x41:
		return true, nil
	case 0x42:
		return false, nil
	case 0x43:
		return uint32(0), nil
	case 0x44:
		return uint64(0), nil
	case 0x45:
		return List{}, nil
	}
	return nil, d.fail("type code 0x%02x", code)
}

func (d *decoder) fixed(code byte, b []byte) (any, error) {
	be := binary.BigEndian
	switch code {
	case 0x50:
		return b[0], nil
	case 0x51:
		return int8(b[0]), nil
	case 0x52:
		return uint32(b[0]), nil
	case 0x53:
		return uint64(b[0]), nil
	case 0x54:
		return int32(int8(b[0])), nil
	case 0x55:
		return int64(int8(b[0])), nil
	case 0x56:
		return b[0] != 0, nil
	case 0x60:
		return be.Uint16(b), nil
	case 0x61:
		return int16(be.Uint16(b)), nil
	case 0x70:
		return be.Uint32(b), nil
	case 0x71:
		return int32(be.Uint32(b)), nil
	case 0x72:
		return math.Float32frombits(be.Uint32(b)), nil
	case 0x80:
		return be.Uint64(b), nil
	case 0x81:
		return int64(be.Uint64(b)), nil
	case 0x82:
		return math.Float64frombits(be.Uint64(b)), nil
	case 0x83:
		return time.UnixMilli(int64(be.Uint64(b))).UTC(), nil
	case 0x98:
		return UUID(b), nil
	case 0x73, 0x74, 0x84, 0x94: // char and decimals, which nothing here reads
		return Raw(append([]byte{code}, b...)), nil
	}
	return nil, d.fail("type code 0x%02x", code)
}

func (d *decoder) variable(code byte) (any, error) {
	b, err := d.sized(code>>4 == 0xb)
	if err != nil {
		return nil, err
	}
	switch code & 0xf {
	case 0x0:
		return append([]byte(nil), b...), nil
	case 0x1:
		if !utf8.Valid(b) {
			return nil, d.fail("a string that is not UTF-8")
		}
		return string(b), nil
	case 0x3:
		return Symbol(b), nil
	}
	return nil, d.fail("type code 0x%02x", code)
}

// sized reads a length of one or four bytes, and returns the bytes of that length.
func (d *decoder) sized(wide bool) ([]byte, error) {
	n, err := d.length(wide)
	if err != nil {
		return nil, err
	}
	return d.take(n)
}

func (d *decoder) length(wide bool) (int, error) {
	if !wide {
		b, err := d.byte()
		return int(b), err
	}
	b, err := d.take(4)
	if err != nil {
		return 0, err
	}
	return int(binary.BigEndian.Uint32(b)), nil
}

func (d *decoder) compound(code byte, depth int) (any, error) {
	wide := code>>4 == 0xd
	body, err := d.sized(wide)
	if err != nil {
		return nil, err
	}
	in := decoder{body, d.left}
	n, err := in.length(wide)
	if err != nil {
		return nil, err
	}
	if n > len(in.b) {
		return nil, d.fail("%d elements in %d bytes", n, len(in.b))
	}
	if err := d.spend(n); err != nil {
		return nil, err
	}
	values := make(List, n)
	for i := range values {
		if values[i], err = in.value(depth + 1); err != nil {
			return nil, err
		}
	}
	switch {
	case code&0xf == 0x0:
		return values, nil
	case code&0xf == 0x1 && n%2 == 0:
		m := make(Map, n/2)
		for i := range m {
			m[i] = Pair{values[2*i], values[2*i+1]}
			switch m[i].Key.(type) { // keys are compared with ==
			case string, Symbol, uint64, int64, uint32, int32, uint8, bool, UUID:
			default:
				return nil, d.fail("a map key of type %T", m[i].Key)
			}
		}
		return m, nil
	}
	return nil, d.fail("type code 0x%02x with %d elements", code, n)
}

// array decodes an array of a type that Append can write. Any other array becomes a Raw.
func (d *decoder) array(code byte, depth int) (any, error) {
	before := d.b
	wide := code>>4 == 0xf
	body, err := d.sized(wide)
	if err != nil {
		return nil, err
	}
	in := decoder{body, d.left}
	n, err := in.length(wide)
	if err != nil {
		return nil, err
	}
	if err := d.spend(n); err != nil {
		return nil, err
	}
	element, err := in.byte()
	if err != nil {
		return nil, err
	}
	switch element {
	case 0x55, 0x81, 0x83, 0x98, 0xa1, 0xb1, 0xa3, 0xb3:
	default:
		if err := checkArray(body, wide, depth); err != nil {
			return nil, err
		}
		return append(Raw{code}, before[:len(before)-len(d.b)]...), nil
	}
	if n > len(in.b) { // each one takes at least a byte
		return nil, d.fail("%d elements in %d bytes", n, len(in.b))
	}
	out := make(Array, n)
	for i := range out {
		if out[i], err = in.coded(element, depth+1); err != nil {
			return nil, err
		}
	}
	return out, nil
}
