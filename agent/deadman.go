package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"dsvmpools/agent/deleteself"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

// defaultAloneAfter is longer than a bad day of a region, and shorter than a night.
const defaultAloneAfter = 6 * time.Hour

// powerOffTimeout bounds the command, which normally ends the agent as well.
const powerOffTimeout = time.Minute

// deleteTimeout bounds the request to delete the machine, with its tries.
const deleteTimeout = 5 * time.Minute

// deletedWithin is how long Azure may take to delete the machine after it has accepted the
// request: it takes a minute or two.
const deletedWithin = 15 * time.Minute

// deadMan is the dead man's switch of a node. Nobody deletes a node whose pool has died,
// and it costs money until somebody looks. So an agent that has heard nothing from its
// pool for hours, and runs nothing, deletes its machine; where that is not possible it
// powers the machine off, which Azure goes on billing. A pool that lives sends a
// word (`here`) to every idle node each hour, so that such a silence means there is none.
type deadMan struct {
	after      time.Duration
	isIdle     func() bool                     // nothing runs on the node or waits to
	deleteSelf func(ctx context.Context) error // asks for the deletion of the machine; nil = it is not asked for
	powerOff   func(ctx context.Context) error // nil = the machine is left on
	log        *slog.Logger
	heardAt    atomic.Int64 // when the pool was heard last, in Unix nanoseconds
}

// newDeadMan returns the switch, as if the pool was heard now.
func newDeadMan(cfg Config, isIdle func() bool, log *slog.Logger) *deadMan {
	d := &deadMan{after: cfg.AloneAfter, isIdle: isIdle, deleteSelf: cfg.deleteSelf, log: log}
	if len(cfg.PowerOff) > 0 {
		d.powerOff = func(ctx context.Context) error { return runCommand(ctx, cfg.PowerOff) }
	}
	d.noteWord()
	return d
}

// noteWord notes that the pool was heard.
func (d *deadMan) noteWord() { d.heardAt.Store(time.Now().UnixNano()) }

// watch ends the machine when the time has come, and again after as long when that
// did not help. It ends with the context.
func (d *deadMan) watch(ctx context.Context) {
	if d.powerOff == nil && d.deleteSelf == nil {
		return
	}
	for {
		wait := d.after - time.Since(time.Unix(0, d.heardAt.Load()))
		if wait <= 0 {
			if d.isIdle() {
				d.pull(ctx)
				d.noteWord()
			}
			wait = max(d.after/10, time.Millisecond)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// pull deletes the machine, and powers it off when it is still there afterwards.
func (d *deadMan) pull(ctx context.Context) {
	if d.deleteSelf != nil && d.requestDeletion(ctx) {
		t := time.NewTimer(deletedWithin)
		defer t.Stop()
		select {
		case <-t.C:
			d.log.Error("deleting the machine has had no effect", "within", job.Duration(deletedWithin).String())
		case <-ctx.Done():
			return
		}
	}
	if d.powerOff == nil || ctx.Err() != nil {
		return
	}
	d.log.Warn("powering the machine off: the pool has been silent for too long", "after", job.Duration(d.after).String())
	ctx, cancel := context.WithTimeout(ctx, powerOffTimeout)
	defer cancel()
	if err := d.powerOff(ctx); err != nil && ctx.Err() == nil {
		d.log.Error("powering the machine off has failed; check DSVM_POWER_OFF", "error", err.Error())
	}
}

// requestDeletion asks for the deletion of the machine. It reports whether Azure has
// accepted the request.
func (d *deadMan) requestDeletion(ctx context.Context) bool {
	d.log.Warn("deleting the machine: the pool has been silent for too long", "after", job.Duration(d.after).String())
	ctx, cancel := context.WithTimeout(ctx, deleteTimeout)
	defer cancel()
	err := d.deleteSelf(ctx)
	if err != nil && ctx.Err() == nil {
		d.log.Error("deleting the machine has failed", "error", err.Error())
	}
	return err == nil
}

// setDeleteSelf makes ready how the node deletes itself, if it is to.
func (c *Config) setDeleteSelf() error {
	if !c.DeleteSelf {
		return nil
	}
	if c.identity == nil {
		return fault.New(fault.Invalid, "DSVM_DELETE_SELF",
			"a node deletes itself with its own identity, and this one has a connection string in its place; leave DSVM_DELETE_SELF out")
	}
	client, err := deleteself.New(c.ResourceManager, c.identity)
	if err != nil {
		return err
	}
	m := newMetadata(c.Metadata)
	c.deleteSelf = func(ctx context.Context) error {
		id, err := m.resourceID(ctx)
		if err != nil {
			return err
		}
		return client.Delete(ctx, id)
	}
	return nil
}

// runCommand runs a command to its end. The error quotes what the command says.
func runCommand(ctx context.Context, argv []string) error {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if said := strings.TrimSpace(string(out)); err != nil && said != "" {
		err = fmt.Errorf("%w: %s", err, startfault.Clip(said))
	}
	return err
}
