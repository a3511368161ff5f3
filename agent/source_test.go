//go:build unix

package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// TestSource runs jobs at commits of a repository.
func TestSource(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	first := o.commit("train/run.sh", "echo first")
	o.commit("train/run.sh", "echo second")
	last := o.commit("train/run.sh", "echo third")
	n := begin(t)
	o.source(first)
	below := o.source(first)
	below.Path = "train"
	workdir := at(4, o.source(last), "pwd; sh run.sh")
	workdir.Assign.Workdir = "train"
	n.work(at(1, o.source(last), "sh train/run.sh; git rev-parse HEAD; git status --porcelain; git remote get-url origin; echo $DSVM_SOURCE; echo new > train/new"),
		at(2, below, "sh run.sh; git log --format=%s | wc -l"), at(3, o.source(last), "sh train/run.sh; ls train"), workdir)
	tree := func(n2 string) string { return filepath.Join(n.cfg.InstanceDir, "attempts", n2, "source") }
	for id, want := range map[int64]string{
		1: "third\n" + last + "\n" + o.URL + "/r.git\n" + tree("1") + "\n",
		2: "first\n1\n",
		3: "third\nrun.sh\n",
		4: tree("4") + "/train\nthird\n",
	} {
		if f := n.finished(id); f.State != "succeeded" || f.StartedAt.IsZero() {
			t.Errorf("assignment %d: got %+v; %s", id, f, n.file(id, "stderr.log"))
		}
		if got := n.file(id, "stdout.log"); got != want {
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
	o := newOrigin(t)
	good := o.commit("a/b", "x")
	if err := os.Symlink("/usr", filepath.Join(o.clone, "out")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(o.clone, "in")); err != nil {
		t.Fatal(err)
	}
	links := o.push()
	private := newOrigin(t)
	private.login = "ann:right-secret"
	hidden := private.commit("a", "b")
	wrong := strings.Repeat("12", 20)
	with := func(s *job.Source, change func(*job.Source)) *job.Source { change(s); return s }
	tests := []struct {
		name   string
		source *job.Source
		says   string // of the reason
	}{
		{"a commit that is not there", o.source(wrong), "does not have the commit 121212121212 (any more): git says: fatal: remote error: upload-pack: not our ref " + wrong},
		{"a name of another kind", o.source(strings.Repeat("12", 32)), "git says: fatal: mismatched algorithms"},
		{"no repository", &job.Source{Repository: o.URL + "/none.git", Commit: good}, "git says: fatal: repository '" + o.URL + "/none.git/' not found"},
		{"no server", &job.Source{Repository: "http://127.0.0.1:1/r.git", Commit: good}, "git says: fatal: unable to access 'http://127.0.0.1:1/r.git/'"},
		{"no credential", private.source(hidden), "asks for a credential; name one of the node's in `source.credential`: git says: fatal: could not read Username"},
		{"a wrong credential", with(private.source(hidden), func(s *job.Source) { s.Credential = "wrong" }), "git says: remote: who are you; fatal: Authentication failed for '" + private.URL + "/r.git/'"},
		{"a credential for others", with(o.source(good), func(s *job.Source) { s.Credential = "wrong" }), "is for other repositories"},
		{"an unknown credential", with(o.source(good), func(s *job.Source) { s.Credential = "missing" }), "credential \"missing\" cannot be read on this node: no such file"},
		{"a directory that is not there", with(o.source(good), func(s *job.Source) { s.Path = "c" }), "no directory \"c\" at this commit"},
		{"a file for a directory", with(o.source(good), func(s *job.Source) { s.Path = "a/b" }), "not a directory"},
		{"a link that leads out", with(o.source(links), func(s *job.Source) { s.Path = "out" }), "a link that leads out of it"},
		{"a link through one that leads out", with(o.source(links), func(s *job.Source) { s.Path = "out/bin" }), "a link that leads out of it"},
		{"a source that nobody checked", &job.Source{Repository: "ext::sh", Commit: good}, "is no address"},
	}
	cfg := config(t)
	cfg.Credentials = keep(t, "wrong", credentialFor(private, "wrong-secret"))
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
	inside := at(100, with(o.source(links), func(s *job.Source) { s.Path = "in" }), "ls")
	n.work(inside)
	if f := n.finished(100); f.State != "succeeded" || n.file(100, "stdout.log") != "b\n" {
		t.Errorf("a link that stays inside: got %+v, %s", f, n.file(100, "stdout.log"))
	}
}

// TestSourceLocal: a node takes nothing from itself for a job that could not read
// it, unless it is told to.
func TestSourceLocal(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	commit := o.commit("a", "b")
	cfg := config(t)
	file := job.Source{Repository: "file://" + o.root + "/r.git", Commit: commit}
	if tree, err := fetcherOf(t, cfg, file).into(t, "w"); err != nil || !exists(filepath.Join(tree, "a")) {
		t.Errorf("allowed: got %v", err)
	}
	f := fetcherOf(t, cfg, file)
	f.as = &syscall.Credential{}
	if _, err := f.into(t, "w"); err != errOnlyThere {
		t.Errorf("got %v, want %v", err, errOnlyThere)
	}
	f.cfg.SourceLocal = true
	if err := f.allowed(file.Repository); err != nil {
		t.Errorf("got %v although it is allowed", err)
	}
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// TestSourceMovedOn: a commit that no branch leads to any more runs from what the
// node has kept, and elsewhere if the server still gives it out.
func TestSourceMovedOn(t *testing.T) {
	t.Parallel()
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("plain %v", plain), func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			o.plain.Store(plain)
			first := o.commit("a", "1")
			gone := o.commit("a", "2")
			cfg := config(t)
			if _, err := fetcherOf(t, cfg, *o.source(gone)).into(t, "w"); err != nil {
				t.Fatal(err)
			}
			o.git(o.clone, "reset", "-q", "--hard", first)
			next := o.commit("a", "3")
			for _, c := range []string{gone, first, next} {
				f := fetcherOf(t, cfg, *o.source(c))
				tree, err := f.into(t, "w")
				if err != nil {
					t.Fatalf("with a cache: got %v", err)
				}
				if got := o.git(tree, "rev-parse", "HEAD"); got != c {
					t.Errorf("got %s, want %s", got, c)
				}
				if got := o.git(tree, "rev-list", "--count", "HEAD"); got != "1" {
					t.Errorf("got a history of %s commits, want 1", got)
				}
			}
			_, err := fetcherOf(t, config(t), *o.source(gone)).into(t, "w")
			switch {
			case !plain && err != nil:
				t.Errorf("a server that gives out any commit: got %v", err)
			case plain && (err == nil || !strings.Contains(err.Error(), "on no branch or tag of the repository (any more)")):
				t.Errorf("a server that gives out what branches lead to: got %v", err)
			}
			if _, err := fetcherOf(t, config(t), *o.source(first)).into(t, "w"); err != nil {
				t.Errorf("a commit below the tip: got %v", err)
			}
		})
	}
}

// TestSourceEnds ends attempts while their source is being fetched from a server
// that does not answer.
func TestSourceEnds(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	commit := o.commit("a", "b")
	o.mute.Store(true)
	n := begin(t)
	running := func(id int64, change func(*protocol.Assignment)) {
		t.Helper()
		item := at(id, o.source(commit), "cat a")
		if change != nil {
			change(item.Assign)
		}
		n.work(item)
		n.until("the start", started(id))
	}
	running(1, nil)
	<-o.heard
	n.work(cancel(2, 1))
	if f := n.finished(1); f.State != "cancelled" || f.Reason != "asked to" || f.StartedAt.IsZero() {
		t.Errorf("a cancel: got %+v", f)
	}
	running(3, func(w *protocol.Assignment) { w.TimeoutSeconds = 1 })
	if f := n.finished(3); f.State != "timedOut" || f.ExitCode != 1005 || !strings.Contains(f.Reason, "timeout of 1s, while its source was being fetched") {
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
	o.mute.Store(false)
	again := launched(t, n.cfg, newBus(t))
	if f := again.finished(4); f.State != "agentRestarted" {
		t.Errorf("after a restart: got %+v", f)
	}
	again.work(at(5, o.source(commit), "cat a"))
	if f := again.finished(5); f.State != "succeeded" {
		t.Errorf("after all that: got %+v; %s", f, again.file(5, "stderr.log"))
	}
}

// TestSourceTime: a node gives up on a server by itself.
func TestSourceTime(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	commit := o.commit("a", "b")
	o.mute.Store(true)
	cfg := config(t)
	cfg.SourceTimeout = 300 * time.Millisecond
	n := launched(t, cfg, newBus(t))
	n.work(at(1, o.source(commit), "cat a"))
	if f := n.finished(1); f.State != "startFailed" || !strings.Contains(f.Reason, "longer than DSVM_SOURCE_TIMEOUT") || !strings.Contains(n.file(1, "stderr.log"), "DSVM_SOURCE_TIMEOUT") {
		t.Errorf("got %+v; %s", f, n.file(1, "stderr.log"))
	}
}

// TestCrashWhileFetching kills an agent whose git waits for a server: the next one
// finds what is left of it.
func TestCrashWhileFetching(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	commit := o.commit("a", "b")
	o.mute.Store(true)
	s := onServiceBus(t, time.Minute)
	var log, log2 bytes.Buffer
	first := s.child(&log)
	s.give(at(1, o.source(commit), "cat a"))
	s.until("the start", started(1))
	<-o.heard
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
	o.mute.Store(false)
	s.give(at(2, o.source(commit), "cat a"))
	if f := s.finished(2); f.State != "succeeded" {
		t.Errorf("got %+v", f)
	}
	second.Process.Signal(syscall.SIGTERM)
	if err := second.Wait(); err != nil {
		t.Errorf("got %v, want exit code 0; log:\n%s", err, log2.String())
	}
}

// BenchmarkSource is an attempt of a repository that the node knows: what git adds
// to it.
func BenchmarkSource(b *testing.B) {
	o := newOrigin(b)
	for i := range 200 {
		if err := os.WriteFile(filepath.Join(o.clone, fmt.Sprintf("file-%d", i)), bytes.Repeat([]byte(fmt.Sprint(i)), 2000), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	f := fetcherOf(b, config(b), *o.source(o.push()))
	if _, err := f.into(b, "w"); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := f.into(b, "w"); err != nil {
			b.Fatal(err)
		}
	}
}

// TestSourceFile: an assignment with nothing to run tells which jobs the
// repository brings along.
func TestSourceFile(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	n := begin(t)
	// The most that JSON makes of a file.
	long := strings.Repeat("<", job.MaxSourceFile)
	tests := []struct{ name, path, text, want, says string }{
		{"at the top", "", "pool: cpu\ncommand: [make]\n", "pool: cpu\ncommand: [make]\n", ""},
		{"below a path", "train", "pool: gpu\n", "pool: gpu\n", ""},
		{"as long as it may be", "long", long, long, ""},
		{"too long", "longer", long + "<", "", "has more than 32768 bytes"},
		{"much too long", "longest", strings.Repeat("x", maxGitAnswer+1<<20), "", "has more than 32768 bytes"},
		{"empty", "empty", "", "", "the repository's file empty/.dsvm.yaml is empty"},
		{"no text", "bytes", "a\xff", "", "not a text in UTF-8"},
		{"not there", "none", "", "", "has no file none/.dsvm.yaml at this commit"},
		{"a link", "link", "", "", "has no file link/.dsvm.yaml at this commit"},
		{"a folder", "folder", "", "", "has no file folder/.dsvm.yaml at this commit"},
	}
	for _, test := range tests {
		if test.text != "" {
			o.commit(filepath.Join(test.path, job.SourceFile), test.text)
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Join(o.clone, "link"), 0o755), os.Symlink("/etc/passwd", filepath.Join(o.clone, "link", job.SourceFile))); err != nil {
		t.Fatal(err)
	}
	o.commit(filepath.Join("empty", job.SourceFile), "")
	commit := o.commit(filepath.Join("folder", job.SourceFile, "x"), "y")
	for i, test := range tests {
		item := at(int64(i+1), o.source(commit), "")
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
			f.File = clip(f.File)
			t.Errorf("%s: got %+v, want %q", test.name, f, test.says)
		}
	}
}
