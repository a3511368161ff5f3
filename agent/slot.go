//go:build unix

package agent

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// slot is a place on the node for one attempt at a time: a user of its own, what
// holds an attempt's processes together, and a thread that starts them. It is made
// when no other is free and used again and again, but only after it was seen to be
// empty: an attempt never meets what an earlier one has left.
type slot struct {
	number int
	as     *syscall.Credential // whom attempts run as; nil = the agent's own user
	owner  owner               // whose an attempt's files are while it runs
	login  string
	//lint:ignore U1000 of Linux alone
	hold // of the system: what holds the processes, and what they see

	tasks chan func() // of the slot's thread
	bare  bool        // an attempt's end was proven to have left nothing
	cpus  int         // of its attempt
	gpus  []int
}

// slots are all places of a node.
type slots struct {
	launcher *launcher
	*site    // of the system

	mu    sync.Mutex
	free  []*slot
	taken map[int64]*slot // by assignment
	stuck []*slot         // they could not be emptied
	made  int
}

// startError is a failed start whose cause is known.
type startError struct {
	cause job.Cause
	says  string
}

func (e *startError) Error() string { return e.says }

// causeOf is the cause of a failed start; "" = it is not known.
func causeOf(err error) job.Cause {
	if known := new(startError); errors.As(err, &known) {
		return known.cause
	}
	return ""
}

// of is an assignment's slot; nil = it has none.
func (s *slots) of(n int64) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken[n]
}

// take gives an assignment a slot that nothing is left in, once.
func (s *slots) take(n int64, w protocol.Assignment) (*slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if has := s.taken[n]; has != nil {
		return has, nil
	}
	if err := s.refuse(w); err != nil {
		return nil, err
	}
	var place *slot
	for last := len(s.free) - 1; last >= 0 && place == nil; last-- {
		place, s.free = s.free[last], s.free[:last]
		if !place.usable() {
			s.end(place)
			place = nil
		}
	}
	if place == nil {
		var err error
		if place, err = s.make(); err != nil {
			return nil, err
		}
	}
	place.cpus, place.gpus, place.bare = w.CPUs, w.GPUs, true
	s.taken[n] = place
	return place, nil
}

// refuse says why an assignment cannot have what it asks for: an earlier attempt that
// could not be ended still has it. The caller holds s.mu.
func (s *slots) refuse(w protocol.Assignment) error {
	if !s.alone() {
		return &startError{job.CauseLeftover, "processes of an earlier life of the node's agent cannot be ended; delete the node"}
	}
	s.stuck = slices.DeleteFunc(s.stuck, func(k *slot) bool {
		empty := k.empty()
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
		return &startError{job.CauseLeftover, "processes of an earlier attempt on the node cannot be ended, and hold what this one asks for; delete the node"}
	}
	return nil
}

// make makes a slot. The caller holds s.mu.
func (s *slots) make() (*slot, error) {
	l := s.launcher
	k := &slot{number: s.made, as: l.as, owner: l.owner, login: l.login, tasks: make(chan func())}
	onThread(k.work)
	var err error
	k.do(func() { err = s.furnish(k) })
	if err != nil {
		s.end(k) // what it has got so far is for the next one
		return nil, &startError{job.CauseNoProcess, fmt.Sprintf("a place for the attempt cannot be made on the node: %v", err)}
	}
	s.made++
	return k, nil
}

// work is the slot's thread. It is never given back: it may see other mounts than
// the rest of the agent, and on Linux attempts die with it.
func (k *slot) work() {
	for task := range k.tasks {
		task()
	}
}

// do runs something on the slot's thread.
func (k *slot) do(task func()) {
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
	if k.bare {
		s.free = append(s.free, k)
		return
	}
	s.stuck = append(s.stuck, k)
}

// end ends a slot for good.
func (s *slots) end(k *slot) {
	k.do(k.leave)
	close(k.tasks)
}

// close ends the slots of an agent that runs nothing any more.
func (s *slots) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all sync.WaitGroup
	for _, k := range slices.Concat(s.free, s.stuck) {
		all.Go(func() { s.end(k) })
	}
	all.Wait()
	s.free, s.stuck = nil, nil
	s.shut()
}

// startOn starts a process on its slot's thread.
func (k *slot) startOn(l *launch) (pid int, err error) {
	k.do(func() { pid, err = k.begin(l) })
	return pid, err
}
