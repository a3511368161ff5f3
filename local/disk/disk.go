// Package disk is the storage engine of the local servers: a bbolt file with a log in
// front of it. Callers that arrive while a group of changes is being synced to the disk
// go together into the next group, which is one record of the log and one sync. When
// Update returns nil, the change is on disk.
//
// What is in the log stays in memory in layers over the tree, see layer.go, until it has
// gone into the tree in the background, see checkpoint.go. Readers look through the
// layers into the tree, and wait for nobody. A start after a kill brings what the log
// has into the tree, see replay.go. A store that was closed has no log.
//
// Pages of deleted data are used again, and a file that is mostly free becomes
// smaller, see compact.go. A file is checked before it is opened,
// see check.go.
//
// The package knows nothing of queues or tables. It never repairs a file, never
// empties one, and never replaces one by a new store: it reports a file that it
// cannot open.
package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"dsvmpools/local/internal/mutant"
)

// lockTimeout is how long Open waits until another process closes the file. A
// killed process has closed it already; one that is stopping needs a moment.
const lockTimeout = 5 * time.Second

// maxShared bounds how many callers share one commit, so that the first of them
// never waits for work of the others without a bound.
const maxShared = 1024

// maxGather bounds how long a commit waits for the callers of the commit before
// it. It is less than a sync of the disk, for which they would wait otherwise.
const maxGather = 200 * time.Microsecond

// ErrClosed is returned by Update and View after Close.
var ErrClosed = errors.New("the store is closed")

// maxGroup bounds the changes of one record of the log, in bytes, for the same reason.
// One caller may have more.
const maxGroup = 1 << 20

// DB is an open store file. Its methods may be called concurrently.
type DB struct {
	path   string
	limits limits
	calls  chan *call
	done   chan struct{} // closed when the writer has ended

	mu     sync.RWMutex // held for reading while a call goes to the writer
	closed bool

	version   atomic.Pointer[version]
	versionMu sync.Mutex // held to change the version

	// Of the writer.
	log     *log // nil until something is written
	age     *time.Timer
	saveErr error // of the last try to bring a layer into the tree

	toSave    chan state // goes with a frozen layer: the state when it is in the tree
	saved     chan error // the result of the last try; only the saver sends
	saverDone chan struct{}
	closing   chan struct{}

	compactAfter time.Time // of the saver: no compaction before
	syncDir      func(string) error
	retired      sync.WaitGroup // files that were replaced and are read
}

type call struct {
	fn  func(*Tx) error
	err chan error
}

// Open opens or creates the file at path. If another process has it open, or if it
// is damaged, the error names the path and what to do; the file is not changed.
func Open(path string) (*DB, error) { return openStore(path, usualLimits()) }

func openStore(path string, l limits) (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	isNew, err := create(path)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be made: %w", path, err)
	}
	if !isNew {
		if err := check(path); err != nil {
			return nil, refusal(path, err)
		}
	}
	b, err := openBolt(path, os.OpenFile)
	if err != nil {
		return nil, refusal(path, err)
	}
	if err := replay(path, b); err != nil {
		b.Close()
		return nil, refusal(path, err)
	}
	if b, err = compactAtOpen(path, b); err != nil {
		b.Close()
		return nil, fmt.Errorf("%s is not opened: %w", path, err)
	}
	db := newDB(path, b, l)
	releasePages(db.version.Load().tree.DB)
	go db.runWriter()
	go db.runSaver()
	return db, nil
}

func newDB(path string, b *bbolt.DB, l limits) *DB {
	db := &DB{
		path:      path,
		limits:    l,
		calls:     make(chan *call, maxShared),
		done:      make(chan struct{}),
		age:       time.NewTimer(l.age),
		toSave:    make(chan state, 1),
		saved:     make(chan error, 1),
		saverDone: make(chan struct{}),
		closing:   make(chan struct{}),
		syncDir:   syncDir,
	}
	db.age.Stop()
	db.version.Store(&version{tree: &tree{DB: b}, top: &layer{}})
	return db
}

// refusal is the error of a file that is not opened, with what to do about it.
func refusal(path string, err error) error {
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return fmt.Errorf("%s is in use by another process; stop it first", path)
	case errors.Is(err, errUnchecked):
		return fmt.Errorf("%s is not opened: %w", path, err)
	}
	// Not the file alone: the stores of an instance hold one state, and it refuses to start without one of them.
	return fmt.Errorf("%s cannot be read (%w); it was left as it is: restore it from a copy, together with what is beside it, "+
		"or begin with an empty folder (`dsvm up --data DIR`)", path, err)
}

// Update runs fn in a write transaction and returns when the change is on disk.
// Calls may share a transaction, so fn must check before it writes: when it returns
// an error, the whole transaction is rolled back, and the other calls run again
// without it. So fn may run more than once. In each run it sees what the calls
// before it wrote. A panic of fn is its error.
func (db *DB) Update(fn func(*Tx) error) error {
	c := &call{fn: fn, err: make(chan error, 1)}
	db.mu.RLock()
	if db.closed {
		db.mu.RUnlock()
		return ErrClosed
	}
	db.calls <- c
	db.mu.RUnlock()
	return <-c.err
}

// View runs fn in a read transaction, which sees the acknowledged changes. It waits
// neither for a writer nor for the disk.
func (db *DB) View(fn func(*Tx) error) error {
	tx, err := db.begin()
	if err != nil {
		return err
	}
	defer tx.end()
	return fn(tx)
}

// Close finishes the waiting updates, brings everything into the tree, removes the log
// and closes the file. After an error, the next Open finds everything in the log.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return nil
	}
	db.closed = true
	close(db.calls)
	close(db.closing)
	db.mu.Unlock()
	<-db.done
	close(db.toSave)
	<-db.saverDone
	err := db.saveAll()
	db.retired.Wait()
	return errors.Join(err, db.version.Load().tree.close())
}

// saveAll brings everything into the tree, after the writer and the saver have ended.
func (db *DB) saveAll() error {
	v := db.version.Load()
	v.tree.NoFreelistSync = false // a note of the free pages for the next Open
	if db.log == nil {
		_ = v.tree.apply(v.top, nil, nil) // without the note nothing is lost
		return nil
	}
	db.log.close()
	s := &state{id: db.log.id}
	if err := v.tree.View(func(tx *bbolt.Tx) (err error) { *s, _, err = readState(tx); return err }); err != nil {
		return err
	}
	if v.frozen != nil {
		if err := v.tree.apply(v.frozen, s, s); err != nil {
			return err
		}
	}
	if err := v.tree.apply(v.top, s, nil); err != nil {
		return err
	}
	removeLog(db.path)
	return nil
}

// runWriter is the only writer: it takes the calls that wait, commits them, and
// answers them.
func (db *DB) runWriter() {
	defer close(db.done)
	before := 0 // callers in the group before
	for {
		select {
		case first, ok := <-db.calls:
			if !ok {
				return
			}
			group := db.gather(first, before-1)
			before = len(group)
			for len(group) > 0 {
				group = db.commit(group)
			}
		case <-db.age.C:
			db.freeze()
		case db.saveErr = <-db.saved:
		}
		db.freezeWhenFull()
	}
}

// freezeWhenFull freezes a layer that is large enough.
func (db *DB) freezeWhenFull() {
	if db.version.Load().top.size >= db.limits.size {
		db.freeze()
	}
}

// awaitRoom waits until the top layer may take more: as long as it is much too large
// and the one before it is not in the tree. It returns why that one cannot go there.
func (db *DB) awaitRoom() error {
	for {
		v := db.version.Load()
		if v.top.size < 2*db.limits.size {
			return nil
		}
		if v.frozen == nil {
			db.freeze()
			return nil
		}
		if db.saveErr != nil {
			return fmt.Errorf("%s cannot be written: %w", db.path, db.saveErr)
		}
		db.saveErr = <-db.saved
	}
}

// gather returns the calls that wait, with the first.
func (db *DB) gather(first *call, expected int) []*call {
	group := append(make([]*call, 0, 16), first)
	db.awaitCalls(expected)
	for len(group) < maxShared {
		select {
		case c, ok := <-db.calls:
			if !ok {
				return group
			}
			group = append(group, c)
		default:
			return group
		}
	}
	return group
}

// awaitCalls gives callers that have just got an answer the time to call again, so
// that they share this commit and do not wait for the next one.
func (db *DB) awaitCalls(expected int) {
	for begin := time.Now(); len(db.calls) < expected && time.Since(begin) < maxGather; {
		runtime.Gosched()
	}
}

// commit carries out calls of the group, as many as one record of the log takes, and
// returns the rest. A call that fails gets its own error, and the others are tried again
// without it.
func (db *DB) commit(group []*call) (rest []*call) {
	if err := db.awaitRoom(); err != nil {
		answer(group, err)
		return nil
	}
	for len(group) > 0 {
		tx, err := db.begin()
		if err != nil {
			answer(group, err)
			return nil
		}
		top := *tx.top
		tx.top, tx.writer = &top, &writer{owner: &owner{}}
		done, err := runGroup(group, tx)
		tx.end()
		if err != nil {
			group[done].err <- err
			group = append(group[:done:done], group[done+1:]...)
			continue
		}
		if mutant.AckFirst {
			answer(group[:done], nil)
		}
		if err = db.record(tx); err == nil {
			counts.updates.Add(int64(done))
		}
		if !mutant.AckFirst {
			answer(group[:done], err)
		}
		return group[done:]
	}
	return nil
}

// runGroup runs calls of the group, in order, until the record has enough, and returns
// how many. With an error, it is that of the call at this place.
func runGroup(group []*call, tx *Tx) (done int, err error) {
	for done < len(group) && (done == 0 || len(tx.writer.ops.b) < maxGroup) {
		if err := run(group[done].fn, tx); err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}

// record writes what a transaction has changed to the log, and publishes it.
func (db *DB) record(tx *Tx) error {
	if len(tx.writer.ops.b) == 0 {
		return nil
	}
	if err := db.startLog(); err != nil {
		return fmt.Errorf("the log of %s cannot be made: %w", db.path, err)
	}
	if err := db.log.append(tx.writer.ops.b); err != nil {
		return fmt.Errorf("the log of %s cannot be written: %w", db.path, err)
	}
	counts.commits.Add(1)
	if db.version.Load().top.isEmpty() {
		db.age.Reset(db.limits.age)
	}
	db.change(func(v *version) { v.top = tx.top })
	return nil
}

// startLog makes a log, if there is none, and notes it in the tree: from then on the
// tree cannot be opened without it.
func (db *DB) startLog() error {
	if db.log != nil {
		return nil
	}
	l, err := createLog(db.path)
	if err != nil {
		return err
	}
	s := &state{id: l.id}
	if err := db.version.Load().tree.apply(&layer{}, s, s); err != nil {
		l.close()
		return err
	}
	db.log = l
	return nil
}

func answer(group []*call, err error) {
	for _, c := range group {
		c.err <- err
	}
}

// run turns a panic of a caller's function into its error: one bad call must not
// end the writer, for which every other caller waits.
func run(fn func(*Tx) error, tx *Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the update panicked: %v", p)
		}
	}()
	return fn(tx)
}
