package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dsvmpools/agent/keeper"
	"dsvmpools/agent/process"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/backoff"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// site is what the slots of a node share.
type site struct {
	log    *slog.Logger
	groups *hierarchies // nil = processes are held by keepers
	lock   *os.File     // of the keepers

	earlier  []*nodeDir // in which something of an earlier life was left at the start
	ended    bool       // nothing of it is left
	keepers  bool       // of an earlier life that have not ended
	sweeping context.CancelFunc
	deciding sync.Once
	said     sync.Once // what views lack
	users    *users    // nil = slots have no users of their own
	covers   *covers
}

// hold is how processes of an attempt are held together, and what they see.
type hold struct {
	group  *group         // nil = by the keeper
	keeper *keeper.Keeper // nil = by the group
	uid    *os.File       // claims the slot's user
	view   *view          // nil = they see what the agent sees
	covers *covers        // nil = file owners keep others out
	thread int            // number of the slot's thread
}

// provesEmpty says that it is known when no process of an attempt is left.
const provesEmpty = true

// isOnThread reports whether the caller is on the slot's thread.
func (k *slot) isOnThread() bool { return unix.Gettid() == k.thread }

// attend runs something on the slot's thread that takes as long as an attempt.
func (k *slot) attend(task func()) { k.tasks <- task }

// ways of holding processes, for tests: the best there is, or a given one.
const (
	holdBest = iota
	holdV1
	holdKeeper
)

// newSite ends what an earlier life of the agent has left, and finds out what this
// system offers.
func newSite(l *launcher) (*site, error) {
	t := &site{log: l.log, ended: true}
	lock, alone, err := keeper.Await(filepath.Join(l.cfg.InstanceDir, "keepers.lock"), emptyWithin)
	if err != nil {
		return t, fmt.Errorf("the agent's directory cannot be used; check DSVM_INSTANCE_DIR: %w", err)
	}
	t.lock, t.keepers = lock, !alone
	if os.Geteuid() != 0 {
		return t, nil
	}
	own, others := findNodeDirs(l.node())
	if t.earlier = endAll(own, emptyWithin); len(t.earlier) > 0 {
		t.ended = false
		t.log.Error("ending processes of an earlier agent has failed; nothing is started until they are gone", "groups", paths(t.earlier))
	}
	if left := endAll(others, sweepWithin); len(left) > 0 {
		var ctx context.Context
		ctx, t.sweeping = context.WithCancel(context.Background())
		go t.sweepLater(ctx, left)
	}
	return t, nil
}

// sweepWithin is how long a start waits for the end of what agents have left that are gone
// for good. Then the sweep goes on while the node works.
const sweepWithin = 100 * time.Millisecond

// Pauses between two sweeps: a process that hangs in the kernel may be there for long.
const (
	firstSweep = time.Second
	lastSweep  = 5 * time.Minute
)

// sweepLater ends what agents that are gone for good have left and what could not be ended
// at once. Between two tries the directories are not held: the next agent of the machine,
// or the node's own one, may have them.
func (t *site) sweepLater(ctx context.Context, left []*nodeDir) {
	defer t.sweeping()
	t.log.Warn("ending processes of agents that are gone has failed; trying again", "groups", paths(left))
	for failures := 1; len(left) > 0; failures++ {
		for _, d := range left {
			d.close()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff.After(failures, firstSweep, lastSweep)):
		}
		tried := left
		left = nil
		for _, d := range tried {
			if d.take(0) == nil {
				left = append(left, d)
			}
		}
		left = endAll(left, sweepWithin)
	}
	t.log.Info("processes of agents that are gone have ended")
}

// paths lists directories for the log.
func paths(all []*nodeDir) (list []string) {
	for _, d := range all {
		list = append(list, d.path)
	}
	return list
}

// decide finds out what slots can have, at the first slot: the share is there then.
func (s *slots) decide() {
	if os.Geteuid() != 0 {
		return
	}
	s.decideGroups()
	s.decideUsers()
}

func (s *slots) decideGroups() {
	l := s.launcher
	if l.cfg.holdBy == holdKeeper {
		return
	}
	version := 0
	if l.cfg.holdBy == holdV1 {
		version = 1
	}
	groups, err := findGroups(l.node(), version, s.earlier)
	if err == nil {
		if err = groups.tryGroups(); err == nil {
			s.groups = groups
			return
		}
		groups.close()
	}
	s.log.Info("missing control groups: memory and cpus of jobs are not bounded, and each slot has a keeper process", "reason", err.Error())
}

// onThread runs something on a thread that is not used again, and that is not the
// process's first: with version 1 the first one's group has all of the process's
// memory, and what /proc says of a process is what it says of that thread.
func onThread(do func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != os.Getpid() {
			do()
			return
		}
		another := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(another)
			do()
		}()
		<-another // the first thread is held until then
		runtime.UnlockOSThread()
	}()
}

// tryGroups makes a group and runs a program in it, on a thread that is not used again.
func (h *hierarchies) tryGroups() error {
	result := make(chan error)
	onThread(func() {
		const probe = 1 << 20 // no slot's number
		g, err := h.newGroup(probe)
		if err == nil {
			err = tryGroup(g)
			g.close()
		}
		result <- err
	})
	return <-result
}

// isAlone reports whether nothing of an earlier life of the agent is left.
func (t *site) isAlone() bool {
	if t.keepers && keeper.IsAlone(t.lock) {
		t.keepers = false
	}
	if !t.ended {
		t.ended = true
		for _, d := range t.earlier {
			t.ended = d.end() && t.ended
		}
	}
	return !t.keepers && t.ended
}

// shut gives back what the slots shared.
func (t *site) shut() {
	if t.sweeping != nil {
		t.sweeping()
	}
	if t.groups != nil {
		t.groups.close()
	}
	for _, d := range t.earlier {
		d.remove()
	}
	if t.covers != nil {
		t.covers.close()
	}
	if t.lock != nil {
		t.lock.Close()
	}
}

// furnish gives a new slot what it needs, on its thread.
func (s *slots) furnish(k *slot) (err error) {
	k.thread = unix.Gettid()
	s.deciding.Do(s.decide)
	if s.users != nil {
		if err := s.users.furnish(k); err != nil {
			return err
		}
	}
	if s.groups != nil {
		if k.group, err = s.groups.newGroup(k.number); err != nil {
			return fmt.Errorf("a control group cannot be made: %w", err)
		}
	}
	if s.users != nil {
		s.giveView(k)
	}
	if k.group == nil {
		k.keeper, err = keeper.Start(s.launcher.node(), s.lock)
	}
	return err
}

// isUsable reports whether a free slot can be used: its keeper may have been killed, its
// group removed.
func (k *slot) isUsable() bool {
	return (k.keeper == nil || !k.keeper.Gone()) && (k.group == nil || !k.group.isLost())
}

// giveBack gives everything back, on the slot's thread.
func (k *slot) giveBack() {
	if k.keeper != nil {
		k.keeper.Close()
	}
	if k.group != nil {
		k.group.close()
	}
	if k.view != nil {
		k.view.close()
	}
	if k.uid != nil {
		k.uid.Close()
	}
}

// setBounds bounds what the next attempt may use.
func (k *slot) setBounds(w protocol.Assignment) error {
	if k.group == nil {
		return nil
	}
	memory, cpus := int64(unbounded), int64(unbounded)
	if w.Memory > 0 && !w.Whole {
		memory = w.Memory
	}
	if w.CPUs > 0 && w.CPUs < runtime.NumCPU() && !w.Whole {
		cpus = int64(w.CPUs)
	}
	if err := k.group.setBounds(memory, cpus); err != nil {
		return startfault.New(job.CauseNoProcess, "the attempt cannot be bounded on the node: %w", err)
	}
	return nil
}

// startProcess starts a process, on the slot's thread.
func (k *slot) startProcess(l *launch) (int, error) {
	if k.keeper != nil {
		pid, err := k.keeper.Launch(l.argv0, l.argv, &l.attr)
		if errors.Is(err, keeper.ErrGone) {
			k.bare = false
			err = startfault.New(job.CauseNoProcess, "the node cannot start it: %w", err)
		}
		return pid, err
	}
	k.group.setBirthGroup(l.attr.Sys)
	return syscall.ForkExec(l.argv0, l.argv, &l.attr)
}

// signal asks an attempt to end: its first process alone, or all of its group. The
// first process has not been reaped.
func (k *slot) signal(pid int, alone bool) {
	switch {
	case k.keeper != nil:
		k.keeper.Signal(syscall.SIGTERM, alone)
	case alone:
		unix.Kill(pid, syscall.SIGTERM)
	default:
		unix.Kill(-pid, syscall.SIGTERM)
	}
}

// kill ends an attempt; what its first process leaves is ended after it.
func (k *slot) kill(pid int) {
	if k.keeper != nil {
		k.keeper.Kill()
		return
	}
	unix.Kill(-pid, syscall.SIGKILL)
}

// wait returns when an attempt's first process has ended and everything that it has
// left is ended as well, or cannot be within emptyWithin: then the slot is not bare.
// It blocks a thread, as any wait for a child does.
func (k *slot) wait(r *run) (status syscall.WaitStatus, at time.Time, err error) {
	if k.keeper != nil {
		e, ok := k.keeper.Wait()
		r.markReaped(func() {})
		if !ok {
			k.bare = false
			process.KillAttempt(r.key)
			return 0, time.Now(), keeper.ErrGone
		}
		k.bare = e.Empty
		return e.Status, e.At, nil
	}
	process.AwaitEnd(r.pid)
	at = time.Now()
	r.markReaped(func() {
		unix.Kill(-r.pid, syscall.SIGKILL)
		process.Reap(r.pid, &status)
	})
	k.bare = k.group.killAll()
	return status, at, nil
}

// isEmpty reports whether nothing is left of an attempt that could not be ended.
func (k *slot) isEmpty() bool {
	if k.keeper != nil {
		k.bare = k.keeper.Empty()
	} else {
		k.group.kill()
		k.bare = k.group.isEmpty()
	}
	if k.bare = k.bare && k.guests.areGone(); k.bare {
		k.guests = nil
	}
	return k.bare
}

// hadOOMKill reports whether the last attempt had processes killed for want of memory.
func (k *slot) hadOOMKill() bool { return k.group != nil && k.group.hadOOMKill() }

// emptyFolders removes what an attempt has left in the slot's own folders.
func (k *slot) emptyFolders() (err error) {
	if k.view != nil {
		k.runOnThread(func() { err = k.view.emptyFolders(k.since) })
	}
	return err
}

// hide takes an attempt's directory out of the other slots' sight.
func (k *slot) hide(dir string) error {
	if k.covers == nil {
		return nil
	}
	err := k.covers.cover(dir)
	if err == nil {
		k.runOnThread(func() { err = unix.Unmount(dir, unix.MNT_DETACH) })
	}
	return err
}

// show ends hide.
func (k *slot) show(dir string) {
	if k.covers != nil {
		k.covers.uncover(dir)
	}
}
