// Package disk is the one storage engine below the local servers: a bbolt
// file whose commits are shared. Callers that arrive while a commit is being
// synced to the disk go together into the next one, so that the cost of a sync
// is paid once for all of them. When Update returns nil, the change is on disk.
//
// Pages of what was deleted are used again, and a file that is mostly free is made
// smaller when it is opened, see compact.go.
//
// It knows nothing of queues or tables, and it never repairs a file by
// emptying it: what cannot be opened is reported.
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

// lockTimeout is how long Open waits for another process to let go of the
// file. A process that was killed has let go already; one that is stopping
// needs a moment.
const lockTimeout = 5 * time.Second

// maxShared bounds how many callers share one commit, so that the first of
// them does not wait for an unbounded amount of work by the others.
const maxShared = 1024

// maxGather bounds how long a commit waits for callers that took part in the
// one before it: less than a sync of the disk, which they would wait for
// otherwise.
const maxGather = 200 * time.Microsecond

// ErrClosed is returned by Update and View after Close.
var ErrClosed = errors.New("the store is closed")

// DB is an open store file. Its methods may be called concurrently.
type DB struct {
	bolt  *bbolt.DB
	calls chan *call
	done  chan struct{} // closed when the writer has ended

	mu     sync.RWMutex // held for reading while a call is handed over
	closed bool
}

type call struct {
	fn  func(*bbolt.Tx) error
	err chan error
}

// Open opens or creates the file at path. A file that another process holds,
// or that is damaged, is an error that names the path; it is never replaced.
func Open(path string) (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := create(path); err != nil {
		return nil, fmt.Errorf("%s cannot be made: %w", path, err)
	}
	damaged := func(err error) error {
		return fmt.Errorf("%s cannot be read (%w); it was left as it is: restore it from a copy or move it away to start empty", path, err)
	}
	inUse := fmt.Errorf("%s is in use by another process; stop it first", path)
	free, err := examineAlone(path)
	switch {
	case !free:
		return nil, inUse
	case err != nil:
		return nil, damaged(err)
	}
	b, err := openBolt(path, os.OpenFile)
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, inUse
	case err != nil:
		return nil, damaged(err)
	}
	b = compacted(path, b)
	db := &DB{bolt: b, calls: make(chan *call, maxShared), done: make(chan struct{})}
	go db.write()
	return db, nil
}

// Update runs fn in a write transaction and returns when it is durable. Calls
// may share a transaction, so fn checks before it writes: when it returns an
// error, everything that shared its transaction is rolled back and the others
// are run again without it. fn may therefore run more than once, and sees in
// each run what the calls before it wrote.
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

// View runs fn in a read transaction, which sees committed changes only.
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
	noteFree(db.bolt) // its one writer has ended
	return db.bolt.Close()
}

// write is the only writer: it takes what waits, commits it, and answers.
func (db *DB) write() {
	defer close(db.done)
	before := 0 // callers in the commit before
	for first := range db.calls {
		group := append(make([]*call, 0, 16), first)
		db.gather(before - 1)
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

// gather gives callers who have just been answered the time to call again, so
// that they share this commit and do not wait for the one after it.
func (db *DB) gather(expected int) {
	for begin := time.Now(); len(db.calls) < expected && time.Since(begin) < maxGather; {
		runtime.Gosched()
	}
}

// commit runs the group in one transaction. A call that fails is answered with
// its own error and left out, and the rest is tried again.
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

// run turns a panic of a caller's function into its error: one bad call must
// not take the writer, and with it every other caller, down.
func run(fn func(*bbolt.Tx) error, tx *bbolt.Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("update panicked: %v", p)
		}
	}()
	return fn(tx)
}
