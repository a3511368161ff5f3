package agent

// sweepAll finds nothing here: the system does not show a process's environment,
// and without a journal nothing else names one.
func sweepAll(func(n int64) string) bool { return true }
