package person

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// raceText is a program whose processes live a moment only: each has begun the next one
// before anybody can kill it by its number.
const raceText = `#include <unistd.h>
int main(void) {
	for (int i = 0; i < 3 && fork(); i++);
	for (;;) { if (fork() > 0) _exit(0); setsid(); }
}
`

// Being faster than who kills it keeps nothing of a person alive, and nobody else is touched.
func TestKillAllOf(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("this needs root")
	}
	compiler, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("there is no compiler of C")
	}
	const racer, other = 200_971, 200_972
	dir, err := os.MkdirTemp("", "race") // t.TempDir is for its owner alone
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "race")
	if err := os.WriteFile(program+".c", []byte(raceText), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(compiler, "-o", program, program+".c").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	as := func(uid uint32, argv ...string) *exec.Cmd {
		c := exec.Command(argv[0], argv[1:]...)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	bystander := as(other, "sleep", "1000")
	defer bystander.Wait()
	defer bystander.Process.Kill()
	race := as(racer, program)
	defer killAllOf(racer)
	if err := race.Wait(); err != nil { // it goes on in others
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; {
		if err := killAllOf(racer); err != nil {
			t.Fatal(err)
		}
		if len(processesOf(racer)) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("processes that go on: %v", processesOf(racer))
		}
	}
	if left := processesOf(other); len(left) != 1 {
		t.Errorf("of another person: got %v, want one process", left)
	}
	for _, uid := range []int{-1, 0, 1000, minUID - 1, nobodysUID} {
		if err := killAllOf(uid); err == nil {
			t.Errorf("%d: got no error", uid)
		}
	}
}
