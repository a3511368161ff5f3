package cli

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"dsvmpools/shared/job"
)

// writeOutput puts a file into the output of an attempt of a job of pool cpu.
func (b *bench) writeOutput(id, attempt, name, text string) string {
	b.t.Helper()
	file := filepath.Join(b.app.Share, "jobs", "cpu", id, attempt, "output", filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
	return file
}

func (b *bench) read(name string) string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.program.Dir, filepath.FromSlash(name)))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func TestCopy(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.writeOutput("first", "2", "model.pt", "weights")
	b.writeOutput("first", "2", "plots/a b%c.png", "plot")
	b.writeOutput("first", "2", "plots/deep/x", "")
	b.writeOutput("first", "1", "old", "of the first attempt")
	program := b.writeOutput("first", "2", "run.sh", "#!/bin/sh\n")
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(filepath.Dir(program), "link")); err != nil {
		t.Fatal(err)
	}
	code, out, errs := b.run("ls", "job:first")
	if code != 0 || !strings.Contains(out, "model.pt") || !strings.Contains(out, "plots/") || !strings.Contains(out, "link -> /etc/passwd") {
		t.Errorf("ls: %d %s %s", code, out, errs)
	}
	if code, out, _ := b.run("ls", "job:first:1", "-o", "json"); code != 0 || !strings.Contains(out, `"name": "old"`) {
		t.Errorf("ls of the first attempt: %d %s", code, out)
	}
	for _, c := range []struct{ args, file, want string }{
		{"cp job:first/model.pt .", "model.pt", "weights"},
		{"cp job:first/model.pt best.pt", "best.pt", "weights"},
		{"cp job:first:1/old new/", "new/old", "of the first attempt"},
		{"cp -r job:first all", "all/plots/a b%c.png", "plot"},
		{"cp -r job:first/plots some", "some/plots/deep/x", ""},
	} {
		if code, _, errs := b.run(strings.Fields(c.args)...); code != 0 || b.read(c.file) != c.want {
			t.Errorf("%s: got %d %s, %q", c.args, code, errs, b.read(c.file))
		}
	}
	if at, err := os.Stat(filepath.Join(b.program.Dir, "all", "run.sh")); err != nil || at.Mode().Perm()&0o100 == 0 {
		t.Errorf("a program may not be run any more: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(b.program.Dir, "all", "link")); err == nil {
		t.Error("a link was copied")
	}
	// What is the same is left alone, what is another file is not replaced.
	if code, _, errs := b.run("cp", "-r", "job:first", "all"); code != 0 || !strings.Contains(errs, "0 files copied") {
		t.Errorf("again: %d %s", code, errs)
	}
	b.write("all/model.pt", "my own")
	if code, _, errs := b.run("cp", "-r", "job:first", "all"); code == 0 || !strings.Contains(errs, "all/model.pt is there already") ||
		b.read("all/model.pt") != "my own" {
		t.Errorf("another file: %d %s", code, errs)
	}
	if code, _, errs := b.run("cp", "-r", "--force", "job:first", "all"); code != 0 || b.read("all/model.pt") != "weights" {
		t.Errorf("by force: %d %s", code, errs)
	}
	for args, want := range map[string]string{
		"cp job:first .":           "add -r",
		"cp job:first/plots .":     "add -r",
		"cp job:first/none .":      "`dsvm ls job:first`",
		"cp job:first/link .":      "not copied",
		"cp job:first/../../x .":   "has a part",
		"cp first/model.pt .":      "write job:ID",
		"cp job:first/model.pt":    "where to",
		"cp model.pt job:first/":   "write job:ID",
		"cp job:none/x .":          `"none"`,
		"ls job:third":             "has not started",
		"cp job:first/x job:third": "only the job writes",
	} {
		if code, _, errs := b.run(strings.Fields(args)...); code == 0 || !strings.Contains(errs, want) {
			t.Errorf("%s: got %d %s, want %s", args, code, errs, want)
		}
	}
}

// Nothing is written outside the folder, whatever links are in it.
func TestCopyStaysInItsFolder(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.writeOutput("first", "2", "sub/x", "theirs")
	b.writeOutput("first", "2", "y", "theirs")
	outside := t.TempDir()
	for name, target := range map[string]string{"sub": outside, "y": filepath.Join(outside, "y")} {
		if err := os.MkdirAll(filepath.Join(b.program.Dir, "to"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(b.program.Dir, "to", name)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if code, _, errs := b.run("cp", "-r", "--force", "job:first", "to"); code == 0 {
			t.Error("it was taken", errs)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("%d files are outside: %v", len(entries), err)
	}
}

// A copy whose answers break off goes on where it was, in one run of the command and in the
// next one; a file that has changed meanwhile is read from its beginning.
func TestCopyGoesOn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	text := noise(1, 3<<20)
	file := b.writeOutput("first", "2", "model.pt", text)
	var asked, cut atomic.Int64
	cut.Store(3)
	var last atomic.Value
	b.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/files/model.pt") {
			return false
		}
		asked.Add(1)
		last.Store(r.Header.Get("Range"))
		if cut.Add(-1) < 0 {
			return false
		}
		at, _ := os.Stat(file)
		var from int64
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		w.Header().Set("ETag", fmt.Sprintf(`"%x-%x"`, at.Size(), at.ModTime().UnixNano()))
		w.Header().Set("Content-Length", fmt.Sprint(at.Size()-from))
		if from > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, at.Size()-1, at.Size()))
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write([]byte(text[from : from+500_000]))
		panic(http.ErrAbortHandler)
	}
	if code, _, errs := b.run("cp", "job:first/model.pt", "."); code != 0 || b.read("model.pt") != text {
		t.Fatalf("got %d %s", code, errs)
	}
	if got := last.Load(); asked.Load() != 4 || got != "bytes=1500000-" {
		t.Errorf("%d requests, the last one for %v", asked.Load(), got)
	}
	for name, change := range map[string]func(){
		"the next run":     func() {},
		"a file that grew": func() { text += "more"; b.writeOutput("first", "2", "model.pt", text) },
	} {
		dir := strings.ReplaceAll(name, " ", "-")
		at, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		tag := fmt.Sprintf("%x-%x", at.Size(), at.ModTime().UnixNano())
		b.write(partName(dir+"/model.pt", tag), text[:1000])
		change()
		if code, _, errs := b.run("cp", "job:first/model.pt", dir+"/"); code != 0 || b.read(dir+"/model.pt") != text {
			t.Errorf("%s: %d %s", name, code, errs)
		}
		if left, _ := filepath.Glob(filepath.Join(b.program.Dir, dir, ".dsvm-*")); len(left) != 0 {
			t.Errorf("%s: %s is left", name, left)
		}
	}
}

func TestRunFetches(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		state job.AttemptState
		exit  int
		args  []string
		want  bool
	}{
		"success":          {job.AttemptSucceeded, 0, nil, true},
		"failure":          {job.AttemptFailed, 7, nil, false},
		"failure, any end": {job.AttemptFailed, 7, []string{"--fetch-on", "any"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.submitted = func(id string) {
				b.writeOutput(id, "1", "sub/result", "42")
				node, n := b.start(id)
				b.end(node, n, c.state, c.exit, "")
			}
			args := append([]string{"run", "--pool", "cpu", "--fetch", "got"}, c.args...)
			code, _, errs := b.run(append(args, "true")...)
			if _, err := os.Stat(filepath.Join(b.program.Dir, "got", "sub", "result")); code != c.exit || (err == nil) != c.want {
				t.Errorf("got %d %s, %v", code, errs, err)
			}
		})
	}
	b := newBench(t)
	b.write("got/x", "mine")
	b.submitted = func(id string) {
		b.writeOutput(id, "1", "x", "theirs, and later")
		node, n := b.start(id)
		b.end(node, n, job.AttemptSucceeded, 0, "")
	}
	if code, _, errs := b.run("run", "--pool", "cpu", "--fetch", "got", "true"); code != 1 || !strings.Contains(errs, "was not fetched") ||
		b.read("got/x") != "mine" {
		t.Errorf("a file of mine: %d %s", code, errs)
	}
}
