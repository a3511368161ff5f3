//go:build unix

package agent

import (
	"context"
	"sync"
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

// starter starts the node's attempts, and follows each of them to its end.
type starter struct {
	*notebook
	cfg      Config
	launcher *launcher
	fetcher  *source.Fetcher

	queue chan int64     // assignments that wait for one of the goroutines of run
	runs  sync.WaitGroup // one for each attempt that has begun
}

func newStarter(cfg Config, b *notebook, l *launcher, f *source.Fetcher) *starter {
	return &starter{notebook: b, cfg: cfg, launcher: l, fetcher: f, queue: make(chan int64, startQueue)}
}

// enqueue puts assignments into the queue.
func (s *starter) enqueue(ctx context.Context, numbers []int64) {
	for _, n := range numbers {
		select {
		case s.queue <- n:
		case <-ctx.Done():
			return // they are in the journal
		}
	}
}

// run starts what is in the queue, until the context ends.
func (s *starter) run(ctx context.Context) {
	for {
		select {
		case n := <-s.queue:
			s.advanceStart(n)
		case <-ctx.Done():
			return
		}
	}
}

// advanceStart takes an assignment a step further: one that still waits, or one whose
// source is there now.
func (s *starter) advanceStart(n int64) {
	s.mu.Lock()
	h := s.st.held[n]
	var fetched *run
	if h != nil {
		fetched = h.run
	}
	ok := h != nil && s.mayStart(h)
	s.mu.Unlock()
	switch {
	case fetched != nil:
		s.startFetched(n, h.work, fetched)
	case ok && h.work.Source != nil:
		s.startFetching(n, h)
	case ok:
		s.startPlain(n, h)
	}
}

// mayStart reports whether an assignment waits and is not held up: it may have
// been cancelled meanwhile. The caller holds mu.
func (s *starter) mayStart(h *held) bool {
	return h.phase == waiting && !s.closing && s.leaveReason == ""
}

// startPlain starts an assignment without a source.
func (s *starter) startPlain(n int64, h *held) {
	from := time.Now() // what the share takes counts as well
	launch, err := s.launcher.prepareInTime(n, h.work, source.Tree{})
	if err != nil {
		s.failStart(n, h.work, err)
		return
	}
	defer launch.dir.close()
	s.mu.Lock()
	ok := s.mayStart(h)
	if ok {
		s.record(record{N: n, Starting: true})
		s.runs.Add(1)
	}
	s.mu.Unlock()
	if !ok {
		s.launcher.putAwayInTime(n, h.work)
		s.launcher.clean(n, h.work)
		return
	}
	// Written before the process exists, so that it is never started twice.
	if err := s.flush(false); err != nil {
		s.runs.Done()
		s.failStart(n, h.work, err)
		return
	}
	pid, err := launch.start()
	r := s.newRun(n, h.work, from)
	r.pid = pid
	r.setLaunch(launch, h.work)
	if err == nil && s.isStartedLate(h) {
		r.end(byAgent, "", 0)
		r.wait()
		err = errStartLate(s.cfg.StartWithin)
	}
	if err != nil {
		s.runs.Done()
		s.failStart(n, h.work, err)
		return
	}
	birth := process.BirthOf(pid)
	s.mu.Lock()
	s.record(record{N: n, Started: &process.Process{PID: pid, Birth: birth, At: r.began}})
	h.run = r
	cancelReason, closing, leaveReason, killAt := h.cancel, s.closing, s.leaveReason, s.killAt
	s.out.started = append(s.out.started, n)
	s.mu.Unlock()
	r.armTimeout()
	switch {
	case closing:
		r.end(byAgent, "", s.killGrace())
	case leaveReason != "":
		r.end(byEviction, leaveReason, time.Until(killAt))
	case cancelReason != "":
		r.end(byCancel, cancelReason, s.cfg.KillGrace)
	}
	go s.awaitEnd(n, h.work, r)
	s.logUnsaved(s.flush(false))
	s.wakeReporter()
}

// newRun is a run that begins now; its timeout counts from an earlier time.
func (s *starter) newRun(n int64, w protocol.Assignment, from time.Time) *run {
	return &run{
		from:    from,
		began:   time.Now().UTC(),
		timeout: seconds(w.TimeoutSeconds),
		grace:   s.cfg.KillGrace,
		key:     s.launcher.key(n),
	}
}

// startFetching begins to fetch an assignment's source. From here on the attempt runs: its
// timeout counts, and it can be ended like any other. The starter does not wait.
func (s *starter) startFetching(n int64, h *held) {
	if err := checkAssignment(h.work); err != nil {
		s.failStart(n, h.work, err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	r := s.newRun(n, h.work, time.Now())
	r.stop = stop
	s.mu.Lock()
	ok := s.mayStart(h)
	if ok {
		s.record(record{N: n, Started: &process.Process{At: r.began}})
		h.stopStartDeadline()
		h.run = r
		s.out.started = append(s.out.started, n)
		s.runs.Add(1)
	}
	s.mu.Unlock()
	if !ok {
		stop()
		return
	}
	r.armTimeout()
	go func() {
		defer stop()
		tree, err := s.placeSource(ctx, n, h.work)
		if err != nil || readsFile(h.work) {
			s.endWithoutProcess(n, h.work, r, tree.File, err)
			return
		}
		r.tree = tree
		s.queue <- n // run does not end before the last attempt
	}()
	s.logUnsaved(s.flush(false))
	s.wakeReporter()
}

// startFetched starts an attempt in the work tree that was fetched for it.
func (s *starter) startFetched(n int64, w protocol.Assignment, r *run) {
	launch, err := s.launcher.prepareInTime(n, w, r.tree)
	if err == nil {
		defer launch.dir.close()
		r.setLaunch(launch, w)
		err = r.startProcess(launch.start)
	}
	if err != nil {
		s.endWithoutProcess(n, w, r, "", err)
		return
	}
	birth := process.BirthOf(r.pid)
	s.mu.Lock()
	s.record(record{N: n, Started: &process.Process{PID: r.pid, Birth: birth, At: r.began}})
	s.mu.Unlock()
	go s.awaitEnd(n, w, r)
	s.logUnsaved(s.flush(false))
}

// endWithoutProcess ends an attempt that has begun and never got its process: something
// went wrong, or it was to read a file and did.
func (s *starter) endWithoutProcess(n int64, w protocol.Assignment, r *run, file string, err error) {
	defer s.runs.Done()
	f, told := r.resultWithoutProcess(n, err)
	s.launcher.putAwayInTime(n, w)
	switch {
	case f.State == string(job.AttemptSucceeded):
		f.File = file
	case f.State == string(job.AttemptStartFailed) && hasWrongFile(err):
		f.State, f.ExitCode, f.Cause = string(job.AttemptFailed), exitFile, ""
	}
	s.concludeAttempt(n, w, f, told)
	if f.State == string(job.AttemptStartFailed) {
		s.log.Info("starting attempt has failed",
			"n", n, "job", startfault.Clip(w.Job), "attempt", w.Attempt, "cause", f.Cause, "reason", f.Reason)
	}
}

// concludeAttempt records an attempt's end, unless it is not reported, and removes what
// is local of it.
func (s *starter) concludeAttempt(n int64, w protocol.Assignment, f protocol.Finished, told bool) {
	if told {
		s.mu.Lock()
		s.recordEnd(f)
		s.mu.Unlock()
		s.logUnsaved(s.flush(false))
		s.wakeReporter()
	}
	s.launcher.clean(n, w)
}

// failStart ends an assignment that could not be started.
func (s *starter) failStart(n int64, w protocol.Assignment, err error) {
	s.launcher.putAwayInTime(n, w)
	s.concludeAttempt(n, w, startFailure(n, err), true)
	s.log.Info("starting attempt has failed",
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
func (s *starter) awaitEnd(n int64, w protocol.Assignment, r *run) {
	defer s.runs.Done()
	status, at := r.wait()
	s.launcher.putAwayInTime(n, w)
	f, told := r.result(n, status, at)
	s.concludeAttempt(n, w, f, told)
}

// endAll starts nothing more and ends what runs.
func (s *starter) endAll() {
	s.mu.Lock()
	s.closing = true
	var all []*run
	for _, h := range s.st.held {
		if h.run != nil {
			all = append(all, h.run)
		}
	}
	s.mu.Unlock()
	grace := s.killGrace()
	for _, r := range all {
		r.end(byAgent, "", grace)
	}
}

// killGrace is what an attempt gets when the agent ends it. A node that was given
// up has none: its work may be placed elsewhere soon.
func (s *starter) killGrace() time.Duration {
	if s.stopReason() != "" {
		return 0
	}
	return s.cfg.KillGrace
}

// seconds is a timeout; what is too long to matter is none.
func seconds(n int64) time.Duration {
	const century = 100 * 365 * 24 * 60 * 60
	if n <= 0 || n > century {
		return 0
	}
	return time.Duration(n) * time.Second
}
