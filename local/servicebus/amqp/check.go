package amqp

import (
	"encoding/binary"
	"fmt"
)

// Check checks one encoded value without decoding it, and returns its length. All sizes in
// a value without an error are right, so it can be passed on.
func Check(b []byte) (int, error) { return check(b, 0) }

func check(b []byte, depth int) (int, error) {
	if depth > maxDepth {
		return 0, fmt.Errorf("%w: values nested deeper than %d", ErrMalformed, maxDepth)
	}
	if len(b) == 0 {
		return 0, short(1, 0)
	}
	if b[0] != 0 {
		n, err := checkCoded(b[0], b[1:], depth)
		return n + 1, err
	}
	descriptor, err := check(b[1:], depth+1)
	if err != nil {
		return 0, err
	}
	value, err := check(b[1+descriptor:], depth+1)
	return 1 + descriptor + value, err
}

func short(want, have int) error {
	return fmt.Errorf("%w: %d bytes wanted, %d left", ErrMalformed, want, have)
}

// width returns the number of bytes after the constructor of a type with a fixed width;
// false for other types.
func width(code byte) (int, bool) {
	switch code {
	case 0x40, 0x41, 0x42, 0x43, 0x44, 0x45:
		return 0, true
	case 0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56:
		return 1, true
	case 0x60, 0x61:
		return 2, true
	case 0x70, 0x71, 0x72, 0x73, 0x74:
		return 4, true
	case 0x80, 0x81, 0x82, 0x83, 0x84:
		return 8, true
	case 0x94, 0x98:
		return 16, true
	}
	return 0, false
}

// checkCoded checks the bytes after a constructor.
func checkCoded(code byte, b []byte, depth int) (int, error) {
	if n, fixed := width(code); fixed {
		if n > len(b) {
			return 0, short(n, len(b))
		}
		return n, nil
	}
	switch code {
	case 0xa0, 0xa1, 0xa3, 0xb0, 0xb1, 0xb3, 0xc0, 0xc1, 0xd0, 0xd1, 0xe0, 0xf0:
	default:
		return 0, fmt.Errorf("%w: type code 0x%02x", ErrMalformed, code)
	}
	wide := code&0x10 != 0
	at, size, err := prefix(b, wide)
	if err != nil {
		return 0, err
	}
	if size > len(b)-at {
		return 0, short(size, len(b)-at)
	}
	body := b[at : at+size]
	switch code >> 4 {
	case 0xc, 0xd:
		err = checkCompound(code, body, wide, depth)
	case 0xe, 0xf:
		err = checkArray(body, wide, depth)
	}
	return at + size, err
}

// prefix reads a size or count of one or four bytes.
func prefix(b []byte, wide bool) (at, n int, err error) {
	if !wide {
		if len(b) < 1 {
			return 0, 0, short(1, len(b))
		}
		return 1, int(b[0]), nil
	}
	if len(b) < 4 {
		return 0, 0, short(4, len(b))
	}
	return 4, int(binary.BigEndian.Uint32(b)), nil
}

func checkCompound(code byte, body []byte, wide bool, depth int) error {
	at, count, err := prefix(body, wide)
	if err != nil {
		return err
	}
	if count > maxElements || count > len(body)-at || code&0xf == 1 && count%2 != 0 {
		return fmt.Errorf("%w: %d elements in %d bytes", ErrMalformed, count, len(body)-at)
	}
	for range count {
		n, err := check(body[at:], depth+1)
		if err != nil {
			return err
		}
		at += n
	}
	if at != len(body) {
		return fmt.Errorf("%w: %d bytes after the last element", ErrMalformed, len(body)-at)
	}
	return nil
}

func checkArray(body []byte, wide bool, depth int) error {
	at, count, err := prefix(body, wide)
	if err != nil {
		return err
	}
	if count > maxElements {
		return fmt.Errorf("%w: an array of %d elements", ErrMalformed, count)
	}
	if at == len(body) {
		return short(1, 0)
	}
	if body[at] == 0 { // the descriptor that all elements share
		n, err := check(body[at+1:], depth+1)
		if err != nil {
			return err
		}
		if at += 1 + n; at == len(body) {
			return short(1, 0)
		}
	}
	code := body[at]
	at++
	if n, fixed := width(code); fixed {
		if count*n != len(body)-at {
			return fmt.Errorf("%w: %d elements in %d bytes", ErrMalformed, count, len(body)-at)
		}
		return nil
	}
	for range count {
		n, err := checkCoded(code, body[at:], depth+1)
		if err != nil {
			return err
		}
		at += n
	}
	if at != len(body) {
		return fmt.Errorf("%w: %d bytes after the last element", ErrMalformed, len(body)-at)
	}
	return nil
}

// elements returns the encoded elements of a list or map, and their number. Check must have
// accepted the list or map.
func elements(b []byte) ([]byte, int) {
	switch b[0] {
	case 0xc0, 0xc1:
		return b[3:], int(b[2])
	case 0xd0, 0xd1:
		return b[9:], int(binary.BigEndian.Uint32(b[5:]))
	}
	return nil, 0 // the empty list
}
