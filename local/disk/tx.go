package disk

import (
	"bytes"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// Tx is a transaction: it sees the store at one moment. What it returns is valid until
// it ends, and must not be changed. Only that of Update can write.
type Tx struct {
	tree   *tree
	base   *bbolt.Tx
	frozen *layer // goes into the tree just now; may be nil
	top    *layer // newer than frozen
	writer *writer
}

// writer is what a transaction that writes has more.
type writer struct {
	owner *owner
	ops   ops
}

// Bucket is a map in the order of its keys, which may hold other buckets beside keys.
// Its methods have the meaning of those of bbolt, except that a walk over the keys
// passes over buckets.
type Bucket struct {
	tx   *Tx
	path []byte

	hasLower bool          // what frozen and base have under this path counts
	frozen   *changes      // in the frozen layer; nil = none
	base     *bbolt.Bucket // in the tree; nil = none, or it does not count
}

func (tx *Tx) root() *Bucket { return &Bucket{tx: tx, hasLower: true} }

// Bucket returns a bucket, nil if there is none.
func (tx *Tx) Bucket(name []byte) *Bucket { return tx.root().Bucket(name) }

// CreateBucket makes a bucket, which must not exist.
func (tx *Tx) CreateBucket(name []byte) (*Bucket, error) { return tx.root().CreateBucket(name) }

// CreateBucketIfNotExists returns a bucket, made if there is none.
func (tx *Tx) CreateBucketIfNotExists(name []byte) (*Bucket, error) {
	return tx.root().CreateBucketIfNotExists(name)
}

// DeleteBucket deletes a bucket, which must exist, with everything in it.
func (tx *Tx) DeleteBucket(name []byte) error { return tx.root().DeleteBucket(name) }

// Bucket returns a bucket inside this one, nil if there is none.
func (b *Bucket) Bucket(name []byte) *Bucket {
	in := &Bucket{tx: b.tx, path: appendName(b.path, name), hasLower: b.hasLower}
	top := b.tx.top.find(in.path)
	if top != nil && top.fresh {
		in.hasLower = false
	}
	if in.hasLower {
		in.frozen = b.tx.frozen.find(in.path)
		if in.frozen == nil || !in.frozen.fresh {
			in.base = b.baseBucket(name)
		}
	}
	switch {
	case top != nil && top.exists, top == nil && in.frozen != nil && in.frozen.exists, top == nil && in.base != nil:
		return in
	}
	return nil
}

// baseBucket returns a bucket of the tree.
func (b *Bucket) baseBucket(name []byte) *bbolt.Bucket {
	if len(b.path) == 0 {
		return b.tx.base.Bucket(name)
	}
	if b.base == nil {
		return nil
	}
	return b.base.Bucket(name)
}

// CreateBucket makes a bucket inside this one.
func (b *Bucket) CreateBucket(name []byte) (*Bucket, error) {
	switch {
	case b.tx.writer == nil:
		return nil, bbolterrors.ErrTxNotWritable
	case len(name) == 0:
		return nil, bbolterrors.ErrBucketNameRequired
	case len(name) > bbolt.MaxKeySize:
		return nil, bbolterrors.ErrKeyTooLarge
	case b.Bucket(name) != nil:
		return nil, bbolterrors.ErrBucketExists
	case len(b.path) != 0 && b.Get(name) != nil:
		return nil, bbolterrors.ErrIncompatibleValue
	}
	in := &Bucket{tx: b.tx, path: appendName(b.path, name)}
	b.tx.top.create(b.tx.writer.owner, in.path)
	b.tx.writer.ops.create(in.path)
	return in, nil
}

// CreateBucketIfNotExists returns a bucket inside this one, made if there is none.
func (b *Bucket) CreateBucketIfNotExists(name []byte) (*Bucket, error) {
	if in := b.Bucket(name); in != nil {
		return in, nil
	}
	return b.CreateBucket(name)
}

// DeleteBucket deletes a bucket inside this one.
func (b *Bucket) DeleteBucket(name []byte) error {
	if b.tx.writer == nil {
		return bbolterrors.ErrTxNotWritable
	}
	in := b.Bucket(name)
	if in == nil {
		return bbolterrors.ErrBucketNotFound
	}
	b.tx.top.drop(b.tx.writer.owner, in.path)
	b.tx.writer.ops.drop(in.path)
	return nil
}

// Get returns the value of a key, nil if there is none.
func (b *Bucket) Get(key []byte) []byte {
	if top := b.tx.top.find(b.path); top != nil {
		if value, found := top.entries.get(key); found || top.fresh {
			return value
		}
	}
	if b.frozen != nil {
		if value, found := b.frozen.entries.get(key); found || b.frozen.fresh {
			return value
		}
	}
	if b.base == nil {
		return nil
	}
	return b.base.Get(key)
}

// Put sets the value of a key. It copies both.
func (b *Bucket) Put(key, value []byte) error {
	switch {
	case b.tx.writer == nil:
		return bbolterrors.ErrTxNotWritable
	case len(key) == 0:
		return bbolterrors.ErrKeyRequired
	case len(key) > bbolt.MaxKeySize:
		return bbolterrors.ErrKeyTooLarge
	case len(value) > maxRecord/2:
		return bbolterrors.ErrValueTooLarge
	case b.Bucket(key) != nil:
		return bbolterrors.ErrIncompatibleValue
	}
	b.tx.top.put(b.tx.writer.owner, b.path, key, value)
	b.tx.writer.ops.put(b.path, key, value)
	return nil
}

// Delete deletes a key, if it is there.
func (b *Bucket) Delete(key []byte) error {
	if b.tx.writer == nil {
		return bbolterrors.ErrTxNotWritable
	}
	if b.Get(key) == nil {
		if b.Bucket(key) != nil {
			return bbolterrors.ErrIncompatibleValue
		}
		return nil
	}
	b.tx.top.delete(b.tx.writer.owner, b.path, key)
	b.tx.writer.ops.delete(b.path, key)
	return nil
}

// Sequence is the number that was set last, 0 at first.
func (b *Bucket) Sequence() uint64 {
	if top := b.tx.top.find(b.path); top != nil && (top.hasSequence || top.fresh) {
		return top.sequence
	}
	if b.frozen != nil && (b.frozen.hasSequence || b.frozen.fresh) {
		return b.frozen.sequence
	}
	if b.base == nil {
		return 0
	}
	return b.base.Sequence()
}

// SetSequence stores a number with the bucket.
func (b *Bucket) SetSequence(n uint64) error {
	if b.tx.writer == nil {
		return bbolterrors.ErrTxNotWritable
	}
	b.tx.top.setSequence(b.tx.writer.owner, b.path, n)
	b.tx.writer.ops.setSequence(b.path, n)
	return nil
}

// ForEach calls fn for each key in order, until it returns an error. fn must not write
// to the bucket.
func (b *Bucket) ForEach(fn func(key, value []byte) error) error {
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if err := fn(k, v); err != nil {
			return err
		}
	}
	return nil
}

// Cursor is a place in a bucket. After a write to the bucket by another way than
// Delete, it must seek first.
type Cursor struct {
	b           *Bucket
	top, frozen walk[[]byte]
	base        *bbolt.Cursor // nil = none
	baseKey     []byte        // nil at its end
	baseValue   []byte

	key     []byte // where it is
	deleted bool   // the key was deleted by Delete
}

// Cursor returns a cursor, which must seek first.
func (b *Bucket) Cursor() *Cursor {
	c := &Cursor{b: b}
	if b.base != nil {
		c.base = b.base.Cursor()
	}
	return c
}

// First goes to the first key. It returns nil if there is none.
func (c *Cursor) First() (key, value []byte) { return c.Seek(nil) }

// Seek goes to the first key that is not less. It returns nil if there is none.
func (c *Cursor) Seek(key []byte) (found, value []byte) {
	c.deleted = false
	c.top, c.frozen = walk[[]byte]{c.top.path[:0]}, walk[[]byte]{c.frozen.path[:0]}
	top := c.b.tx.top.find(c.b.path)
	if top != nil {
		c.top.seek(&top.entries, key)
	}
	if c.b.frozen != nil {
		c.frozen.seek(&c.b.frozen.entries, key)
	}
	if c.base != nil {
		c.setBase(c.base.Seek(key))
	}
	return c.choose()
}

// Next goes to the next key. It returns nil if there is none.
func (c *Cursor) Next() (key, value []byte) {
	if c.key == nil {
		return nil, nil
	}
	if c.deleted {
		return c.Seek(c.key)
	}
	c.leave(c.key)
	return c.choose()
}

// Delete deletes the key where the cursor is.
func (c *Cursor) Delete() error {
	c.deleted = true
	return c.b.Delete(c.key)
}

// setBase takes what the cursor of the tree returned, and passes over buckets, which
// have no value.
func (c *Cursor) setBase(key, value []byte) {
	for key != nil && value == nil {
		key, value = c.base.Next()
	}
	c.baseKey, c.baseValue = key, value
}

// leave makes those go on that are at a key.
func (c *Cursor) leave(key []byte) {
	for _, w := range []*walk[[]byte]{&c.top, &c.frozen} {
		if e := w.entry(); e != nil && bytes.Equal(e.key, key) {
			w.next()
		}
	}
	if c.baseKey != nil && bytes.Equal(c.baseKey, key) {
		c.setBase(c.base.Next())
	}
}

// choose returns the first of the keys at which the layers and the tree are, with the
// value of the newest that has it. A key that was deleted there has no value.
func (c *Cursor) choose() (key, value []byte) {
	for {
		key, value = c.baseKey, c.baseValue
		for _, w := range []*walk[[]byte]{&c.frozen, &c.top} {
			if e := w.entry(); e != nil && (key == nil || bytes.Compare(e.key, key) <= 0) {
				key, value = e.key, e.value
			}
		}
		if key == nil || value != nil {
			c.key = key
			return key, value
		}
		c.leave(key)
	}
}
