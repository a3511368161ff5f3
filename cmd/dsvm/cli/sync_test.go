package cli

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"dsvmpools/shared/service"
	"dsvmpools/shared/tree"
	"dsvmpools/shared/treestore"
)

// counting counts what is sent as packs.
type counting struct {
	packs, bytes atomic.Int64
}

func (b *bench) countPacks() *counting {
	c := &counting{}
	b.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/api/files/packs/") {
			c.packs.Add(1)
			c.bytes.Add(r.ContentLength)
		}
		return false
	}
	return c
}

// noise is bytes that no compression makes smaller.
func noise(seed byte, n int) string {
	body := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(body)
	return string(body)
}

// sentTo returns the tree that a job starts in.
func (b *bench) sentTo(id string) (tree.Hash, tree.Tree) {
	b.t.Helper()
	j, err := b.app.Jobs.Job(b.t.Context(), id)
	if err != nil || j.Spec.Source == nil {
		b.t.Fatal(j, err)
	}
	h, ok := tree.ParseName(j.Spec.Source.Tree)
	body, _, err := treestore.New(b.app.Share).ReadTree(h)
	if !ok || err != nil {
		b.t.Fatal(j.Spec.Source, err)
	}
	list, err := tree.Parse(body, tree.Limits{Bytes: 1 << 40, Files: 1 << 20})
	if err != nil {
		b.t.Fatal(err)
	}
	return h, list
}

// A folder is sent once; after that, only what changed.
func TestSync(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	sent := b.countPacks()
	b.write("train.py", "print(1)\n")
	b.write("empty", "")
	b.write("lib/a.py", noise(1, 300_000))
	b.write("big.bin", noise(2, tree.ChunkBytes+1000))
	b.write("x.ckpt", "left out")
	b.write(".gitignore", "*.ckpt\n")
	if err := os.Symlink("lib/a.py", filepath.Join(b.program.Dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(b.program.Dir, "train.py"), 0o755); err != nil {
		t.Fatal(err)
	}
	code, _, errs := b.run("job", "submit", "--pool", "cpu", "--id", "one", "--sync", ".", "--", "./train.py")
	if code != 0 {
		t.Fatal(code, errs)
	}
	first, list := b.sentTo("one")
	var got []string
	for _, e := range list {
		got = append(got, e.Path+":"+e.Mode+e.Link)
	}
	if want := ".gitignore:644 big.bin:644 empty:644 lib/a.py:644 link:lib/a.py train.py:755"; strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if sent.bytes.Load() < 4<<20 {
		t.Errorf("%d bytes were sent", sent.bytes.Load())
	}
	// Again: nothing is sent.
	sent.bytes.Store(0)
	if code, _, errs := b.run("job", "submit", "--pool", "cpu", "--id", "two", "--sync", ".", "true"); code != 0 {
		t.Fatal(code, errs)
	}
	if again, _ := b.sentTo("two"); again != first || sent.bytes.Load() != 0 {
		t.Errorf("%d bytes were sent again", sent.bytes.Load())
	}
	// One file changed: it is sent.
	b.write("train.py", "print(2)\n")
	if code, _, errs := b.run("job", "submit", "--pool", "cpu", "--id", "three", "--sync", ".", "--exclude", "lib", "true"); code != 0 {
		t.Fatal(code, errs)
	}
	if n := sent.bytes.Load(); n == 0 || n > 500 {
		t.Errorf("%d bytes were sent for a changed line", n)
	}
}

// An upload that was broken off anywhere goes on where it was.
func TestSyncGoesOn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const files = 12
	for i := range files {
		b.write(fmt.Sprintf("f%02d", i), noise(byte(i), 1<<20))
	}
	isPack := func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/api/files/packs/") }
	const whole = 2 // packs that are taken before it breaks off
	var begun, taken atomic.Int64
	done := make(chan struct{}, files)
	b.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !isPack(r) || begun.Add(1) <= whole {
			return false
		}
		for range whole { // those before are there
			select {
			case <-done:
			case <-r.Context().Done(): // another one was refused already
				return true
			}
		}
		w.WriteHeader(http.StatusBadRequest) // no answer that comes by itself: what a killed client leaves
		return true
	}
	b.answered = func(r *http.Request) {
		if isPack(r) {
			taken.Add(r.ContentLength)
			done <- struct{}{}
		}
	}
	args := []string{"job", "submit", "--pool", "cpu", "--id", "one", "--sync", ".", "true"}
	if code, _, errs := b.run(args...); code == 0 || strings.Contains(errs, "canceled") {
		t.Fatal("it was to break off, with its reason", errs)
	}
	if n := taken.Load(); n < 1<<20 {
		t.Fatalf("only %d bytes were taken", n)
	}
	b.before = nil
	if code, _, errs := b.run(args...); code != 0 {
		t.Fatal(code, errs)
	}
	if n := taken.Load(); n > files<<20+100_000 {
		t.Errorf("%d bytes were sent for %d", n, files<<20)
	}
	// A server that is away for a moment stops nobody.
	b.write("more", noise(100, 1000))
	var fails atomic.Int64
	b.before = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/api/files/") && fails.Add(1)%2 == 1 {
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		return false
	}
	if code, _, errs := b.run("job", "submit", "--pool", "cpu", "--id", "two", "--sync", ".", "true"); code != 0 {
		t.Error(code, errs)
	}
}

// What the instance has lost is sent again.
func TestSyncAfterALoss(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.write("a", noise(1, 1000))
	if code, _, errs := b.run("job", "submit", "--pool", "cpu", "--id", "one", "--sync", ".", "true"); code != 0 {
		t.Fatal(code, errs)
	}
	h, _ := b.sentTo("one")
	store := treestore.New(b.app.Share)
	packs, err := store.PacksOf(h)
	if err != nil {
		t.Fatal(err)
	}
	for kind, file := range map[treestore.Kind]tree.Hash{treestore.Pack: packs[0], treestore.Tree: h} { // as a node does that finds them damaged
		if err := store.SetAside(kind, file); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, errs := b.run("job", "submit", "--pool", "cpu", "--id", "two", "--sync", ".", "true"); code != 0 {
		t.Fatal(code, errs)
	}
	if _, _, err := store.OpenPack(packs[0]); err != nil {
		t.Error(err)
	}
}

func TestSyncIsListedAndRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.write("small", "x")
	b.write("large", strings.Repeat("x", 2000))
	code, out, errs := b.run("run", "--pool", "cpu", "--sync", ".", "--sync-dry-run", "true")
	if code != 0 || !strings.Contains(out, "2.0 KiB  large\n") || strings.Index(out, "large") > strings.Index(out, "small") ||
		!strings.Contains(errs, "2.0 KiB in 2 files") {
		t.Errorf("got %d %s %s", code, out, errs)
	}
	var items []sentFile
	code, out, _ = b.run("job", "submit", "--pool", "cpu", "--sync", ".", "--sync-dry-run", "-o", "json", "true")
	if err := json.Unmarshal([]byte(out), &items); code != 0 || err != nil || len(items) != 2 || items[0].Path != "large" {
		t.Errorf("got %d %s", code, out)
	}
	b.write("job.yaml", "pool: cpu\ncommand: [make]\nsource: {repository: 'https://github.com/a/b', commit: "+strings.Repeat("a", 40)+"}\n")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no folder":        {[]string{"--sync", "none"}, `"none", which is no folder`},
		"without --sync":   {[]string{"--exclude", "x"}, "add --sync FOLDER"},
		"nothing":          {[]string{"--sync", ".", "--exclude", "*"}, "nothing in . is to be sent"},
		"a second source":  {[]string{"--sync", ".", "-f", "job.yaml"}, "keep one of them"},
		"a bad pattern":    {[]string{"--sync", ".", "--include", "["}, "it takes a pattern such as *.ckpt or data/small.csv\n"},
		"fetch for nobody": {[]string{"--fetch", "x", "--detach"}, "does not wait for that"},
		"fetch when":       {[]string{"--fetch", "x", "--fetch-on", "failure"}, "it takes success or any"},
	} {
		args := append([]string{"run", "--pool", "cpu"}, c.args...)
		if code, _, errs := b.run(append(args, "true")...); code != 2 || !strings.Contains(errs, c.want) {
			t.Errorf("%s: got %d %s, want %s", name, code, errs, c.want)
		}
	}
	b.write("run.sh", "#!/bin/sh\r\necho\r\n")
	if err := os.Chmod(filepath.Join(b.program.Dir, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := b.run("run", "--pool", "cpu", "--sync", ".", "true"); code == 0 || !strings.Contains(errs, "save it with LF") {
		t.Errorf("line ends of Windows: %d %s", code, errs)
	}
	if err := os.Symlink("/etc", filepath.Join(b.program.Dir, "etc")); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := b.run("run", "--pool", "cpu", "--sync", ".", "true"); code == 0 || !strings.Contains(errs, `"etc" leads to "/etc"`) {
		t.Errorf("a link: %d %s", code, errs)
	}
}

func TestSyncOfTooMuch(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *service.Config) { c.Trees = tree.Limits{Bytes: 10_000, Files: 20} })
	packs := b.countPacks()
	for i := range 15 {
		b.write(fmt.Sprintf("f%02d", i), strings.Repeat("x", 100*i))
	}
	code, _, errs := b.run("run", "--pool", "cpu", "--sync", ".", "true")
	if code == 0 || !strings.Contains(errs, "at most 9.8 KiB in 20 files") || !strings.Contains(errs, "1.4 KiB  f14\n") ||
		strings.Contains(errs, "f04") || !strings.Contains(errs, ".dsvmignore") || packs.packs.Load() != 0 {
		t.Errorf("got %d %s, %d packs", code, errs, packs.packs.Load())
	}
}
