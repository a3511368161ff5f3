package workfolder

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// makeFiles makes files in a new folder: a name with " -> " is a link, one with " : " has
// its content after that.
func makeFiles(t testing.TB, files ...string) string {
	t.Helper()
	folder := t.TempDir()
	for _, f := range files {
		name, target, link := strings.Cut(f, " -> ")
		name, content, _ := strings.Cut(name, " : ")
		name = filepath.Join(folder, filepath.FromSlash(name))
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		if err == nil && link {
			err = os.Symlink(target, name)
		} else if err == nil {
			err = os.WriteFile(name, []byte(strings.ReplaceAll(content, "|", "\n")), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func paths(t testing.TB, folder string, o Options) string {
	t.Helper()
	found, err := List(t.Context(), folder, o)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range found.Files {
		all = append(all, f.Path)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func gitInit(t testing.TB, folder string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("DSVM_REQUIRE_GIT") != "" {
			t.Fatal(err)
		}
		t.Skip("git is not installed")
	}
	if out, err := exec.Command("git", "init", "-q", folder).CombinedOutput(); err != nil {
		t.Fatal(string(out), err)
	}
}

// With git and without it, the same files are listed.
func TestWhatIsListed(t *testing.T) {
	t.Parallel()
	files := []string{
		".gitignore : *.ckpt|/data/|!keep.ckpt", ".dsvmignore : notes/|!data/small.csv", "train.py", "a.ckpt", "keep.ckpt", "notes/x",
		"data/small.csv", "data/big.csv", "data/deep/b.csv", "sub/.gitignore : *.log|!a.ckpt", "sub/x.log", "sub/a.ckpt", "sub/y",
		"__pycache__/x.pyc", "sub/__pycache__/x.pyc", ".venv/bin/python", "node_modules/a/b.js", ".dsvm/instance.json", "x.tmp",
		"link -> train.py",
	}
	const own = ".dsvmignore .gitignore data/small.csv keep.ckpt link sub/.gitignore sub/a.ckpt sub/y train.py x.tmp"
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"nothing said":  {Options{}, own},
		"less":          {Options{Exclude: []string{"*.tmp", "sub"}}, ".dsvmignore .gitignore data/small.csv keep.ckpt link train.py"},
		"more":          {Options{Include: []string{"a.ckpt", "notes"}}, ".dsvmignore .gitignore a.ckpt data/small.csv keep.ckpt link notes/x sub/.gitignore sub/a.ckpt sub/y train.py x.tmp"},
		"a folder":      {Options{Include: []string{"./data/"}, Exclude: []string{"big.csv"}}, ".dsvmignore .gitignore data/deep/b.csv data/small.csv keep.ckpt link sub/.gitignore sub/a.ckpt sub/y train.py x.tmp"},
		"below ignored": {Options{Include: []string{"data/deep/*.csv"}}, ".dsvmignore .gitignore data/deep/b.csv data/small.csv keep.ckpt link sub/.gitignore sub/a.ckpt sub/y train.py x.tmp"},
		"left out":      {Options{Include: []string{".venv"}, Exclude: []string{"/sub"}}, ".dsvmignore .gitignore .venv/bin/python data/small.csv keep.ckpt link train.py x.tmp"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain := makeFiles(t, files...)
			if got := paths(t, plain, c.o); got != c.want {
				t.Errorf("without git:\n%s\nwant\n%s", got, c.want)
			}
			gitInit(t, plain)
			if got := paths(t, plain, c.o); got != c.want {
				t.Errorf("with git:\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// What is tracked is sent although a rule ignores it, what was deleted is not missed, and
// the files of a submodule come along.
func TestAWorkTree(t *testing.T) {
	t.Parallel()
	folder := makeFiles(t, ".gitignore : *.bin|/inner/skip", "tracked.bin", "gone", "other.bin", "inner/a", "inner/skip", "inner/.gitignore : no", "inner/no")
	gitInit(t, folder)
	gitInit(t, filepath.Join(folder, "inner"))
	if out, err := exec.Command("git", "-C", folder, "add", "-f", "tracked.bin", "gone").CombinedOutput(); err != nil {
		t.Fatal(string(out), err)
	}
	if err := os.Remove(filepath.Join(folder, "gone")); err != nil {
		t.Fatal(err)
	}
	if got, want := paths(t, folder, Options{}), ".gitignore inner/.gitignore inner/a inner/skip tracked.bin"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	for link, want := range map[string]string{"l -> /etc/passwd": "out of the tree", "a/l -> ../../x": "out of the tree"} {
		if _, err := List(t.Context(), makeFiles(t, link), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", link, err)
		}
		if found, err := List(t.Context(), makeFiles(t, link), Options{Exclude: []string{"l"}}); err != nil || len(found.Files) != 0 {
			t.Errorf("%s, left out: %v", link, err)
		}
	}
	for _, bad := range []string{"", "!x", "[", "/"} {
		if _, err := List(t.Context(), t.TempDir(), Options{Exclude: []string{bad}}); err == nil {
			t.Errorf("--exclude %q is taken", bad)
		}
	}
	if _, err := List(t.Context(), filepath.Join(t.TempDir(), "none"), Options{}); err == nil {
		t.Error("a folder that is not there is taken")
	}
}

// The rules are git's: over folders and rules of all kinds, git and this package ignore the
// same files.
func TestRulesAreThoseOfGit(t *testing.T) {
	t.Parallel()
	lines := []string{"*.o", "!keep.o", "/top", "dir/", "a/b", "a/*", "!a/b", "**/deep", "deep/**", "a/**/z", "*", "!*.py", "[ab].txt", "[!a].txt", "?.c",
		`\#hash`, "#comment", `\!bang`, "trailing  ", `space\ `, "a**b", "x{1,2}", "foo/bar/", "/a/", "!/a/", "*.py", "b", "!b/", "/*", "!/src",
		"src/*.tmp", "**", "a/**", `back\slash`, "[a-c]/z", "", "/", "!", "[[:alpha:]].q", "[![:digit:]_].c", "é"}
	names := []string{"a", "b", "ab", "axb", "top", "dir", "deep", "z", "keep.o", "x.o", "main.py", "a.txt", "d.txt", "q.c", "#hash", "!bang", "trailing",
		"space ", "x{1,2}", "x1", "foo", "bar", "src", "t.tmp", "backslash", "c", "k.q", "é", "#comment"}
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		pick := func(from []string) string { return from[r.IntN(len(from))] }
		var rules []string
		for range 1 + r.IntN(6) {
			rules = append(rules, pick(lines))
		}
		files := []string{".gitignore : " + strings.Join(rules, "|")}
		if r.IntN(2) == 0 {
			files = append(files, "a/.gitignore : "+pick(lines)+"|"+pick(lines))
		}
		folder := makeFiles(t, files...)
		for range 60 {
			name := pick(names)
			for range r.IntN(3) {
				name = pick(names) + "/" + name
			}
			at := filepath.Join(folder, filepath.FromSlash(name))
			if os.MkdirAll(filepath.Dir(at), 0o755) == nil {
				_ = os.WriteFile(at, nil, 0o644) // where a folder has the name, it is one file less
			}
		}
		gitInit(t, folder)
		with, without := paths(t, folder, Options{}), paths(t, folder, Options{NoGit: true})
		if with != without {
			t.Errorf("seed %d, rules %s:\ngit  %s\nhere %s", seed, fmt.Sprintf("%q", files), with, without)
		}
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add("*.o\n!a/b\n", "a/x.o")
	f.Add(`\{[a-\`, "x")
	f.Fuzz(func(t *testing.T, text, path string) {
		rules := parseRules(text, "")
		verdict(rules, path, false)
		for _, r := range rules {
			r.mayMatchBelow(path)
		}
	})
}
