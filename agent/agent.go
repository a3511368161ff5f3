package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"

	"dsvmpools/agent/door"
	"dsvmpools/agent/process"
	"dsvmpools/agent/source"
	"dsvmpools/shared/backoff"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// Pauses between tries of whatever failed: Service Bus, the share, the disk.
const (
	firstPause = 200 * time.Millisecond
	lastPause  = 15 * time.Second
)

// lockWithin is how long another agent may take to let go of the directory.
const lockWithin = time.Second

// agent is one life of the agent: its parts, and what an earlier life has left.
type agent struct {
	cfg Config
	log *slog.Logger

	*notebook
	launcher *launcher
	fetcher  *source.Fetcher
	orphans  []protocol.Assignment // attempts that an earlier life had started, until their files are handed over

	booter   *booter
	starter  *starter
	sessions *sessions
	entries  *entries
	leaver   *leaver
	reporter *reporter
	listener *listener
	deadMan  *deadMan
}

// Run is an agent's life: it ends with its context, with an error when it
// cannot begin. A node that was given up stays in Run, doing nothing, so that
// nothing starts it over and over.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.check(); err != nil {
		return err
	}
	if cfg.Metadata != "" && !cfg.identify(ctx) {
		return nil
	}
	if err := cfg.checkIdentity(); err != nil {
		return err
	}
	var err error
	if cfg.identity, err = cfg.credential(); err != nil {
		return err
	}
	if err := cfg.setDeleteSelf(); err != nil {
		return err
	}
	b, err := openServiceBus(cfg)
	if err != nil {
		return err
	}
	return live(ctx, cfg, b)
}

// live is Run on any bus.
func live(ctx context.Context, cfg Config, b bus) error {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.InstanceDir, 0o755); err != nil {
		return fmt.Errorf("the agent's directory cannot be made; check DSVM_INSTANCE_DIR: %w", err)
	}
	unlock, err := lockDir(cfg.InstanceDir)
	if err != nil {
		return err
	}
	defer unlock()
	a := &agent{cfg: cfg, log: log}
	if err := a.resume(); err != nil {
		return err
	}
	defer a.journal.close()
	defer a.launcher.removeTrees()
	defer a.launcher.slots.close()
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		b.close(ctx)
	}()
	a.makeParts(b)
	defer a.entries.shut()
	aloneCtx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	watching.Go(func() { a.deadMan.watch(aloneCtx) })
	watching.Go(func() { a.sessions.keepCertificate(aloneCtx) })
	watching.Go(func() {
		door.Keep(aloneCtx, filepath.Join(cfg.InstanceDir, "doors"), cfg.VMID, filepath.Join(cfg.InstanceDir, "door.log"), log)
	})
	if a.stopReason() == "" {
		if err := a.takeWork(ctx); err != nil {
			return err
		}
	}
	if why := a.stopReason(); why != "" && ctx.Err() == nil {
		a.sessions.killAll(why) // also those that the agent was killed before it could end
		log.Info("resting: the pool has given this node up", "reason", why)
		<-ctx.Done()
	}
	return nil
}

// takeWork takes work and reports until the context or the node's part in the pool
// ends, and returns when nothing of it runs any more. The error is that the
// journal cannot be written.
func (a *agent) takeWork(ctx context.Context) error {
	if !a.booter.run(ctx) {
		return nil
	}
	a.handOverOrphans()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	startCtx, stopStarting := context.WithCancel(context.Background())
	sessionsCtx, leaveSessions := context.WithCancel(context.Background())
	a.starter.sessionsCtx = sessionsCtx
	a.sessions.adopt(sessionsCtx)
	var starting sync.WaitGroup
	for range starters {
		starting.Go(func() { a.starter.run(startCtx) })
	}
	reportCtx, stopReporting := context.WithCancel(context.Background())
	var reporting sync.WaitGroup
	reporting.Go(func() { a.reporter.run(reportCtx) })
	var watching sync.WaitGroup
	watchCtx, stopWatching := context.WithCancel(ctx)
	watching.Go(func() { a.leaver.watch(watchCtx) })
	watching.Go(func() { a.watchUnsaved(watchCtx, end) })

	a.listener.keepSession(ctx)

	stopWatching()
	watching.Wait()
	a.starter.endAll()
	if why := a.stopReason(); why != "" {
		a.sessions.killAll(why)
	}
	a.starter.runs.Wait()
	stopStarting()
	starting.Wait()
	leaveSessions()
	a.sessions.following.Wait()
	stopReporting()
	reporting.Wait()
	a.reporter.sendLastReport()
	a.persist(context.Background(), true, 1)
	if err := context.Cause(ctx); errors.Is(err, errUnsaved) {
		return err
	}
	return nil
}

// resume opens the journal and ends what an earlier life has left. Nothing of
// it is adopted but sessions: nobody could say whether an attempt's output is whole.
func (a *agent) resume() error {
	j, st, damaged, err := openJournal(filepath.Join(a.cfg.InstanceDir, "journal"))
	if err != nil {
		return err
	}
	a.notebook = newNotebook(a.cfg, a.log, j, st)
	if damaged > 0 {
		a.log.Error("skipping damaged journal lines", "lines", damaged)
	}
	left := map[string]process.Process{}
	l := launcher{cfg: a.cfg}
	for n, h := range st.held {
		if !h.isSession() && (h.phase == starting || h.phase == running) {
			left[l.key(n)] = h.proc
		}
	}
	if !process.KillAttempts(left) {
		a.log.Error("killing processes of an earlier agent has failed", "attempts", len(left))
	}
	if a.launcher, err = newLauncher(a.cfg); err != nil {
		j.close()
		return err
	}
	if a.fetcher, err = newFetcher(a.cfg); err != nil {
		j.close()
		return err
	}
	if st.doubt && !process.KillAll(l.node()+".") {
		a.log.Error("killing processes of an earlier agent has failed")
	}
	node, machine := protocol.SessionID(a.cfg.Pool, a.cfg.VMID), machineBoot()
	a.mu.Lock()
	if st.node != node {
		// The directory came with another VM's image or life: none of it is ours.
		a.st = newState()
		a.buffer = nil
		a.journal.broken.Store(true) // write a new file
	}
	now := time.Now().UTC()
	for _, n := range a.st.numbers() {
		h := a.st.held[n]
		// After a boot of the machine the latest lines may be missing, so that
		// something that seems to wait may have run.
		f := protocol.Finished{N: n, State: string(job.AttemptAgentRestarted), ExitCode: job.ExitAgentRestarted,
			Reason: "the node's agent ended while the attempt ran, and has started again", StartedAt: h.proc.At, EndedAt: now}
		switch {
		case h.isSession(): // it may live, and is taken over
			continue
		case h.phase == starting || h.phase == running || h.phase == waiting && a.st.machine != machine:
		case h.phase == waiting && a.st.damaged:
			f.Cause, f.Reason = job.CauseJournalLost, "the journal of the node's agent is damaged, and may have forgotten that the attempt ran"
		default:
			continue
		}
		a.orphans = append(a.orphans, h.work)
		a.recordEnd(f)
	}
	a.record(record{Node: node, Machine: machine, Doubt: a.st.damaged})
	a.mu.Unlock()
	if err := a.flush(true); err != nil {
		j.close()
		return err
	}
	return nil
}

// makeParts makes the parts that share the notebook, after resume.
func (a *agent) makeParts(b bus) {
	boot, firstSession := uuid.NewString(), make(chan struct{})
	a.launcher.givenUp = a.stopSignal
	a.deadMan = newDeadMan(a.cfg, a.isIdle, a.log)
	a.booter = newBooter(a.cfg, a.notebook, a.launcher, b, boot)
	a.sessions = newSessions(a.cfg, a.notebook, a.launcher.secrets)
	a.entries = newEntries(a.cfg, a.notebook, a.launcher, nodeKey(a.sessions.hostKey, a.log))
	a.starter = newStarter(a.cfg, a.notebook, a.launcher, a.fetcher)
	a.starter.sessions = a.sessions
	a.leaver = &leaver{notebook: a.notebook, sessions: a.sessions, metadata: a.cfg.Metadata, node: a.cfg.Node}
	a.reporter = newReporter(a.cfg, a.notebook, a.sessions, b, boot, firstSession)
	a.listener = &listener{
		notebook:     a.notebook,
		cfg:          a.cfg,
		bus:          b,
		starter:      a.starter,
		sessions:     a.sessions,
		entries:      a.entries,
		deadMan:      a.deadMan,
		boot:         boot,
		firstSession: firstSession,
	}
}

// pauses grow from one failure to the next.
type pauses struct {
	failures    int
	first, last time.Duration // 0 = firstPause, lastPause
}

// wait pauses; false when the context ends first.
func (p *pauses) wait(ctx context.Context) bool {
	p.failures++
	t := time.NewTimer(backoff.After(p.failures, cmp.Or(p.first, firstPause), cmp.Or(p.last, lastPause)))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// lockDir keeps a second agent out of the directory; the system ends the lock
// with the process.
func lockDir(dir string) (func(), error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the agent's directory cannot be used; check DSVM_INSTANCE_DIR: %w", err)
	}
	if err := lockFile(f, lockWithin); err != nil {
		f.Close()
		if errors.Is(err, process.ErrLocked) {
			return nil, fmt.Errorf("another agent uses %s; end it first, or give this one its own DSVM_INSTANCE_DIR", dir)
		}
		return nil, err
	}
	if !isNamed(f, f.Name()) {
		f.Close()
		return nil, fmt.Errorf("%s was removed while the agent started; start it again", f.Name())
	}
	return func() { f.Close() }, nil
}

// isNamed reports whether a path is that of a file that is open. A lock is on the file
// itself: one that was removed, or replaced, meanwhile keeps nobody out.
func isNamed(f *os.File, path string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(path)
	return err == nil && os.SameFile(open, named)
}

// lockFile locks a file, and tries for a while: a process that an earlier agent was just
// starting holds it for a moment more.
func lockFile(f *os.File, within time.Duration) error {
	const looks = 100
	for end := time.Now().Add(within); ; time.Sleep(within / looks) {
		if err := process.TryLock(f, false); err == nil || time.Now().After(end) {
			return err
		}
	}
}
