package document

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"slices"
	"unicode/utf16"
	"unicode/utf8"

	"dsvmpools/shared/fault"
)

// The form that old .NET clients give a string or bytes in place of a body: an element of
// binary XML that the DataContractSerializer writes. It is read here because such a client
// cannot be told apart by anything else. Source: MS-NBFX, sections 2.2 and 2.3.
var dataContractHeads = [][]byte{
	[]byte("@\x06string\x08\x33http://schemas.microsoft.com/2003/10/Serialization/"),
	[]byte("@\x0cbase64Binary\x08\x33http://schemas.microsoft.com/2003/10/Serialization/"),
}

// Records of a text in binary XML. An odd code is the same record with the end of the
// element.
const (
	endElement  = 0x01
	chars8      = 0x98 // UTF-8; then those with a length of 16 and 32 bits
	bytes8      = 0x9e // bytes, likewise
	unicode8    = 0xb6 // UTF-16, likewise
	emptyText   = 0xa8
	lengthKinds = 3
)

// maxLengthBytes is how many bytes, or characters in their place, may stand between the head
// and the document when the bytes were read as text.
const maxLengthBytes = 3 * 6

// isDataContract reports whether a body begins as the serializer begins it.
func isDataContract(body []byte) (rest []byte, ok bool) {
	for _, head := range dataContractHeads {
		if rest, ok := bytes.CutPrefix(body, head); ok {
			return rest, true
		}
	}
	return nil, false
}

// Unwrap returns the text inside a body that the DataContractSerializer of .NET has written,
// and any other body as it is. The error has code Invalid.
func Unwrap(body []byte) ([]byte, error) {
	rest, ok := isDataContract(body)
	if !ok {
		return body, nil
	}
	if text, ok := readRecords(rest); ok {
		return text, nil
	}
	// The Functions host reads a body as UTF-8, which destroys the record's code and length. The
	// document itself is intact, and a JSON object says where it begins.
	rest = bytes.TrimRight(rest, "\x01")
	for at := range min(len(rest), maxLengthBytes) {
		if rest[at] == '{' && json.Valid(rest[at:]) {
			return rest[at:], nil
		}
	}
	return nil, fault.New(fault.Invalid, "", "the body is a text of .NET's DataContractSerializer that cannot be read here; "+
		"send the bytes of a JSON document")
}

// readRecords reads the records of a text up to the end of its element.
func readRecords(b []byte) (text []byte, ok bool) {
	for len(b) > 0 {
		code := b[0]
		b = b[1:]
		if code == endElement {
			return text, len(b) == 0
		}
		ends, kind := code&1 == 1, code&^1
		if kind != emptyText {
			part, rest, ok := readRecord(kind, b)
			if !ok {
				return nil, false
			}
			text, b = append(text, part...), rest
		}
		if ends {
			return text, len(b) == 0
		}
	}
	return nil, false
}

func readRecord(kind byte, b []byte) (text, rest []byte, ok bool) {
	first := byte(0)
	for _, c := range []byte{chars8, bytes8, unicode8} {
		if kind >= c && kind < c+2*lengthKinds {
			first = c
		}
	}
	if first == 0 {
		return nil, nil, false
	}
	var n int
	size := 1 << ((kind - first) / 2) // bytes of the length
	if len(b) < size {
		return nil, nil, false
	}
	switch size {
	case 1:
		n = int(b[0])
	case 2:
		n = int(binary.LittleEndian.Uint16(b))
	default:
		n = int(binary.LittleEndian.Uint32(b))
	}
	if b = b[size:]; n > len(b) {
		return nil, nil, false
	}
	text, rest = b[:n], b[n:]
	switch {
	case first == unicode8:
		units := make([]uint16, 0, n/2)
		for pair := range slices.Chunk(text[:n-n%2], 2) {
			units = append(units, binary.LittleEndian.Uint16(pair))
		}
		return []byte(string(utf16.Decode(units))), rest, n%2 == 0
	case first == chars8:
		return text, rest, utf8.Valid(text)
	}
	return text, rest, true
}
