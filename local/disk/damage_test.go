package disk_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsvmpools/local/disk"
)

// filled makes a store with pages of every kind, and returns its bytes.
func filled(tb testing.TB) (path string, content []byte) {
	tb.Helper()
	path = filepath.Join(tb.TempDir(), "x.db")
	change(tb, path, func(tx *disk.Tx) error {
		for _, name := range []string{"b", "c"} {
			b, err := tx.CreateBucket([]byte(name))
			if err != nil {
				return err
			}
			inside, err := b.CreateBucket([]byte("small")) // is stored in a page of its bucket
			if err != nil {
				return err
			}
			if err := inside.Put([]byte("k"), []byte("v")); err != nil {
				return err
			}
			for i := range 300 { // enough for pages that only point to others
				size := 50
				if i%100 == 0 {
					size = 20000 // more than a page
				}
				if err := b.Put(fmt.Appendf(nil, "key%d", i), bytes.Repeat([]byte("v"), size)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	content, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return path, content
}

func change(tb testing.TB, path string, fn func(*disk.Tx) error) {
	tb.Helper()
	db, err := disk.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(fn); err != nil {
		tb.Fatal(err)
	}
}

func write(tb testing.TB, path string, content []byte) {
	tb.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// TestTornCommit opens what is left of a commit of the tree that was cut off, as by a loss
// of power: its pages come first, in any order, and then the head that names them. The
// acknowledged change is in the log until the tree has it.
func TestTornCommit(t *testing.T) {
	t.Parallel()
	path, _ := filled(t)
	db, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(put("last", "v")); err != nil {
		t.Fatal(err)
	}
	before := contentOf(t, path)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	after := contentOf(t, path)[path]
	old := before[path]
	old = append(old, make([]byte, len(after)-len(old))...)
	page := os.Getpagesize()
	head := 0
	if bytes.Equal(old[:page], after[:page]) {
		head = page
	}
	count := func(tree []byte) (n int) {
		restore(t, before)
		write(t, path, tree)
		db, err := disk.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		return count(t, db)
	}
	const keys, headEnd = 301, 128 // with the last one; the head is shorter
	for written := 2 * page; written <= used(after); written += page {
		torn := append(append(bytes.Clone(old[:2*page]), after[2*page:written]...), old[written:]...)
		if got := count(torn); got != keys {
			t.Errorf("%d bytes of the pages: got %d keys, want %d", written, got, keys)
		}
	}
	whole := 0
	for cut := range headEnd {
		torn := append(bytes.Clone(old[:2*page]), after[2*page:]...)
		copy(torn[head:], after[head:head+cut])
		if bytes.Equal(torn[head:head+page], after[head:head+page]) {
			whole++
		}
		if got := count(torn); got != keys {
			t.Errorf("%d bytes of the head: got %d keys, want %d", cut, got, keys)
		}
	}
	if whole == 0 || whole == headEnd {
		t.Errorf("%d of %d heads were complete; want some", whole, headEnd)
	}
}

// used is how many bytes of a store's file have content, in whole pages. It is longer than that.
func used(content []byte) int {
	page := os.Getpagesize()
	return (len(bytes.TrimRight(content, "\x00")) + page - 1) / page * page
}

// contentOf reads a store's file and those beside it.
func contentOf(tb testing.TB, path string) map[string][]byte {
	tb.Helper()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		tb.Fatal(err)
	}
	content := map[string][]byte{}
	for _, name := range files {
		if content[name], err = os.ReadFile(name); err != nil {
			tb.Fatal(err)
		}
	}
	return content
}

// restore writes files as they were.
func restore(tb testing.TB, content map[string][]byte) {
	tb.Helper()
	for name, b := range content {
		write(tb, name, b)
	}
}

func TestOpenRefusesDamage(t *testing.T) {
	t.Parallel()
	page := os.Getpagesize()
	// root returns the root page of the newest head.
	root := func(b []byte) int {
		const id, tx = 16 + 16, 16 + 48
		head := b
		if binary.NativeEndian.Uint64(b[page+tx:]) > binary.NativeEndian.Uint64(b[tx:]) {
			head = b[page:]
		}
		return page * int(binary.NativeEndian.Uint64(head[id:]))
	}
	tests := map[string]func([]byte) []byte{
		"no store":          func([]byte) []byte { return []byte(strings.Repeat("not a store ", 1000)) },
		"empty":             func([]byte) []byte { return nil },
		"one byte":          func(b []byte) []byte { return b[:1] },
		"only heads":        func(b []byte) []byte { return b[:2*page] },
		"cut in half":       func(b []byte) []byte { return b[:used(b)/2] },
		"no heads":          func(b []byte) []byte { clear(b[:2*page]); return b },
		"zeroes":            func(b []byte) []byte { clear(b); return b },
		"zeroes in a page":  func(b []byte) []byte { clear(b[root(b) : root(b)+page]); return b },
		"zeroes at the end": func(b []byte) []byte { clear(b[2*page:]); return b },
		"garbage in a page": func(b []byte) []byte {
			copy(b[root(b):], bytes.Repeat([]byte{0xa5}, page))
			return b
		},
		"a page that leads to itself": func(b []byte) []byte {
			for at := 2 * page; at < len(b); at += page {
				const branch = 1
				if binary.NativeEndian.Uint16(b[at+8:]) == branch {
					binary.NativeEndian.PutUint64(b[at+16+8:], uint64(at/page))
				}
			}
			return b
		},
		"keys out of order": func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte("key150"), []byte("key999"))
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, content := filled(t)
			want := spoil(bytes.Clone(content))
			if bytes.Equal(want, content) {
				t.Fatal("nothing was damaged")
			}
			write(t, path, want)
			db, err := disk.Open(path)
			if err == nil {
				db.Close()
				t.Fatal("the file was opened")
			}
			for _, part := range []string{path, "restore it", "begin with an empty folder"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %q, want %q in it", err, part)
				}
			}
			if got, _ := os.ReadFile(path); !bytes.Equal(got, want) {
				t.Error("the damaged file was changed")
			}
		})
	}
}

// survey opens a file of any content: Open refuses it, or it can be read to its end.
func survey(tb testing.TB, path string) (opened bool) {
	db, err := disk.Open(path)
	if err != nil {
		if !strings.Contains(err.Error(), path) {
			tb.Errorf("got %q, want the path in it", err)
		}
		return false
	}
	defer db.Close()
	if err := db.View(func(tx *disk.Tx) error {
		for _, name := range []string{"b", "c"} {
			b := tx.Bucket([]byte(name))
			if b == nil {
				continue
			}
			for _, b := range []*disk.Bucket{b, b.Bucket([]byte("small"))} {
				if b == nil {
					continue
				}
				if err := b.ForEach(func(_, _ []byte) error { return nil }); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		tb.Error(err)
	}
	return true
}

// TestDamageNeverCrashes changes single bytes at the beginning of pages, and whole pages.
func TestDamageNeverCrashes(t *testing.T) {
	t.Parallel()
	path, content := filled(t)
	rng := rand.New(rand.NewPCG(1, 2))
	page := os.Getpagesize()
	opened, refused := 0, 0
	for range damages {
		spoilt := bytes.Clone(content)
		at := rng.IntN(used(content)/page) * page
		if rng.IntN(4) == 0 {
			for i := range page {
				spoilt[at+i] = byte(rng.Uint32())
			}
		} else {
			const start = 200 // bytes of a page that describe its content
			spoilt[at+rng.IntN(start)] = byte(rng.Uint32())
		}
		write(t, path, spoilt)
		if survey(t, path) {
			opened++
		} else {
			refused++
		}
	}
	if opened == 0 || refused == 0 {
		t.Errorf("%d opened and %d refused; want some of both", opened, refused)
	}
}

func FuzzDamage(f *testing.F) {
	path, content := filled(f)
	f.Add(uint32(2*os.Getpagesize()), []byte{3}, uint32(len(content)))
	f.Add(uint32(8), []byte{1, 2}, uint32(used(content)/2))
	f.Fuzz(func(t *testing.T, at uint32, with []byte, length uint32) {
		spoilt := bytes.Clone(content)
		copy(spoilt[int(at)%len(spoilt):], with)
		path := filepath.Join(t.TempDir(), filepath.Base(path))
		write(t, path, spoilt[:min(int(length), len(spoilt))])
		survey(t, path)
	})
}

// BenchmarkOpen opens a store of 100 MB.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "x.db")
	const messages = 100_000
	change(b, path, func(tx *disk.Tx) error {
		k, err := tx.CreateBucket(bucket)
		for i := range messages {
			if err == nil {
				err = k.Put(fmt.Appendf(nil, "%09d", i), bytes.Repeat([]byte("v"), 1000))
			}
		}
		return err
	})
	for b.Loop() {
		db, err := disk.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		db.Close()
	}
}
