package agent

import (
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dsvmpools/agent/process"
	"dsvmpools/shared/protocol"
)

// site is what the slots of a node share: nothing here.
type site struct{}

// hold is how processes of an attempt are held together: by their process group
// alone here.
//
//lint:ignore U1000 of Linux alone
type hold struct{}

// onThread runs something on a thread that is not used again.
func onThread(do func()) {
	go func() {
		runtime.LockOSThread()
		do()
	}()
}

// provesEmpty says that it is known when no process of an attempt is left: here it is not.
const provesEmpty = false

// isOnThread reports whether the caller is on the slot's thread: attempts are followed
// elsewhere here.
func (k *slot) isOnThread() bool { return false }

// attend runs something that takes as long as an attempt.
func (k *slot) attend(task func()) { go task() }

func newSite(*launcher) (*site, error) { return &site{}, nil }

func (*site) isAlone() bool { return true }

func (*site) shut() {}

func (*site) mustHandOver() bool { return false }

func (*site) lateOwner() owner { return nobodyElse }

func (*slots) furnish(*slot) error { return nil }

func (k *slot) giveBack() {}

func (k *slot) isUsable() bool { return true }

func (k *slot) startProcess(l *launch) (int, error) {
	return syscall.ForkExec(l.argv0, l.argv, &l.attr)
}

func (k *slot) isEmpty() bool { return false }

func (k *slot) setBounds(protocol.Assignment) error { return nil }

func (k *slot) emptyFolders() error { return nil }

func (k *slot) show(string) {}

func (k *slot) hide(string) error { return nil }

// signal asks an attempt to end. Its first process has not been reaped.
func (k *slot) signal(pid int, alone bool) {
	if !alone {
		pid = -pid
	}
	unix.Kill(pid, syscall.SIGTERM)
}

func (k *slot) kill(pid int) { unix.Kill(-pid, syscall.SIGKILL) }

// wait returns when the attempt's first process has ended and its group is killed.
// Waiting without reaping is not to be had here.
func (k *slot) wait(r *run) (status syscall.WaitStatus, at time.Time, err error) {
	process.Reap(r.pid, &status)
	at = time.Now()
	r.markReaped(func() { unix.Kill(-r.pid, syscall.SIGKILL) })
	if r.cause != byItself { // it is over, so nothing changes that any more
		process.KillAttempt(r.key)
	}
	return status, at, nil
}

// hadOOMKill is not known here.
func (k *slot) hadOOMKill() bool { return false }

// jobUsers are the users that attempts have; nil: the agent's own.
func (l *launcher) jobUsers() []*syscall.Credential {
	if l.as != nil {
		return []*syscall.Credential{l.as}
	}
	return nil
}
