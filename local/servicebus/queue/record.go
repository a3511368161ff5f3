package queue

import (
	"encoding/binary"
	"errors"
)

// recordVersion begins every record of a message's facts.
const recordVersion = 1

var errRecord = errors.New("the record of a message cannot be read; it is damaged, or was written by another version")

// record encodes the facts of an item, with the count and the state that it will
// have after the commit.
func (it *item) record(count uint32, state State) []byte {
	b := make([]byte, 2, 40)
	b[0], b[1] = recordVersion, byte(state)
	var r rare
	if it.rare != nil {
		r = *it.rare
	}
	b = binary.AppendUvarint(b, uint64(count))
	for _, v := range []int64{it.enqueued, it.expires, r.enqueuedSeq, r.scheduledAt} {
		b = binary.AppendVarint(b, v)
	}
	b = appendText(b, r.deadFrom)
	if it.session != nil {
		b = appendText(b, it.session.id)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// parse reads a record into an item, and returns the id of its session.
func (it *item) parse(b []byte) (session string, err error) {
	if len(b) < 2 || b[0] != recordVersion || b[1] > byte(Scheduled) {
		return "", errRecord
	}
	it.state = State(b[1])
	b = b[2:]
	count, n := binary.Uvarint(b)
	if n <= 0 {
		return "", errRecord
	}
	it.count, b = uint32(count), b[n:]
	var r rare
	for _, v := range []*int64{&it.enqueued, &it.expires, &r.enqueuedSeq, &r.scheduledAt} {
		if *v, n = binary.Varint(b); n <= 0 {
			return "", errRecord
		}
		b = b[n:]
	}
	if r.deadFrom, b, err = cutText(b); err != nil {
		return "", err
	}
	if len(b) > 0 {
		if session, b, err = cutText(b); err != nil || len(b) > 0 {
			return "", errRecord
		}
	}
	if r != (rare{}) || it.state == Scheduled {
		heap := r // r itself stays on the stack, because most messages have nothing rare
		heap.index = -1
		it.rare = &heap
	}
	return session, nil
}

func cutText(b []byte) (string, []byte, error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return "", nil, errRecord
	}
	return string(b[n : n+int(size)]), b[n+int(size):], nil
}
