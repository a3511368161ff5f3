package disk_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dsvmpools/local/disk"
)

var bucket = []byte("b")

func put(key, value string) func(*disk.Tx) error {
	return func(tx *disk.Tx) error {
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
	if err := db.View(func(tx *disk.Tx) error {
		if b := tx.Bucket(bucket); b != nil {
			return b.ForEach(func(_, _ []byte) error { n++; return nil })
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
				want, fn = refused, func(*disk.Tx) error { return refused }
			case 7:
				fn = func(*disk.Tx) error { panic("bad caller") }
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

// BenchmarkUpdate8 has 8 callers side by side, and BenchmarkUpdate1 one: what a change of
// 1 KB costs.
func BenchmarkUpdate8(b *testing.B) { benchmarkUpdate(b, 8) }
func BenchmarkUpdate1(b *testing.B) { benchmarkUpdate(b, 1) }

func benchmarkUpdate(b *testing.B, callers int) {
	db, err := disk.Open(filepath.Join(b.TempDir(), "x.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	value := strings.Repeat("v", 1024)
	var next atomic.Int64
	before, cpu := disk.Totals(), processorTime()
	b.ResetTimer()
	var wait sync.WaitGroup
	for range callers {
		wait.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := db.Update(put(fmt.Sprint(i*7919%1_000_003), value)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wait.Wait()
	n := float64(b.N)
	did := countedSince(before)
	b.ReportMetric(float64((processorTime()-cpu).Microseconds())/n, "cpu-us/op")
	b.ReportMetric(float64(did.Bytes)/n, "bytes/op")
	b.ReportMetric(float64(did.Syncs)/n, "syncs/op")
	b.ReportMetric(float64(did.Updates)/float64(did.Commits), "updates/commit")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
