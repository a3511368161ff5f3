package agent

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/size"
)

// checkGPUs says why an assignment cannot have its GPUs: its size has them, and the
// node does not show them. The driver may be missing, or a GPU may have failed.
func (l *launcher) checkGPUs(w protocol.Assignment) error {
	if len(w.GPUs) == 0 || l.cfg.GPUDevices == "" {
		return nil
	}
	most := 0
	for _, i := range w.GPUs {
		most = max(most, i+1)
	}
	// A pattern that is no pattern was refused with the settings.
	found, _ := filepath.Glob(l.cfg.GPUDevices)
	if len(found) < most {
		return startfault.New(job.CauseGPU,
			"the job was given GPU %d of the node, which shows %d; look at the driver with nvidia-smi", most-1, len(found))
	}
	return nil
}

// smiTimeout bounds nvidia-smi, which takes seconds when it is the first to wake the driver.
const smiTimeout = 2 * time.Minute

// checkGPUs says why the node does not show the GPUs of its size: its image may have no
// driver, its driver may not load under Secure Boot, or a GPU may have failed.
func (b *booter) checkGPUs(ctx context.Context) error {
	known, ok := size.Lookup(b.cfg.Size)
	if !ok || known.GPUs == 0 || b.cfg.GPUDevices == "" {
		return nil
	}
	if b.gpusFrom.IsZero() {
		b.gpusFrom = time.Now()
	}
	err := countGPUs(ctx, known.GPUs, b.cfg)
	if err != nil && time.Since(b.gpusFrom) > b.cfg.gpusWithin {
		return errLast{err}
	}
	return err
}

// countGPUs compares what the driver shows with what the size has. nvidia-smi is asked
// first: it makes the device files where nothing else has used the driver yet.
func countGPUs(ctx context.Context, want int, cfg Config) error {
	smi, err := exec.LookPath(cmp.Or(cfg.nvidiaSMI, "nvidia-smi"))
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, smiTimeout)
		defer cancel()
		cmd := exec.CommandContext(ctx, smi, "-L")
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		if err != nil {
			said, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
			return fmt.Errorf("the driver of the GPUs does not work: `nvidia-smi -L` says %q (%w)", startfault.Clip(said), startfault.Innermost(err))
		}
		listed := 0
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "GPU ") { // parts of one have a line each below it
				listed++
			}
		}
		if listed != want {
			return fmt.Errorf("the size %s has %d GPUs, and `nvidia-smi -L` lists %d", cfg.Size, want, listed)
		}
	}
	// A pattern that is no pattern was refused with the settings.
	found, _ := filepath.Glob(cfg.GPUDevices)
	switch {
	case len(found) == want:
		return nil
	case smi == "":
		return fmt.Errorf("the size %s has %d GPUs, and the node shows %d and has no nvidia-smi: "+
			"take an image with the driver of NVIDIA, or install it in the pool's `setup`", cfg.Size, want, len(found))
	}
	return fmt.Errorf("the size %s has %d GPUs, and the node shows %d of the files %s", cfg.Size, want, len(found), cfg.GPUDevices)
}
