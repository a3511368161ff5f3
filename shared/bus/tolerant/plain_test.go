package tolerant

import (
	"reflect"
	"slices"
	"testing"
)

// FuzzPlain: what is passed over without the decoder is what the decoder reads, to the same
// end, and nothing that is to be mended.
func FuzzPlain(f *testing.F) {
	for _, seed := range []string{
		"\xc1\x0b\x04\xa3\x01a\x81\x00\x00\x00\x00\x00\x00\x00\x01\xa1\x01b\x41", "\xc0\x04\x02\x41\x52\x07", "\x45", "\xa0\x03abc",
		"\xd1\x00\x00\x00\x0a\x00\x00\x00\x02\xa1\x01k\x54\x05\x40", "\xc1\x14\x02\xa1\x10DeadLetterReason\x40", "\xc1\x05\x02\xa1\x01k\x74",
		"\xc0\x09\x04\x43\x52\x01\xa0\x02tt\x40", "\xb0\x00\x00\x00\x01x", "\xb0\xff\xff\xff\xff", "\xd0\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		for _, code := range []byte{0x70, deliveryAnnotations, annotations, applicationProperties, data, value} {
			f.Add(code, []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, code byte, b []byte) {
		if end, ok := skipPlainSection(b, 0, code); ok {
			d := &decoder{b: b}
			v, err := d.value(0)
			pairs, _ := v.([]Pair)
			isMap := slices.Contains([]byte{deliveryAnnotations, annotations, applicationProperties, footer}, code)
			if err != nil || d.at != end || len(d.odd) > 0 || isMap && (renames(b, 0, pairs) != nil || slices.ContainsFunc(pairs, isComposed)) {
				t.Errorf("%x was passed over to %d; the decoder reads %v to %d, %v", b, end, v, d.at, err)
			}
		}
		for _, code := range []uint64{transferCode, detachCode} {
			got, want := transfer{code: code}, transfer{code: code}
			if !got.readPlain(b, 0) {
				continue
			}
			if err := want.read(&decoder{b: b}); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%x is the transfer %+v; the decoder reads %+v, %v", b, got, want, err)
			}
		}
	})
}

// TestUsualMessagesArePlain: none of them needs the decoder, or memory. It runs alone, since it counts memory.
func TestUsualMessagesArePlain(t *testing.T) {
	message := []byte("\x00\x53\x70\xc0\x06\x05\x41\x40\x40\x40\x43" + // header
		"\x00\x53\x72\xc1\x0f\x02\xa3\x0ax-opt-some\x54\x05" +
		"\x00\x53\x73\xc0\x05\x01\xa1\x02id" +
		"\x00\x53\x74\xc1\x09\x02\xa1\x01k\xa1\x03abc" +
		"\x00\x53\x75\xa0\x02{}")
	if !readable(message) {
		t.Fatal("the message is to be mended")
	}
	if n := testing.AllocsPerRun(100, func() { readable(message) }); n > 0 {
		t.Errorf("%v pieces of memory were allocated for a usual message", n)
	}
}
