//go:build unix

package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/tree"
	"dsvmpools/shared/treestore"
)

// sent is a share with folders on it, and a node.
type sent struct {
	t       *testing.T
	share   string
	store   *treestore.Store
	fetcher *Fetcher
	scratch string
}

func newSent(t *testing.T) *sent {
	t.Helper()
	s := &sent{t: t, share: t.TempDir(), scratch: t.TempDir()}
	s.store = treestore.New(s.share)
	var err error
	s.fetcher, err = New(Config{Dir: filepath.Join(t.TempDir(), "sources"), Share: s.share, Timeout: time.Minute, CacheSize: job.Gi})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// send puts a tree on the share without any check, with the contents of its files in the
// order of the tree.
func (s *sent) send(list tree.Tree, contents ...[]byte) tree.Hash {
	s.t.Helper()
	var packs []tree.Hash
	var p tree.Packer
	flush := func() {
		if p.IsEmpty() {
			return
		}
		h, pack := p.Finish()
		packs = append(packs, h)
		if err := s.store.WritePack(h, pack, time.Now()); err != nil {
			s.t.Fatal(err)
		}
	}
	for i := range list {
		if list[i].Link != "" {
			continue
		}
		content := contents[0]
		contents = contents[1:]
		list[i].Size = int64(len(content))
		_ = tree.Split(bytes.NewReader(content), func(part []byte) error {
			h := tree.HashOf(part)
			list[i].Blobs = append(list[i].Blobs, h)
			if p.IsFull() {
				flush()
			}
			return p.Add(h, part)
		})
	}
	flush()
	body := list.Encode()
	h := tree.HashOf(body)
	if err := s.store.WriteTree(h, body, packs, time.Now()); err != nil {
		s.t.Fatal(err)
	}
	return h
}

func (s *sent) place(name string, h tree.Hash) (dir string, err error) {
	s.t.Helper()
	got, err := s.fetcher.Place(s.t.Context(), Request{Source: job.Source{Tree: h.Name()}, Dir: filepath.Join(s.scratch, name)})
	return got.Dir, err
}

func file(path string) tree.Entry { return tree.Entry{Path: path, Mode: tree.ModePlain} }

// Folders with odd names, empty files, large files, programs and links come to the node as
// they were.
func TestAFolderIsUnfolded(t *testing.T) {
	t.Parallel()
	names := []string{"a", "A", "b c", "ü", "日本", "-rf", "*", "%41", "#x", "\nline", "con", "x:y", "back\\slash", ".hidden", "a.b"}
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := newSent(t)
		want := map[string]string{}
		var list tree.Tree
		contents := map[string][]byte{}
		dirs := []string{""}
		for range 400 {
			dir := dirs[r.IntN(len(dirs))]
			name := dir + names[r.IntN(len(names))] + fmt.Sprint(r.IntN(40))
			if r.IntN(8) == 0 {
				name += "-d/"
				if !slices.Contains(dirs, name) && strings.Count(name, "/") < 20 {
					dirs = append(dirs, name)
				}
				continue
			}
			if contents[name] != nil || slices.ContainsFunc(list, func(e tree.Entry) bool { return e.Path == name }) {
				continue
			}
			e := file(name)
			switch r.IntN(6) {
			case 0:
				e.Mode = tree.ModeProgram
			case 1:
				e = tree.Entry{Path: name, Link: strings.Repeat("../", r.IntN(strings.Count(name, "/")+1)) + "somewhere"}
			}
			if e.Link == "" {
				size := []int{0, 1, r.IntN(1000), r.IntN(100_000)}[r.IntN(4)]
				if r.IntN(150) == 0 {
					size = tree.ChunkBytes*(1+r.IntN(2)) + r.IntN(3)
				}
				contents[name] = make([]byte, size)
				for i := 0; i < size; i += 7 {
					contents[name][i] = byte(r.Uint32())
				}
				want[name] = e.Mode + ":" + tree.HashOf(contents[name]).String()
			} else {
				want[name] = "link:" + e.Link
			}
			list = append(list, e)
		}
		slices.SortFunc(list, func(a, b tree.Entry) int { return strings.Compare(a.Path, b.Path) })
		var inOrder [][]byte
		for _, e := range list {
			if e.Link == "" {
				inOrder = append(inOrder, contents[e.Path])
			}
		}
		h := s.send(list, inOrder...)
		if err := list.Check(anySize); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		dir, err := s.place("first", h)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		compare(t, dir, want)
		// The node has kept the packs.
		if err := os.RemoveAll(filepath.Join(s.share, "synced", "packs")); err != nil {
			t.Fatal(err)
		}
		if dir, err = s.place("second", h); err != nil {
			t.Fatalf("seed %d: from the cache: %v", seed, err)
		}
		compare(t, dir, want)
	}
}

// compare holds a folder against what should be in it.
func compare(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		below, _ := filepath.Rel(dir, name)
		at, err := e.Info()
		if err != nil {
			return err
		}
		if at.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(name)
			got[below] = "link:" + target
			return err
		}
		body, err := os.ReadFile(name)
		got[below] = fmt.Sprintf("%o:%s", at.Mode().Perm(), tree.HashOf(body))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, is := range want {
		if got[name] != is {
			t.Errorf("%q is %q, want %q", name, got[name], is)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
}

// causeIs checks whose fault it is, and what is said.
func causeIs(t *testing.T, err error, cause job.Cause, says string) {
	t.Helper()
	var f startfault.Fault
	if !errors.As(err, &f) || f.Cause != cause || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v (%v), want %v: %s", err, f.Cause, cause, says)
	}
}

func TestWhoseFaultAFolderIs(t *testing.T) {
	t.Parallel()
	s := newSent(t)
	_, err := s.place("none", tree.HashOf([]byte("none")))
	causeIs(t, err, job.CauseSource, "submit the job again with --sync")

	// A tree that the app would never have taken.
	for path, list := range map[string]tree.Tree{
		"../out": {file("../out")},
		"/out":   {file("/out")},
		"l":      {{Path: "l", Link: "/etc"}},
		"a/b":    {{Path: "a", Link: "."}, file("a/b")},
	} {
		_, err := s.place("hostile", s.send(list, []byte("x")))
		causeIs(t, err, job.CauseSource, path)
	}
	entries, err := os.ReadDir(s.scratch)
	if err != nil || len(entries) != 0 {
		t.Errorf("%d things are in the scratch folder: %v", len(entries), err)
	}

	h := s.send(tree.Tree{file("a")}, []byte("damaged"))
	packs, err := s.store.PacksOf(h)
	if err != nil {
		t.Fatal(err)
	}
	pack := filepath.Join(s.share, "synced", "packs", packs[0].String())
	if err := os.WriteFile(pack, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = s.place("damaged", h)
	causeIs(t, err, job.CauseShare, "another SHA-256")
	// It was taken away, so that it is asked for when the folder is sent again.
	if exists(pack) || exists(filepath.Join(s.share, "synced", "trees", h.String())) {
		t.Error("what is damaged is still there")
	}
	s.send(tree.Tree{file("a")}, []byte("damaged"))
	if _, err := s.place("mended", h); err != nil {
		t.Errorf("sent again: %v", err)
	}
	// What the node has kept is damaged: the share has it.
	for _, kept := range []string{"x", strings.Repeat("x", 100)} {
		if err := os.WriteFile(s.fetcher.packs.path(packs[0]), []byte(kept), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.place("kept"+fmt.Sprint(len(kept)), h); err != nil {
			t.Errorf("with %d wrong bytes on the node: %v", len(kept), err)
		}
	}
	s.fetcher.packs.drop(packs[0])
	if err := os.Remove(pack); err != nil {
		t.Fatal(err)
	}
	_, err = s.place("lost", h)
	causeIs(t, err, job.CauseShare, "a pack is missing")

	h = s.send(tree.Tree{file("b")}, []byte("list"))
	list := filepath.Join(s.share, "synced", "trees", h.String())
	if err := os.WriteFile(list, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = s.place("list", h)
	causeIs(t, err, job.CauseShare, "another SHA-256")

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	h = s.send(tree.Tree{file("c")}, []byte("cancelled"))
	if _, err := s.fetcher.Place(ended, Request{Source: job.Source{Tree: h.Name()}, Dir: filepath.Join(s.scratch, "ended")}); err == nil {
		t.Error("a cancelled attempt got its folder")
	}
}

// A job puts other things in the place of what an attempt needs: the attempt says that its
// folder has to be sent again, and that helps.
func TestThingsInThePlaceOfAFolder(t *testing.T) {
	t.Parallel()
	s := newSent(t)
	send := func() tree.Hash { return s.send(tree.Tree{file("a")}, []byte("content")) }
	h := send()
	packs, err := s.store.PacksOf(h)
	if err != nil {
		t.Fatal(err)
	}
	trees, pack := filepath.Join(s.share, "synced", "trees"), filepath.Join(s.share, "synced", "packs", packs[0].String())
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	for place, name := range map[string]string{
		"the pack": pack, "the tree": filepath.Join(trees, h.String()), "the list": filepath.Join(trees, h.String()+".packs"),
	} {
		for what, put := range map[string]func() error{
			"a link":        func() error { return os.Symlink(other, name) },
			"a pipe":        func() error { return unix.Mkfifo(name, 0o666) },
			"a full folder": func() error { return os.MkdirAll(filepath.Join(name, "x"), 0o777) },
			"a long file":   func() error { return errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, 1<<40)) },
			"another file":  func() error { return os.WriteFile(name, []byte("other"), 0o600) },
			"nothing":       func() error { return nil },
		} {
			s.fetcher.packs.drop(packs[0])
			if err := errors.Join(os.RemoveAll(name), put()); err != nil {
				t.Fatal(err)
			}
			if _, err := s.place("odd", h); err == nil || !strings.Contains(err.Error(), "--sync") {
				t.Errorf("%s in the place of %s: got %v", what, place, err)
			}
			if _, whole, err := s.store.Has(treestore.Tree, h); whole || err != nil {
				t.Errorf("%s in the place of %s: the tree counts as there, %v", what, place, err)
			}
			send()
			if _, err := s.place("again", h); err != nil {
				t.Errorf("%s in the place of %s: sent again: %v", what, place, err)
			}
		}
	}
}

// Many attempts unfold at once, and what the node keeps stays within its bound.
func TestPacksOfManyAttempts(t *testing.T) {
	t.Parallel()
	s := newSent(t)
	s.fetcher.packs.size = 30_000
	var all []tree.Hash
	for i := range 8 {
		content := make([]byte, 8000)
		r := rand.NewChaCha8([32]byte{byte(i)})
		_, _ = r.Read(content)
		all = append(all, s.send(tree.Tree{file("a")}, content))
	}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if _, err := s.place(fmt.Sprint("w", i), all[i%len(all)]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if kept := sizeOf(s.fetcher.packs.dir); kept == 0 || kept > 30_000 {
		t.Errorf("%d bytes are kept", kept)
	}
	s.fetcher.packs.size = 0
	s.fetcher.packs.shrink()
	if _, err := s.place("nothing", all[0]); err != nil || sizeOf(s.fetcher.packs.dir) != 0 {
		t.Errorf("%d bytes are kept: %v", sizeOf(s.fetcher.packs.dir), err)
	}
}
