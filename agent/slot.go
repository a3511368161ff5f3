package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"dsvmpools/agent/process"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// slot is a place on the node for one attempt at a time: a user of its own, what
// holds an attempt's processes together, and a thread that starts them. It is made
// when no other is free and used again and again, but only after it was seen to be
// empty: an attempt never meets what an earlier one has left.
type slot struct {
	number int
	as     *process.User // whom attempts run as; nil = the agent's own user
	owner  owner         // whose an attempt's files are while it runs
	login  string
	//lint:ignore U1000 of Linux alone
	hold // of the system: what holds the processes, and what they see

	tasks chan func() // of the slot's thread
	bare  bool        // an attempt's end was proven to have left nothing
	made  bool        // its attempt has a directory on the share
	//lint:ignore U1000 of Linux alone
	guests *guests // of its last attempt, while something of them is left; nil = nothing is
	cpus   int     // of its attempt
	gpus   []int

	// What is used again by attempts of the same team and user: an attempt may have passed
	// what it had open on to a friend outside.
	team, user string
	pipes      *logPipes  // nil = there are none yet
	tree       *readyTree // the same
	scratch    string     // path of the scratch directory
	scratchAt  dirStamp   // of the empty directory; zero = it is not there
	since      time.Time  // when the slot was taken
}

// slots are all places of a node.
type slots struct {
	launcher *launcher
	*site    // of the system

	making sync.Mutex // comes before mu
	made   int

	mu     sync.Mutex
	free   []*slot
	taken  map[int64]*slot // by assignment
	stuck  []*slot         // they could not be emptied
	closed bool
}

// slotOf is an assignment's slot; nil = it has none.
func (s *slots) slotOf(n int64) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken[n]
}

// take gives an assignment a slot that nothing is left in, once. It may hang on the
// share when it makes the first one; attempts that have a slot are not held up.
func (s *slots) take(n int64, w protocol.Assignment) (*slot, error) {
	if has, err := s.reuse(n, w); has != nil || err != nil {
		return has, err
	}
	s.making.Lock()
	k, err := s.make()
	s.making.Unlock()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.assignSlot(k, n, w)
	return k, nil
}

// reuse gives an assignment the slot that it has, or one that is free; nil = there is
// none.
func (s *slots) reuse(n int64, w protocol.Assignment) (*slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if has := s.taken[n]; has != nil {
		return has, nil
	}
	if err := s.checkRoom(w); err != nil {
		return nil, err
	}
	for len(s.free) > 0 {
		i := s.findFree(w)
		k := s.free[i]
		if s.free = slices.Delete(s.free, i, i+1); k.isUsable() {
			s.assignSlot(k, n, w)
			return k, nil
		}
		s.endSlot(k)
	}
	return nil, nil
}

// findFree returns the place in the list of a free slot: the last one that an attempt of the
// same team and user had, or else the last one. The caller holds s.mu.
func (s *slots) findFree(w protocol.Assignment) int {
	for i := len(s.free) - 1; i >= 0; i-- {
		if k := s.free[i]; k.team == w.Team && k.user == w.User {
			return i
		}
	}
	return len(s.free) - 1
}

// assignSlot notes whose a slot is. The caller holds s.mu.
func (s *slots) assignSlot(k *slot, n int64, w protocol.Assignment) {
	k.cpus, k.gpus, k.bare, k.made, k.since = w.CPUs, w.GPUs, true, false, time.Now()
	s.taken[n] = k
}

// checkRoom says why an assignment cannot have what it asks for: an earlier attempt that
// could not be ended still has it. The caller holds s.mu.
func (s *slots) checkRoom(w protocol.Assignment) error {
	if !s.isAlone() {
		return startfault.New(job.CauseLeftover, "processes of an earlier life of the node's agent cannot be ended; delete the node")
	}
	s.stuck = slices.DeleteFunc(s.stuck, func(k *slot) bool {
		empty := k.isEmpty()
		if empty {
			s.free = append(s.free, k)
		}
		return empty
	})
	if len(s.stuck) == 0 {
		return nil
	}
	cpus := w.CPUs
	for _, k := range s.taken {
		cpus += k.cpus
	}
	for _, k := range s.stuck {
		cpus += k.cpus
		if slices.ContainsFunc(w.GPUs, func(g int) bool { return slices.Contains(k.gpus, g) }) {
			cpus = s.launcher.cfg.CPUs + 1
		}
	}
	if cpus > s.launcher.cfg.CPUs {
		return startfault.New(job.CauseLeftover,
			"processes of an earlier attempt on the node cannot be ended, and hold what this one asks for; delete the node")
	}
	return nil
}

// make makes a slot. The caller holds s.making.
func (s *slots) make() (*slot, error) {
	l := s.launcher
	k := &slot{number: s.made, as: l.as, owner: l.owner, login: l.login, tasks: make(chan func(), 1)}
	k.scratch = filepath.Join(l.local, "s"+strconv.Itoa(k.number))
	onThread(k.runTasks)
	var err error
	k.runOnThread(func() { err = s.furnish(k) })
	if err != nil {
		s.endSlot(k) // what it has got so far is for the next one
		return nil, startfault.New(job.CauseNoProcess, "a place for the attempt cannot be made on the node: %w", err)
	}
	s.made++
	return k, nil
}

// runTasks is the slot's thread. It is never given back: it may see other mounts than
// the rest of the agent, and on Linux attempts die with it.
func (k *slot) runTasks() {
	for task := range k.tasks {
		task()
	}
}

// runOnThread runs something on the slot's thread.
func (k *slot) runOnThread(task func()) {
	if k.isOnThread() {
		task()
		return
	}
	done := make(chan struct{})
	k.tasks <- func() {
		defer close(done)
		task()
	}
	<-done
}

// release takes an assignment's slot back. One that something is left in is not
// used again until that is gone.
func (s *slots) release(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.taken[n]
	if k == nil {
		return
	}
	delete(s.taken, n)
	if s.closed {
		s.endSlot(k)
		s.shutIfLast()
		return
	}
	if k.bare {
		s.free = append(s.free, k)
		return
	}
	k.dropReady()
	s.stuck = append(s.stuck, k)
}

// admit prepares a slot for an attempt: what one of another team or user has had is not used
// again.
func (k *slot) admit(w protocol.Assignment) {
	if k.team == w.Team && k.user == w.User {
		return
	}
	k.tree.remove()
	k.dropReady()
	k.team, k.user = w.Team, w.User
}

// dropReady drops what a slot has ready for its next attempt.
func (k *slot) dropReady() {
	k.dropPipes()
	if k.scratchAt != (dirStamp{}) {
		os.RemoveAll(k.scratch)
	}
	k.tree, k.scratchAt = nil, dirStamp{}
}

// dropPipes ends the slot's pipes: others are made for the next attempt.
func (k *slot) dropPipes() {
	k.pipes.close()
	k.pipes = nil
}

// endSlot ends a slot for good.
func (s *slots) endSlot(k *slot) {
	k.dropReady()
	k.runOnThread(k.giveBack)
	close(k.tasks)
}

// close ends the slots of an agent that runs nothing any more. A slot that a call still
// has, which hangs on the share, ends with that call.
func (s *slots) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all sync.WaitGroup
	for _, k := range slices.Concat(s.free, s.stuck) {
		all.Go(func() { s.endSlot(k) })
	}
	all.Wait()
	s.free, s.stuck, s.closed = nil, nil, true
	s.shutIfLast()
}

// shutIfLast gives back what the slots shared, after the last of them. The caller holds s.mu.
func (s *slots) shutIfLast() {
	if len(s.taken) == 0 {
		s.shut()
	}
}

// startOnThread starts a process on its slot's thread.
func (k *slot) startOnThread(l *launch) (pid int, err error) {
	k.runOnThread(func() { pid, err = k.startProcess(l) })
	return pid, err
}
