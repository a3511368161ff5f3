package tolerant

import "encoding/binary"

// Nearly all messages hold nothing but plain values: scalars of types that the client
// reads. Such ones are passed over here without being decoded; all others are left to the
// decoder.

// skipPlain returns where a plain value at b[at:] ends; false = it is another one, or
// malformed.
func skipPlain(b []byte, at int) (end int, ok bool) {
	if at >= len(b) {
		return 0, false
	}
	code := b[at]
	at++
	size := 0
	switch code {
	case 0x40, 0x41, 0x42, 0x43, 0x44:
	case 0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56:
		size = 1
	case 0x60, 0x61:
		size = 2
	case 0x70, 0x71, 0x72:
		size = 4
	case 0x80, 0x81, 0x82, 0x83:
		size = 8
	case 0x98:
		size = 16
	case 0xa0, 0xa1, 0xa3, 0xb0, 0xb1, 0xb3:
		if size, at, ok = lengthAt(b, at, code&0x10 != 0); !ok {
			return 0, false
		}
	default:
		return 0, false
	}
	if size < 0 || size > len(b)-at {
		return 0, false
	}
	return at + size, true
}

// lengthAt reads a length of one byte or of four, and returns where it ends.
func lengthAt(b []byte, at int, wide bool) (n, end int, ok bool) {
	switch {
	case !wide && at < len(b):
		return int(b[at]), at + 1, true
	case wide && len(b)-at >= 4:
		return int(binary.BigEndian.Uint32(b[at:])), at + 4, true
	}
	return 0, 0, false
}

// skipPlainCompound returns where a list or map of plain values at b[at:] ends. It calls
// visit with the place of each value, which may refuse it.
func skipPlainCompound(b []byte, at int, visit func(i, from, to int) bool) (end int, ok bool) {
	if at >= len(b) {
		return 0, false
	}
	code := b[at]
	if code == 0x45 {
		return at + 1, true
	}
	if code != 0xc0 && code != 0xc1 && code != 0xd0 && code != 0xd1 {
		return 0, false
	}
	wide := code&0x10 != 0
	size, at, ok := lengthAt(b, at+1, wide)
	if !ok || size < 0 || size > len(b)-at {
		return 0, false
	}
	end = at + size
	n, at, ok := lengthAt(b[:end], at, wide)
	if !ok || n < 0 || n > maxElements || code&1 == 1 && n%2 != 0 {
		return 0, false
	}
	for i := range n {
		to, ok := skipPlain(b[:end], at)
		if !ok || !visit(i, at, to) {
			return 0, false
		}
		at = to
	}
	return end, at == end
}

// isPlainMap returns where a map at b[at:] ends, if the client reads it as it is.
func isPlainMap(b []byte, at int) (end int, ok bool) {
	if at >= len(b) || b[at] != 0xc1 && b[at] != 0xd1 {
		return 0, false
	}
	mustBeText := false
	return skipPlainCompound(b, at, func(i, from, to int) bool {
		if i%2 == 1 {
			return !mustBeText || b[from] == 0xa1 || b[from] == 0xb1
		}
		switch b[from] {
		case 0xa1, 0xa3:
			mustBeText = texts[string(b[from+2:to])]
		case 0xb1, 0xb3:
			mustBeText = texts[string(b[from+5:to])]
		default:
			return false // the decoder looks at keys of other types
		}
		return true
	})
}

// skipPlainSection returns where the value of a section at b[at:] ends, if the client reads
// it as it is.
func skipPlainSection(b []byte, at int, code byte) (end int, ok bool) {
	switch code {
	case sequence, value:
		return 0, false
	case data:
		if at < len(b) && (b[at] == 0xa0 || b[at] == 0xb0) {
			return skipPlain(b, at)
		}
		return 0, false
	case deliveryAnnotations, annotations, applicationProperties, footer:
		return isPlainMap(b, at)
	}
	return skipPlainCompound(b, at, anyPlace)
}

func anyPlace(_, _, _ int) bool { return true }

// readPlain reads the fields of a transfer at frame[at:], or those of the end of a
// link; false = they are not plain.
func (t *transfer) readPlain(frame []byte, at int) bool {
	hasHandle := false
	end, ok := skipPlainCompound(frame, at, func(i, from, to int) bool {
		b := frame[from:to]
		switch i {
		case transferHandle:
			t.handle, hasHandle = uintIn(b)
			return hasHandle
		case transferTag:
			switch b[0] {
			case 0xa0:
				t.tag = b[2:]
			case 0xb0:
				t.tag = b[5:]
			}
		case transferMore:
			t.more = isTrue(b)
		case transferAborted:
			t.aborted = isTrue(b)
		}
		return true
	})
	if !ok || !hasHandle || frame[at] == 0xc1 || frame[at] == 0xd1 {
		return false
	}
	if t.code == detachCode {
		t.tag, t.more, t.aborted = nil, false, false
		return true
	}
	if t.tag = append([]byte(nil), t.tag...); len(t.tag) == 0 {
		t.tag = nil
	}
	t.payload = end
	return true
}

// uintIn is the value of an encoded uint.
func uintIn(b []byte) (uint32, bool) {
	switch b[0] {
	case 0x43:
		return 0, true
	case 0x52:
		return uint32(b[1]), true
	case 0x70:
		return binary.BigEndian.Uint32(b[1:]), true
	}
	return 0, false
}

func isTrue(b []byte) bool { return b[0] == 0x41 || b[0] == 0x56 && b[1] != 0 }
