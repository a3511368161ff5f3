//go:build unix

package agent

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
)

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
		return map[string]string{"DSVM_POOL": "p", "DSVM_VMID": "v", "DSVM_INSTANCE_DIR": "x", "SHARE_PATH": "y", "ServiceBusConnection": "z",
			"DSVM_GPU_DEVICES": "none"}[name]
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
		for what, got := range map[string]job.Cause{"path": startfault.OfPath(e, job.CauseNoWorkdir), "share": startfault.OnShare(e),
			"scratch": startfault.OnNode(e),
			"program": causeOf((&launch{argv: []string{"x"}}).explainFailure(e))} {
			if got != job.CauseNoProcess {
				t.Errorf("%s, %v: got %s", what, e, got)
			}
		}
	}
}
