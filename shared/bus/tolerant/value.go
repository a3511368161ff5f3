package tolerant

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"
	"unicode/utf8"
)

// Values of AMQP that Go has no type for.
type (
	// Decimal is a decimal number as text, such as 1.50.
	Decimal string
	// Char is one character.
	Char rune
	// Symbol is a string of ASCII characters with a type of its own.
	Symbol string
	// UUID is 16 bytes in the order of RFC 4122.
	UUID [16]byte
	// Described is a value with a descriptor: a number, or a Symbol.
	Described struct{ Descriptor, Value any }
	// Pair is an entry of a map, whose keys may be of any type.
	Pair struct{ Key, Value any }
)

// Limits on one value. The service bounds a message's size, these what it may
// grow to.
const (
	maxDepth    = 32
	maxElements = 100_000
)

var errMalformed = errors.New("malformed AMQP")

// odd is a place with a type that the client does not read, and the code of the
// type of the same width that it reads instead.
type odd struct {
	at   int
	code byte
	name string
}

// replacements are those types.
var replacements = map[byte]odd{
	0x73: {code: 0x70, name: "char"}, // read as a uint
	0x74: {code: 0x70, name: "decimal32"},
	0x84: {code: 0x80, name: "decimal64"},  // as a ulong
	0x94: {code: 0x98, name: "decimal128"}, // as a uuid
}

// decoder reads values of every type from b. The local server's package has a decoder of
// its own on purpose: shared and local packages do not know each other, so that one can
// judge the other.
type decoder struct {
	b        []byte
	at       int
	elements int
	odd      []odd
	exotic   bool // something besides, in the place of a body, that the client may not read
}

func (d *decoder) take(n int) ([]byte, error) {
	if n < 0 || n > len(d.b)-d.at {
		return nil, errMalformed
	}
	d.at += n
	return d.b[d.at-n : d.at], nil
}

func (d *decoder) value(depth int) (any, error) {
	c, err := d.take(1)
	if err != nil || depth > maxDepth {
		return nil, errMalformed
	}
	if c[0] != 0 {
		if r, ok := replacements[c[0]]; ok {
			d.odd = append(d.odd, odd{d.at - 1, r.code, r.name})
		}
		return d.coded(c[0], depth)
	}
	d.exotic = true
	descriptor, err := d.value(depth + 1)
	if err != nil {
		return nil, err
	}
	v, err := d.value(depth + 1)
	return Described{descriptor, v}, err
}

// coded reads what comes after a type's code.
func (d *decoder) coded(code byte, depth int) (any, error) {
	switch code >> 4 {
	case 0x4:
		switch code {
		case 0x40:
			return nil, nil
		case 0x41, 0x42:
			return code == 0x41, nil
		case 0x43:
			return uint32(0), nil
		case 0x44:
			return uint64(0), nil
		case 0x45:
			return []any{}, nil
		}
	case 0x5, 0x6, 0x7, 0x8, 0x9:
		b, err := d.take(1 << (code>>4 - 5))
		if err != nil {
			return nil, err
		}
		return fixed(code, b)
	case 0xa, 0xb:
		n, err := d.length(code>>4 == 0xb)
		if err != nil {
			return nil, err
		}
		b, err := d.take(n)
		if err != nil {
			return nil, err
		}
		switch code & 0xf {
		case 0x0:
			return b, nil
		case 0x1:
			return strings.ToValidUTF8(string(b), string(utf8.RuneError)), nil
		case 0x3:
			return Symbol(b), nil
		}
	case 0xc, 0xd, 0xe, 0xf:
		return d.compound(code, depth)
	}
	return nil, errMalformed
}

func (d *decoder) length(wide bool) (int, error) {
	if !wide {
		b, err := d.take(1)
		if err != nil {
			return 0, err
		}
		return int(b[0]), nil
	}
	b, err := d.take(4)
	if err != nil {
		return 0, err
	}
	return int(binary.BigEndian.Uint32(b)), nil
}

// compound reads a list, a map or an array.
func (d *decoder) compound(code byte, depth int) (any, error) {
	d.exotic = true
	wide := code&0x10 != 0
	size, err := d.length(wide)
	if err != nil || size > len(d.b)-d.at {
		return nil, errMalformed
	}
	end := d.at + size
	n, err := d.length(wide)
	if err != nil || n > maxElements {
		return nil, errMalformed
	}
	if d.elements += n; d.elements > maxElements {
		return nil, errMalformed
	}
	next := func() (any, error) { return d.value(depth + 1) }
	if code>>4 >= 0xe { // the elements of an array have one code, before the first
		constructor, err := d.take(1)
		if err != nil {
			return nil, err
		}
		element := constructor[0]
		if element == 0 { // a descriptor for all of them
			if _, err := d.value(depth + 1); err != nil {
				return nil, err
			}
			if constructor, err = d.take(1); err != nil {
				return nil, err
			}
			element = constructor[0]
		}
		if r, ok := replacements[element]; ok {
			d.odd = append(d.odd, odd{d.at - 1, r.code, r.name})
		}
		next = func() (any, error) { return d.coded(element, depth+1) }
	}
	values := make([]any, 0, min(n, size))
	for range n {
		v, err := next()
		if err != nil || d.at > end {
			return nil, errMalformed
		}
		values = append(values, v)
	}
	if d.at != end {
		return nil, errMalformed
	}
	if code&0xf != 0x1 || code>>4 >= 0xe {
		return values, nil
	}
	if n%2 != 0 {
		return nil, errMalformed
	}
	pairs := make([]Pair, n/2)
	for i := range pairs {
		pairs[i] = Pair{values[2*i], values[2*i+1]}
	}
	return pairs, nil
}

func fixed(code byte, b []byte) (any, error) {
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
	case 0x73:
		return Char(be.Uint32(b)), nil
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
	case 0x74:
		return decimal(b, 8, 101), nil
	case 0x84:
		return decimal(b, 10, 398), nil
	case 0x94:
		return decimal(b, 14, 6176), nil
	}
	return nil, errMalformed
}

// decimal reads a decimal number of IEEE 754 in binary encoding: a sign, an
// exponent of so many bits, and a coefficient.
func decimal(b []byte, exponentBits uint, bias int64) Decimal {
	n := new(big.Int).SetBytes(b)
	bits := uint(len(b)) * 8
	field := func(from, count uint) *big.Int { // from counts from the highest bit
		v := new(big.Int).Rsh(n, bits-from-count)
		return v.And(v, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), count), big.NewInt(1)))
	}
	sign := ""
	if field(0, 1).Sign() != 0 {
		sign = "-"
	}
	switch field(1, 5).Int64() {
	case 0b11110:
		return Decimal(sign + "Infinity")
	case 0b11111:
		return "NaN"
	}
	exponent, coefficient := field(1, exponentBits), field(1+exponentBits, bits-1-exponentBits)
	if field(1, 2).Int64() == 0b11 { // the long form: the coefficient begins with 100
		exponent = field(3, exponentBits)
		rest := bits - 3 - exponentBits
		coefficient = field(3+exponentBits, rest)
		coefficient.Or(coefficient, new(big.Int).Lsh(big.NewInt(0b100), rest))
	}
	digits, power := coefficient.String(), exponent.Int64()-bias
	const plain = 40 // digits on either side of the point, beyond which a power says it better
	switch {
	case power == 0 || coefficient.Sign() == 0 && power > 0:
		return Decimal(sign + digits)
	case power > 0 && power < plain:
		return Decimal(sign + digits + strings.Repeat("0", int(power)))
	case power < 0 && power > -plain:
		if missing := 1 - power - int64(len(digits)); missing > 0 {
			digits = strings.Repeat("0", int(missing)) + digits
		}
		point := len(digits) + int(power)
		return Decimal(sign + digits[:point] + "." + digits[point:])
	}
	return Decimal(fmt.Sprintf("%s%sE%+d", sign, digits, power))
}

// The descriptors that .NET has for types of its own, and what their numbers count.
const (
	timeSpan       = "com.microsoft:timespan"
	dateTimeOffset = "com.microsoft:datetime-offset"
	address        = "com.microsoft:uri"
	tick           = 100 * time.Nanosecond
	ticksToUnix    = 621355968000000000 // from the year 1 to 1970
)

// Plain is a value as JSON has it, in the form in which the Functions host hands
// properties over: texts for what is not a number, a truth, a list or an object.
func Plain(v any) any {
	switch v := v.(type) {
	case Decimal:
		if s := string(v); strings.Contains(s, ".") && !strings.Contains(s, "E") {
			v = Decimal(strings.TrimSuffix(strings.TrimRight(s, "0"), "."))
		}
		return string(v)
	case Char:
		return string(rune(v))
	case Symbol:
		return string(v)
	case UUID:
		return fmt.Sprintf("%x-%x-%x-%x-%x", v[:4], v[4:6], v[6:8], v[8:10], v[10:])
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case float32:
		return plainFloat(float64(v))
	case float64:
		return plainFloat(v)
	case Described:
		return plainDescribed(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = Plain(v[i])
		}
		return out
	case []Pair:
		out := make(map[string]any, len(v))
		for _, p := range v {
			out[fmt.Sprint(Plain(p.Key))] = Plain(p.Value)
		}
		return out
	}
	return v
}

// plainFloat is a number, or the word for one that JSON does not have.
func plainFloat(f float64) any {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 0):
		return strings.Replace(fmt.Sprint(f), "Inf", "Infinity", 1)
	}
	return f
}

func plainDescribed(d Described) any {
	name, _ := d.Descriptor.(Symbol)
	ticks, isNumber := d.Value.(int64)
	switch {
	case name == timeSpan && isNumber:
		return span(ticks)
	case name == dateTimeOffset && isNumber:
		ticks -= ticksToUnix
		return time.Unix(ticks/1e7, ticks%1e7*int64(tick)).UTC().Format("2006-01-02T15:04:05.9999999-07:00")
	case name == address:
		return Plain(d.Value)
	}
	return map[string]any{"descriptor": Plain(d.Descriptor), "value": Plain(d.Value)}
}

// span is a .NET TimeSpan: [-][d.]hh:mm:ss[.fffffff].
func span(ticks int64) string {
	sign, n := "", uint64(ticks)
	if ticks < 0 {
		sign, n = "-", -n
	}
	const second = uint64(time.Second / tick)
	rest, n := n%second, n/second
	days := ""
	if d := n / 86400; d > 0 {
		days = fmt.Sprintf("%d.", d)
	}
	out := fmt.Sprintf("%s%s%02d:%02d:%02d", sign, days, n/3600%24, n/60%60, n%60)
	if rest > 0 {
		out += fmt.Sprintf(".%07d", rest)
	}
	return out
}

// TypeName is how a person calls the type of a value.
func TypeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case Decimal:
		return "decimal"
	case Char:
		return "char"
	case Symbol:
		return "symbol"
	case UUID:
		return "uuid"
	case time.Time:
		return "timestamp"
	case []byte:
		return "binary"
	case string:
		return "string"
	case []any:
		return "list"
	case []Pair:
		return "map"
	case Described:
		return fmt.Sprintf("value described as %v", Plain(v.Descriptor))
	}
	return fmt.Sprintf("number (%T)", v)
}
