package agent

import "sync/atomic"

// syncCount counts the calls of this process that wait until a disk has what was written.
var syncCount atomic.Pointer[atomic.Int64]

func init() { syncCount.Store(new(atomic.Int64)) }

// countSync counts one call.
func countSync() { syncCount.Load().Add(1) }
