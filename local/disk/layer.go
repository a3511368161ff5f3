package disk

import (
	"encoding/binary"
	"slices"
)

// layer holds changes that the tree does not have yet, by the path of their bucket.
// A published layer does not change: the next group changes a copy.
type layer struct {
	buckets sorted[*changes]
	size    int // bytes of all keys and values that came in, also of those that were replaced
}

// changes are those of one bucket.
type changes struct {
	owner    *owner
	exists   bool   // false: the bucket was deleted
	fresh    bool   // what the layer below and the tree have under this path does not count
	sequence uint64 // if hasSequence
	entries  sorted[[]byte]

	hasSequence bool
}

// entryCost is what an entry takes beside its key and value, roughly.
const entryCost = 96

// appendName returns the path of a bucket inside another one. No path of a bucket that
// is not inside begins with the path of another.
func appendName(path, name []byte) []byte {
	path = binary.AppendUvarint(slices.Clip(path), uint64(len(name)))
	return append(path, name...)
}

// cutName takes the first name from a path.
func cutName(path []byte) (name, rest []byte, ok bool) {
	n, w := binary.Uvarint(path)
	if w <= 0 || n > uint64(len(path)-w) {
		return nil, nil, false
	}
	return path[w : w+int(n)], path[w+int(n):], true
}

// find returns the changes of a bucket, nil if it has none. The layer may be nil.
func (l *layer) find(path []byte) *changes {
	if l == nil {
		return nil
	}
	c, _ := l.buckets.get(path)
	return c
}

// isEmpty reports whether the layer holds nothing. The layer may be nil.
func (l *layer) isEmpty() bool { return l == nil || l.buckets.root == nil }

// open returns the changes of an existing bucket, for the owner to add to them.
func (l *layer) open(o *owner, path []byte) *changes {
	c := l.find(path)
	switch {
	case c == nil:
		c = &changes{owner: o, exists: true}
	case c.owner == o:
		return c
	default:
		copied := *c
		copied.owner = o
		c = &copied
	}
	l.buckets.set(o, path, c)
	return c
}

// put keeps a copy of key and value.
func (l *layer) put(o *owner, path, key, value []byte) {
	both := make([]byte, len(key)+len(value))
	copy(both[copy(both, key):], value)
	l.open(o, path).entries.set(o, both[:len(key):len(key)], both[len(key):])
	l.size += len(both) + entryCost
}

func (l *layer) delete(o *owner, path, key []byte) {
	l.open(o, path).entries.set(o, slices.Clone(key), nil)
	l.size += len(key) + entryCost
}

func (l *layer) create(o *owner, path []byte) {
	l.buckets.set(o, path, &changes{owner: o, exists: true, fresh: true})
	l.size += len(path) + entryCost
}

// drop deletes a bucket, with those in it.
func (l *layer) drop(o *owner, path []byte) {
	var inside [][]byte
	var w walk[*changes]
	for w.seek(&l.buckets, path); w.entry() != nil && isWithin(w.entry().key, path); w.next() {
		inside = append(inside, w.entry().key)
	}
	if len(inside) == 0 || len(inside[0]) != len(path) {
		inside = append(inside, path)
	}
	for _, p := range inside {
		l.buckets.set(o, p, &changes{owner: o, fresh: true})
	}
	l.size += len(path) + entryCost
}

// isWithin reports whether a path is that of a bucket, or of one inside it.
func isWithin(path, bucket []byte) bool {
	return len(path) >= len(bucket) && string(path[:len(bucket)]) == string(bucket)
}

func (l *layer) setSequence(o *owner, path []byte, n uint64) {
	c := l.open(o, path)
	c.sequence, c.hasSequence = n, true
}
