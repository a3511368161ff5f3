//go:build unix

package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dsvmpools/agent/source/gittest"
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
		"no such program": {job.CauseNoProgram, "was not found", nil, func(t *testing.T,
			c *Config) *protocol.Assignment {
			return command("pyhton3", "train.py")
		}},
		"no such file": {job.CauseNoProgram, "does not exist", nil, func(t *testing.T,
			c *Config) *protocol.Assignment {
			return command("./nope")
		}},
		"below a file": {job.CauseNoProgram, "does not exist", nil, func(t *testing.T,
			c *Config) *protocol.Assignment {
			return command("/etc/passwd/x")
		}},
		"an interpreter that is not there": {job.CauseNoProgram, "interpreter", nil, func(t *testing.T, c *Config) *protocol.Assignment {
			return command(program(t, *c, "x", "#!/no/such/interpreter\n", 0o755))
		}},
		"not executable": {job.CauseNotExecutable, "chmod +x", nil, func(t *testing.T, c *Config) *protocol.Assignment {
			return command(program(t, *c, "x", "#!/bin/sh\n", 0o644))
		}},
		"no format": {job.CauseNotExecutable, "first line", nil, func(t *testing.T, c *Config) *protocol.Assignment {
			return command(program(t, *c, "x", "echo\n", 0o755))
		}},
		"a directory": {job.CauseNotExecutable, "is not a file", nil, func(t *testing.T,
			c *Config) *protocol.Assignment {
			return command("/usr")
		}},
		"another user's program": {job.CauseNotExecutable, "may not be run", nil, asNobody(func(t *testing.T, c *Config) *protocol.Assignment {
			return command(program(t, *c, "x", "#!/bin/sh\n", 0o700))
		})},
		"no workdir": {job.CauseNoWorkdir, "does not exist", nil, func(t *testing.T,
			c *Config) *protocol.Assignment {
			return inWorkdir(c.Share + "/missing")
		}},
		"workdir off the share": {job.CauseNoWorkdir, "not on the share", nil, func(t *testing.T,
			c *Config) *protocol.Assignment {
			return inWorkdir("/usr")
		}},
		"workdir above": {job.CauseNoWorkdir, "leads out", nil, func(t *testing.T,
			c *Config) *protocol.Assignment {
			return inWorkdir("../x")
		}},
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
		"an unsafe id": {job.CauseDocument, "safe name", nil, func(t *testing.T,
			c *Config) *protocol.Assignment {
			w := command("true")
			w.Job = "../x"
			return w
		}},
		"a variable with =": {job.CauseDocument, "cannot be set", nil, func(t *testing.T, c *Config) *protocol.Assignment {
			w := command("true")
			w.Env = map[string]string{"A=B": "c"}
			return w
		}},
		"a zero byte": {job.CauseDocument, "zero byte", nil, func(t *testing.T, c *Config) *protocol.Assignment {
			return command("echo",
				"\x00")
		}},

		"the scratch directory's place is a file": {job.CauseScratch, "scratch", func(t *testing.T, c *Config) {
			if err := os.WriteFile(filepath.Join(c.InstanceDir, "attempts", "s0"), nil, 0o600); err != nil {
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
			if err := unix.Mkfifo(filepath.Join(c.InstanceDir, "attempts", "s0.sh"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T, c *Config) *protocol.Assignment { w := command(); w.Script = "true"; return w }},
		"the node's disk is full": {job.CauseDisk, "scratch", func(t *testing.T, c *Config) { fill(t, filepath.Join(c.InstanceDir, "attempts")) },
			func(t *testing.T, c *Config) *protocol.Assignment {
				mounted(t, filepath.Join(c.InstanceDir, "attempts"), "size=1m,nr_inodes=2,mode=711")
				return command("true")
			}},
		"the node's disk is full for a script": {job.CauseDisk, "s0.sh", func(t *testing.T, c *Config) {
			fill(t, filepath.Join(c.InstanceDir,
				"attempts"))
		},
			func(t *testing.T, c *Config) *protocol.Assignment {
				mounted(t, filepath.Join(c.InstanceDir, "attempts"), "size=1m,mode=711")
				w := command()
				w.Script = "true"
				return w
			}},
		"the node's disk is read-only": {job.CauseDisk, "read-only", func(t *testing.T, c *Config) {
			remount(t, filepath.Join(c.InstanceDir,
				"attempts"), "ro")
		},
			func(t *testing.T, c *Config) *protocol.Assignment {
				mounted(t, filepath.Join(c.InstanceDir, "attempts"), "size=1m,mode=711")
				return command("true")
			}},
		"the node's disk is full for a source": {job.CauseDisk, "cannot be fetched", func(t *testing.T, c *Config) {
			fill(t,
				filepath.Join(c.InstanceDir, "sources"))
		},
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
		"the share is full": {job.CauseShare, "space", func(t *testing.T, c *Config) { fill(t, c.Share) }, func(t *testing.T,
			c *Config) *protocol.Assignment {
			mounted(t, c.Share, "size=64k,nr_inodes=6")
			return command("true")
		}},
		"the share is read-only": {job.CauseShare, "read-only", func(t *testing.T, c *Config) { remount(t, c.Share, "ro") },
			func(t *testing.T, c *Config) *protocol.Assignment {
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
