//go:build unix

package agent

import (
	"context"
	"time"

	"dsvmpools/agent/process"
	"dsvmpools/agent/source"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// starters is how many attempts are prepared side by side: the share answers a
// request in milliseconds, so one after the other would make a batch wait.
const starters = 4

// startQueue bounds the assignments that wait for a starter. A full queue holds
// up receiving, which holds up nobody else.
const startQueue = 4096

// exitFile is the exit code of an attempt that was to read a file and cannot use
// it: that of most programs that cannot use their input.
const exitFile = 1

// runStarter prepares attempts and has them started.
func (a *agent) runStarter(ctx context.Context) {
	for {
		select {
		case n := <-a.starts:
			a.advanceStart(n)
		case <-ctx.Done():
			return
		}
	}
}

// advanceStart takes an assignment a step further: one that still waits, or one whose
// source is there now.
func (a *agent) advanceStart(n int64) {
	a.mu.Lock()
	h := a.st.held[n]
	var fetched *run
	if h != nil {
		fetched = h.run
	}
	ok := h != nil && a.mayStart(h)
	a.mu.Unlock()
	switch {
	case fetched != nil:
		a.startFetched(n, h.work, fetched)
	case ok && h.work.Source != nil:
		a.startFetching(n, h)
	case ok:
		a.startPlain(n, h)
	}
}

// mayStart reports whether an assignment waits and is not held up: it may have
// been cancelled meanwhile. The caller holds a.mu.
func (a *agent) mayStart(h *held) bool {
	return h.phase == waiting && !a.closing && a.leaving == ""
}

// startPlain starts an assignment without a source.
func (a *agent) startPlain(n int64, h *held) {
	from := time.Now() // what the share takes counts as well
	launch, err := a.prepare(n, h.work, source.Tree{})
	if err != nil {
		a.failStart(n, h.work, err)
		return
	}
	defer launch.dir.close()
	a.mu.Lock()
	ok := a.mayStart(h)
	if ok {
		a.record(record{N: n, Starting: true})
		a.runs.Add(1)
	}
	a.mu.Unlock()
	if !ok {
		a.launcher.putAwayInTime(n, h.work)
		a.launcher.clean(n, h.work)
		return
	}
	// Written before the process exists, so that it is never started twice.
	if err := a.flush(false); err != nil {
		a.runs.Done()
		a.failStart(n, h.work, err)
		return
	}
	pid, err := launch.start()
	r := a.newRun(n, h.work, from)
	r.pid = pid
	r.setLaunch(launch, h.work)
	if err == nil && a.isStartedLate(h) {
		r.end(byAgent, "", 0)
		r.wait()
		err = errStartLate(a.cfg.StartWithin)
	}
	if err != nil {
		a.runs.Done()
		a.failStart(n, h.work, err)
		return
	}
	birth := process.BirthOf(pid)
	a.mu.Lock()
	a.record(record{N: n, Started: &process.Process{PID: pid, Birth: birth, At: r.began}})
	h.run = r
	cancelled, closing, leaving := h.cancel, a.closing, a.leaving
	a.out.started = append(a.out.started, n)
	a.mu.Unlock()
	r.armTimeout()
	switch {
	case closing:
		r.end(byAgent, "", a.killGrace())
	case leaving != "":
		r.end(byEviction, leaving, a.remainingGrace())
	case cancelled != "":
		r.end(byCancel, cancelled, a.cfg.KillGrace)
	}
	go a.awaitEnd(n, h.work, r)
	a.logUnsaved(a.flush(false))
	a.wakeReporter()
}

// newRun is a run that begins now; its timeout counts from an earlier time.
func (a *agent) newRun(n int64, w protocol.Assignment, from time.Time) *run {
	return &run{
		from:    from,
		began:   time.Now().UTC(),
		timeout: seconds(w.TimeoutSeconds),
		grace:   a.cfg.KillGrace,
		key:     a.launcher.key(n),
	}
}

// startFetching begins to fetch an assignment's source. From here on the attempt runs: its
// timeout counts, and it can be ended like any other. The starter does not wait.
func (a *agent) startFetching(n int64, h *held) {
	if err := checkAssignment(h.work); err != nil {
		a.failStart(n, h.work, err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	r := a.newRun(n, h.work, time.Now())
	r.stop = stop
	a.mu.Lock()
	ok := a.mayStart(h)
	if ok {
		a.record(record{N: n, Started: &process.Process{At: r.began}})
		h.stopStartDeadline()
		h.run = r
		a.out.started = append(a.out.started, n)
		a.runs.Add(1)
	}
	a.mu.Unlock()
	if !ok {
		stop()
		return
	}
	r.armTimeout()
	go func() {
		defer stop()
		tree, err := a.placeSource(ctx, n, h.work)
		if err != nil || readsFile(h.work) {
			a.endWithoutProcess(n, h.work, r, tree.File, err)
			return
		}
		r.tree = tree
		a.starts <- n // the starters outlive every run
	}()
	a.logUnsaved(a.flush(false))
	a.wakeReporter()
}

// startFetched starts an attempt in the work tree that was fetched for it.
func (a *agent) startFetched(n int64, w protocol.Assignment, r *run) {
	launch, err := a.prepare(n, w, r.tree)
	if err == nil {
		defer launch.dir.close()
		r.setLaunch(launch, w)
		err = r.startProcess(launch.start)
	}
	if err != nil {
		a.endWithoutProcess(n, w, r, "", err)
		return
	}
	birth := process.BirthOf(r.pid)
	a.mu.Lock()
	a.record(record{N: n, Started: &process.Process{PID: r.pid, Birth: birth, At: r.began}})
	a.mu.Unlock()
	go a.awaitEnd(n, w, r)
	a.logUnsaved(a.flush(false))
}

// endWithoutProcess ends an attempt that has begun and never got its process: something
// went wrong, or it was to read a file and did.
func (a *agent) endWithoutProcess(n int64, w protocol.Assignment, r *run, file string, err error) {
	defer a.runs.Done()
	f, told := r.resultWithoutProcess(n, err)
	a.launcher.putAwayInTime(n, w)
	switch {
	case f.State == string(job.AttemptSucceeded):
		f.File = file
	case f.State == string(job.AttemptStartFailed) && hasWrongFile(err):
		f.State, f.ExitCode, f.Cause = string(job.AttemptFailed), exitFile, ""
	}
	a.concludeAttempt(n, w, f, told)
	if f.State == string(job.AttemptStartFailed) {
		a.log.Info("starting attempt has failed",
			"n", n, "job", startfault.Clip(w.Job), "attempt", w.Attempt, "cause", f.Cause, "reason", f.Reason)
	}
}

// concludeAttempt records an attempt's end, unless it is not reported, and removes what
// is local of it.
func (a *agent) concludeAttempt(n int64, w protocol.Assignment, f protocol.Finished, told bool) {
	if told {
		a.mu.Lock()
		a.recordEnd(f)
		a.mu.Unlock()
		a.logUnsaved(a.flush(false))
		a.wakeReporter()
	}
	a.launcher.clean(n, w)
}

// failStart ends an assignment that could not be started.
func (a *agent) failStart(n int64, w protocol.Assignment, err error) {
	a.launcher.putAwayInTime(n, w)
	a.concludeAttempt(n, w, startFailure(n, err), true)
	a.log.Info("starting attempt has failed",
		"n", n, "job", startfault.Clip(w.Job), "attempt", w.Attempt, "cause", causeOf(err), "reason", err.Error())
}

// startFailure is the end of an attempt that could not be started.
func startFailure(n int64, err error) protocol.Finished {
	return protocol.Finished{
		N:        n,
		State:    string(job.AttemptStartFailed),
		ExitCode: job.ExitStartFailed,
		Cause:    causeOf(err),
		Reason:   err.Error(),
		EndedAt:  time.Now().UTC(),
	}
}

// awaitEnd follows an attempt to its end.
func (a *agent) awaitEnd(n int64, w protocol.Assignment, r *run) {
	defer a.runs.Done()
	status, at := r.wait()
	a.launcher.putAwayInTime(n, w)
	f, told := r.result(n, status, at)
	a.concludeAttempt(n, w, f, told)
}

// recordEnd records an end and has it reported. The caller holds a.mu.
func (a *agent) recordEnd(f protocol.Finished) {
	if h := a.st.held[f.N]; h != nil && h.phase == ended {
		return
	}
	a.record(record{Finished: &f})
	a.st.held[f.N].stopStartDeadline()
	a.st.held[f.N].run = nil
	a.out.finished = append(a.out.finished, f.N)
}

// seconds is a timeout; what is too long to matter is none.
func seconds(n int64) time.Duration {
	const century = 100 * 365 * 24 * 60 * 60
	if n <= 0 || n > century {
		return 0
	}
	return time.Duration(n) * time.Second
}
