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
	"dsvmpools/agent/source/gittest"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// mounted mounts a small file system of its own at a new directory, which only
// root on Linux can.
func mounted(t *testing.T, dir, options string) {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("only root on Linux mounts a file system")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("nothing can be mounted here: %s", out)
	}
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
}

func remount(t *testing.T, dir, options string) {
	t.Helper()
	if out, err := exec.Command("mount", "-o", "remount,"+options, dir).CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
}

// fill takes all the room of a file system.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for {
		if _, err := f.Write(block); err != nil {
			break
		}
	}
	for { // the last bytes
		if _, err := f.Write(block[:1]); err != nil {
			return
		}
	}
}

func program(t *testing.T, cfg Config, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(cfg.Share, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCauses has every cause of a failed start come about, and looks whose fault
// it is said to be.
func TestCauses(t *testing.T) {
	t.Parallel()
	command := func(words ...string) *protocol.Assignment {
		return &protocol.Assignment{Job: "j", Attempt: 1, CPUs: 1, Command: words}
	}
	type prepared func(*testing.T, *Config) *protocol.Assignment
	asNobody := func(make prepared) prepared {
		return func(t *testing.T, c *Config) *protocol.Assignment {
			if os.Geteuid() != 0 {
				t.Skip("only root starts processes as somebody else")
			}
			c.JobUser = "nobody"
			for dir := filepath.Dir(c.Share); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
				if err := os.Chmod(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			return make(t, c)
		}
	}
	inWorkdir := func(dir string) *protocol.Assignment {
		w := command("true")
		w.Workdir = dir
		return w
	}
	for name, tt := range map[string]struct {
		want  job.Cause
		says  string
		after func(*testing.T, *Config) // once the agent takes work
		make  prepared
	}{
		"no such program": {job.CauseNoProgram, "was not found", nil, func(t *testing.T, c *Config) *protocol.Assignment { return command("pyhton3", "train.py") }},
		"no such file":    {job.CauseNoProgram, "does not exist", nil, func(t *testing.T, c *Config) *protocol.Assignment { return command("./nope") }},
		"below a file":    {job.CauseNoProgram, "does not exist", nil, func(t *testing.T, c *Config) *protocol.Assignment { return command("/etc/passwd/x") }},
		"an interpreter that is not there": {job.CauseNoProgram, "interpreter", nil, func(t *testing.T, c *Config) *protocol.Assignment {
			return command(program(t, *c, "x", "#!/no/such/interpreter\n", 0o755))
		}},
		"not executable": {job.CauseNotExecutable, "chmod +x", nil, func(t *testing.T, c *Config) *protocol.Assignment {
			return command(program(t, *c, "x", "#!/bin/sh\n", 0o644))
		}},
		"no format": {job.CauseNotExecutable, "first line", nil, func(t *testing.T, c *Config) *protocol.Assignment {
			return command(program(t, *c, "x", "echo\n", 0o755))
		}},
		"a directory": {job.CauseNotExecutable, "is not a file", nil, func(t *testing.T, c *Config) *protocol.Assignment { return command("/usr") }},
		"another user's program": {job.CauseNotExecutable, "may not be run", nil, asNobody(func(t *testing.T, c *Config) *protocol.Assignment {
			return command(program(t, *c, "x", "#!/bin/sh\n", 0o700))
		})},
		"no workdir":            {job.CauseNoWorkdir, "does not exist", nil, func(t *testing.T, c *Config) *protocol.Assignment { return inWorkdir(c.Share + "/missing") }},
		"workdir off the share": {job.CauseNoWorkdir, "not on the share", nil, func(t *testing.T, c *Config) *protocol.Assignment { return inWorkdir("/usr") }},
		"workdir above":         {job.CauseNoWorkdir, "leads out", nil, func(t *testing.T, c *Config) *protocol.Assignment { return inWorkdir("../x") }},
		"workdir is a file": {job.CauseNoWorkdir, "is not a directory", nil, func(t *testing.T, c *Config) *protocol.Assignment {
			return inWorkdir(program(t, *c, "x", "", 0o644))
		}},
		"workdir below a file": {job.CauseNoWorkdir, "cannot be made", nil, func(t *testing.T, c *Config) *protocol.Assignment {
			wd := filepath.Join(c.Share, "jobs", c.Pool, "j", "1", "wd")
			if err := os.MkdirAll(wd, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(wd, "file"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			return inWorkdir("file/x")
		}},
		"workdir is another user's": {job.CauseNoWorkdir, "may not be used", nil, asNobody(func(t *testing.T, c *Config) *protocol.Assignment {
			dir := filepath.Join(c.Share, "closed")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			return inWorkdir(dir)
		})},
		"a script that no shell reads": {job.CauseScript, "zero byte", nil, func(t *testing.T, c *Config) *protocol.Assignment {
			w := command()
			w.Script = "echo\x00"
			return w
		}},
		"no source": {job.CauseSource, "cannot be fetched", nil, func(t *testing.T, c *Config) *protocol.Assignment {
			w := command("true")
			w.Source = &job.Source{Repository: "file://" + c.Share + "/none", Commit: strings.Repeat("a", 40)}
			return w
		}},
		"too many arguments": {job.CauseDocument, "too long", nil, func(t *testing.T, c *Config) *protocol.Assignment {
			if runtime.GOOS != "linux" {
				t.Skip("the limit of a single argument, less than a message, is Linux's")
			}
			return command("echo", strings.Repeat("x", 150<<10))
		}},
		"nothing to run": {job.CauseDocument, "neither", nil, func(t *testing.T, c *Config) *protocol.Assignment { return command() }},
		"an unsafe id":   {job.CauseDocument, "safe name", nil, func(t *testing.T, c *Config) *protocol.Assignment { w := command("true"); w.Job = "../x"; return w }},
		"a variable with =": {job.CauseDocument, "cannot be set", nil, func(t *testing.T, c *Config) *protocol.Assignment {
			w := command("true")
			w.Env = map[string]string{"A=B": "c"}
			return w
		}},
		"a zero byte": {job.CauseDocument, "zero byte", nil, func(t *testing.T, c *Config) *protocol.Assignment { return command("echo", "\x00") }},

		"the scratch directory's place is a file": {job.CauseScratch, "scratch", func(t *testing.T, c *Config) {
			if err := os.WriteFile(filepath.Join(c.InstanceDir, "attempts", "7"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T, c *Config) *protocol.Assignment { return command("true") }},
		"all scratch directories' place is a file": {job.CauseScratch, "scratch", func(t *testing.T, c *Config) {
			dir := filepath.Join(c.InstanceDir, "attempts")
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T, c *Config) *protocol.Assignment { return command("true") }},
		"scratch is forbidden": {job.CauseScratch, "scratch", func(t *testing.T, c *Config) {
			if os.Geteuid() == 0 {
				t.Skip("nothing is forbidden to root")
			}
			dir := filepath.Join(c.InstanceDir, "attempts")
			if err := os.Chmod(dir, 0o500); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Chmod(dir, 0o700) })
		}, func(t *testing.T, c *Config) *protocol.Assignment { return command("true") }},
		"a pipe in place of the script": {job.CauseScratch, "", func(t *testing.T, c *Config) {
			if err := unix.Mkfifo(filepath.Join(c.InstanceDir, "attempts", "7.sh"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T, c *Config) *protocol.Assignment { w := command(); w.Script = "true"; return w }},
		"the node's disk is full": {job.CauseDisk, "scratch", func(t *testing.T, c *Config) { fill(t, filepath.Join(c.InstanceDir, "attempts")) },
			func(t *testing.T, c *Config) *protocol.Assignment {
				mounted(t, filepath.Join(c.InstanceDir, "attempts"), "size=1m,nr_inodes=2,mode=711")
				return command("true")
			}},
		"the node's disk is full for a script": {job.CauseDisk, "7.sh", func(t *testing.T, c *Config) { fill(t, filepath.Join(c.InstanceDir, "attempts")) },
			func(t *testing.T, c *Config) *protocol.Assignment {
				mounted(t, filepath.Join(c.InstanceDir, "attempts"), "size=1m,mode=711")
				w := command()
				w.Script = "true"
				return w
			}},
		"the node's disk is read-only": {job.CauseDisk, "read-only", func(t *testing.T, c *Config) { remount(t, filepath.Join(c.InstanceDir, "attempts"), "ro") },
			func(t *testing.T, c *Config) *protocol.Assignment {
				mounted(t, filepath.Join(c.InstanceDir, "attempts"), "size=1m,mode=711")
				return command("true")
			}},
		"the node's disk is full for a source": {job.CauseDisk, "cannot be fetched", func(t *testing.T, c *Config) { fill(t, filepath.Join(c.InstanceDir, "sources")) },
			func(t *testing.T, c *Config) *protocol.Assignment {
				o := gittest.New(t)
				commit := o.Commit("a", "b")
				mounted(t, filepath.Join(c.InstanceDir, "sources"), "size=1m")
				w := command("true")
				w.Source = o.Source(commit)
				return w
			}},

		"no share": {job.CauseShare, "share", func(t *testing.T, c *Config) {
			if err := os.Rename(c.Share, c.Share+".away"); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T, c *Config) *protocol.Assignment { return command("true") }},
		"the share is a file": {job.CauseShare, "share", func(t *testing.T, c *Config) {
			if err := os.Rename(c.Share, c.Share+".away"); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(c.Share, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T, c *Config) *protocol.Assignment { return command("true") }},
		"the share is not mounted any more": {job.CauseShare, "not mounted", func(t *testing.T, c *Config) {
			if out, err := exec.Command("umount", "-l", c.Share).CombinedOutput(); err != nil {
				t.Fatalf("%s", out)
			}
		}, func(t *testing.T, c *Config) *protocol.Assignment {
			mounted(t, c.Share, "size=1m")
			c.ShareMounted = true
			return command("true")
		}},
		"the share is full": {job.CauseShare, "space", func(t *testing.T, c *Config) { fill(t, c.Share) }, func(t *testing.T, c *Config) *protocol.Assignment {
			mounted(t, c.Share, "size=64k,nr_inodes=6")
			return command("true")
		}},
		"the share is read-only": {job.CauseShare, "read-only", func(t *testing.T, c *Config) { remount(t, c.Share, "ro") }, func(t *testing.T, c *Config) *protocol.Assignment {
			mounted(t, c.Share, "size=1m")
			return command("true")
		}},
		"no such GPU": {job.CauseGPU, "GPU 1", nil, func(t *testing.T, c *Config) *protocol.Assignment {
			c.GPUDevices = filepath.Join(c.Share, "nvidia[0-9]*")
			program(t, *c, "nvidia0", "", 0o644)
			program(t, *c, "nvidiactl", "", 0o644)
			w := command("true")
			w.GPUs = []int{0, 1}
			return w
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			w := tt.make(t, &cfg)
			n := launched(t, cfg, newBus(t))
			n.until("the first report", func(all []protocol.Report) bool { return len(all) > 0 })
			if tt.after != nil {
				tt.after(t, &cfg)
			}
			n.work(protocol.WorkItem{N: 7, Assign: w})
			f := n.finished(7)
			if f.State != string(job.AttemptStartFailed) || f.Cause != tt.want || !strings.Contains(f.Reason, tt.says) {
				t.Errorf("got %+v, want %s with %q", f, tt.want, tt.says)
			}
		})
	}
}

// TestGPUsAreThere starts what the node has the GPUs for, and does not look where
// it is told not to.
func TestGPUsAreThere(t *testing.T) {
	t.Parallel()
	for _, look := range []bool{true, false} {
		cfg := config(t)
		if look {
			program(t, cfg, "nvidia0", "", 0o644)
			program(t, cfg, "nvidia1", "", 0o644)
			cfg.GPUDevices = filepath.Join(cfg.Share, "nvidia[0-9]*")
		}
		n := launched(t, cfg, newBus(t))
		item := assign(7, "true")
		item.Assign.GPUs = []int{1}
		n.work(item)
		if f := n.finished(7); f.State != string(job.AttemptSucceeded) {
			t.Errorf("looked for: %v: got %+v", look, f)
		}
	}
	cfg, err := ReadConfig(func(name string) string {
		return map[string]string{"DSVM_POOL": "p", "DSVM_VMID": "v", "DSVM_INSTANCE_DIR": "x", "SHARE_PATH": "y", "ServiceBusConnection": "z", "DSVM_GPU_DEVICES": "none"}[name]
	})
	if err != nil || cfg.GPUDevices != "" {
		t.Errorf("none: got %q, %v", cfg.GPUDevices, err)
	}
}

// TestErrorsOfTheSystem: errors that cannot be had from a healthy machine.
func TestErrorsOfTheSystem(t *testing.T) {
	t.Parallel()
	for _, e := range []unix.Errno{unix.EIO, unix.ESTALE, unix.ENOTCONN, unix.EHOSTDOWN} {
		err := &os.PathError{Op: "open", Path: "x", Err: e}
		if got := startfault.OfPath(err, job.CauseNoWorkdir); got != job.CauseShare {
			t.Errorf("a path of the job, %v: got %s", e, got)
		}
		if got := startfault.OnShare(err); got != job.CauseShare {
			t.Errorf("the share, %v: got %s", e, got)
		}
		start := &launch{argv: []string{"x"}}
		if got := causeOf(start.explainFailure(e)); got != job.CauseShare {
			t.Errorf("the program, %v: got %s", e, got)
		}
	}
	for _, e := range []unix.Errno{unix.EAGAIN, unix.ENOMEM, unix.EMFILE, unix.ENFILE} {
		for what, got := range map[string]job.Cause{"path": startfault.OfPath(e, job.CauseNoWorkdir), "share": startfault.OnShare(e), "scratch": startfault.OnNode(e),
			"program": causeOf((&launch{argv: []string{"x"}}).explainFailure(e))} {
			if got != job.CauseNoProcess {
				t.Errorf("%s, %v: got %s", what, e, got)
			}
		}
	}
}

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
		for _, where := range []string{"jobs/cpu/job-7/1/stdout.log", "jobs/cpu/job-7/1/stderr.log", "jobs/cpu/job-7/1/output", "jobs/cpu/job-7/1/wd", "jobs/cpu/job-7/1", "jobs/cpu/job-7"} {
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
