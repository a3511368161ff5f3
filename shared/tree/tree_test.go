package tree_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/tree"
)

var limits = tree.Limits{Bytes: tree.DefaultMaxBytes, Files: tree.DefaultMaxFiles}

// one is a hash that has the right form.
var one = strings.Repeat("ab", sha256.Size)

func TestTreesThatBreakARule(t *testing.T) {
	t.Parallel()
	file := func(path string) string { return fmt.Sprintf(`{"p":%q,"m":"644","s":1,"h":[%q]}`, path, one) }
	link := func(path, target string) string { return fmt.Sprintf(`{"p":%q,"l":%q}`, path, target) }
	for body, want := range map[string]string{
		`null`:                                           "no list",
		`{}`:                                             "cannot be read",
		`[] []`:                                          "something follows",
		`[{"p":"a","m":"644","x":1}]`:                    `unknown field "x"`,
		"[{\"p\":\"a\xff\",\"m\":\"644\"}]":              "UTF-8",
		`[{"m":"644"}]`:                                  "no path",
		`[` + file("/etc/passwd") + `]`:                  `"/etc/passwd" is absolute`,
		`[` + file("../a") + `]`:                         `"../a" has a part`,
		`[` + file("a/../../b") + `]`:                    `"a/../../b" has a part`,
		`[` + file("a//b") + `]`:                         `"a//b" has a part`,
		`[` + file("a/") + `]`:                           `"a/" has a part`,
		`[` + file("./a") + `]`:                          `"./a" has a part`,
		`[{"p":"a\u0000b","m":"644"}]`:                   "NUL",
		`[` + file(strings.Repeat("x", 256)) + `]`:       "a name of 256 bytes",
		`[` + file(strings.Repeat("x/", 2100)) + `]`:     "shorten it to 4096",
		`[` + file("b") + `,` + file("a") + `]`:          `"a" is there twice, or is not in its place`,
		`[` + file("a") + `,` + file("a") + `]`:          `"a" is there twice`,
		`[` + file("a") + `,` + file("a/b") + `]`:        `"a/b" lies below "a"`,
		`[` + link("a", "b") + `,` + file("a/c/d") + `]`: `"a/c/d" lies below "a"`,
		`[` + file("a") + `,` + file("a!") + `,` + file("a/b") + `]`:       `"a/b" lies below "a"`,
		`[` + link("a", "/etc") + `]`:                                      `"a" leads to "/etc", out of the tree`,
		`[` + link("a", "..") + `]`:                                        `"a" leads to "..", out of the tree`,
		`[` + link("d/a", "../../b") + `]`:                                 "out of the tree",
		`[` + link("d/a", "x/../..") + `]`:                                 "down and up again",
		`[{"p":"a","l":"b","m":"644"}]`:                                    "a link and a file at once",
		`[{"p":"a","m":"777"}]`:                                            `the mode "777"`,
		`[{"p":"a","m":"4755"}]`:                                           `the mode "4755"`,
		`[{"p":"a"}]`:                                                      `the mode ""`,
		`[{"p":"a","m":"644","s":-1}]`:                                     "a size of -1",
		`[{"p":"a","m":"644","s":1}]`:                                      "1 bytes and 0 hashes",
		`[{"p":"a","m":"644","s":1,"h":["ab"]}]`:                           "no hash",
		`[{"p":"a","m":"644","s":1,"h":["` + strings.ToUpper(one) + `"]}]`: "cannot be read",
		`[{"p":"a","m":"644","h":["` + one + `"]}]`:                        "0 bytes and 1 hashes",
	} {
		_, err := tree.Parse([]byte(body), limits)
		if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: got %v, want %s", body, err, want)
		}
	}
	good := `[` + file("a") + `,` + file("a!") + `,` + link("d/l", "../a") + `,` + link("d/m", "e/./f") + `,{"p":"e","m":"755"}]`
	parsed, err := tree.Parse([]byte(good), limits)
	if err != nil || len(parsed) != 5 || string(parsed.Encode()) != good {
		t.Errorf("got %v, %v", parsed, err)
	}
	if _, err := tree.Parse([]byte(good), tree.Limits{Bytes: 1 << 20, Files: 4}); err == nil || !strings.Contains(err.Error(), "more than 4 files") {
		t.Errorf("too many files: %v", err)
	}
	if _, err := tree.Parse([]byte(good), tree.Limits{Bytes: 1, Files: 9}); err == nil {
		t.Error("too many bytes are taken")
	}
	if _, err := tree.Parse(make([]byte, tree.MaxTreeBytes+1), limits); err == nil {
		t.Error("a tree that is too long is taken")
	}
	if got := string(tree.Tree(nil).Encode()); got != "[]" {
		t.Errorf("an empty tree is %s", got)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	h := tree.HashOf([]byte("x"))
	if got, ok := tree.ParseName(h.Name()); !ok || got != h {
		t.Errorf("got %v, %v", got, ok)
	}
	for _, bad := range []string{"", one, "tree:sha256:", "tree:sha256:" + one[:62], "tree:sha256:" + one + "ab", "tree:md5:" + one,
		"tree:sha256:" + strings.Repeat("zz", 32)} {
		if _, ok := tree.ParseName(bad); ok {
			t.Errorf("%q is taken", bad)
		}
	}
}

// What fills the largest body costs neither much memory nor much time, whether or not it
// is a tree. It runs alone: what other tests allocate would be counted as well.
func TestLargestTrees(t *testing.T) {
	for name, tt := range map[string]struct {
		begin, each string
		want        string
	}{
		"many entries": {"[", "{}", "more than 50000 files"},
		"deep folders": {"[", `{"p":"` + strings.Repeat("a/", 2000) + `%06d","m":"644"}`, "2000 folders"},
		"folders":      {"[", `{"p":"%06d/` + strings.Repeat("a/", 99) + `x","m":"644"}`, ""},
	} {
		var b bytes.Buffer
		b.WriteString(tt.begin)
		for i := 0; b.Len() < tree.MaxTreeBytes-5000; i++ {
			if i > 0 {
				b.WriteByte(',')
			}
			if strings.Contains(tt.each, "%") {
				fmt.Fprintf(&b, tt.each, i)
			} else {
				b.WriteString(tt.each)
			}
		}
		b.WriteByte(']')
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := tree.Parse(b.Bytes(), tree.Limits{Bytes: 1, Files: tree.DefaultMaxFiles})
		runtime.ReadMemStats(&after)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
		if taken := after.TotalAlloc - before.TotalAlloc; taken > 64<<20 {
			t.Errorf("%s: %d MiB of memory for a body of %d MiB", name, taken>>20, b.Len()>>20)
		}
	}
}

// pack makes a pack of contents.
func pack(t testing.TB, contents ...[]byte) (tree.Hash, []byte) {
	t.Helper()
	var p tree.Packer
	for _, c := range contents {
		if err := p.Add(tree.HashOf(c), c); err != nil {
			t.Fatal(err)
		}
	}
	return p.Finish()
}

// noise is bytes that no compression makes smaller.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	s := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = s.Read(b)
	return b
}

func TestPackKeepsItsBlobs(t *testing.T) {
	t.Parallel()
	contents := [][]byte{noise(1, 1000), bytes.Repeat([]byte("line\n"), 100_000), []byte("x"), noise(2, tree.ChunkBytes), {}}
	h, body := pack(t, contents...)
	if h != tree.HashOf(body) || len(body) > tree.ChunkBytes+10_000 {
		t.Errorf("the pack has %d bytes", len(body))
	}
	blobs, err := tree.CheckPack(body)
	if err != nil || len(blobs) != len(contents) {
		t.Fatal(len(blobs), err)
	}
	for i, b := range blobs {
		if got, err := b.Read(bytes.NewReader(body)); err != nil || !bytes.Equal(got, contents[i]) || b.Hash != tree.HashOf(contents[i]) {
			t.Errorf("blob %d: %d bytes, %v", i, len(got), err)
		}
	}
	// The next pack of a packer has nothing of the last one.
	var p tree.Packer
	_ = p.Add(tree.HashOf(contents[0]), contents[0])
	p.Finish()
	_ = p.Add(tree.HashOf(contents[2]), contents[2])
	if _, second := p.Finish(); len(second) > 200 {
		t.Errorf("the second pack has %d bytes", len(second))
	} else if _, err := tree.CheckPack(second); err != nil {
		t.Error(err)
	}
}

func TestPackIsFull(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]func(i int) []byte{
		"of noise": func(i int) []byte { return noise(uint64(i), 1<<20) },
		"of zeros": func(int) []byte { return make([]byte, tree.ChunkBytes) },
		"of names": func(i int) []byte { return []byte(fmt.Sprint(i)) },
	} {
		var p tree.Packer
		n := 0
		for ; !p.IsFull() && n < 100_000; n++ {
			c := content(n)
			if err := p.Add(tree.HashOf(c), c); err != nil {
				t.Fatal(err)
			}
		}
		_, body := p.Finish()
		if _, err := tree.CheckPack(body); err != nil || n < 4 {
			t.Errorf("%s: full after %d blobs, %d bytes: %v", name, n, len(body), err)
		}
	}
}

// Whatever byte of a pack is changed, and wherever it is cut, somebody notices.
func TestDamagedPacks(t *testing.T) {
	t.Parallel()
	contents := [][]byte{[]byte("alpha"), bytes.Repeat([]byte("beta"), 100), noise(3, 50)}
	_, good := pack(t, contents...)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		blobs, err := tree.CheckPack(bad)
		if err != nil && !errors.Is(err, tree.ErrDamaged) {
			t.Errorf("byte %d of %d: %v", i, len(good), err)
		}
		for _, b := range blobs { // unused bits of the compression: the blobs are as they were
			if content, err := b.Read(bytes.NewReader(bad)); err != nil || !slices.ContainsFunc(contents, func(c []byte) bool { return bytes.Equal(c, content) }) {
				t.Errorf("byte %d of %d: another blob is taken, %v", i, len(good), err)
			}
		}
		if _, err := tree.CheckPack(good[:i]); !errors.Is(err, tree.ErrDamaged) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	failure := errors.New("the disk")
	if _, err := tree.ReadIndex(failing{failure}, int64(len(good))); !errors.Is(err, failure) || errors.Is(err, tree.ErrDamaged) {
		t.Errorf("an error of the disk is %v", err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, tree.ChunkBytes, tree.ChunkBytes + 1} {
		content := noise(9, size)
		e := tree.Entry{Path: "a", Mode: tree.ModePlain, Size: int64(size)}
		var whole []byte
		err := tree.Split(bytes.NewReader(content), func(part []byte) error {
			if want := e.BlobSize(len(e.Blobs)); len(part) != want {
				t.Errorf("%d bytes: a part has %d, want %d", size, len(part), want)
			}
			e.Blobs = append(e.Blobs, tree.HashOf(part))
			whole = append(whole, part...)
			return nil
		})
		if err != nil || !bytes.Equal(whole, content) {
			t.Errorf("%d bytes: %d came, %v", size, len(whole), err)
		}
		if err := (tree.Tree{e}).Check(limits); err != nil {
			t.Error(err)
		}
	}
	broken := errors.New("broken")
	if err := tree.Split(io.MultiReader(strings.NewReader("x"), reading{broken}), func([]byte) error { return nil }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type reading struct{ err error }

func (r reading) Read([]byte) (int, error) { return 0, r.err }

func FuzzParse(f *testing.F) {
	f.Add([]byte(`[{"p":"a/b","m":"644","s":1,"h":["` + one + `"]},{"p":"l","l":"a/b"}]`))
	f.Add([]byte(`[{"p":"../x","l":"/"}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		parsed, err := tree.Parse(body, limits)
		if err != nil {
			return
		}
		again, err := tree.Parse(parsed.Encode(), limits)
		if err != nil || string(again.Encode()) != string(parsed.Encode()) {
			t.Errorf("what was taken is %v when it is written again", err)
		}
	})
}

func FuzzReadIndex(f *testing.F) {
	_, body := pack(f, []byte("alpha"), bytes.Repeat([]byte("beta"), 100))
	f.Add(body)
	f.Add([]byte("dsvmpak1\x00\x00\x00\x00dsvmidx1"))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := bytes.NewReader(body)
		blobs, err := tree.ReadIndex(r, r.Size())
		if err != nil {
			return
		}
		for _, b := range blobs {
			if content, err := b.Read(r); err == nil && (len(content) != b.Size || tree.HashOf(content) != b.Hash) {
				t.Errorf("%d bytes of a blob of %d", len(content), b.Size)
			}
		}
	})
}
