//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"dsvmpools/agent/process"
	"dsvmpools/agent/source"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/backoff"
	"dsvmpools/shared/job"
	"dsvmpools/shared/patience"
	"dsvmpools/shared/protocol"
)

// Pauses between tries of whatever failed: Service Bus, the share, the disk.
const (
	firstPause = 200 * time.Millisecond
	lastPause  = 15 * time.Second
)

// lockWithin is how long another agent may take to let go of the directory.
const lockWithin = time.Second

// agent is one life of the agent.
type agent struct {
	cfg      Config
	log      *slog.Logger
	bus      bus
	launcher *launcher
	fetcher  *source.Fetcher
	deadMan  *deadMan
	boot     string

	starts  chan int64
	wake    chan struct{} // something to report; one token
	begun   chan struct{} // closed when the session was held for the first time
	ended   chan struct{} // closed when the node is to do nothing any more
	cleared chan struct{} // closed when the node leaves and everything of it is reported
	leaveBy atomic.Int64  // when attempts of a node that leaves are killed, in Unix nanoseconds
	runs    sync.WaitGroup

	*notebook                       // its mu guards what follows, too
	closing   bool                  // nothing is started any more
	leaving   string                // why the VM is about to go; "" = it is not
	orphans   []protocol.Assignment // attempts that an earlier life had started, until their files are handed over
	counted   bool                  // the pool has given its counter to this life
	out       outbox
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
	a := &agent{cfg: cfg, log: log, bus: b, boot: uuid.NewString(),
		starts: make(chan int64, startQueue), wake: make(chan struct{}, 1),
		begun: make(chan struct{}), ended: make(chan struct{}), cleared: make(chan struct{})}
	if err := a.resume(); err != nil {
		return err
	}
	defer a.journal.close()
	defer a.launcher.slots.close()
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		b.close(ctx)
	}()
	a.deadMan = newDeadMan(cfg, a.isIdle, log)
	aloneCtx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	watching.Go(func() { a.deadMan.watch(aloneCtx) })
	if a.stopReason() == "" {
		if err := a.takeWork(ctx); err != nil {
			return err
		}
	}
	if why := a.stopReason(); why != "" && ctx.Err() == nil {
		log.Info("resting: the pool has given this node up", "reason", why)
		<-ctx.Done()
	}
	return nil
}

// takeWork takes work and reports until the context or the node's part in the pool
// ends, and returns when nothing of it runs any more. The error is that the
// journal cannot be written.
func (a *agent) takeWork(ctx context.Context) error {
	if !a.awaitShare(ctx) {
		return nil
	}
	a.handOverOrphans()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	startCtx, stopStarting := context.WithCancel(context.Background())
	var starting sync.WaitGroup
	for range starters {
		starting.Go(func() { a.runStarter(startCtx) })
	}
	reportCtx, stopReporting := context.WithCancel(context.Background())
	var reporting sync.WaitGroup
	reporting.Go(func() { a.runReporter(reportCtx) })
	var watching sync.WaitGroup
	watchCtx, stopWatching := context.WithCancel(ctx)
	watching.Go(func() { a.watchEvents(watchCtx) })
	watching.Go(func() { a.watchUnsaved(watchCtx, end) })

	a.keepSession(ctx)

	stopWatching()
	watching.Wait()
	a.endAll()
	a.runs.Wait()
	stopStarting()
	starting.Wait()
	stopReporting()
	reporting.Wait()
	a.sendLastReport()
	a.persist(context.Background(), true, 1)
	if err := context.Cause(ctx); errors.Is(err, errUnsaved) {
		return err
	}
	return nil
}

// resume opens the journal and ends what an earlier life has left. Nothing of
// it is adopted: nobody could say whether its output is whole.
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
		if h.phase == starting || h.phase == running {
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

// awaitShare waits until the share is there: a node without it would only fail
// jobs. False when the context ends first.
func (a *agent) awaitShare(ctx context.Context) bool {
	pause := pauses{}
	for {
		_, err := patience.Do(a.launcher.calls, a.cfg.StartWithin, func() (*os.Root, error) {
			root, _, err := a.launcher.share.open()
			return root, err
		}, nil)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		a.log.Error("opening the share has failed; mount it at SHARE_PATH", "path", a.cfg.Share, "error", startfault.Innermost(err).Error())
		if !pause.wait(ctx) {
			return false
		}
	}
}

// isIdle reports whether nothing runs on the node or waits to.
func (a *agent) isIdle() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.st.held {
		if h.phase != ended {
			return false
		}
	}
	return true
}

// endAll starts nothing more and ends what runs.
func (a *agent) endAll() {
	a.mu.Lock()
	a.closing = true
	var all []*run
	for _, h := range a.st.held {
		if h.run != nil {
			all = append(all, h.run)
		}
	}
	a.mu.Unlock()
	grace := a.killGrace()
	for _, r := range all {
		r.end(byAgent, "", grace)
	}
}

// killGrace is what an attempt gets when the agent ends it. A node that was given
// up has none: its work may be placed elsewhere soon.
func (a *agent) killGrace() time.Duration {
	if a.stopReason() != "" {
		return 0
	}
	return a.cfg.KillGrace
}

// giveUp ends the node's part in the pool for good.
func (a *agent) giveUp(why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.st.over == "" {
		a.record(record{Over: why})
		close(a.ended)
	}
}

// stopReason says why the node is to do nothing any more; "" = it works.
func (a *agent) stopReason() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.st.over
}

// wakeReporter wakes the reporter.
func (a *agent) wakeReporter() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// pauses grow from one failure to the next.
type pauses struct{ failures int }

// wait pauses; false when the context ends first.
func (p *pauses) wait(ctx context.Context) bool {
	p.failures++
	t := time.NewTimer(backoff.After(p.failures, firstPause, lastPause))
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
	f, err := os.OpenFile(filepath.Join(dir, "agent.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the agent's directory cannot be used; check DSVM_INSTANCE_DIR: %w", err)
	}
	if err := lockFile(f, lockWithin); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another agent uses %s; end it first, or give this one its own DSVM_INSTANCE_DIR", dir)
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}

// lockFile locks a file, and tries for a while: a process that an earlier agent was just
// starting holds it for a moment more.
func lockFile(f *os.File, within time.Duration) error {
	const looks = 100
	for end := time.Now().Add(within); ; time.Sleep(within / looks) {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil || time.Now().After(end) {
			return err
		}
	}
}
