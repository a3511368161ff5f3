package process

import "os"

// OwnUnit is what a process has in its environment that is no part of the agent's unit and outlives
// the agent. systemd knows that of a node; the supervisor of an instance on one machine reads it here.
const OwnUnit = "DSVM_OWN_UNIT=1"

// systemdRuns is a folder that is there where systemd is the first process (sd_booted(3)).
const systemdRuns = "/run/systemd/system"

// HasSystemd reports whether systemd is the machine's first process, and can run a unit.
func HasSystemd() bool {
	at, err := os.Stat(systemdRuns)
	return err == nil && at.IsDir()
}
