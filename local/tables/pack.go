package tables

import (
	"encoding/binary"
	"math"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"dsvmpools/local/disk"
)

// Buckets and keys of the store file. A table's entities are in a bucket of
// their own.
var (
	namesBucket   = []byte("tables") // lower-case name -> name
	metaBucket    = []byte("meta")
	ticksKey      = []byte("ticks")      // the last ticks given out
	formatKey     = []byte("format")     // of the stored entities
	propertiesKey = []byte("properties") // of the service
)

// storeFormat is raised when pack changes in a way that older programs misread.
const storeFormat = "1"

func bucketOf(table string) []byte { return []byte("t:" + strings.ToLower(table)) }

// key orders entities as the service does: by partition, then by row. Neither
// may hold a zero byte, so it separates them.
func key(partition, row string) []byte {
	b := make([]byte, 0, len(partition)+1+len(row))
	return append(append(append(b, partition...), 0), row...)
}

// pack is the stored form: eight bytes of ticks, then for each property its
// type, its name with its length, and its value.
func (e *entity) pack() []byte {
	size := 8
	for i := range e.props {
		size += 1 + 2 + len(e.props[i].name) + binary.MaxVarintLen64 + len(e.props[i].text)
	}
	b := binary.BigEndian.AppendUint64(make([]byte, 0, size), uint64(e.ticks))
	for i := range e.props {
		p := &e.props[i]
		b = append(b, byte(p.kind))
		b = append(binary.AppendUvarint(b, uint64(len(p.name))), p.name...)
		switch p.kind {
		case edmString, edmBinary, edmGUID:
			b = append(binary.AppendUvarint(b, uint64(len(p.text))), p.text...)
		case edmDouble:
			b = binary.BigEndian.AppendUint64(b, math.Float64bits(p.float))
		default:
			b = binary.AppendVarint(b, p.number)
		}
	}
	return b
}

// ticksIn reads the version of a stored entity.
func ticksIn(stored []byte) (int64, bool) {
	if len(stored) < 8 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(stored)), true
}

// unpack reads a stored entity. All its texts share one copy of the stored bytes,
// because those are valid only until the transaction ends.
func unpack(k, stored []byte) (*entity, error) {
	partition, row, ok := strings.Cut(string(k), "\x00")
	ticks, whole := ticksIn(stored)
	if !ok || !whole {
		return nil, errDamaged
	}
	e := &entity{partition: partition, row: row, ticks: ticks}
	r := unpacker{rest: stored[8:], text: string(stored[8:])}
	if len(r.rest) > 0 {
		e.props = make([]property, 0, 8)
	}
	for len(r.rest) > 0 {
		p := property{value: value{kind: edm(r.rest[0])}}
		r.skip(1)
		p.name = r.readText()
		switch p.kind {
		case edmString, edmBinary, edmGUID:
			p.text = r.readText()
		case edmDouble:
			p.float = r.readFloat()
		case edmBoolean, edmInt32, edmInt64, edmDateTime:
			p.number = r.readNumber()
		default:
			return nil, errDamaged
		}
		if r.damaged || p.name == "" {
			return nil, errDamaged
		}
		e.props = append(e.props, p)
	}
	return e, nil
}

// unpacker reads stored bytes one after the other; text is the same as rest.
type unpacker struct {
	rest    []byte
	text    string
	damaged bool
}

func (r *unpacker) skip(n int) {
	r.rest, r.text = r.rest[n:], r.text[n:]
}

func (r *unpacker) readText() string {
	n, w := binary.Uvarint(r.rest)
	if w <= 0 || n > uint64(len(r.rest)-w) {
		r.damaged = true
		return ""
	}
	field := r.text[w : w+int(n)]
	r.skip(w + int(n))
	return field
}

func (r *unpacker) readNumber() int64 {
	n, w := binary.Varint(r.rest)
	if w <= 0 {
		r.damaged = true
		return 0
	}
	r.skip(w)
	return n
}

func (r *unpacker) readFloat() float64 {
	if len(r.rest) < 8 {
		r.damaged = true
		return 0
	}
	f := math.Float64frombits(binary.BigEndian.Uint64(r.rest))
	r.skip(8)
	return f
}

// clock gives strictly rising ticks, so that no two versions of an entity look
// alike, not even across a restart with the clock set back. Only functions
// inside disk.Update, of which one runs at a time, take ticks.
type clock struct{ last int64 }

func (c *clock) next() int64 {
	c.last = max(c.last+1, ticksOf(time.Now()))
	return c.last
}

// restore prepares the store file and goes on after the last ticks that were given out.
func (c *clock) restore(db *disk.DB) error {
	return db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		if v := b.Get(formatKey); v != nil && string(v) != storeFormat {
			return errFormat
		}
		if v := b.Get(ticksKey); len(v) == 8 {
			c.last = int64(binary.BigEndian.Uint64(v))
		}
		if _, err = tx.CreateBucketIfNotExists(namesBucket); err != nil {
			return err
		}
		return b.Put(formatKey, []byte(storeFormat))
	})
}
