package treestore_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dsvmpools/shared/tree"
	"dsvmpools/shared/treestore"
)

var begin = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func TestStore(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	s := treestore.New(share)
	h, p := tree.HashOf([]byte("[]")), tree.HashOf([]byte("pack"))
	// Nothing is there, and nothing is made by looking.
	if _, _, err := s.ReadTree(h); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if all, err := s.List(treestore.Pack); err != nil || len(all) != 0 {
		t.Errorf("got %v, %v", all, err)
	}
	if n, err := s.SweepDrafts(begin); n != 0 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if entries, _ := os.ReadDir(share); len(entries) != 0 {
		t.Errorf("%d things were made", len(entries))
	}
	if err := errors.Join(s.WritePack(p, []byte("pack"), begin), s.WriteTree(h, []byte("[]"), []tree.Hash{p}, begin)); err != nil {
		t.Fatal(err)
	}
	f, size, err := s.OpenPack(p)
	if err != nil || size != 4 {
		t.Fatal(size, err)
	}
	defer f.Close()
	if body, err := io.ReadAll(f); string(body) != "pack" || err != nil {
		t.Errorf("got %s, %v", body, err)
	}
	body, packs, err := s.ReadTree(h)
	if string(body) != "[]" || len(packs) != 1 || packs[0] != p || err != nil {
		t.Errorf("got %s, %v, %v", body, packs, err)
	}
	if used, ok, err := s.Has(treestore.Tree, h); !used.Equal(begin) || !ok || err != nil {
		t.Errorf("got %s, %v, %v", used, ok, err)
	}
	// What was used after the time stays; what was not goes.
	later := begin.Add(time.Hour)
	if err := s.Touch(treestore.Pack, p, later); err != nil {
		t.Fatal(err)
	}
	if gone, err := s.Remove(treestore.Pack, p, begin.Add(time.Minute)); gone || err != nil {
		t.Errorf("got %v, %v", gone, err)
	}
	if all, err := s.List(treestore.Pack); err != nil || len(all) != 1 || !all[0].Used.Equal(later) || all[0].Size != 4 {
		t.Errorf("got %v, %v", all, err)
	}
	for kind, hash := range map[treestore.Kind]tree.Hash{treestore.Pack: p, treestore.Tree: h} {
		if gone, err := s.Remove(kind, hash, later); !gone || err != nil {
			t.Errorf("%s: got %v, %v", kind, gone, err)
		}
		if err := s.Touch(kind, hash, later); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v", kind, err)
		}
		if entries, err := os.ReadDir(filepath.Join(share, treestore.Folder, string(kind))); err != nil || len(entries) != 0 {
			t.Errorf("%s: %d files are left: %v", kind, len(entries), err)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(share, treestore.Folder, "tmp")); err != nil || len(entries) != 0 {
		t.Errorf("%d drafts are left: %v", len(entries), err)
	}
	if _, err := treestore.New(filepath.Join(share, "none")).List(treestore.Pack); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a share that is not there is %v", err)
	}
}

// What a job puts in the place of a file is no use of the file, and what it leads to is
// not touched.
func TestTouchOfAnotherThing(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	s := treestore.New(share)
	h, other := tree.HashOf([]byte("pack")), tree.HashOf([]byte("other"))
	if err := s.WritePack(other, []byte("other"), begin); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(share, treestore.Folder, string(treestore.Pack), h.String())
	for what, place := range map[string]func() error{
		"a link":            func() error { return os.Symlink(other.String(), name) },
		"a link to outside": func() error { return os.Symlink("/etc/passwd", name) },
		"a folder":          func() error { return os.Mkdir(name, 0o700) },
	} {
		if err := place(); err != nil {
			t.Fatal(err)
		}
		if err := s.Touch(treestore.Pack, h, begin.Add(time.Hour)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v", what, err)
		}
		// The file can be written again.
		if err := s.WritePack(h, []byte("pack"), begin); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, ok, err := s.Has(treestore.Pack, h); !ok || err != nil {
			t.Errorf("%s: the file is not there: %v", what, err)
		}
		os.Remove(name)
	}
	if used, _, err := s.Has(treestore.Pack, other); err != nil || !used.Equal(begin) {
		t.Errorf("another file was used at %s, %v", used, err)
	}
	// Even what cannot be removed at once is out of the way, and is swept.
	if err := errors.Join(os.MkdirAll(filepath.Join(name, "a", "b"), 0o700), s.WritePack(h, []byte("pack"), begin)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SweepDrafts(time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(filepath.Join(share, treestore.Folder, "tmp")); err != nil || len(entries) != 0 {
		t.Errorf("%d things are left: %v", len(entries), err)
	}
}

// A list of packs that a job has written is read without harm.
func FuzzPacksOf(f *testing.F) {
	f.Add([]byte(tree.Hash{}.String() + "\n"))
	f.Add([]byte("../../etc/passwd\n"))
	share := f.TempDir()
	s := treestore.New(share)
	h := tree.HashOf(nil)
	if err := s.WriteTree(h, nil, nil, begin); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, list []byte) {
		name := filepath.Join(share, treestore.Folder, string(treestore.Tree), h.String()+".packs")
		if err := os.WriteFile(name, list, 0o600); err != nil {
			t.Fatal(err)
		}
		packs, err := s.PacksOf(h)
		if err == nil && len(packs)*2*len(h) > len(list) {
			t.Errorf("%d packs of %d bytes", len(packs), len(list))
		}
	})
}

// A tree that was written while it was removed may have lost the list of its packs: it counts
// as missing, and is whole when it is written again.
func TestTreeWithoutItsList(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	s := treestore.New(share)
	h := tree.HashOf([]byte("[]"))
	for _, want := range []bool{true, false, true} {
		if !want {
			if err := os.Remove(filepath.Join(share, treestore.Folder, "trees", h.String()+".packs")); err != nil {
				t.Fatal(err)
			}
		} else if err := s.WriteTree(h, []byte("[]"), nil, begin); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := s.Has(treestore.Tree, h); ok != want || err != nil {
			t.Errorf("got %v, %v; want %v", ok, err, want)
		}
	}
}
