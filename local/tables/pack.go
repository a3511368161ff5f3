package tables

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"time"

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

// storeFormat is raised when the stored form changes in a way that older programs misread.
const storeFormat = "1"

func bucketOf(table string) []byte { return []byte("t:" + strings.ToLower(table)) }

// key orders entities as the service does: by partition, then by row. Neither
// may hold a zero byte, so it separates them.
func key(partition, row string) []byte {
	b := make([]byte, 0, len(partition)+1+len(row))
	return append(append(append(b, partition...), 0), row...)
}

// The stored form of an entity is eight bytes of ticks, then for each property its
// type, its name with its length, and its value. Properties are sorted by name.
const ticksBytes = 8

// appendProperty appends a property in the stored form.
func appendProperty(b []byte, p *property) []byte {
	b = append(b, byte(p.kind))
	b = append(binary.AppendUvarint(b, uint64(len(p.name))), p.name...)
	return p.append(b)
}

// appendName appends what stands before the value of a property in the stored form.
func appendName(b []byte, kind edm, name string) []byte {
	b = append(b, byte(kind))
	return append(binary.AppendUvarint(b, uint64(len(name))), name...)
}

// append appends a value in the stored form.
func (v *value) append(b []byte) []byte {
	switch v.kind {
	case edmString, edmBinary, edmGUID:
		return append(binary.AppendUvarint(b, uint64(len(v.text))), v.text...)
	case edmDouble:
		return binary.BigEndian.AppendUint64(b, math.Float64bits(v.float))
	}
	return binary.AppendVarint(b, v.number)
}

// ticksIn reads the version of a stored entity.
func ticksIn(stored []byte) (int64, bool) {
	if len(stored) < ticksBytes {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(stored)), true
}

// entityIn is the entity of a key and a value of the store. It shares their memory,
// which is valid only until the transaction ends. Its properties are read later, by
// properties.
func entityIn(k, stored []byte) (entity, error) {
	partition, row, ok := bytes.Cut(k, []byte{0})
	if !ok || len(stored) < ticksBytes {
		return entity{}, errDamaged
	}
	return entity{partition, row, stored}, nil
}

// propertyReader reads the properties of a stored entity one after the other. Names and
// texts share the memory of the entity.
type propertyReader struct {
	rest    []byte
	damaged bool
}

// properties reads the properties of the entity.
func (e *entity) properties() propertyReader { return propertyReader{rest: e.stored[ticksBytes:]} }

// next reads the next property into p. It returns false at the end, and where the stored
// bytes are damaged.
func (r *propertyReader) next(p *property) bool {
	if len(r.rest) == 0 || r.damaged {
		return false
	}
	p.kind = edm(r.rest[0])
	r.rest = r.rest[1:]
	p.name = r.readText()
	switch p.kind {
	case edmString, edmBinary, edmGUID:
		p.text = r.readText()
	case edmDouble:
		p.float = r.readFloat()
	case edmBoolean, edmInt32, edmInt64, edmDateTime:
		p.number = r.readNumber()
	default:
		r.damaged = true
	}
	r.damaged = r.damaged || len(p.name) == 0
	return !r.damaged
}

func (r *propertyReader) readText() []byte {
	n, w := binary.Uvarint(r.rest)
	if w <= 0 || n > uint64(len(r.rest)-w) {
		r.damaged = true
		return nil
	}
	text := r.rest[w : w+int(n)]
	r.rest = r.rest[w+int(n):]
	return text
}

func (r *propertyReader) readNumber() int64 {
	n, w := binary.Varint(r.rest)
	if w <= 0 {
		r.damaged = true
		return 0
	}
	r.rest = r.rest[w:]
	return n
}

func (r *propertyReader) readFloat() float64 {
	if len(r.rest) < 8 {
		r.damaged = true
		return 0
	}
	f := math.Float64frombits(binary.BigEndian.Uint64(r.rest))
	r.rest = r.rest[8:]
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
	return db.Update(func(tx *disk.Tx) error {
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
