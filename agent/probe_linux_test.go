package agent

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"dsvmpools/shared/protocol"
)

// asNaiveMount does to new files what Azure Files does over SMB when it is mounted without
// uid and gid: all stay root's, and others can only read them, also after they were given away.
func asNaiveMount(root *os.Root, names ...string) {
	for _, name := range names {
		root.Lchown(name, 0, 0)
		root.Chmod(name, 0o755)
	}
}

// TestJobsMustWrite: on a share where jobs cannot write, no work is taken, and the reason
// says what to change; with the right options it is.
func TestJobsMustWrite(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	for _, c := range []struct {
		name   string
		change func(*Config)
		ok     bool
	}{
		{"owners are kept", func(*Config) {}, true},
		{"one owner, the jobs' group", func(c *Config) { c.ownerless = asAzureFiles }, true},
		{"one owner, root", func(c *Config) { c.ownerless = asNaiveMount }, false},
		{"one owner, root; jobs have one user", func(c *Config) { c.ownerless, c.UIDs = asNaiveMount, uidRange{} }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := launcherOf(t, reachable(t, c.change))
			_, _, err := l.share.open()
			if (err == nil) != c.ok {
				t.Fatalf("got %v, want success: %v", err, c.ok)
			}
			for _, part := range []string{"jobs cannot write to the share as the user ", "let the group"} {
				if err != nil && !strings.Contains(err.Error(), part) {
					t.Errorf("got %v; want who cannot write, and what to change", err)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(l.cfg.Share, "jobs", l.cfg.Pool, "*")); len(left) > 0 {
				t.Errorf("the try has left %v", left)
			}
		})
	}
}

// reachable is the configuration of an agent whose jobs have users of their own, in folders
// that others may pass.
func reachable(t *testing.T, change func(*Config)) Config {
	t.Helper()
	cfg := config(t)
	cfg.UIDs, cfg.JobUser = defaultUIDs, "nobody"
	change(&cfg)
	for dir := filepath.Dir(cfg.Share); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

// TestShareThatComesBack: a share that was taken away and mounted again, with options that
// shut jobs out, is tried again before the next attempt starts.
func TestShareThatComesBack(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	cfg := reachable(t, func(c *Config) { c.ShareMounted = true })
	mount := func(options string) {
		t.Helper()
		if err := unix.Mount("share", cfg.Share, "tmpfs", 0, options); err != nil {
			t.Skipf("nothing can be mounted here: %v", err)
		}
	}
	mount("mode=0755")
	t.Cleanup(func() { syscall.Unmount(cfg.Share, unix.MNT_DETACH) })
	l := launcherOf(t, cfg)
	if _, _, err := l.share.open(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(cfg.Share, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.share.open(); err == nil || !strings.Contains(err.Error(), "not mounted") {
		t.Errorf("without the share: got %v", err)
	}
	mount("mode=0755,size=64k")
	full := make([]byte, 64<<10)
	if err := os.WriteFile(filepath.Join(cfg.Share, "full"), full, 0o600); err == nil {
		t.Log("the share took more than it should")
	}
	_, err := l.share.makeAttemptDir(protocol.Assignment{Job: "j", Attempt: 1}, nobodyElse)
	if err == nil || !strings.Contains(err.Error(), "the share") {
		t.Errorf("a full share that has come back: got %v", err)
	}
	if err := os.Remove(filepath.Join(cfg.Share, "full")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.share.open(); err != nil {
		t.Errorf("the share is as it should be: got %v", err)
	}
}
