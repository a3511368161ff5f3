//go:build unix

package source

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"dsvmpools/agent/source/gittest"
	"dsvmpools/shared/job"
)

func TestSubmodules(t *testing.T) {
	t.Parallel()
	o := gittest.New(t)
	inner := o.Commit("inner", "1")
	o.Git(o.Root, "clone", "-q", "--bare", "r.git", "inner.git")
	middle := o.Link("deep/inner", "../inner.git", inner)
	o.Git(o.Root, "clone", "-q", "--bare", "r.git", "middle.git")
	o.Git(o.Clone, "rm", "-q", "--cached", "deep/inner")
	top := o.Link("libs/middle", o.URL+"/middle.git", middle)
	get := func(commit string) (string, error) {
		source := o.Source(commit)
		source.Submodules = true
		return fetcherOf(t, config(t), *source).into(t, "w")
	}
	tree, err := get(top)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(tree, "libs/middle/deep/inner/inner")); err != nil || string(text) != "1" {
		t.Errorf("got %q, %v", text, err)
	}
	if got := o.Git(tree, "status", "--porcelain"); got != "" {
		t.Errorf("the work tree has changes: %s", got)
	}
	without, err := fetcherOf(t, config(t), *o.Source(top)).into(t, "w")
	if left, err2 := os.ReadDir(filepath.Join(without, "libs/middle")); err != nil || err2 != nil || len(left) != 0 {
		t.Errorf("without: got %v, %v, %v", left, err, err2)
	}
	for _, test := range []struct{ name, url, says string }{
		{"ssh", "ssh://git@127.0.0.1/x", "neither https:// nor relative"},
		{"the short form of ssh", "git@127.0.0.1:x", "neither https:// nor relative"},
		{"a program", "ext::sh -c id", "neither https:// nor relative"},
		{"a file of the node", "/etc", "neither https:// nor relative"},
		{"far up", "../../../../../x", "neither https:// nor relative"},
		{"not there", "../none.git", "not found"},
		{"not that commit", "../r.git", "does not have the commit"},
	} {
		commit := inner
		if test.name == "not that commit" {
			commit = strings.Repeat("ab", 20)
		}
		if _, err := get(o.Link("libs/middle", test.url, commit)); err == nil || !strings.Contains(err.Error(), test.says) ||
			!strings.Contains(err.Error(), "the submodule \"libs/middle\"") {
			t.Errorf("%s: got %v, want %q", test.name, err, test.says)
		}
	}
}

// TestSubmodulesEnd: a repository that is its own submodule does not go on for
// ever.
func TestSubmodulesEnd(t *testing.T) {
	t.Parallel()
	o := gittest.New(t)
	first := o.Commit("a", "b")
	top := o.Link("sub", "./", first)
	g := fetcherOf(t, config(t), job.Source{Repository: o.URL + "/r.git", Commit: top, Submodules: true})
	g.submodules = maxSubmodules
	if _, err := g.into(t, "w"); err == nil || !strings.Contains(err.Error(), "more than 100 submodules") {
		t.Errorf("too many: got %v", err)
	}
	g.submodules = 0
	tree, err := g.into(t, "w")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.fetchSubmodules(t.Context(), g.Source.Repository, top, tree, maxNesting+1); err == nil ||
		!strings.Contains(err.Error(), "more than 5 deep") {
		t.Errorf("too deep: got %v", err)
	}
}

func TestParseModules(t *testing.T) {
	t.Parallel()
	entry := func(key, value string) string { return "submodule." + key + "\n" + value + "\x00" }
	for _, test := range []struct {
		name, text string
		want       []submodule
	}{
		{"none", "", nil},
		{"two", entry("a.path", "x/a") + entry("b.c.path", "b") + entry("a.url", "../a") + entry("b.c.url", "https://h/b"),
			[]submodule{{path: "x/a", url: "../a"}, {path: "b", url: "https://h/b"}}},
		{"no url", entry("a.path", "a"), nil},
		{"upwards", entry("a.path", "../a") + entry("a.url", "u"), nil},
		{"git's own", entry("a.path", "x/.GIT/hooks") + entry("a.url", "u"), nil},
		{"an option", entry("a.path", "-f") + entry("a.url", "u"), nil},
		{"absolute", entry("a.path", "/etc") + entry("a.url", "u"), nil},
		{"something else", "core.bare\ntrue\x00nonsense\x00submodule.\x00", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := parseModules(test.text); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestBeside(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ parent, url, want string }{
		{"https://h/a/b.git", "../c.git", "https://h/a/c.git"},
		{"https://h/a/b.git/", "../../c/d", "https://h/c/d"},
		{"https://h/a/b.git", "./c", "https://h/a/b.git/c"},
		{"https://h/a", "https://h/c", "https://h/c"},
		{"https://h/a", "../../../../../c", "/c"},
	} {
		if got := resolveURL(test.parent, test.url); got != test.want {
			t.Errorf("%s beside %s: got %s, want %s", test.url, test.parent, got, test.want)
		}
	}
}

func FuzzModules(f *testing.F) {
	f.Add("submodule.a.path\nx/a\x00submodule.a.url\n../a\x00")
	f.Add("submodule.a.b.path\n..\x00submodule.\x00\x00submodule.x.url")
	f.Fuzz(func(t *testing.T, text string) {
		list := parseModules(text)
		if len(list) > maxSubmodules+1 {
			t.Fatalf("got %d", len(list))
		}
		for _, m := range list {
			if !filepath.IsLocal(m.path) || strings.HasPrefix(m.path, "-") || strings.Contains(strings.ToLower("/"+m.path+"/"), "/.git/") ||
				m.url == "" {
				t.Fatalf("got %+v", m)
			}
			resolveURL("https://h/a/b", m.url)
		}
	})
}

// TestLargeFiles needs git-lfs besides git.
func TestLargeFiles(t *testing.T) {
	t.Parallel()
	o := gittest.New(t)
	gittest.Needs(t, "git-lfs")
	const content = "the weights of a model"
	sum := sha256.Sum256([]byte(content))
	name := hex.EncodeToString(sum[:])
	o.Large = func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Write([]byte(content))
			return
		}
		var asked struct {
			Objects []struct {
				OID  string `json:"oid"`
				Size int64  `json:"size"`
			} `json:"objects"`
		}
		json.NewDecoder(r.Body).Decode(&asked)
		var objects []any
		for _, a := range asked.Objects {
			object := map[string]any{"oid": a.OID, "size": a.Size, "actions": map[string]any{"download": map[string]any{"href": o.URL + "/lfs/" +
				a.OID}}}
			if a.OID != name {
				object = map[string]any{"oid": a.OID, "size": a.Size, "error": map[string]any{"code": http.StatusNotFound, "message": "it is gone"}}
			}
			objects = append(objects, object)
		}
		w.Header().Set("Content-Type", "application/vnd.git-lfs+json")
		json.NewEncoder(w).Encode(map[string]any{"transfer": "basic", "objects": objects})
	}
	o.Login = "ann:" + testSecret
	pointer := fmt.Sprintf("version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", name, len(content))
	o.Git(o.Clone, "config", "remote.origin.url", filepath.Join(o.Root, "r.git"))
	o.Commit(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
	o.Commit("copy.bin", pointer)
	commit := o.Commit("w.bin", pointer)
	cfg := config(t)
	cfg.Credentials = gittest.Keep(t, "team", gittest.CredentialFor(o, testSecret))
	source := o.Source(commit)
	source.LFS, source.Credential = true, "team"
	tree, err := fetcherOf(t, cfg, *source).into(t, "w")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"w.bin", "copy.bin"} {
		if text, err := os.ReadFile(filepath.Join(tree, file)); err != nil || string(text) != content {
			t.Errorf("%s: got %q, %v", file, text, err)
		}
	}
	if config, err := os.ReadFile(filepath.Join(tree, ".git/config")); err != nil || strings.Contains(string(config), testSecret) {
		t.Errorf("got %s, %v", config, err)
	}
	source.Commit = o.Commit("gone.bin", strings.ReplaceAll(pointer, name, strings.Repeat("ab", 32)))
	if _, err := fetcherOf(t, cfg, *source).into(t, "w"); err == nil ||
		!strings.Contains(err.Error(), "does not have the large file abababababab: it is gone (404)") {
		t.Errorf("a file that is gone: got %v", err)
	}
}
