package disk

import (
	"encoding/binary"
	"errors"
)

// ops are the changes of a group in the form in which the log has them. Each has a
// letter and its fields; a field is its length and its bytes. Those of one bucket
// follow the letter that names it.
type ops struct {
	b    []byte
	path string // the bucket that was named last; "" = none yet
}

const (
	opBucket   = 'b' // path: what follows is about this bucket
	opPut      = 'p' // key, value
	opDelete   = 'd' // key
	opCreate   = 'c'
	opDrop     = 'x'
	opSequence = 's' // eight bytes, not a field
)

var errOps = errors.New("a record of the log has another form than its checksum says")

func (o *ops) field(b []byte) {
	o.b = append(binary.AppendUvarint(o.b, uint64(len(b))), b...)
}

func (o *ops) begin(path []byte, op byte) {
	if o.path != string(path) {
		o.b = append(o.b, opBucket)
		o.field(path)
		o.path = string(path)
	}
	o.b = append(o.b, op)
}

func (o *ops) put(path, key, value []byte) {
	o.begin(path, opPut)
	o.field(key)
	o.field(value)
}

func (o *ops) delete(path, key []byte) {
	o.begin(path, opDelete)
	o.field(key)
}

func (o *ops) create(path []byte) { o.begin(path, opCreate) }
func (o *ops) drop(path []byte)   { o.begin(path, opDrop) }

func (o *ops) setSequence(path []byte, n uint64) {
	o.begin(path, opSequence)
	o.b = binary.BigEndian.AppendUint64(o.b, n)
}

// redo applies the changes of a record to a layer.
func redo(l *layer, o *owner, b []byte) error {
	var path, key, value []byte
	for len(b) > 0 {
		op, ok := b[0], true
		b = b[1:]
		if op != opBucket && path == nil {
			return errOps
		}
		switch op {
		case opBucket:
			path, b, ok = cutName(b)
			ok = ok && len(path) > 0
		case opPut:
			if key, b, ok = cutName(b); ok {
				if value, b, ok = cutName(b); ok {
					l.put(o, path, key, value)
				}
			}
		case opDelete:
			if key, b, ok = cutName(b); ok {
				l.delete(o, path, key)
			}
		case opCreate:
			l.create(o, path)
		case opDrop:
			l.drop(o, path)
		case opSequence:
			if ok = len(b) >= 8; ok {
				l.setSequence(o, path, binary.BigEndian.Uint64(b))
				b = b[8:]
			}
		default:
			ok = false
		}
		if !ok {
			return errOps
		}
	}
	return nil
}
