package compute_test

import (
	"os/exec"
	"syscall"
	"testing"
)

// playOwnUnit is what an agent starts to outlive it, with a process of its own.
func playOwnUnit(address string) {
	const marked = "DSVM_OWN_UNIT=1"
	keeper := exec.Command("/proc/self/exe", "test-job", address, "job")
	keeper.Env, keeper.SysProcAttr = []string{marked}, &syscall.SysProcAttr{Setsid: true}
	keeper.Start()
}

func TestWhatHasAUnitOfItsOwnOutlivesTheAgentAndNotTheInstance(t *testing.T) {
	t.Parallel()
	r := receive(t)
	s := launch(t, config(t.TempDir(), r.address(), "own"))
	grow(t, s, "cpu", 1)
	first := r.next(t, "agent", "job")
	syscall.Kill(first["agent"].pid, syscall.SIGKILL)
	first["agent"].awaitGone(t)
	second := r.next(t, "agent")
	if first["job"].isGone() {
		t.Error("what has a unit of its own ended with the agent")
	}
	again := second["agent"]
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, v := range []*visit{first["job"], again} {
		v.awaitGone(t)
	}
}
