package disk

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// copyAs copies a store that is open, as a kill at this moment leaves it.
func copyAs(t *testing.T, path, to string) {
	t.Helper()
	logs, toLogs := logPaths(path), logPaths(to)
	for from, to := range map[string]string{path: to, logs[0]: toLogs[0], logs[1]: toLogs[1]} {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// noise returns bytes that cannot be compressed, the same for the same number.
func noise(i, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)}).Read(b)
	return b
}

func putKey(t *testing.T, db *DB, i, size int) {
	t.Helper()
	err := db.Update(func(tx *Tx) error {
		b, err := tx.CreateBucketIfNotExists(rows)
		if err != nil {
			return err
		}
		return b.Put(fmt.Appendf(nil, "%04d", i), noise(i, size))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// keys are the numbers of the keys, which must be those below the result.
func keys(t *testing.T, db *DB) (n int) {
	t.Helper()
	err := db.View(func(tx *Tx) error {
		b := tx.Bucket(rows)
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, _ []byte) error {
			if string(k) != fmt.Sprintf("%04d", n) {
				t.Errorf("key %s comes after %d keys", k, n)
			}
			n++
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// written makes a store with acknowledged changes in its log, and returns a copy of it as
// after a kill. The first record begins at the second page of the first file; each has
// two pages.
func written(t *testing.T) (path string, records int) {
	t.Helper()
	dir := t.TempDir()
	db := open(t, filepath.Join(dir, "live.db"))
	records = 10
	for i := range records {
		putKey(t, db, i, logPage)
	}
	path = filepath.Join(dir, "x.db")
	copyAs(t, db.path, path)
	return path, records
}

func edit(t *testing.T, path string, fn func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fn(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLogIsReplayed(t *testing.T) {
	t.Parallel()
	path, records := written(t)
	for range 2 {
		db := open(t, path)
		if got := keys(t, db); got != records {
			t.Errorf("got %d keys, want %d", got, records)
		}
		putKey(t, db, 0, 1)
		kill(db)
	}
	db := open(t, path)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range logPaths(path) {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there after Close: %v", name, err)
		}
	}
}

// Whatever is wrong before the last acknowledged record is an error, and changes nothing.
// A last record that is not whole was not acknowledged, as far as anybody can know.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	const first, second = logPage, 3 * logPage // records
	last := func(b []byte) int { return len(bytes.TrimRight(b, "\x00")) - 1 }
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 1; return b }
	}
	for name, tt := range map[string]struct {
		spoil func(b []byte) []byte // the first file
		want  string                // in the error; "" = the last record is not there
	}{
		"its beginning":               {flip(3), "the beginning of"},
		"the head of the first":       {flip(first + 20), "record 1 of its log is damaged"},
		"the content of the second":   {flip(second + 3000), "record 2 of its log is damaged"},
		"the second is zero":          {func(b []byte) []byte { clear(b[second : second+2*logPage]); return b }, "record 2 of its log is damaged"},
		"the content of the last":     {func(b []byte) []byte { return flip(last(b) - 10)(b) }, ""},
		"the last is cut off":         {func(b []byte) []byte { return b[:last(b)-100] }, "cut off"},
		"empty":                       {func([]byte) []byte { return nil }, "the beginning of"},
		"the record before is there":  {func(b []byte) []byte { copy(b[second:], b[first:second]); return b }, "record 2 of its log is damaged"},
		"the second page of the last": {func(b []byte) []byte { clear(b[last(b)/logPage*logPage:]); return b }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, records := written(t)
			edit(t, logPaths(path)[0], tt.spoil)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			db, err := Open(path)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				defer db.Close()
				if got := keys(t, db); got != records-1 {
					t.Errorf("got %d keys, want %d", got, records-1)
				}
				return
			}
			if err == nil {
				db.Close()
				t.Fatal("the store was opened")
			}
			for _, part := range []string{path, tt.want, "restore it from a copy", "begin with an empty folder"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %q, want %q in it", err, part)
				}
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("the store was changed")
			}
		})
	}
}

// What can be compressed takes less than it has.
func TestLogIsCompressed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	db := open(t, path)
	putKey(t, db, 0, 1)
	before := db.log.files[0].end
	value := bytes.Repeat([]byte(`{"state":"queued","node":""}`), 10_000)
	if err := db.Update(func(tx *Tx) error { return tx.Bucket(rows).Put([]byte("0001"), value) }); err != nil {
		t.Fatal(err)
	}
	if got := db.log.files[0].end - before; got > int64(len(value)/10) {
		t.Errorf("%d bytes take %d in the log", len(value), got)
	}
	kill(db)
	err := open(t, path).View(func(tx *Tx) error {
		if got := tx.Bucket(rows).Get([]byte("0001")); !bytes.Equal(got, value) {
			t.Errorf("got %d other bytes", len(got))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMissingLog(t *testing.T) {
	t.Parallel()
	for i := range 2 {
		path, _ := written(t)
		if err := os.Remove(logPaths(path)[i]); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "is missing") {
			t.Errorf("file %d: got %v, want that it is missing", i+1, err)
		}
	}
}

// The log of one store is not that of another.
func TestLogOfAnotherStore(t *testing.T) {
	t.Parallel()
	path, _ := written(t)
	other, _ := written(t)
	b, err := os.ReadFile(logPaths(other)[0])
	if err != nil {
		t.Fatal(err)
	}
	edit(t, logPaths(path)[0], func([]byte) []byte { return b })
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "belongs to another store") {
		t.Errorf("got %v, want that it belongs to another store", err)
	}
}

// A version of this program without a log opens the tree alone. When it has changed it
// after a kill, the log does not fit any more.
func TestOlderVersion(t *testing.T) {
	t.Parallel()
	older := func(path string) {
		b, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if err := b.Update(func(tx *bbolt.Tx) error {
			r, err := tx.CreateBucketIfNotExists(rows)
			if err != nil {
				return err
			}
			return r.Put([]byte("0000"), []byte("older"))
		}); err != nil {
			t.Fatal(err)
		}
	}
	path, records := written(t)
	db := open(t, path)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	older(path)
	if got := keys(t, open(t, path)); got != records {
		t.Errorf("after a stop: got %d keys, want %d", got, records)
	}
	path, _ = written(t)
	older(path)
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "another version") {
		t.Errorf("after a kill: got %v, want that another version changed it", err)
	}
}

// A disk that is full refuses what does not fit, and nothing else.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	db := open(t, path)
	putKey(t, db, 0, 1)
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	file := db.log.files[0] // the writer waits for calls
	disk := file.f
	const room = 4
	file.f, file.size = full, file.end+room*logPage
	if err := db.Update(func(tx *Tx) error { return tx.Bucket(rows).Put([]byte("0001"), noise(1, 2*room*logPage)) }); err == nil ||
		!strings.Contains(err.Error(), "no space left") {
		t.Errorf("got %v, want that there is no space left", err)
	}
	if got := keys(t, db); got != 1 {
		t.Errorf("got %d keys, want 1: the refused one is not there", got)
	}
	file.f = disk
	putKey(t, db, 1, room*logPage)
	kill(db)
	if got := keys(t, open(t, path)); got != 2 {
		t.Errorf("got %d keys, want 2", got)
	}
}
