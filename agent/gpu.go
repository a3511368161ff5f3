//go:build unix

package agent

import (
	"path/filepath"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
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
