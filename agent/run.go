package agent

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"dsvmpools/agent/process"
	"dsvmpools/agent/source"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// endCause is why an attempt ended, if the process did not end by itself.
type endCause int

const (
	byItself endCause = iota
	byTimeout
	byCancel
	byEviction // the VM is taken away
	byAgent    // the agent ends, or its node is no part of the pool any more: no result
)

// run is an attempt that has begun, while it is this agent's: the fetching of its
// source, if it has one, and then its process.
type run struct {
	pid     int       // 0 = there is no process yet
	from    time.Time // the timeout counts from here
	began   time.Time
	timeout time.Duration // 0 = none
	grace   time.Duration
	key     string
	stop    func()       // ends the fetching; nil = there is none
	tree    source.Tree  // of the source, once it is fetched
	slot    *slot        // nil = it has no process yet
	logs    *attemptLogs // nil = it has no process yet, or writes its logs itself
	leader  bool         // the first process alone is asked to end
	memory  int64        // bytes that it may use; 0 = no bound of its own
	oom     bool         // some of it was killed for want of memory
	lost    error        // how its first process ended is not known
	env     []string     // that its process was started with
	dir     string       // the same
	as      *process.User

	mu       sync.Mutex
	over     bool // reaped: its number may be another's
	cause    endCause
	reason   string
	deadline *time.Timer
	hard     *time.Timer
	guests   *guests // people who have come in; nil = nobody has
}

// armTimeout begins the time that the attempt has.
func (r *run) armTimeout() {
	if r.timeout <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		r.deadline = time.AfterFunc(r.timeout-time.Since(r.from), func() {
			r.end(byTimeout, fmt.Sprintf("it ran longer than its timeout of %s", job.Duration(r.timeout)), r.grace)
		})
	}
}

// end asks the process's group, or the process alone, to end, and kills everything
// after the grace. The first
// cause stays; a later one can only shorten the grace.
func (r *run) end(cause endCause, reason string, grace time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	if r.cause == byItself || cause == byAgent {
		r.cause, r.reason = cause, reason
	}
	if r.pid == 0 {
		r.stop()
		return
	}
	if grace <= 0 {
		r.slot.kill(r.pid)
		return
	}
	r.slot.signal(r.pid, r.leader)
	if r.hard == nil {
		r.hard = time.AfterFunc(grace, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			if !r.over {
				r.slot.kill(r.pid)
			}
		})
	}
}

// startProcess gives a run whose source was fetched its process, unless it was ended
// meanwhile.
func (r *run) startProcess(start func() (int, error)) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cause != byItself {
		return errEnded
	}
	r.pid, err = start()
	return err
}

// errEnded reaches nobody: the cause of the end is reported instead.
var errEnded = errors.New("the attempt has ended")

// resultWithoutProcess ends a run that never got its process, and returns how: as it was
// asked to, or by what went wrong; well, if nothing did.
func (r *run) resultWithoutProcess(n int64, err error) (protocol.Finished, bool) {
	r.mu.Lock()
	r.over = true
	if r.deadline != nil {
		r.deadline.Stop()
	}
	r.mu.Unlock()
	var none syscall.WaitStatus
	f, reported := r.result(n, none, time.Now())
	if r.cause == byItself && err != nil {
		f.State, f.ExitCode, f.Cause, f.Reason = string(job.AttemptStartFailed), job.ExitStartFailed, causeOf(err), err.Error()
	}
	if r.cause == byTimeout {
		f.Reason += ", while its source was being fetched"
	}
	return f, reported
}

// setLaunch gives a run what its process is started with.
func (r *run) setLaunch(l *launch, w protocol.Assignment) {
	r.slot, r.leader, r.memory, r.logs = l.slot, w.Stop == job.StopLeader, w.Memory, l.dir.logs
	r.env, r.dir, r.as = l.attr.Env, l.attr.Dir, l.as
}

// wait returns when the process has ended and everything that it has left with it.
func (r *run) wait() (syscall.WaitStatus, time.Time) {
	status, at, err := r.slot.wait(r)
	r.endGuests(guestsWithin)
	if at.Before(r.began) { // it had ended before its start was noted
		at = r.began
	}
	r.lost, r.oom = err, r.slot.hadOOMKill()
	return status, at
}

// markReaped ends the time in which the process can be signalled, with what takes its
// number away.
func (r *run) markReaped(how func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	how()
	r.over = true
	if r.guests != nil {
		close(r.guests.ended) // before they are killed: who is there learns why
	}
	for _, t := range []*time.Timer{r.deadline, r.hard} {
		if t != nil {
			t.Stop()
		}
	}
}

// result says how the attempt ended; false = nothing is reported.
func (r *run) result(n int64, status syscall.WaitStatus, at time.Time) (protocol.Finished, bool) {
	f := protocol.Finished{N: n, StartedAt: r.began, EndedAt: at.UTC()}
	switch {
	case r.cause == byAgent:
		return f, false
	case r.cause == byTimeout:
		f.State, f.ExitCode, f.Reason = string(job.AttemptTimedOut), job.ExitTimedOut, r.reason
	case r.cause == byEviction:
		f.State, f.ExitCode, f.Reason = string(job.AttemptEvicted), job.ExitEvicted, r.reason
	case r.cause == byCancel:
		f.State, f.ExitCode, f.Reason = string(job.AttemptCancelled), job.ExitCancelled, r.reason
	case r.lost != nil:
		f.State, f.ExitCode, f.Reason = string(job.AttemptFailed), 128+int(syscall.SIGKILL), r.lost.Error()
	case status.Signaled():
		f.State, f.ExitCode = string(job.AttemptFailed), 128+int(status.Signal())
		f.Reason = fmt.Sprintf("its process was ended by signal %d (%s)", int(status.Signal()), status.Signal())
	case status.ExitStatus() == 0:
		f.State = string(job.AttemptSucceeded)
	default:
		f.State, f.ExitCode = string(job.AttemptFailed), status.ExitStatus()
		f.Reason = fmt.Sprintf("its process ended with exit code %d", f.ExitCode)
	}
	if cut := r.logs.cut(); cut != (job.LogsCut{}) {
		f.LogsCut = &cut
	}
	if r.oom && f.State != string(job.AttemptSucceeded) {
		f.Reason += "; " + r.outOfMemoryReason()
	}
	return f, true
}

// outOfMemoryReason says what ran out.
func (r *run) outOfMemoryReason() string {
	if r.memory > 0 {
		return fmt.Sprintf("out of memory: it needed more than its %v", job.Bytes(r.memory))
	}
	return "out of memory: the node had no more"
}
