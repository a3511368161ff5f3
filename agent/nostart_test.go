//go:build unix

package agent

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dsvmpools/agent/source"
	"dsvmpools/shared/job"
)

// TestNoProcess: the system makes no more processes for the job's user.
func TestNoProcess(t *testing.T) {
	if os.Getenv("DSVM_TEST_NPROC") == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self, "-test.run=^TestNoProcess$", "-test.v")
		cmd.Env = append(os.Environ(), "DSVM_TEST_NPROC=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if strings.Contains(string(out), "SKIP") {
			t.Skip("the limit of processes does not bind here")
		}
		return
	}
	// Files bind everybody, root too.
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	l := launcherOf(t, cfg)
	w := *assign(1, "true").Assign
	first, err := l.prepare(1, w, source.Tree{})
	if err != nil {
		t.Fatal(err)
	}
	few := old
	few.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	_, err = l.prepare(2, w, source.Tree{})
	_, other := first.start()
	if e := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); e != nil {
		t.Fatal(e)
	}
	if causeOf(err) != job.CauseNoProcess {
		t.Errorf("no files to prepare with: got %s: %v", causeOf(err), err)
	}
	if other == nil || causeOf(other) != job.CauseNoProcess {
		t.Errorf("no files to start with: got %s: %v", causeOf(other), other)
	}
}

// TestProcessLimit: a user that may have no more processes gets none, and that is
// the node's.
func TestProcessLimit(t *testing.T) { // not beside others, who would be bound too
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("only root starts processes as somebody else, and others cannot lift their limit again")
	}
	cfg := config(t)
	cfg.JobUser = "nobody"
	for dir := filepath.Dir(cfg.Share); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l := launcherOf(t, cfg)
	start, err := l.prepare(1, *assign(1, "true").Assign, source.Tree{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.prepare(2, *assign(2, "sleep", "1000").Assign, source.Tree{})
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // it dies with the thread
	defer runtime.UnlockOSThread()
	sleeping, err := other.start()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		unix.Kill(sleeping, unix.SIGKILL)
		unix.Wait4(sleeping, nil, 0, nil)
	}()
	// The process inherits the limit of the thread's process: it is set for all of
	// it, which binds nobody that is root.
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: 0, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	pid, err := start.start()
	if e := unix.Setrlimit(unix.RLIMIT_NPROC, &old); e != nil {
		t.Fatal(e)
	}
	if err == nil {
		var status unix.WaitStatus
		unix.Wait4(pid, &status, 0, nil)
		t.Skip("the limit of processes does not bind here")
	}
	if causeOf(err) != job.CauseNoProcess {
		t.Errorf("got %s: %v", causeOf(err), err)
	}
}

// TestInTheWay puts things in the places of an attempt's files and directories. No
// start may hang over them, follow them, or blame the node.
func TestInTheWay(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	things := map[string]func(string) error{
		"a pipe":                 func(at string) error { return unix.Mkfifo(at, 0o600) },
		"a link to a file":       func(at string) error { return os.Symlink(secret, at) },
		"a link to a directory":  func(at string) error { return os.Symlink(outside, at) },
		"a link to nothing":      func(at string) error { return os.Symlink(filepath.Join(outside, "new"), at) },
		"a link to /etc/shadow":  func(at string) error { return os.Symlink("/etc/shadow", at) },
		"a link within the pool": func(at string) error { return os.Symlink("other", at) },
		"a second name":          func(at string) error { return os.Link(secret, at) },
		"a socket": func(at string) error {
			dir, err := os.MkdirTemp("", "") // its path has to be short
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			l, err := net.Listen("unix", filepath.Join(dir, "s"))
			if err != nil {
				return err
			}
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			l.Close()
			return os.Rename(filepath.Join(dir, "s"), at)
		},
		"a directory": func(at string) error { return os.Mkdir(at, 0o755) },
		"a file":      func(at string) error { return os.WriteFile(at, nil, 0o600) },
	}
	for what, put := range things {
		for _, where := range []string{"jobs/cpu/job-7/1/stdout.log", "jobs/cpu/job-7/1/stderr.log", "jobs/cpu/job-7/1/output",
			"jobs/cpu/job-7/1/wd", "jobs/cpu/job-7/1", "jobs/cpu/job-7"} {
			isLog := strings.HasSuffix(where, ".log")
			if isLog && what == "a file" || !isLog && what == "a directory" {
				continue // as it should be
			}
			if what == "a second name" && !isLog {
				continue // of a directory there is none; it is the same as a file
			}
			t.Run(what+" as "+where, func(t *testing.T) {
				t.Parallel()
				cfg := config(t)
				at := filepath.Join(cfg.Share, where)
				if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := put(at); err != nil {
					t.Skipf("cannot be put there: %v", err)
				}
				if what == "a link within the pool" {
					if err := os.Mkdir(filepath.Join(filepath.Dir(at), "other"), 0o755); err != nil {
						t.Fatal(err)
					}
				}
				n := launched(t, cfg, newBus(t))
				n.work(assign(7, "echo", "leaked"), assign(8, "true"))
				if f := n.finished(7); f.State != string(job.AttemptStartFailed) || f.Cause != job.CauseNoWorkdir {
					t.Errorf("got %+v", f)
				}
				if f := n.finished(8); f.State != string(job.AttemptSucceeded) {
					t.Errorf("the next one: got %+v", f)
				}
			})
		}
	}
	t.Cleanup(func() {
		if text, _ := os.ReadFile(secret); string(text) != "secret" {
			t.Errorf("the file that links led to holds %q", text)
		}
		if left, _ := os.ReadDir(outside); len(left) > 0 {
			t.Errorf("the directory that links led to holds %v", left)
		}
	})
}

// TestPipeWithReader: a pipe that somebody reads opens at once, and is still no log.
func TestPipeWithReader(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	at := filepath.Join(cfg.Share, "jobs/cpu/job-7/1/stdout.log")
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(at, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(at, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	n := launched(t, cfg, newBus(t))
	n.work(assign(7, "echo", "leaked"))
	if f := n.finished(7); f.Cause != job.CauseNoWorkdir {
		t.Errorf("got %+v", f)
	}
	reader.SetReadDeadline(time.Now())
}

// TestFieldOfALaterRelease: an assignment with a field that the agent does not know may say
// where or how the process has to run, so that it is not started; the next one is.
func TestFieldOfALaterRelease(t *testing.T) {
	t.Parallel()
	n := begin(t)
	n.raw([]byte(`{"v":1,"items":[
		{"n":1,"assign":{"job":"job-1","attempt":1,"command":["true"],"cpus":1,"container":{"image":"x"}}},
		{"n":2,"assign":{"job":"job-2","attempt":1,"command":["true"],"cpus":1}}]}`))
	if f := n.finished(1); f.State != string(job.AttemptStartFailed) || f.Cause != job.CauseRelease || !strings.Contains(f.Reason, `"container"`) {
		t.Errorf("got %+v, want the cause %s and the field's name", f, job.CauseRelease)
	}
	if f := n.finished(2); f.State != string(job.AttemptSucceeded) {
		t.Errorf("the next one: got %+v", f)
	}
}
