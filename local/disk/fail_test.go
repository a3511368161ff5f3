package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

var errDisk = errors.New("the disk failed")

// openSmall opens a store whose layers go into the tree after a few changes.
func openSmall(t *testing.T, path string) *DB {
	t.Helper()
	db, err := openStore(path, limits{64 << 10, time.Hour, 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(db) })
	return db
}

func keyOf(n int) []byte { return fmt.Appendf(nil, "%04d", n) }

// putUntilRefused puts keys from a number on, and returns how many keys there are then.
func putUntilRefused(t *testing.T, db *DB, from int) (n int, err error) {
	t.Helper()
	const tries = 200
	for n = from; n < from+tries; n++ {
		err := db.Update(func(tx *Tx) error { return tx.Bucket(rows).Put(keyOf(n), noise(n, logPage)) })
		if err != nil {
			return n, err
		}
	}
	t.Fatal("the store takes changes without end")
	return 0, nil
}

// After a sync of the head of the tree has failed, nothing is written to the tree any more:
// the head before may be the newest on the disk, and its pages are free for bbolt. The log
// has all that was acknowledged.
func TestTreeThatIsNotSynced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	db := openSmall(t, path)
	putKey(t, db, 0, 1)
	var commits atomic.Int32
	db.version.Load().tree.commit = func(tx *bbolt.Tx) error {
		commits.Add(1)
		return errors.Join(tx.Commit(), errDisk)
	}
	n, err := putUntilRefused(t, db, 1)
	if !errors.Is(err, errUnsynced) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want that the disk must be mended", err)
	}
	if err := db.Close(); !errors.Is(err, errUnsynced) {
		t.Errorf("Close: got %v", err)
	}
	if got := commits.Load(); got != 1 {
		t.Errorf("the tree was written %d times after it failed", got-1)
	}
	if got := keys(t, open(t, path)); got != n {
		t.Errorf("got %d keys, want %d", got, n)
	}
}

// A tree whose disk is full takes the layer when there is room again.
func TestFullDiskOfTheTree(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	db := openSmall(t, path)
	putKey(t, db, 0, 1)
	var room atomic.Bool
	db.version.Load().tree.commit = func(tx *bbolt.Tx) error {
		if room.Load() {
			return tx.Commit()
		}
		return errors.Join(tx.Rollback(), errDisk)
	}
	n, err := putUntilRefused(t, db, 1)
	if !errors.Is(err, errDisk) || errors.Is(err, errUnsynced) {
		t.Errorf("got %v, want the error of the disk", err)
	}
	room.Store(true)
	for db.Update(func(tx *Tx) error { return tx.Bucket(rows).Put(keyOf(n), noise(n, 1)) }) != nil {
		runtime.Gosched() // until the saver tries again
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, open(t, path)); got != n+1 {
		t.Errorf("got %d keys, want %d", got, n+1)
	}
}

// Close ends while a change waits for room and the saver has just finished.
func TestCloseWhileAChangeWaits(t *testing.T) {
	t.Parallel()
	for range 20 {
		db := openSmall(t, filepath.Join(t.TempDir(), "x.db"))
		putKey(t, db, 0, 1)
		begun, goOn := make(chan struct{}), make(chan struct{})
		var first atomic.Bool
		db.version.Load().tree.commit = func(tx *bbolt.Tx) error {
			if first.CompareAndSwap(false, true) {
				close(begun)
				<-goOn
			}
			return tx.Commit()
		}
		putKey(t, db, 1, 64<<10)
		<-begun
		putKey(t, db, 2, 128<<10) // fills the top layer
		waits := &call{fn: func(tx *Tx) error { return tx.Bucket(rows).Put(keyOf(3), nil) }, err: make(chan error, 1)}
		db.calls <- waits
		closed := make(chan error, 1)
		go func() { closed <- db.Close() }()
		<-db.closing
		close(goOn)
		if err := <-waits.err; err != nil {
			t.Errorf("the change that waited: %v", err)
		}
		if err := <-closed; err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

// A move that may not be on the disk is followed by no change of the new file.
func TestMoveThatIsNotSynced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	const n, keep = 4000, 10
	db := openSmall(t, path)
	db.syncDir = func(string) error { return errDisk }
	fill(t, db, n)
	before := db.version.Load().tree
	clearRows(t, db, n, keep)
	var err error
	for i := 0; err == nil && i < n; i++ {
		err = db.Update(func(tx *Tx) error { return tx.Bucket(rows).Put(keyOf(0), noise(i, 100_000)) })
	}
	now := db.version.Load().tree
	if !errors.Is(err, errUnsynced) || now == before || now.failed.Load() == nil {
		t.Fatalf("got %v, want that the disk must be mended", err)
	}
	if err := db.Update(func(tx *Tx) error { return tx.Bucket(rows).Delete(keyOf(0)) }); err == nil {
		t.Error("a later change was acknowledged")
	}
	kill(db)
	checkKept := open(t, path)
	if err := checkKept.Update(func(tx *Tx) error { return tx.Bucket(rows).Delete(keyOf(0)) }); err != nil {
		t.Fatal(err)
	}
	checkRows(t, checkKept, n, keep)
}

// A record that was refused, and yet is whole, does not come before one with its number.
func TestRefusedRecord(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	db := openSmall(t, path)
	putKey(t, db, 0, 1)
	file := db.log.files[0]
	disk := file.f
	readOnly, err := os.Open(disk.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	file.f = readOnly
	if err := db.Update(func(tx *Tx) error { return tx.Bucket(rows).Put(keyOf(1), []byte("refused")) }); err == nil {
		t.Fatal("the change was acknowledged")
	}
	file.f = disk
	db.freeze() // the writer waits for calls
	db.age.Stop()
	if db.version.Load().frozen != nil {
		t.Error("the other file takes records, and the refused one stays in this one")
	}
	putKey(t, db, 1, 1)
	db.freeze()
	if db.log.current == 0 {
		t.Error("the other file is not used after the next record")
	}
	putKey(t, db, 2, 1)
	if got := keys(t, db); got != 3 {
		t.Errorf("got %d keys, want 3", got)
	}
}
