package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsvmpools/shared/client"
)

// upped is a `dsvm up` whose words are in a file.
type upped struct {
	*machine
	words string
}

func startUp(t *testing.T, dir string, args ...string) *upped {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	u := &upped{
		&machine{t: t, dir: dir, ctx: ctx, cmd: exec.Command(os.Args[0], append([]string{"up", "--data", dir}, args...)...)},
		filepath.Join(t.TempDir(), "words"),
	}
	f, err := os.Create(u.words)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	u.cmd.Stderr = f
	os.Remove(filepath.Join(dir, "instance.json"))
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.kill)
	u.until("the instance's description", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "instance.json"))
		return err == nil && json.Unmarshal(b, &u.in) == nil
	})
	if u.client, err = client.New(u.in.URL, u.in.Key); err != nil {
		t.Fatal(err)
	}
	return u
}

func (u *upped) said() string {
	b, _ := os.ReadFile(u.words)
	return string(b)
}

func (u *upped) says(what string) {
	u.t.Helper()
	u.until("the words "+what+" (said is: "+u.said()+")", func() bool { return strings.Contains(u.said(), what) })
}

// interrupt is Ctrl-C.
func (u *upped) interrupt() { u.cmd.Process.Signal(os.Interrupt) }

// stop ends it in the orderly way.
func (u *upped) stop() {
	u.t.Helper()
	u.interrupt()
	if err := u.cmd.Wait(); err != nil {
		u.t.Fatalf("%v\n%s", err, u.said())
	}
}

// gate is a job that runs until a file is there.
func gate(id, file string) string {
	return fmt.Sprintf(`{"id":%q,"pool":"cpu","script":"while [ ! -e %s ]; do sleep 0.05; done"}`, id, file)
}

func (u *upped) submit(id, doc string) {
	u.t.Helper()
	if _, err := u.client.Submit(u.ctx, id, []byte(doc)); err != nil {
		u.t.Fatal(err)
	}
}

func (u *upped) job(id, state string) {
	u.t.Helper()
	u.until(id+" "+state, func() bool {
		j, err := u.client.Job(u.ctx, id)
		return err == nil && string(j.State) == state
	})
}

const onePool = `{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1},"pack":false}`

// TestUpDrain: with --drain the jobs that run end before the instance does, and no other
// begins; a second Ctrl-C ends them. Without it, Ctrl-C says how many it ends.
func TestUpDrain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	u := startUp(t, dir, "--drain")
	if _, err := u.client.Apply(u.ctx, []byte(onePool)); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(t.TempDir(), "open")
	u.submit("first", gate("first", open))
	u.job("first", "running")
	second := filepath.Join(t.TempDir(), "second")
	u.submit("second", gate("second", second))
	u.interrupt()
	u.says("waiting for 1 job that runs; nothing new starts")
	if err := os.WriteFile(open, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := u.cmd.Wait(); err != nil || !strings.Contains(u.said(), "everything that ran has ended") {
		t.Fatalf("got %v\n%s", err, u.said())
	}

	u = startUp(t, dir, "--drain")
	u.job("first", "succeeded")
	if j, err := u.client.Job(u.ctx, "first"); err != nil || len(j.Attempts) != 1 {
		t.Errorf("got %+v, %v", j, err)
	}
	u.job("second", "running")
	u.interrupt()
	u.says("waiting for 1 job that runs")
	u.interrupt()
	if err := u.cmd.Wait(); err != nil || !strings.Contains(u.said(), "stopping ends 1 job") {
		t.Fatalf("got %v\n%s", err, u.said())
	}

	u = startUp(t, dir)
	u.job("second", "running") // again, and at no cost of a retry: it allows none
	if err := os.WriteFile(second, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	u.job("second", "succeeded")
	if j, err := u.client.Job(u.ctx, "second"); err != nil || len(j.Attempts) != 2 || j.Attempts[0].State != "agentRestarted" {
		t.Errorf("got %+v, %v", j, err)
	}
	u.submit("third", gate("third", filepath.Join(t.TempDir(), "never")))
	u.job("third", "running")
	u.stop()
	if !strings.Contains(u.said(), "stopping ends 1 job that runs") {
		t.Errorf("it says %s", u.said())
	}
	u = startUp(t, dir)
	u.job("third", "running")
	if _, err := u.client.Cancel(u.ctx, "third"); err != nil {
		t.Fatal(err)
	}
	u.job("third", "cancelled")
	u.stop()
	if !strings.Contains(u.said(), "nothing runs") {
		t.Errorf("it says %s", u.said())
	}
}

// refusedUp runs a `dsvm up` that is to end by itself, and returns what it says.
func refusedUp(t *testing.T, shell string, args ...string) string {
	t.Helper()
	said, _ := failedUp(t, shell, args...)
	return said
}

// failedUp runs dsvm up, which has to fail, and returns what it says and its exit code.
func failedUp(t *testing.T, shell string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if shell != "" {
		shell += " && "
	}
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", shell + `exec "$0" up "$@"`, os.Args[0]}, args...)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || ctx.Err() != nil || exit.ExitCode() < 1 {
		t.Errorf("up %v: got %v\n%s", args, err, out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// TestUpWithAWrongSetting: a handler that cannot start ends the start, with its reason.
func TestUpWithAWrongSetting(t *testing.T) {
	t.Parallel()
	if got := refusedUp(t, "export DSVM_KEEP_FINISHED=never", "--data", t.TempDir()); !strings.Contains(got, "handler") ||
		!strings.Contains(got, "DSVM_KEEP_IDS") {
		t.Errorf("got %s", got)
	}
}

// TestUpSaysWhatIsWrong: what a start cannot do is said with the way out.
func TestUpSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	u := startUp(t, dir)
	inUse := fmt.Sprintf("in use by another `dsvm up`, process %d", u.cmd.Process.Pid)
	if got := refusedUp(t, "", "--data", dir); !strings.Contains(got, inUse) || !strings.Contains(got, "--data") {
		t.Errorf("two in one folder: got %s", got)
	}
	u.stop()

	for _, name := range []string{"tables.db", "servicebus.db", "compute.db"} {
		path := filepath.Join(dir, "data", name)
		if err := os.Rename(path, path+".kept"); err != nil {
			t.Fatal(err)
		}
		got := refusedUp(t, "", "--data", dir)
		if !strings.Contains(got, path+" is missing beside ") || !strings.Contains(got, "restore it") {
			t.Errorf("without %s: got %s", name, got)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("without %s: an empty one was made", name)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := refusedUp(t, "", "--data", dir); !strings.Contains(got, path+" (it is empty) is missing") {
			t.Errorf("with an empty %s: got %s", name, got)
		}
		if err := os.Rename(path+".kept", path); err != nil {
			t.Fatal(err)
		}
	}
	share := filepath.Join(dir, "share")
	if err := os.Rename(share, share+".kept"); err != nil {
		t.Fatal(err)
	}
	if got := refusedUp(t, "", "--data", dir); !strings.Contains(got, share+" is missing, the share") {
		t.Errorf("without the share: got %s", got)
	}
	if err := os.Rename(share+".kept", share); err != nil {
		t.Fatal(err)
	}

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		shell string
		code  int
		args  []string
		want  string
	}{
		"a file for a folder": {"", 1, []string{"--data", file}, file + " is not a folder"},
		"an unknown user":     {"", 2, []string{"--data", dir, "--job-user", "nobdy"}, "--job-user nobdy: this machine has no such user; did you mean nobody?"},
		"a user of nowhere":   {"", 2, []string{"--data", dir, "--job-user", "a-user-that-is-not-there"}, "no such user"},
		"a size misspelled":   {"", 2, []string{"--data", dir, "--quota", "Standard_D4s_v55=4"}, "did you mean Standard_D4s_v5?"},
		"a family misspelled": {"", 2, []string{"--data", dir, "--quota", "standardDSv5Famly=4"}, "did you mean standardDSv5Family?"},
		"a total misspelled":  {"", 2, []string{"--data", dir, "--quota", "totl=4"}, "did you mean total?"},
		"no quota":            {"", 2, []string{"--data", dir, "--quota", "gpus=4"}, "write total, lowPriorityCores, a size such as"},
		"a negative quota":    {"", 2, []string{"--data", dir, "--quota", "total=-4"}, "0 or more"},
		"no number":           {"", 2, []string{"--data", dir, "--quota", "total=x"}, "quota"},
		"few files":           {"ulimit -n 100", 1, []string{"--data", dir}, "this process may have 100 files open at once, and an instance needs 256"},
	} {
		if got, code := failedUp(t, test.shell, test.args...); !strings.Contains(got, test.want) || code != test.code {
			t.Errorf("%s: got exit code %d and %s, want %d and %s", name, code, got, test.code, test.want)
		}
	}

	// Ports that others have taken meanwhile are replaced, and said.
	at, err := url.Parse(u.in.URL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", at.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	again := startUp(t, dir)
	if again.in.URL == u.in.URL || again.in.Tables != u.in.Tables {
		t.Errorf("got %+v, had %+v", again.in, u.in)
	}
	again.says("port " + at.Port() + ", which the HTTP API had, is taken by another program; it is ")
	if _, err := again.client.Pools(again.ctx); err != nil {
		t.Error(err)
	}
	again.cmd.Process.Signal(syscall.SIGTERM)
	if err := again.cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, again.said())
	}
}
