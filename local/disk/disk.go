// Package disk is the storage engine of the local servers: a bbolt file whose
// commits are shared. Callers that arrive while a commit is being synced to the
// disk go together into the next commit, so all of them pay for one sync. When
// Update returns nil, the change is on disk.
//
// Pages of deleted data are used again, and a file that is mostly free becomes
// smaller when it is opened, see compact.go. A file is checked before it is opened,
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

// DB is an open store file. Its methods may be called concurrently.
type DB struct {
	bolt  *bbolt.DB
	calls chan *call
	done  chan struct{} // closed when the writer has ended

	mu     sync.RWMutex // held for reading while a call goes to the writer
	closed bool
}

type call struct {
	fn  func(*bbolt.Tx) error
	err chan error
}

// Open opens or creates the file at path. If another process has it open, or if it
// is damaged, the error names the path and what to do; the file is not changed.
func Open(path string) (*DB, error) {
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
	b = compact(path, b)
	db := &DB{bolt: b, calls: make(chan *call, maxShared), done: make(chan struct{})}
	go db.runWriter()
	return db, nil
}

// refusal is the error of a file that is not opened, with what to do about it.
func refusal(path string, err error) error {
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return fmt.Errorf("%s is in use by another process; stop it first", path)
	case errors.Is(err, errUnchecked):
		return fmt.Errorf("%s is not opened: %w", path, err)
	}
	return fmt.Errorf("%s cannot be read (%w); it was left as it is: restore it from a copy or move it away to start empty", path, err)
}

// Update runs fn in a write transaction and returns when the change is on disk.
// Calls may share a transaction, so fn must check before it writes: when it returns
// an error, the whole transaction is rolled back, and the other calls run again
// without it. So fn may run more than once. In each run it sees what the calls
// before it wrote. A panic of fn is its error.
func (db *DB) Update(fn func(*bbolt.Tx) error) error {
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

// View runs fn in a read transaction, which sees only committed changes.
func (db *DB) View(fn func(*bbolt.Tx) error) error {
	err := db.bolt.View(fn)
	if errors.Is(err, bbolterrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// Close finishes the waiting updates and closes the file.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return nil
	}
	db.closed = true
	close(db.calls)
	db.mu.Unlock()
	<-db.done
	recordFreePages(db.bolt) // the one writer has ended
	return db.bolt.Close()
}

// runWriter is the only writer: it takes the calls that wait, commits them, and
// answers them.
func (db *DB) runWriter() {
	defer close(db.done)
	before := 0 // callers in the commit before
	for first := range db.calls {
		group := append(make([]*call, 0, 16), first)
		db.awaitCalls(before - 1)
	more:
		for len(group) < maxShared {
			select {
			case c, ok := <-db.calls:
				if !ok {
					break more
				}
				group = append(group, c)
			default:
				break more
			}
		}
		before = len(group)
		db.commit(group)
	}
}

// awaitCalls gives callers that have just got an answer the time to call again, so
// that they share this commit and do not wait for the next one.
func (db *DB) awaitCalls(expected int) {
	for begin := time.Now(); len(db.calls) < expected && time.Since(begin) < maxGather; {
		runtime.Gosched()
	}
}

// commit runs the group in one transaction. A call that fails gets its own error,
// and the rest is tried again without it.
func (db *DB) commit(group []*call) {
	for len(group) > 0 {
		failed := -1
		err := db.bolt.Update(func(tx *bbolt.Tx) error {
			for i, c := range group {
				if err := run(c.fn, tx); err != nil {
					failed = i
					return err
				}
			}
			if mutant.AckFirst {
				answer(group, nil)
			}
			return nil
		})
		if failed < 0 {
			if !mutant.AckFirst {
				answer(group, err)
			}
			return
		}
		group[failed].err <- err
		group = append(group[:failed], group[failed+1:]...)
	}
}

func answer(group []*call, err error) {
	for _, c := range group {
		c.err <- err
	}
}

// run turns a panic of a caller's function into its error: one bad call must not
// end the writer, for which every other caller waits.
func run(fn func(*bbolt.Tx) error, tx *bbolt.Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the update panicked: %v", p)
		}
	}()
	return fn(tx)
}
