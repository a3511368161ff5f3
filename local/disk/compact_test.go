package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var rows = []byte("rows")

// fill writes rows of a kilobyte, in some transactions.
func fill(t *testing.T, db *DB, n int) {
	t.Helper()
	const atOnce = 500
	for from := 0; from < n; from += atOnce {
		err := db.Update(func(tx *Tx) error {
			b, err := tx.CreateBucketIfNotExists(rows)
			for i := from; i < min(n, from+atOnce) && err == nil; i++ {
				err = b.Put(binary.BigEndian.AppendUint64(nil, uint64(i)), bytes.Repeat([]byte{byte(i)}, 1000))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// clearRows deletes the rows, and leaves one of each keep; keep 0 leaves none.
func clearRows(t *testing.T, db *DB, n, keep int) {
	t.Helper()
	const atOnce = 500
	for from := 0; from < n; from += atOnce {
		err := db.Update(func(tx *Tx) error {
			var err error
			for i := from; i < min(n, from+atOnce) && err == nil; i++ {
				if keep == 0 || i%keep != 0 {
					err = tx.Bucket(rows).Delete(binary.BigEndian.AppendUint64(nil, uint64(i)))
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// checkRows checks that every row that should be there is there, and no other.
func checkRows(t *testing.T, db *DB, n, keep int) {
	t.Helper()
	err := db.View(func(tx *Tx) error {
		count := 0
		err := tx.Bucket(rows).ForEach(func(k, v []byte) error {
			i := int(binary.BigEndian.Uint64(k))
			if count++; i%keep != 0 || !bytes.Equal(v, bytes.Repeat([]byte{byte(i)}, 1000)) {
				return errors.New("a row has another value")
			}
			return nil
		})
		if err == nil && count != (n+keep-1)/keep {
			t.Errorf("%d rows are there, want %d", count, (n+keep-1)/keep)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// kill leaves a store as a kill would.
func kill(db *DB) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return
	}
	db.closed = true
	close(db.calls)
	close(db.closing)
	<-db.done
	close(db.toSave)
	<-db.saverDone
	if db.log != nil {
		db.log.close()
	}
	db.version.Load().tree.close()
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func open(t *testing.T, path string) *DB {
	t.Helper()
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// Deleted rows leave room for others, also while somebody reads now and then, and
// after a kill.
func TestFileStopsGrowing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	const n = 8000
	db := open(t, path)
	fill(t, db, n)
	if err := db.Close(); err != nil { // everything goes into the tree
		t.Fatal(err)
	}
	first := size(t, path)
	db = open(t, path)
	for round := range 20 {
		reads := make(chan struct{})
		begun := make(chan struct{})
		go func() { // a read that takes as long as a deletion
			defer close(reads)
			_ = db.View(func(tx *Tx) error {
				close(begun)
				return tx.Bucket(rows).ForEach(func(_, _ []byte) error { return nil })
			})
		}()
		<-begun
		clearRows(t, db, n, 0)
		<-reads
		fill(t, db, n)
		if round == 10 { // as after a kill: closed without the list of free pages
			kill(db)
			db = open(t, path)
		}
		if now := size(t, path); now > 3*first {
			t.Fatalf("after %d rounds the file has %d MB, at first it had %d", round+1, now>>20, first>>20)
		}
	}
	checkRows(t, db, n, 1)
}

func TestOpenCompacts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "x.db")
	const n, keep = 20_000, 10
	db := open(t, path)
	fill(t, db, n)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	full := size(t, path)
	db = open(t, path)
	if now := size(t, path); now != full {
		t.Errorf("a full file was copied: %d bytes became %d", full, now)
	}
	clearRows(t, db, n, keep)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	// Left by a start that was killed while it copied.
	if err := os.WriteFile(path+".compact", bytes.Repeat([]byte("half a copy"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	db = open(t, path)
	if now := size(t, path); now > full/4 {
		t.Errorf("a file of %d bytes that is mostly free has %d after Open", full, now)
	}
	checkRows(t, db, n, keep)
	if _, err := Open(path); err == nil {
		t.Error("the compacted file is open twice")
	}
	fill(t, db, 100) // what is written to the new file stays
	clearRows(t, db, 100, keep)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	checkRows(t, open(t, path), n, keep)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("beside the store there are %v (%v)", left, err)
	}
}

// A file becomes smaller while the store is in use, also while somebody reads the old one.
func TestCompactsInUse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	const n, keep = 8000, 10
	db, err := openStore(path, limits{1 << 20, time.Hour, 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	fill(t, db, n)
	old, err := db.begin()
	if err != nil {
		t.Fatal(err)
	}
	before, full := db.version.Load().tree, size(t, path)
	clearRows(t, db, n, keep)
	for i := 0; db.version.Load().tree == before; i++ { // more layers go into the tree
		putKey(t, db, n*keep, 100_000)
		if i > n {
			t.Fatal("the file was not compacted")
		}
	}
	count := 0
	if err := old.Bucket(rows).ForEach(func(_, _ []byte) error { count++; return nil }); err != nil || count != n {
		t.Errorf("an old transaction sees %d rows (%v), want %d", count, err, n)
	}
	old.end()
	if err := db.Update(func(tx *Tx) error { return tx.Bucket(rows).Delete(fmt.Appendf(nil, "%04d", n*keep)) }); err != nil {
		t.Fatal(err)
	}
	checkRows(t, db, n, keep)
	kill(db)
	if now := size(t, path); now > full*3/4 {
		t.Errorf("the file has %d bytes for %d rows; it had %d", now, n/keep, full)
	}
	checkRows(t, open(t, path), n, keep)
}

// A file that cannot be copied opens as it is.
func TestOpenWithoutRoomForACopy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	const n, keep = 8000, 10
	db := open(t, path)
	fill(t, db, n)
	clearRows(t, db, n, keep)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path+".compact", "x"), 0o700); err != nil { // where the copy would be
		t.Fatal(err)
	}
	checkRows(t, open(t, path), n, keep)
}

// A caller that opens a file at the moment when another process replaces it gets the
// new file.
func TestOpenMeetsACompaction(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old, fresh := filepath.Join(dir, "x.db"), filepath.Join(dir, "y.db")
	for path, n := range map[string]int{old: 10, fresh: 20} {
		db := open(t, path)
		fill(t, db, n)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b, err := openBolt(old, func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, mode)
		if _, there := os.Stat(fresh); there == nil && err == nil {
			err = os.Rename(fresh, old)
		}
		return f, err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	checkRows(t, newDB(old, b, usualLimits()), 20, 1)
}
