package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"dsvmpools/shared/boot"
	"dsvmpools/shared/patience"
	"dsvmpools/shared/protocol"
)

// booter makes a node ready for work, stage by stage, and reports which stage
// waits and for what. Until the last stage is done the node does not take its session.
type booter struct {
	*notebook
	cfg      Config
	launcher *launcher
	bus      bus
	start    string         // of this start of the agent, as in Ready
	document *boot.Document // nil = not read yet
	setups   int            // that have failed
	gpusFrom time.Time      // since when the GPUs are counted; zero = not yet

	stageMu sync.Mutex
	now     protocol.Booting // Stage "" = nothing has begun
	changed chan struct{}    // one token
}

// errLast marks the error of a stage that will not succeed on this node.
type errLast struct{ error }

func (e errLast) Unwrap() error { return e.error }

// stage is a condition of taking work.
type stage struct {
	name  string // as in protocol.Booting
	waits string // what is said before the first answer
	check func(ctx context.Context) error
	log   string // what the log says when check has failed
	pause pauses // between two tries
}

func newBooter(cfg Config, b *notebook, l *launcher, bus bus, start string) *booter {
	return &booter{notebook: b, cfg: cfg, launcher: l, bus: bus, start: start, changed: make(chan struct{}, 1)}
}

// run returns true when all stages are done, and false when the context ends first. Setup
// comes after the share, for which it may have use, and before the GPUs, whose driver it may
// install.
func (b *booter) run(ctx context.Context) bool {
	reportCtx, stop := context.WithCancel(ctx)
	var reporting sync.WaitGroup
	defer reporting.Wait() // a late report would take the node back to booting
	defer stop()
	reporting.Go(func() { b.reportStages(reportCtx) })
	for _, s := range []stage{{
		name:  protocol.StageShare,
		waits: "the share is being opened",
		check: b.openShare,
		log:   "opening the share has failed; mount it at SHARE_PATH",
	}, {
		name:  protocol.StageSetup,
		waits: "the pool's setup script runs",
		check: b.runSetup,
		log:   "running setup has failed",
		pause: pauses{first: cmp.Or(b.cfg.setupPause, setupPause), last: setupPauseMax},
	}, {
		name:  protocol.StageGPUs,
		waits: "the GPUs are being counted",
		check: b.checkGPUs,
		log:   "counting the GPUs has failed",
	}} {
		if !b.await(ctx, s) {
			return false
		}
	}
	return true
}

// await tries a stage until it is done. One that will not succeed is left: the pool gives
// the node up. False when the context ends first.
func (b *booter) await(ctx context.Context, s stage) bool {
	b.setStage(protocol.Booting{Stage: s.name, Reason: s.waits})
	pause := s.pause
	for {
		err := s.check(ctx)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		last := errors.As(err, new(errLast))
		b.log.Error(s.log, "error", err.Error(), "givenUp", last)
		b.setStage(protocol.Booting{Stage: s.name, Reason: shorten(err.Error()), Failed: last})
		if last {
			<-ctx.Done()
			return false
		}
		if !pause.wait(ctx) {
			return false
		}
	}
}

// openShare opens the share, where jobs must be able to write, and the pool's other shares,
// which a job may be meant to read alone.
func (b *booter) openShare(ctx context.Context) error {
	if err := b.readDocument(ctx); err != nil {
		return err
	}
	_, err := patience.Do(b.launcher.calls, b.cfg.StartWithin, func() (*os.Root, error) {
		root, _, err := b.launcher.share.open()
		if err == nil {
			err = b.launcher.openExtraShares(*b.document)
		}
		return root, err
	}, nil)
	if err != nil {
		return fmt.Errorf("the share at %s cannot be used: %w", b.cfg.Share, err)
	}
	return nil
}

// setStage notes what the node waits for.
func (b *booter) setStage(now protocol.Booting) {
	now.Boot, now.Name, now.Size = b.start, b.cfg.Node, b.cfg.Size
	b.stageMu.Lock()
	b.now = now
	b.stageMu.Unlock()
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// reportStages reports each change, when it has lasted for a moment: most boots pass all
// stages within it, and cost no report. What lasts is reported again and again, so that the
// node is not taken for silent.
func (b *booter) reportStages(ctx context.Context) {
	var sent protocol.Booting
	var sentAt time.Time
	pause := pauses{}
	for {
		wait := b.cfg.stageAfter
		b.stageMu.Lock()
		now := b.now
		b.stageMu.Unlock()
		if now == sent {
			wait = max(b.cfg.ReportEvery-time.Since(sentAt), 0)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-b.changed:
			t.Stop()
			continue
		case <-ctx.Done():
			t.Stop()
			return
		}
		if now.Stage == "" {
			continue
		}
		if err := b.sendStage(ctx, now); err != nil {
			if ctx.Err() != nil {
				return
			}
			b.log.Warn("sending a report has failed; trying again", "error", err.Error())
			if pause.failures%resetAfter == resetAfter-1 {
				b.bus.reset()
			}
			if !pause.wait(ctx) {
				return
			}
			continue
		}
		sent, sentAt, pause = now, time.Now(), pauses{}
	}
}

// sendStage reports a stage, and how attempts of an earlier life of the agent ended: they
// need not wait until the node takes work.
func (b *booter) sendStage(ctx context.Context, now protocol.Booting) error {
	if err := b.flush(true); err != nil {
		return err
	}
	items := []protocol.ReportItem{{Booting: &now}}
	b.mu.Lock()
	seen := b.st.seen
	for _, n := range b.st.numbers() {
		if h := b.st.held[n]; h.phase == ended {
			f := *h.result
			f.Reason = shorten(f.Reason)
			items = append(items, protocol.ReportItem{Finished: &f})
		}
	}
	b.mu.Unlock()
	bodies, err := protocol.EncodeReport(protocol.Report{V: protocol.Version, Pool: b.cfg.Pool, VMID: b.cfg.VMID, Seen: seen, Items: items})
	for _, body := range bodies {
		if err != nil {
			break
		}
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		err = b.bus.send(callCtx, body)
		cancel()
	}
	return err
}
