package agent

import (
	"os"
	"time"
)

// A job that fills the node's disk is not to take the agent's voice: what ended,
// and why, has to be written down before it is reported. So the journal keeps a file
// of no use beside it, and gives its room up when there is no other.
const (
	reserveSize  = 1 << 20 // hundreds of ends, and some assignments
	restockAfter = time.Minute
)

// keepReserve takes the room. Without it the agent works as well, as long as the disk
// has room.
func (j *journal) keepReserve() {
	path := j.path + ".reserve"
	if at, err := os.Lstat(path); err == nil && at.Mode().IsRegular() && at.Size() == reserveSize {
		j.used = time.Time{}
		return
	}
	os.Remove(path)
	if err := os.WriteFile(path, make([]byte, reserveSize), 0o600); err != nil {
		os.Remove(path)
		j.used = time.Now()
		return
	}
	j.used = time.Time{}
}

// useReserve gives the room up. It reports whether there was any.
func (j *journal) useReserve() bool {
	if !j.used.IsZero() {
		return false
	}
	j.used = time.Now()
	return os.Remove(j.path+".reserve") == nil
}

// renewReserve tries to have the room again some time after it was used.
func (j *journal) renewReserve() {
	if !j.used.IsZero() && time.Since(j.used) > restockAfter {
		j.keepReserve()
	}
}
