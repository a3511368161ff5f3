package disk_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"dsvmpools/local/disk"

	"go.etcd.io/bbolt"
)

var bucket = []byte("b")

func put(key, value string) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucket)
		if err != nil {
			return err
		}
		return b.Put([]byte(key), []byte(value))
	}
}

func count(t *testing.T, db *disk.DB) int {
	t.Helper()
	n := 0
	if err := db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(bucket); b != nil {
			n = b.Stats().KeyN
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestUpdateSharesCommitsAndKeepsFailuresApart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var want error
			fn := put(fmt.Sprint(i), "v")
			switch i % 10 {
			case 3:
				want, fn = refused, func(*bbolt.Tx) error { return refused }
			case 7:
				fn = func(*bbolt.Tx) error { panic("bad caller") }
			}
			err := db.Update(fn)
			if i%10 == 7 {
				if err == nil || !strings.Contains(err.Error(), "bad caller") {
					t.Errorf("call %d: got %v, want the panic as an error", i, err)
				}
			} else if !errors.Is(err, want) {
				t.Errorf("call %d: got %v, want %v", i, err, want)
			}
		}()
	}
	wg.Wait()
	if got, want := count(t, db), 160; got != want {
		t.Errorf("keys: got %d, want %d", got, want)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Update(put("a", "b")); !errors.Is(err, disk.ErrClosed) {
		t.Errorf("after Close: got %v, want %v", err, disk.ErrClosed)
	}
	if db, err = disk.Open(path); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if got, want := count(t, db), 160; got != want {
		t.Errorf("keys after reopening: got %d, want %d", got, want)
	}
}

// filled makes a store with rows that take many pages, and returns its bytes.
func filled(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if err := db.Update(put(fmt.Sprint(i), strings.Repeat("v", 1000))); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOpenRefusesDamage(t *testing.T) {
	t.Parallel()
	page := os.Getpagesize()
	for name, damage := range map[string]func([]byte) []byte{
		"not a store":     func([]byte) []byte { return []byte(strings.Repeat("not a store ", 1000)) },
		"empty":           func([]byte) []byte { return nil },
		"cut off":         func(b []byte) []byte { return b[:4*page] },
		"cut off early":   func(b []byte) []byte { return b[:page+100] },
		"both meta pages": func(b []byte) []byte { clear(b[:2*page]); return b },
		"all pages but them": func(b []byte) []byte {
			for i := range b[2*page:] {
				b[2*page+i] = byte(i * 7)
			}
			return b
		},
		"all pages but them are zero": func(b []byte) []byte { clear(b[2*page:]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "x.db")
			bad := damage(filled(t))
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := disk.Open(path)
			if err == nil {
				db.Close()
			}
			if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "restore it from a copy") {
				t.Errorf("got %v, want an error that names %s and says what to do", err, path)
			}
			if got, _ := os.ReadFile(path); string(got) != string(bad) {
				t.Error("the damaged file was changed")
			}
		})
	}
}

// A commit that was cut off in the middle has written its pages, or a part of
// them, and perhaps half of its meta page: what was acknowledged before is there.
func TestTornCommit(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	whole := filled(t)
	page := os.Getpagesize()
	for meta := range 2 {
		for _, upTo := range []int{20, 40, 60, 79} {
			torn := append([]byte(nil), whole...)
			for i := upTo; i < 80; i++ {
				torn[meta*page+i] ^= 0x55
			}
			if err := os.WriteFile(path, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := disk.Open(path)
			if err != nil {
				t.Fatalf("meta page %d torn at %d: %v", meta, upTo, err)
			}
			// The other meta page is at most one commit behind.
			if got := count(t, db); got < 49 {
				t.Errorf("meta page %d torn at %d: got %d rows, want 49 or 50", meta, upTo, got)
			}
			if err := db.Update(put("after", "v")); err != nil {
				t.Error(err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestOpenInUse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := disk.Open(path); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("got %v, want that it is in use", err)
	}
}

func BenchmarkUpdate8(b *testing.B) {
	db, err := disk.Open(filepath.Join(b.TempDir(), "x.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	value := strings.Repeat("v", 1024)
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if err := db.Update(put(fmt.Sprintf("%p-%d", pb, i), value)); err != nil {
				b.Error(err)
			}
		}
	})
}
