package agent

import (
	"log/slog"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"dsvmpools/agent/process"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// mostSlots is more than the slots of the largest machine.
const mostSlots = 4096

// site is what the slots of a node share.
type site struct {
	log   *slog.Logger
	node  string
	ended bool // nothing of an earlier life is left
}

// hold is how processes of an attempt are held together: by a job object for each attempt, which
// has the name of the slot.
type hold struct {
	name   string
	limits process.Limits
	job    *process.Job // nil = there is no attempt
	child  *process.Child
	oom    bool // of the last attempt
}

// provesEmpty says that it is known when no process of an attempt is left.
const provesEmpty = true

// mostProcesses is how many processes an attempt may have at once.
const mostProcesses = 4096

func onThread(do func()) { go do() }

func (k *slot) isOnThread() bool { return false }

// attend runs something that takes as long as an attempt.
func (k *slot) attend(task func()) { go task() }

// newSite ends what an earlier life of the agent has left: the system does so, too, and may need a
// moment.
func newSite(l *launcher) (*site, error) {
	t := &site{log: l.log, node: l.node()}
	if err := process.OpenConsole(); err != nil {
		t.log.Warn("missing a console: programs of jobs are not asked to end, but killed after their grace", "error", err.Error())
	}
	if !t.isAlone() {
		t.log.Error("ending processes of an earlier agent has failed; nothing is started until they are gone")
	}
	return t, nil
}

// isAlone reports whether nothing of an earlier life of the agent is left.
func (t *site) isAlone() bool {
	if t.ended {
		return true
	}
	for i := range mostSlots {
		if !process.EndJob(jobName(t.node, i)) {
			return false
		}
	}
	t.ended = true
	return true
}

func jobName(node string, slot int) string { return node + ".s" + strconv.Itoa(slot) }

func (*site) shut() {}

func (*site) mustHandOver() bool { return false }

func (*site) lateOwner() owner { return nobodyElse }

func (s *slots) furnish(k *slot) error {
	k.name = jobName(s.node, k.number)
	return nil
}

func (k *slot) giveBack() {
	if k.job != nil {
		k.job.Close()
	}
}

func (k *slot) isUsable() bool { return true }

// setBounds bounds what the next attempt may use.
func (k *slot) setBounds(w protocol.Assignment) error {
	k.limits = process.Limits{Of: runtime.NumCPU(), Processes: mostProcesses}
	if !w.Whole {
		k.limits.Memory, k.limits.CPUs = w.Memory, w.CPUs
	}
	return nil
}

// startProcess starts the first process of an attempt, in a job object of its own.
func (k *slot) startProcess(l *launch) (int, error) {
	made, err := process.NewJob(k.name, k.limits)
	if err != nil {
		return 0, startfault.New(job.CauseNoProcess, "the node can make no place for the attempt: %w", err)
	}
	child, err := made.Start(l.argv0, l.argv, &l.attr)
	if err != nil {
		made.Close()
		return 0, err
	}
	k.job, k.child, k.oom = made, child, false
	return child.PID, nil
}

// signal asks an attempt to end, by Ctrl+Break, which reaches all of its console's group.
func (k *slot) signal(int, bool) { _ = k.child.Interrupt() }

// kill ends an attempt.
func (k *slot) kill(int) { _ = k.job.Kill() }

// wait returns when an attempt's first process has ended and everything that it has left is ended
// as well, or cannot be: then the slot is not bare.
func (k *slot) wait(r *run) (status syscall.WaitStatus, at time.Time, err error) {
	status.ExitCode, err = k.child.Wait()
	at = time.Now()
	r.markReaped(func() { _ = k.job.Kill() })
	k.oom = k.job.HadMemoryLimit()
	k.bare = k.job.KillAll()
	k.child.Close()
	if k.bare {
		k.endJob()
	}
	return status, at, err
}

func (k *slot) endJob() {
	k.job.Close()
	k.job, k.child = nil, nil
}

// isEmpty reports whether nothing is left of an attempt that could not be ended.
func (k *slot) isEmpty() bool {
	if k.job == nil {
		k.bare = true
		return true
	}
	_ = k.job.Kill()
	if k.bare = k.job.IsEmpty(); k.bare {
		k.endJob()
	}
	return k.bare
}

// hadOOMKill reports whether the last attempt was refused memory for its bound.
func (k *slot) hadOOMKill() bool { return k.oom }

func (k *slot) emptyFolders() error { return nil }

func (k *slot) show(string) {}

func (k *slot) hide(string) error { return nil }
