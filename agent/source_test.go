//go:build unix

package agent

import (
	"bytes"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dsvmpools/agent/source/gittest"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

const testSecret = "s3cret-%/of+the test"

// TestSource runs jobs at commits of a repository.
func TestSource(t *testing.T) {
	t.Parallel()
	o := gittest.New(t)
	first := o.Commit("train/run.sh", "echo first")
	o.Commit("train/run.sh", "echo second")
	last := o.Commit("train/run.sh", "echo third")
	n := begin(t)
	o.Source(first)
	below := o.Source(first)
	below.Path = "train"
	workdir := at(4, o.Source(last), "pwd; sh run.sh")
	workdir.Assign.Workdir = "train"
	n.work(at(1, o.Source(last),
		"sh train/run.sh; git rev-parse HEAD; git status --porcelain; git remote get-url origin; echo $DSVM_SOURCE; echo new > train/new"),
		at(2, below, "sh run.sh; git log --format=%s | wc -l"), at(3, o.Source(last), "sh train/run.sh; ls train"), workdir)
	slot := regexp.MustCompile(`attempts/s[0-9]+/`)
	tree := filepath.Join(n.cfg.InstanceDir, "attempts/S/source")
	for id, want := range map[int64]string{
		1: "third\n" + last + "\n" + o.URL + "/r.git\n" + tree + "\n",
		2: "first\n1\n",
		3: "third\nrun.sh\n",
		4: tree + "/train\nthird\n",
	} {
		if f := n.finished(id); f.State != "succeeded" || f.StartedAt.IsZero() {
			t.Errorf("assignment %d: got %+v; %s", id, f, n.file(id, "stderr.log"))
		}
		if got := slot.ReplaceAllString(n.file(id, "stdout.log"), "attempts/S/"); got != want {
			t.Errorf("assignment %d: got %q, want %q", id, got, want)
		}
		if got := n.file(id, "stderr.log"); got != "" {
			t.Errorf("assignment %d: got %q on its standard error", id, got)
		}
	}
}

// TestSourceFails: each row is what a person reads whose source cannot be
// fetched.
func TestSourceFails(t *testing.T) {
	t.Parallel()
	o := gittest.New(t)
	good := o.Commit("a/b", "x")
	if err := os.Symlink("/usr", filepath.Join(o.Clone, "out")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(o.Clone, "in")); err != nil {
		t.Fatal(err)
	}
	links := o.Push()
	private := gittest.New(t)
	private.Login = "ann:right-secret"
	hidden := private.Commit("a", "b")
	wrong := strings.Repeat("12", 20)
	with := func(s *job.Source, change func(*job.Source)) *job.Source { change(s); return s }
	tests := []struct {
		name   string
		source *job.Source
		says   string // of the reason
	}{
		{"a commit that is not there", o.Source(wrong),
			"does not have the commit 121212121212 (any more): git says: fatal: remote error: upload-pack: not our ref " + wrong},
		{"a name of another kind", o.Source(strings.Repeat("12", 32)), "git says: fatal: mismatched algorithms"},
		{"no repository", &job.Source{Repository: o.URL + "/none.git", Commit: good}, "git says: fatal: repository '" + o.URL +
			"/none.git/' not found"},
		{"no server", &job.Source{Repository: "http://127.0.0.1:1/r.git", Commit: good},
			"git says: fatal: unable to access 'http://127.0.0.1:1/r.git/'"},
		{"no credential", private.Source(hidden),
			"asks for a credential; name one of the node's in `source.credential`: git says: fatal: could not read Username"},
		{"a wrong credential", with(private.Source(hidden), func(s *job.Source) { s.Credential = "wrong" }),
			"git says: remote: who are you; fatal: Authentication failed for '" + private.URL + "/r.git/'"},
		{"a credential for others", with(o.Source(good), func(s *job.Source) { s.Credential = "wrong" }), "is for other repositories"},
		{"an unknown credential", with(o.Source(good), func(s *job.Source) { s.Credential = "missing" }),
			"credential \"missing\" cannot be read on this node: no such file"},
		{"a directory that is not there", with(o.Source(good), func(s *job.Source) { s.Path = "c" }), "no directory \"c\""},
		{"a file for a directory", with(o.Source(good), func(s *job.Source) { s.Path = "a/b" }), "not a directory"},
		{"a link that leads out", with(o.Source(links), func(s *job.Source) { s.Path = "out" }), "a link that leads out of it"},
		{"a link through one that leads out", with(o.Source(links), func(s *job.Source) { s.Path = "out/bin" }), "a link that leads out of it"},
		{"a source that nobody checked", &job.Source{Repository: "ext::sh", Commit: good}, "is no address"},
	}
	cfg := config(t)
	cfg.Credentials = gittest.Keep(t, "wrong", gittest.CredentialFor(private, "wrong-secret"))
	n := launched(t, cfg, newBus(t))
	var items []protocol.WorkItem
	for i, test := range tests {
		items = append(items, at(int64(i+1), test.source, "true"))
	}
	n.work(items...)
	for i, test := range tests {
		f := n.finished(int64(i + 1))
		if f.State != "startFailed" || f.ExitCode != 1003 || !strings.Contains(f.Reason, test.says) || strings.Contains(f.Reason, "secret") {
			t.Errorf("%s: got %+v, want startFailed and %q", test.name, f, test.says)
		}
		if strings.Contains(f.Reason, "cannot be fetched") {
			if got := n.file(int64(i+1), "stderr.log"); !strings.Contains(got, test.source.Commit) || strings.Contains(got, "secret") {
				t.Errorf("%s: got %q in stderr.log", test.name, got)
			}
		}
	}
	inside := at(100, with(o.Source(links), func(s *job.Source) { s.Path = "in" }), "ls")
	n.work(inside)
	if f := n.finished(100); f.State != "succeeded" || n.file(100, "stdout.log") != "b\n" {
		t.Errorf("a link that stays inside: got %+v, %s", f, n.file(100, "stdout.log"))
	}
}

// TestSourceEnds ends attempts while their source is being fetched from a server
// that does not answer.
func TestSourceEnds(t *testing.T) {
	t.Parallel()
	o := gittest.New(t)
	commit := o.Commit("a", "b")
	o.Mute.Store(true)
	n := begin(t)
	running := func(id int64, change func(*protocol.Assignment)) {
		t.Helper()
		item := at(id, o.Source(commit), "cat a")
		if change != nil {
			change(item.Assign)
		}
		n.work(item)
		n.until("the start", started(id))
	}
	running(1, nil)
	<-o.Heard
	n.work(cancel(2, 1))
	if f := n.finished(1); f.State != "cancelled" || f.Reason != "asked to" || f.StartedAt.IsZero() {
		t.Errorf("a cancel: got %+v", f)
	}
	running(3, func(w *protocol.Assignment) { w.TimeoutSeconds = 1 })
	if f := n.finished(3); f.State != "timedOut" || f.ExitCode != 1005 ||
		!strings.Contains(f.Reason, "timeout of 1s, while its source was being fetched") {
		t.Errorf("a timeout: got %+v", f)
	}
	running(4, nil)
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	for _, id := range []int64{1, 3, 4} {
		n.none(id)
	}
	if got := ends(n.reports); len(got) != 2 {
		t.Errorf("got %+v reported, want two ends", got)
	}
	o.Mute.Store(false)
	again := launched(t, n.cfg, newBus(t))
	if f := again.finished(4); f.State != "agentRestarted" {
		t.Errorf("after a restart: got %+v", f)
	}
	again.work(at(5, o.Source(commit), "cat a"))
	if f := again.finished(5); f.State != "succeeded" {
		t.Errorf("after all that: got %+v; %s", f, again.file(5, "stderr.log"))
	}
}

// TestSourceTime: a node gives up on a server by itself.
func TestSourceTime(t *testing.T) {
	t.Parallel()
	o := gittest.New(t)
	commit := o.Commit("a", "b")
	o.Mute.Store(true)
	cfg := config(t)
	cfg.SourceTimeout = 300 * time.Millisecond
	n := launched(t, cfg, newBus(t))
	n.work(at(1, o.Source(commit), "cat a"))
	if f := n.finished(1); f.State != "startFailed" || !strings.Contains(f.Reason, "longer than DSVM_SOURCE_TIMEOUT") ||
		!strings.Contains(n.file(1, "stderr.log"), "DSVM_SOURCE_TIMEOUT") {
		t.Errorf("got %+v; %s", f, n.file(1, "stderr.log"))
	}
}

// TestCrashWhileFetching kills an agent whose git waits for a server: the next one
// finds what is left of it.
func TestCrashWhileFetching(t *testing.T) {
	t.Parallel()
	o := gittest.New(t)
	commit := o.Commit("a", "b")
	o.Mute.Store(true)
	s := onServiceBus(t, time.Minute)
	var log, log2 bytes.Buffer
	first := s.child(&log)
	s.give(at(1, o.Source(commit), "cat a"))
	s.until("the start", started(1))
	<-o.Heard
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	first.Wait()
	second := s.child(&log2)
	if f := s.finished(1); f.State != "agentRestarted" || f.StartedAt.IsZero() {
		t.Errorf("got %+v", f)
	}
	if runtime.GOOS == "linux" {
		s.none(1)
	}
	o.Mute.Store(false)
	s.give(at(2, o.Source(commit), "cat a"))
	if f := s.finished(2); f.State != "succeeded" {
		t.Errorf("got %+v", f)
	}
	second.Process.Signal(syscall.SIGTERM)
	if err := second.Wait(); err != nil {
		t.Errorf("got %v, want exit code 0; log:\n%s", err, log2.String())
	}
}

// TestSourceTogether: attempts of one repository share what is fetched.
func TestSourceTogether(t *testing.T) {
	t.Parallel()
	o := gittest.New(t)
	commit := o.Commit("a", "b")
	o.Packs.Store(0)
	n := begin(t)
	var items []protocol.WorkItem
	for i := range int64(6) {
		items = append(items, at(i+1, o.Source(commit), "cat a; echo more >> a"))
	}
	n.work(items...)
	for i := range int64(6) {
		if f := n.finished(i + 1); f.State != "succeeded" || n.file(i+1, "stdout.log") != "b" {
			t.Errorf("assignment %d: got %+v, %s", i+1, f, n.file(i+1, "stdout.log"))
		}
	}
	alone := gittest.New(t)
	only := alone.Commit("a", "b")
	alone.Packs.Store(0)
	one := begin(t)
	one.work(at(1, alone.Source(only), "cat a"))
	if f := one.finished(1); f.State != "succeeded" {
		t.Fatalf("got %+v", f)
	}
	if got, want := o.Packs.Load(), alone.Packs.Load(); got != want {
		t.Errorf("got %d requests for six attempts, want the %d of one", got, want)
	}
}

// TestCredentialStaysHidden looks for a credential wherever a job, or a person on
// the node, could find it: while git has it in hand, and afterwards.
func TestCredentialStaysHidden(t *testing.T) {
	t.Parallel()
	o := gittest.New(t)
	o.Login = "ann:" + testSecret
	commit := o.Commit("a", "b")
	cfg := config(t)
	cfg.Credentials = gittest.Keep(t, "team", gittest.CredentialFor(o, testSecret))
	if os.Geteuid() == 0 {
		if _, err := user.Lookup("nobody"); err == nil {
			cfg.JobUser, cfg.SourceLocal = "nobody", true
			passable(t, cfg.InstanceDir)
		}
	}
	var mu sync.Mutex
	var looks, seen int
	o.Look = func() {
		mu.Lock()
		defer mu.Unlock()
		looks++
		found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		environ, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, file := range append(found, environ...) {
			if text, err := os.ReadFile(file); err == nil && bytes.Contains(text, []byte(testSecret)) {
				seen++
			}
		}
	}
	n := launched(t, cfg, newBus(t))
	source := o.Source(commit)
	source.Credential = "team"
	item := at(1, source, `set -e
cat a; touch new; git config --list; env; git fetch -q origin main 2>&1 || echo refused
grep -r "$(printf %s%s s3 cret)" "$DSVM_SOURCE" "$HOME" && exit 9
if [ -n "$OTHER" ]; then ls "$HOME/../../sources" 2>/dev/null && exit 8; fi
true`)
	item.Assign.Env = map[string]string{"OTHER": cfg.JobUser}
	n.work(item)
	if f := n.finished(1); f.State != "succeeded" {
		t.Fatalf("got %+v; %s", f, n.file(1, "stderr.log"))
	}
	if out := n.file(1, "stdout.log"); !strings.HasPrefix(out, "b") || strings.Contains(out, "s3cret") || !strings.Contains(out, "refused") {
		t.Errorf("got %s", out)
	}
	if looks == 0 || seen > 0 {
		t.Errorf("looked %d times and found it %d times", looks, seen)
	}
	filepath.WalkDir(cfg.InstanceDir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, []byte(testSecret)) {
				t.Errorf("it is in %s", path)
			}
		}
		return nil
	})
}

// passable lets another user reach a directory.
func passable(t *testing.T, dir string) {
	t.Helper()
	for dir = filepath.Dir(dir); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSourceFile: an assignment with nothing to run tells which jobs the
// repository brings along.
func TestSourceFile(t *testing.T) {
	t.Parallel()
	o := gittest.New(t)
	n := begin(t)
	// The most that JSON makes of a file.
	long := strings.Repeat("<", job.MaxSourceFile)
	tests := []struct{ name, path, text, want, says string }{
		{"at the top", "", "pool: cpu\ncommand: [make]\n", "pool: cpu\ncommand: [make]\n", ""},
		{"below a path", "train", "pool: gpu\n", "pool: gpu\n", ""},
		{"as long as it may be", "long", long, long, ""},
		{"too long", "longer", long + "<", "", "has more than 32768 bytes"},
		{"much too long", "longest", strings.Repeat("x", 5<<20), "", "has more than 32768 bytes"},
		{"empty", "empty", "", "", "the repository's file empty/.dsvm.yaml is empty"},
		{"no text", "bytes", "a\xff", "", "not a text in UTF-8"},
		{"not there", "none", "", "", "has no file none/.dsvm.yaml at this commit"},
		{"a link", "link", "", "", "has no file link/.dsvm.yaml at this commit"},
		{"a folder", "folder", "", "", "has no file folder/.dsvm.yaml at this commit"},
	}
	for _, test := range tests {
		if test.text != "" {
			o.Commit(filepath.Join(test.path, job.SourceFile), test.text)
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Join(o.Clone, "link"), 0o755), os.Symlink("/etc/passwd", filepath.Join(o.Clone, "link",
		job.SourceFile))); err != nil {
		t.Fatal(err)
	}
	o.Commit(filepath.Join("empty", job.SourceFile), "")
	commit := o.Commit(filepath.Join("folder", job.SourceFile, "x"), "y")
	for i, test := range tests {
		item := at(int64(i+1), o.Source(commit), "")
		item.Assign.Source.Path = test.path
		n.work(item)
	}
	for i, test := range tests {
		f := n.finished(int64(i + 1))
		state := "succeeded"
		if test.says != "" {
			state = "failed"
		}
		if f.File != test.want || f.State != state || !strings.Contains(f.Reason, test.says) || f.StartedAt.IsZero() {
			f.File = startfault.Clip(f.File)
			t.Errorf("%s: got %+v, want %q", test.name, f, test.says)
		}
	}
}

// at makes an assignment of a script that runs at a commit.
func at(n int64, source *job.Source, text string) protocol.WorkItem {
	item := script(n, text)
	item.Assign.Source = source
	return item
}
