package disk

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"dsvmpools/local/internal/mutant"
)

const (
	// maxLayer is how many bytes of changes gather before they go into the tree. A page of
	// the tree that changes often is written once for all of them, so more is cheaper;
	// twice as much is in memory at times, and so much is read at a start after a kill.
	maxLayer = 16 << 20
	// maxLayerAge is how long a change stays out of the tree, if there are few.
	maxLayerAge = 30 * time.Second
	// retryPause is how long the tree is left alone after it could not be written.
	retryPause = time.Second
	// maxApplied bounds the changes in one transaction of the tree, in bytes: it holds
	// the pages that it changes in memory.
	maxApplied = 4 << 20
	// appendedFill is how full a page of a bucket stays to whose end keys are added.
	appendedFill = 0.95
)

// limits are when changes go into the tree.
type limits struct {
	size      int
	age       time.Duration
	compacted int64 // the smallest file that is compacted while it is in use
}

func usualLimits() limits {
	if mutant.Often {
		return limits{32 << 10, 5 * time.Millisecond, 200 << 10}
	}
	return limits{maxLayer, maxLayerAge, minCompactedOpen}
}

// tree is an open file of bbolt. Who reads it holds users for reading. Closing it waits
// for them, and nobody waits for that: a compacted file may have taken its place.
type tree struct {
	*bbolt.DB
	users sync.RWMutex

	failed atomic.Pointer[error] // why nothing may be written to it any more
	commit func(*bbolt.Tx) error // nil = that of bbolt
}

// errUnsynced is wrapped by the error of a transaction whose head was written, and whose
// last sync failed. bbolt takes it for the newest, and would use the pages of the one
// before again, which is perhaps the newest on the disk.
var errUnsynced = errors.New("the store cannot be written to the disk; mend the disk and start again")

func (t *tree) close() error {
	t.users.Lock() // and keeps it
	return t.DB.Close()
}

// version is what readers see. It does not change; a new one takes its place.
type version struct {
	tree *tree
	// saved counts the layers that went into the tree. With the same count and the same
	// frozen layer, what the tree has is right below the layers.
	saved  uint64
	frozen *layer // the one that goes into the tree just now, nil if none does
	top    *layer
}

// begin starts a transaction that reads. It waits for nobody.
func (db *DB) begin() (*Tx, error) {
	for {
		before := db.version.Load()
		if !before.tree.users.TryRLock() { // it is closed, or will be
			if db.version.Load().tree == before.tree {
				return nil, ErrClosed
			}
			continue
		}
		base, err := before.tree.Begin(false)
		if err != nil {
			before.tree.users.RUnlock()
			return nil, err
		}
		tx := &Tx{tree: before.tree, base: base}
		now := db.version.Load()
		if now.tree == before.tree && now.saved == before.saved && now.frozen == before.frozen {
			tx.frozen, tx.top = now.frozen, now.top
			return tx, nil
		}
		tx.end()
	}
}

// end ends a transaction.
func (tx *Tx) end() {
	_ = tx.base.Rollback() // it has not ended before
	tx.tree.users.RUnlock()
}

// change replaces the version.
func (db *DB) change(edit func(*version)) {
	db.versionMu.Lock()
	defer db.versionMu.Unlock()
	v := *db.version.Load()
	edit(&v)
	db.version.Store(&v)
}

// freeze hands the top layer to the one that writes the tree, if that one is free, and
// begins a new layer and the other file of the log. Only the writer calls it.
func (db *DB) freeze() {
	v := db.version.Load()
	if v.top.isEmpty() {
		return
	}
	if v.frozen != nil || db.log.torn {
		db.age.Reset(retryPause)
		return
	}
	db.change(func(v *version) { v.frozen, v.top = v.top, &layer{} })
	if mutant.DropEarly {
		db.log.changeFile()
	}
	db.log.changeFile()
	db.age.Stop()
	db.toSave <- state{id: db.log.id, applied: db.log.sequence}
}

// runSaver brings frozen layers into the tree.
func (db *DB) runSaver() {
	defer close(db.saverDone)
	var before state
	for after := range db.toSave {
		before.id = after.id
		for {
			v := db.version.Load()
			err := v.tree.apply(v.frozen, &before, &after)
			if err == nil {
				db.change(func(v *version) { v.frozen, v.saved = nil, v.saved+1 })
				before = after
				db.compactInUse(after)
				releasePages(db.version.Load().tree.DB)
			}
			db.report(err)
			if err == nil || v.tree.failed.Load() != nil || !db.pause(retryPause) {
				break
			}
		}
	}
}

// report leaves the result of a try for the writer, in the place of one that it has not
// taken. It never waits: only the saver sends, and the channel has room for one.
func (db *DB) report(err error) {
	select {
	case <-db.saved: //nolint:errcheck // an older result
	default:
	}
	db.saved <- err
}

// pause waits, and returns false if the store is closing.
func (db *DB) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-db.closing:
		return false
	}
}

// apply brings a layer into the tree, and says so there. It may be cut off at any moment
// and done again: until the end, the state before says that the layer is missing. After
// an error that wraps errUnsynced it does nothing and returns that error again.
func (t *tree) apply(l *layer, before, after *state) (err error) {
	if failed := t.failed.Load(); failed != nil {
		return *failed
	}
	a := applying{tree: t, before: before}
	defer recoverDamage(&err) // of a large file, whose pages are not checked
	defer func() {
		if a.tx != nil {
			_ = a.tx.Rollback() // the error is that it has ended
		}
	}()
	if err := a.begin(); err != nil {
		return err
	}
	var w walk[*changes]
	for w.seek(&l.buckets, nil); w.entry() != nil; w.next() {
		if err := a.bucket(w.entry().key, w.entry().value); err != nil {
			return err
		}
	}
	return a.commit(after)
}

// applying is the work on one layer.
type applying struct {
	tree   *tree
	before *state
	tx     *bbolt.Tx
	size   int // bytes of changes in the transaction
}

func (a *applying) begin() (err error) {
	a.size = 0
	a.tx, err = a.tree.Begin(true)
	return err
}

func (a *applying) commit(s *state) error {
	if err := s.write(a.tx); err != nil {
		return err
	}
	id, write := a.tx.ID(), a.tree.commit
	if write == nil {
		write = (*bbolt.Tx).Commit
	}
	before := a.tree.Stats()
	if err := write(a.tx); err != nil {
		return a.tree.judge(id, err)
	}
	a.tx = nil
	after := a.tree.Stats()
	const syncs = 2 // of the pages, and of the head that names them
	countWrite(after.TxStats.GetPageAlloc()-before.TxStats.GetPageAlloc()+int64(os.Getpagesize()), syncs)
	return nil
}

// judge returns the error of a transaction that failed, and notes whether it was the last
// one. Another may follow if the head was not written: it writes all pages again.
func (t *tree) judge(id int, err error) error {
	newest := id
	if now, failed := t.Begin(false); failed == nil {
		newest = now.ID()
		_ = now.Rollback() // it has not ended before
	}
	if newest == id {
		err = fmt.Errorf("%w: %w", errUnsynced, err)
		t.failed.Store(&err)
	}
	return err
}

// bucket applies the changes of one bucket. Those around it came before.
func (a *applying) bucket(path []byte, c *changes) error {
	if c.fresh {
		if err := a.drop(path); err != nil {
			return err
		}
	}
	if !c.exists {
		return nil
	}
	b, err := a.find(path)
	if err != nil {
		return err
	}
	if c.hasSequence {
		if err := b.SetSequence(c.sequence); err != nil {
			return err
		}
	}
	fill := bbolt.DefaultFillPercent
	if isAppended(b, c) {
		fill = appendedFill
	}
	b.FillPercent = fill
	var w walk[[]byte]
	for w.seek(&c.entries, nil); w.entry() != nil; w.next() {
		if a.size > maxApplied {
			if err := a.commit(a.before); err != nil {
				return err
			}
			if err := a.begin(); err != nil {
				return err
			}
			if b, err = a.find(path); err != nil {
				return err
			}
			b.FillPercent = fill
		}
		e := w.entry()
		a.size += len(e.key) + len(e.value) + entryCost
		if e.value == nil {
			err = b.Delete(e.key)
		} else {
			err = b.Put(e.key, e.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isAppended reports whether most of the new keys come after those that are there.
func isAppended(b *bbolt.Bucket, c *changes) bool {
	last, _ := b.Cursor().Last()
	put, after := 0, 0
	var w walk[[]byte]
	for w.seek(&c.entries, nil); w.entry() != nil; w.next() {
		if e := w.entry(); e.value != nil {
			put++
			if bytes.Compare(e.key, last) > 0 {
				after++
			}
		}
	}
	return 2*after > put
}

// container is what may have buckets: a transaction, or a bucket.
type container interface {
	Bucket(name []byte) *bbolt.Bucket
	CreateBucketIfNotExists(name []byte) (*bbolt.Bucket, error)
	DeleteBucket(name []byte) error
}

// parent returns what a bucket is in, nil if that does not exist, and its name there.
func (a *applying) parent(path []byte) (in container, name []byte, err error) {
	in = a.tx
	for {
		var ok bool
		if name, path, ok = cutName(path); !ok {
			return nil, nil, fmt.Errorf("%w: a path without a name", errOps)
		}
		if len(path) == 0 {
			return in, name, nil
		}
		b := in.Bucket(name)
		if b == nil {
			return nil, nil, nil
		}
		in = b
	}
}

func (a *applying) drop(path []byte) error {
	in, name, err := a.parent(path)
	if err != nil || in == nil || in.Bucket(name) == nil {
		return err
	}
	return in.DeleteBucket(name)
}

// find returns a bucket, made if there is none.
func (a *applying) find(path []byte) (*bbolt.Bucket, error) {
	in, name, err := a.parent(path)
	if err != nil {
		return nil, err
	}
	if in == nil {
		return nil, fmt.Errorf("%w: a bucket in none", errOps)
	}
	return in.CreateBucketIfNotExists(name)
}
