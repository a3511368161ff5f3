package agent

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"
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
	cfg         Config
	launcher    *launcher
	fetcher     *source.Fetcher
	sessions    *sessions
	sessionsCtx context.Context // ends with the agent's care for sessions, and not with them

	queue    chan int64     // assignments whose turn it is, and that wait for one of the goroutines of run
	runs     sync.WaitGroup // one for each attempt that has begun
	flushing atomic.Bool    // the journal is about to be written
}

func newStarter(cfg Config, b *notebook, l *launcher, f *source.Fetcher) *starter {
	return &starter{notebook: b, cfg: cfg, launcher: l, fetcher: f, queue: make(chan int64, startQueue)}
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
	case ok && h.isSession():
		s.sessions.open(s.sessionsCtx, n, h)
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
	started := false
	defer func() {
		if !started {
			launch.drop()
		}
	}()
	s.mu.Lock()
	ok := s.mayStart(h)
	if ok {
		s.record(record{N: n, Starting: true})
		s.runs.Add(1)
	}
	s.mu.Unlock()
	if !ok {
		s.launcher.putAwayInTime(n, h.work, s.hurry)
		s.launcher.clean(n, h.work)
		return
	}
	// Written before the process exists, so that it is never started twice.
	if err := s.flush(false); err != nil {
		s.runs.Done()
		s.failStart(n, h.work, err)
		return
	}
	started = true
	launch.slot.attend(func() { s.runPlain(n, h, launch, from) })
}

// runPlain runs an attempt without a source, on its slot's thread. From is when its time
// began.
func (s *starter) runPlain(n int64, h *held, launch *launch, from time.Time) {
	pid, err := launch.start()
	r := s.newRun(n, h.work, from)
	r.pid = pid
	r.setLaunch(launch, h.work)
	if err == nil && s.isStartedLate(h) {
		r.end(byAgent, "", 0)
		r.wait()
		launch.drop()
		launch.slot.dropPipes() // something may be in them
		err = errStartLate(s.cfg.StartWithin)
	}
	if err != nil {
		s.runs.Done()
		s.failStart(n, h.work, err)
		return
	}
	s.mu.Lock()
	s.record(record{N: n, Started: &process.Process{PID: pid, Birth: birthOf(pid), At: r.began}})
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
	s.flushSoon()
	s.wakeReporter()
	s.awaitEnd(n, h.work, r)
}

// birthOf is the start time of a process, by which it is found again. Where it is known when
// nothing is left of an attempt, nothing is left after a life of the agent either.
func birthOf(pid int) string {
	if provesEmpty {
		return ""
	}
	return process.BirthOf(pid)
}

// startedSaved is how long the start of a process may be missing in the journal. Without it
// the next life knows that there may have been a process, but not since when.
const startedSaved = 100 * time.Millisecond

// flushSoon writes what was recorded within a moment, unless something else does before.
func (s *starter) flushSoon() {
	if s.flushing.CompareAndSwap(false, true) {
		time.AfterFunc(startedSaved, func() {
			s.flushing.Store(false)
			s.logUnsaved(s.flush(false))
		})
	}
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
		r.setLaunch(launch, w)
		if err = r.startProcess(launch.start); err != nil {
			launch.drop()
		}
	}
	if err != nil {
		s.endWithoutProcess(n, w, r, "", err)
		return
	}
	s.mu.Lock()
	s.record(record{N: n, Started: &process.Process{PID: r.pid, Birth: birthOf(r.pid), At: r.began}})
	s.mu.Unlock()
	go s.awaitEnd(n, w, r)
	s.logUnsaved(s.flush(false))
}

// endWithoutProcess ends an attempt that has begun and never got its process: something
// went wrong, or it was to read a file and did.
func (s *starter) endWithoutProcess(n int64, w protocol.Assignment, r *run, file string, err error) {
	defer s.runs.Done()
	f, reported := r.resultWithoutProcess(n, err)
	s.launcher.putAwayInTime(n, w, s.hurry)
	switch {
	case f.State == string(job.AttemptSucceeded):
		f.File = file
	case f.State == string(job.AttemptStartFailed) && hasWrongFile(err):
		f.State, f.ExitCode, f.Cause = string(job.AttemptFailed), exitFile, ""
	}
	s.concludeAttempt(n, w, f, reported)
	if f.State == string(job.AttemptStartFailed) {
		s.log.Info("starting attempt has failed",
			"n", n, "job", startfault.Clip(w.Job), "attempt", w.Attempt, "cause", f.Cause, "reason", f.Reason)
	}
}

// concludeAttempt records an attempt's end, unless it is not reported, and removes what
// is local of it.
func (s *starter) concludeAttempt(n int64, w protocol.Assignment, f protocol.Finished, reported bool) {
	s.recordResult(f, reported)
	s.launcher.clean(n, w)
	s.startNext()
}

// recordResult records an attempt's end, unless it is not reported.
func (s *starter) recordResult(f protocol.Finished, reported bool) {
	if !reported {
		return
	}
	s.mu.Lock()
	s.recordEnd(f)
	s.mu.Unlock()
	s.logUnsaved(s.flush(false))
	s.wakeReporter()
}

// failStart ends an assignment that could not be started.
func (s *starter) failStart(n int64, w protocol.Assignment, err error) {
	s.launcher.putAwayInTime(n, w, s.hurry)
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

// awaitEnd follows an attempt to its end, and puts away what it leaves. The end is reported
// after that, and mostly when its slot is free again; or sooner when the share hangs, there is
// very much to put away, or the agent is in a hurry.
func (s *starter) awaitEnd(n int64, w protocol.Assignment, r *run) {
	status, at := r.wait()
	var progress atomic.Int64
	settled := make(chan struct{})
	var once sync.Once
	report := func() {
		once.Do(func() {
			f, reported := r.result(n, status, at)
			s.recordResult(f, reported)
			s.runs.Done()
		})
	}
	slow := time.AfterFunc(cmp.Or(s.cfg.quickEnd, quickEnd), func() {
		awaitHandOver(settled, s.hurry, func() int64 { return progress.Load() + r.logs.size() }, min(s.launcher.handStall, s.cfg.StartWithin))
		report()
		s.startNext()
	})
	s.launcher.settle(n, w, r, &progress)
	close(settled)
	s.launcher.clean(n, w)
	slow.Stop()
	report()
	s.startNext()
}

// quickEnd is how long the end of an attempt usually takes, at most: what it leaves is put
// away, and its slot is free again. Only one that takes longer is watched, and does not wait
// for its slot.
const quickEnd = 20 * time.Millisecond

// endAll starts nothing more and ends what runs.
func (s *starter) endAll() {
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		close(s.hurry.closing)
	}
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
