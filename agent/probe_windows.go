package agent

import (
	"errors"
	"fmt"
	"os"

	"dsvmpools/agent/startfault"
)

// probeShare tries whether jobs can write to the share, in the pool's directory, as the agent's own
// user, whom they run as. The error is a sentence that says what to change.
func (l *launcher) probeShare(root *os.Root) error {
	name := "+probe." + l.cfg.VMID // + is in no job's id
	_ = root.RemoveAll(name)       // of an agent that was killed in the middle
	err := root.Mkdir(name, 0o700)
	if errors.Is(err, os.ErrExist) {
		err = nil
	}
	if err == nil {
		err = root.WriteFile(name+"/a", []byte("probe"), 0o600)
	}
	if err == nil {
		err = root.Rename(name+"/a", name+"/b")
	}
	if err != nil {
		return fmt.Errorf("jobs cannot write to the share: %w; let the account of the agent write in %s", startfault.Innermost(err), l.cfg.Share)
	}
	_ = root.Remove(name + "/b")
	_ = root.Remove(name)
	return nil
}
