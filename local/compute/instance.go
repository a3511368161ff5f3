//go:build unix

package compute

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"dsvmpools/local/chaos"
)

// resize sets the capacity and creates what is missing; lowering it takes the
// newest instances, as the default scale-in rule does. The lock is held.
func (s *Server) resize(st *set, capacity int) (*op, error) {
	if capacity < 0 || capacity > maxInstances {
		return nil, refuse(http.StatusBadRequest, "InvalidParameter", "Parameter 'sku.capacity': it must be from 0 to %d.", maxInstances)
	}
	var alive []*instance
	for _, i := range st.Instances {
		if i.State != deleting {
			alive = append(alive, i)
		}
	}
	o := &op{Set: st.Name}
	missing := max(capacity-len(alive), 0)
	if err := s.checkQuota(st, missing); err != nil {
		return nil, err
	}
	if missing > 0 {
		missing, o.Failure = s.allocate(st, missing)
	}
	now := time.Now().UTC()
	fresh := make([]*instance, missing)
	for n := range fresh {
		id := st.NextID + n
		fresh[n] = &instance{VMID: uuid.NewString(), ID: fmt.Sprint(id), Name: fmt.Sprintf("%s_%d", st.Name, id),
			Size: st.SKU.Name, Created: now, State: creating, set: st, kill: make(chan struct{}), halt: make(chan struct{})}
		o.VMIDs = append(o.VMIDs, fresh[n].VMID)
	}
	var going []*instance
	if len(alive) > capacity {
		going = s.startDeletions(alive[capacity:], nil)
	}
	was := st.Failed
	st.Failed = o.Failure != nil
	if err := s.commitChange(st, capacity, fresh, going, o); err != nil {
		st.Failed = was
		return nil, err
	}
	if s.cfg.OnCapacity != nil {
		s.cfg.OnCapacity(st.Name, capacity, now)
	}
	return o, nil
}

// allocate says how many of the wanted instances the region has room for. The
// operation fails with the reason, and the capacity stays as it was asked for.
func (s *Server) allocate(st *set, wanted int) (granted int, why *Failure) {
	o := s.decideOutcome(stepAllocate, st.Name, chaos.Partial, chaos.Refuse)
	if o.Do == chaos.None || o.Do == chaos.Partial && o.Amount >= wanted {
		return wanted, nil
	}
	return o.Amount, s.failureOf(cmp.Or(o.Code, "AllocationFailed"), st.Name, st.SKU.Name)
}

// removeInstances begins to delete instances; the capacity falls with them. The lock is
// held.
func (s *Server) removeInstances(st *set, going []*instance, o *op) error {
	begun := s.startDeletions(going, o)
	if o != nil && o.Failure != nil {
		o.WholeSet, st.Deleting = false, false
	}
	return s.commitChange(st, max(int(st.SKU.Capacity)-len(begun), 0), nil, begun, o)
}

// startDeletions picks the instances whose deletion begins, and enters those that the
// operation waits for. One that cannot be deleted stays, failed, and runs on.
// The lock is held.
func (s *Server) startDeletions(going []*instance, o *op) (begun []*instance) {
	for _, i := range going {
		if i.State != deleting {
			i.removal = s.decideOutcome(stepRemove, i.set.Name+"/"+i.Name, chaos.Delay, chaos.Stick, chaos.Refuse)
			if i.removal.Do == chaos.Refuse {
				i.Power = s.power(i)
				i.State, i.Failure = failed, s.failureOf(cmp.Or(i.removal.Code, "InternalExecutionError"), i.Name, i.Size)
				if o != nil {
					o.Failure = i.Failure
				}
				continue
			}
			begun = append(begun, i)
		}
		if o != nil {
			o.VMIDs = append(o.VMIDs, i.VMID)
		}
	}
	return begun
}

// commitChange writes a new capacity with the instances that come and go for it, and
// has them come and go only when it is on disk. The lock is held.
func (s *Server) commitChange(st *set, capacity int, fresh, going []*instance, o *op) error {
	before := *st
	before.Instances = slices.Clone(st.Instances)
	states := make([]string, len(going))
	for n, i := range going {
		states[n], i.State = i.State, deleting
	}
	st.Instances = append(st.Instances, fresh...)
	st.NextID += len(fresh)
	st.SKU.Capacity = int64(capacity)
	st.Version++
	var forgotten []string
	var ops []*op
	if o != nil {
		if !o.Deletes {
			ops = s.preempt(st)
		}
		forgotten = s.register(o)
		if !o.Deletes {
			st.Op = o.ID
		}
		ops = append(ops, o)
	}
	if err := s.save(st, ops, forgotten...); err != nil {
		*st = before
		for n, i := range going {
			i.State = states[n]
		}
		if o != nil {
			delete(s.ops, o.ID)
		}
		return err
	}
	for _, i := range fresh {
		s.run(i, false)
	}
	for _, i := range going {
		close(i.kill)
	}
	return nil
}

// removeIfEmpty removes a set that is being deleted and has no instances left. The
// lock is held.
func (s *Server) removeIfEmpty(st *set) {
	if !st.Deleting || len(st.Instances) > 0 {
		return
	}
	delete(s.sets, strings.ToLower(st.Name))
	if err := s.save(st, nil); err != nil {
		s.cfg.Log.Error("removing scale set failed; it stays on record", "set", st.Name, "error", err)
	}
}

// run lives an instance's life: boot, supervisor, restarts, deletion. One that
// was there before the server was may have left processes, when the server was
// killed: their supervisor takes them down, but that is not relied upon. The
// lock is held.
func (s *Server) run(i *instance, again bool) {
	s.nodes[s.metadataKey(i)] = i
	halted := i.hasNoGuest()
	s.wg.Go(func() {
		if again {
			s.sweep(i)
		}
		if !halted && s.boot(i) {
			s.injectIntoRun(i)
			for s.supervise(i) && s.wait(i, s.cfg.RestartDelay) {
				s.cfg.Log.Warn("restarting supervisor that ended", "instance", i.Name)
			}
		}
		select {
		case <-i.kill:
		case <-s.stop: // the machine stops; the instance stays on record
			return
		}
		var late <-chan time.Time // never, when its deletion is stuck
		if i.removal.Do != chaos.Stick {
			late = time.After(s.cfg.DeleteDelay + i.removal.Delay)
		}
		select {
		case <-late:
		case <-s.stop:
			return
		}
		s.forgetInstance(i)
	})
}

// hasNoGuest reports whether nothing runs on an instance although it is there:
// it was stopped, or never came up.
func (i *instance) hasNoGuest() bool {
	if i.State != failed {
		return i.Power != ""
	}
	return i.Power != "running" || i.Failure != nil && i.Failure.Code == "OSProvisioningTimedOut"
}

// boot brings an instance up. False when it has no guest that is to run.
func (s *Server) boot(i *instance) bool {
	o := s.decideOutcome(stepBoot, i.set.Name+"/"+i.Name, chaos.Delay, chaos.Stick, chaos.Refuse)
	if o.Do == chaos.Stick || !s.wait(i, s.cfg.BootDelay+o.Delay) {
		return false
	}
	if o.Do != chaos.Refuse {
		return s.recordBoot(i, running, "", nil)
	}
	why := s.failureOf(cmp.Or(o.Code, "OSProvisioningTimedOut"), i.Name, i.Size)
	switch why.Code {
	case "VMExtensionProvisioningError": // the guest is up, and of use
		return s.recordBoot(i, failed, "running", why)
	case "OSProvisioningTimedOut": // it runs, is billed, and never says a word
		s.recordBoot(i, failed, "running", why)
	default:
		s.recordBoot(i, failed, "", why)
	}
	return false
}

// wait pauses; false when the instance is to go or its guest stops, or the
// machine stops.
func (s *Server) wait(i *instance, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-i.kill:
		return false
	case <-i.halt:
		return false
	case <-s.stop:
		return false
	case <-t.C:
		return true
	}
}

// recordBoot enters how an instance came up. False when it is to go already.
func (s *Server) recordBoot(i *instance, state, power string, why *Failure) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i.State == creating {
		i.State, i.Power, i.Failure = state, power, why
		var ops []*op
		if why != nil {
			ops = s.failOperations(i)
		}
		if err := s.save(i.set, ops); err != nil {
			s.cfg.Log.Error("storing instance failed", "instance", i.Name, "error", err)
		}
	}
	return i.State != deleting
}

// injectIntoRun is what befalls an instance that has come up, some time after it did.
func (s *Server) injectIntoRun(i *instance) {
	o := s.decideOutcome(stepRun, i.set.Name+"/"+i.Name, chaos.Evict, chaos.Lose, chaos.Refuse)
	if o.Do == chaos.None {
		return
	}
	s.wg.Go(func() {
		if !s.wait(i, o.Delay) {
			return
		}
		var err error
		switch o.Do {
		case chaos.Evict:
			err = s.Evict(i.Name)
		case chaos.Lose:
			err = s.Remove(i.Name)
		case chaos.Refuse: // shut down from inside, which is billed on
			s.mu.Lock()
			err = s.stopGuest(i, "stopped")
			s.mu.Unlock()
		}
		if err != nil {
			s.cfg.Log.Warn("injecting failure failed", "instance", i.Name, "action", o.Do, "error", err)
		}
	})
}

// stopGuest ends what an instance runs; it stays, in this power state. The lock
// is held.
func (s *Server) stopGuest(i *instance, power string) error {
	if i.State == deleting || i.Power == "stopped" || i.Power == "deallocated" {
		return nil
	}
	i.Power = power
	close(i.halt)
	return s.save(i.set, nil)
}

// forgetInstance takes an instance off the record when nothing of it is left.
func (s *Server) forgetInstance(i *instance) {
	if err := os.RemoveAll(s.dir(i)); err != nil {
		s.cfg.Log.Warn("removing instance directory failed", "instance", i.Name, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := i.set.Instances[:0:0]
	for _, other := range i.set.Instances {
		if other != i {
			kept = append(kept, other)
		}
	}
	i.set.Instances = kept
	delete(s.nodes, s.metadataKey(i))
	if err := s.save(i.set, nil); err != nil {
		s.cfg.Log.Error("removing instance failed; it stays on record", "instance", i.Name, "error", err)
	}
	s.removeIfEmpty(i.set)
}

func (s *Server) dir(i *instance) string { return filepath.Join(s.cfg.Dir, i.Name) }
