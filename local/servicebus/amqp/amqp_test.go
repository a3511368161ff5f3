package amqp

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"runtime"
	"testing"
	"time"

	goamqp "github.com/Azure/go-amqp"
)

var values = []any{
	nil, true, false, uint8(7), int8(-7), uint16(700), int16(-700), uint32(0), uint32(7), uint32(70000), int32(-70000),
	uint64(
		0,
	), uint64(7), uint64(1 << 40), int64(-1 << 40), float32(1.5), 2.5, time.UnixMilli(1767607200123).UTC(), UUID{1, 2, 3}, []byte("bytes"),
	"text", Symbol("symbol"), string(bytes.Repeat([]byte("x"), 300)), List{}, List{"a", nil, int64(1)},
	Map{{Key: "k", Value: "v"}, {Key: Symbol("s"), Value: List{uint32(1)}}},
	Array{
		int64(1),
		int64(-2),
	}, Array{UUID{1}, UUID{2}}, Array{Symbol("a"), Symbol("b")}, Described{Code: CodeAccepted, Value: List{}}, Described{Name: "x:y", Value: "v"},
}

func TestValuesRoundTrip(t *testing.T) {
	t.Parallel()
	for _, want := range values {
		got, rest, err := Decode(Append(nil, want))
		if err != nil || len(rest) != 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("%T %v: got %v, %d bytes left, %v", want, want, got, len(rest), err)
		}
	}
}

// The client library reads what this package writes, and the other way round.
func TestAgainstTheClientLibrary(t *testing.T) {
	t.Parallel()
	for _, v := range []any{true, uint32(70000), int64(-1 << 40), uint64(7), 2.5, "text", []byte("bytes")} {
		section := Append(nil, Described{Code: CodeValue, Value: v})
		var m goamqp.Message
		if err := m.UnmarshalBinary(section); err != nil || !reflect.DeepEqual(m.Value, v) {
			t.Errorf("%T: the library reads %v, %v, want %v", v, m.Value, err, v)
		}
		theirs, err := (&goamqp.Message{Value: v}).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := Decode(theirs)
		if d, ok := got.(Described); err != nil || !ok || !reflect.DeepEqual(d.Value, v) {
			t.Errorf("%T: got %v, %v, want %v", v, got, err, v)
		}
	}
}

func TestMessageKeepsItsSections(t *testing.T) {
	t.Parallel()
	id := "m-1"
	ttl := 90 * time.Second
	encoded, err := (&goamqp.Message{
		Header: &goamqp.MessageHeader{Durable: true, Priority: 4, TTL: ttl}, Annotations: goamqp.Annotations{"x-opt-a": "b"},
		Properties: &goamqp.MessageProperties{MessageID: id, GroupID: &id}, ApplicationProperties: map[string]any{"k": int64(1)},
		Data: [][]byte{[]byte("one"), []byte("two")}, Footer: goamqp.Annotations{"f": "g"},
	}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseMessage(encoded)
	if err != nil {
		t.Fatal(err)
	}
	session, ok := m.SessionID()
	if m.ID() != any(id) || session != id || !ok || m.Header.TTL != ttl || m.Annotations.Get("x-opt-a") != "b" {
		t.Errorf("got %+v", m)
	}
	m.Header.DeliveryCount = 3
	m.Application = m.Application.With(Pair{"reason", "r"})
	var out goamqp.Message
	if err := out.UnmarshalBinary(m.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if out.Header.DeliveryCount != 3 || !out.Header.Durable || len(out.Data) != 2 || string(out.Data[1]) != "two" ||
		out.Footer["f"] != "g" ||
		out.ApplicationProperties["k"] != int64(1) ||
		out.ApplicationProperties["reason"] != "r" {
		t.Errorf("got %+v", out)
	}
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	deep := bytes.Repeat([]byte{0xc0, 0xff, 0x01}, 100)
	tests := map[string][]byte{
		"nothing":                 nil,
		"no such type":            {0x01},
		"a string beyond its end": {0xa1, 10, 'x'},
		"a list that claims more": {0xd0, 0, 0, 0, 8, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"nested without end":      deep,
		"a map of three":          {0xc1, 4, 3, 0x40, 0x40, 0x40},
		"a list as a key":         {0xc1, 3, 2, 0x45, 0x40},
		"an array of nothings":    {0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40},
	}
	for name, b := range tests {
		if v, _, err := Decode(b); err == nil {
			t.Errorf("%s: read as %v", name, v)
		}
	}
	var frame [12]byte
	binary.BigEndian.PutUint32(frame[:], 1<<31)
	if _, err := ReadFrame(bytes.NewReader(frame[:]), 512); err == nil {
		t.Error("a frame of 2 GiB was read")
	}
}

func FuzzDecode(f *testing.F) {
	for _, v := range values {
		f.Add(Append(nil, v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, rest, err := Decode(b)
		if err == nil && len(rest) > len(b) {
			t.Errorf("%v out of %d bytes", v, len(b))
		}
	})
}

func FuzzFrame(f *testing.F) {
	const limit = 64 << 10
	f.Add(AppendFrame(nil, FrameAMQP, 3, Composite(CodeTransfer, uint32(1), uint32(2), []byte("tag"), uint32(0)), []byte("payload")))
	f.Add(AppendFrame(nil, FrameSASL, 0, Composite(CodeSASLInit, Symbol("ANONYMOUS")), nil))
	f.Add(AppendFrame(nil, FrameAMQP, 0, nil, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := ReadFrame(bytes.NewReader(b), limit)
		if err != nil || frame.Code == 0 {
			return
		}
		again, err := ReadFrame(
			bytes.NewReader(AppendFrame(nil, frame.Type, frame.Channel, Described{Code: frame.Code, Value: frame.Fields}, frame.Payload)),
			16*limit,
		)
		if err != nil || again.Code != frame.Code || len(again.Fields) != len(frame.Fields) || !bytes.Equal(again.Payload, frame.Payload) {
			t.Errorf("got %+v, %v, want %+v", again, err, frame)
		}
	})
}

// TestHostileLengths: the decoder does not allocate the length that bytes claim before the
// content has arrived. The test is not parallel, so that it measures only itself.
func TestHostileLengths(t *testing.T) {
	const much = 64 << 10                  // far below every claimed length
	huge := []byte{0x00, 0x01, 0x86, 0x9f} // just within the limit on elements
	tests := map[string][]byte{
		"a string":             {0xb1, 0x7f, 0xff, 0xff, 0xff, 'x'},
		"a binary":             {0xb0, 0x7f, 0xff, 0xff, 0xff, 'x'},
		"a list":               append([]byte{0xd0, 0, 0, 0, 8}, append(huge, 0x40, 0x40, 0x40, 0x40)...),
		"a map":                append([]byte{0xd1, 0, 0, 0, 8}, append([]byte{0x00, 0x01, 0x86, 0x9e}, 0x40, 0x40, 0x40, 0x40)...),
		"an array of longs":    append([]byte{0xf0, 0, 0, 0, 9}, append(huge, 0x81, 0, 0, 0, 0)...),
		"an array of strings":  append([]byte{0xf0, 0, 0, 0, 9}, append(huge, 0xb1, 0, 0, 0, 0)...),
		"an array of nothings": append([]byte{0xf0, 0, 0, 0, 5}, append(huge, 0x40)...),
	}
	for name, b := range tests {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		v, _, err := Decode(b)
		_, _ = ParseMessage(append([]byte{0x00, 0x53, 0x74}, b...))
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > much {
			t.Errorf("%s: %d bytes of input had %d bytes allocated", name, len(b), n)
		}
		if err == nil && name != "an array of nothings" {
			t.Errorf("%s: read as %v", name, v)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(Append(nil, Described{Code: CodeData, Value: []byte("x")}))
	f.Add(
		Append(
			Append(nil, Composite(CodeProperties, "id")),
			Described{Code: CodeApplicationProperties, Value: Map{{Key: "k", Value: "v"}}},
		),
	)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMessage(b)
		if err != nil {
			return
		}
		if _, err := ParseMessage(m.Append(nil)); err != nil {
			t.Errorf("what was read and written again cannot be read: %v", err)
		}
		_, _ = m.Batch()
	})
}

// TestEncodedDirectly: what is encoded field by field has the bytes of the general form.
func TestEncodedDirectly(t *testing.T) {
	t.Parallel()
	tag := [16]byte{1, 2, 3}
	for _, id := range []uint32{0, 7, 70000} {
		for _, flag := range []bool{false, true} {
			first := &Transfer{Handle: id, First: true, ID: id, Tag: tag, Settled: flag, More: !flag}
			want := Append(nil, Composite(CodeTransfer, id, id, tag[:], uint32(0), flag, !flag))
			if got := Append(nil, first); !bytes.Equal(got, want) {
				t.Errorf("%+v: got %x, want %x", first, got, want)
			}
			later := &Transfer{Handle: id, Settled: flag, More: !flag}
			want = Append(nil, Composite(CodeTransfer, id, nil, nil, nil, flag, !flag))
			if got := Append(nil, later); !bytes.Equal(got, want) {
				t.Errorf("%+v: got %x, want %x", later, got, want)
			}
		}
	}
	for _, h := range []Header{
		{Present: true}, {Durable: true, Priority: uint8(4), FirstAcquirer: false, TTL: time.Minute, DeliveryCount: 300}, {TTL: 1 << 62},
	} {
		var ttl any
		if h.TTL > 0 {
			ttl = uint32(min(h.TTL.Milliseconds(), 1<<32-1))
		}
		want := Append(nil, Composite(CodeHeader, h.Durable, h.Priority, ttl, h.FirstAcquirer, h.DeliveryCount))
		if got := h.append(nil); !bytes.Equal(got, want) {
			t.Errorf("%+v: got %x, want %x", h, got, want)
		}
	}
	now := time.UnixMilli(1767607200123).UTC()
	own := Entries{}.With(Pair{Symbol("x-a"), "kept"}, Pair{"x-long", "replaced"}, Pair{Symbol("x-time"), int64(1)})
	a := NewAdded(make([]byte, 8))
	a.Long("x-long", 7)
	a.Int("x-int", -7)
	a.Time("x-time", now)
	a.Text("x-text", string(bytes.Repeat([]byte("x"), 300)))
	a.UUID("x-id", UUID{1})
	want := own.With(Pair{Symbol("x-long"), int64(7)}, Pair{Symbol("x-int"), int32(-7)}, Pair{Symbol("x-time"), now},
		Pair{Symbol("x-text"), string(bytes.Repeat([]byte("x"), 300))}, Pair{Symbol("x-id"), UUID{1}})
	for _, e := range []struct{ own, want Entries }{{own, want}, {Entries{}, Entries{}.With(Pair{Symbol("x-long"), int64(7)})}} {
		if e.own.count == 0 {
			a = Added{}
			a.Long("x-long", 7)
		}
		if got, want := e.own.appendSectionWith(nil, 0x72, a), e.want.appendSection(nil, 0x72); !bytes.Equal(got, want) {
			t.Errorf("got %x, want %x", got, want)
		}
	}
	if got, want := own.appendSectionWith(nil, 0x72, Added{}), own.appendSection(nil, 0x72); !bytes.Equal(got, want) {
		t.Errorf("with nothing: got %x, want %x", got, want)
	}
}
