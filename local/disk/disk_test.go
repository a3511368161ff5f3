package disk_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/bbolt"

	"dsvmpools/local/disk"
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
