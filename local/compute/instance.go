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

// resize sets the capacity. It creates the instances that are missing, or deletes the
// newest ones, as the default scale-in policy does. The lock is held.
func (s *Server) resize(st *set, capacity int) (*op, error) {
	if capacity < 0 || capacity > maxInstances {
		return nil, refuse(http.StatusBadRequest, "InvalidParameter", "Parameter 'sku.capacity': it must be from 0 to %d.", maxInstances)
	}
	var staying []*instance
	for _, i := range st.Instances {
		if i.State != deleting {
			staying = append(staying, i)
		}
	}
	o := &op{Set: st.Name}
	missing := max(capacity-len(staying), 0)
	if err := s.checkQuota(st, missing); err != nil {
		return nil, err
	}
	if missing > 0 {
		missing, o.Failure = s.allocate(st, missing)
	}
	now := time.Now().UTC()
	added := make([]*instance, missing)
	for n := range added {
		id := st.NextID + n
		added[n] = &instance{
			VMID:    uuid.NewString(),
			ID:      fmt.Sprint(id),
			Name:    fmt.Sprintf("%s_%d", st.Name, id),
			Size:    st.SKU.Name,
			Created: now,
			State:   creating,
			Model:   st.Model,
			set:     st,
			kill:    make(chan struct{}),
			halt:    make(chan struct{}),
		}
		o.VMIDs = append(o.VMIDs, added[n].VMID)
	}
	var removed []*instance
	if len(staying) > capacity {
		removed = s.startDeletions(staying[capacity:], nil)
	}
	hadFailed := st.Failed
	st.Failed = o.Failure != nil
	if err := s.commitChange(st, capacity, added, removed, o); err != nil {
		st.Failed = hadFailed
		return nil, err
	}
	if s.cfg.OnCapacity != nil {
		s.cfg.OnCapacity(st.Name, capacity, now)
	}
	return o, nil
}

// allocate returns how many of the wanted instances the region has room for. If they
// are too few, the operation fails with why, and the capacity stays as requested.
func (s *Server) allocate(st *set, wanted int) (granted int, why *Failure) {
	o := s.decideOutcome(stepAllocate, st.Name, chaos.Partial, chaos.Refuse)
	if o.Do == chaos.None || o.Do == chaos.Partial && o.Amount >= wanted {
		return wanted, nil
	}
	return o.Amount, s.failureOf(cmp.Or(o.Code, "AllocationFailed"), st.Name, st.SKU.Name)
}

// removeInstances begins to delete instances, and lowers the capacity by their number.
// The lock is held.
func (s *Server) removeInstances(st *set, instances []*instance, o *op) error {
	removed := s.startDeletions(instances, o)
	if o != nil && o.Failure != nil {
		o.WholeSet, st.Deleting = false, false
	}
	return s.commitChange(st, max(int(st.SKU.Capacity)-len(removed), 0), nil, removed, o)
}

// startDeletions returns the instances whose deletion begins, and lists in the operation
// the ones that it waits for. An instance whose deletion fails gets the state failed, and
// continues to run. The lock is held.
func (s *Server) startDeletions(instances []*instance, o *op) (removed []*instance) {
	for _, i := range instances {
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
			removed = append(removed, i)
		}
		if o != nil {
			o.VMIDs = append(o.VMIDs, i.VMID)
		}
	}
	return removed
}

// commitChange writes a new capacity with the instances that are added and removed. It
// starts and ends these instances after the write. The lock is held.
func (s *Server) commitChange(st *set, capacity int, added, removed []*instance, o *op) error {
	before := *st
	before.Instances = slices.Clone(st.Instances)
	states := make([]string, len(removed))
	for n, i := range removed {
		states[n], i.State = i.State, deleting
	}
	st.Instances = append(st.Instances, added...)
	st.NextID += len(added)
	st.SKU.Capacity = int64(capacity)
	st.Version++
	var expired []string
	var ops []*op
	if o != nil {
		if !o.Deletes {
			ops = s.preempt(st)
		}
		expired = s.register(o)
		if !o.Deletes {
			st.Op = o.ID
		}
		ops = append(ops, o)
	}
	if err := s.save(st, ops, expired...); err != nil {
		*st = before
		for n, i := range removed {
			i.State = states[n]
		}
		if o != nil {
			delete(s.ops, o.ID)
		}
		return err
	}
	for _, i := range added {
		s.run(i, false)
	}
	for _, i := range removed {
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

// run starts the goroutine of an instance: boot, supervisor, restarts, deletion. An
// instance from an earlier run of the server may have left processes, if that server was
// killed. Their supervisor should have killed them; run kills the ones that remain. The
// lock is held.
func (s *Server) run(i *instance, isRestored bool) {
	s.nodes[s.metadataKey(i)] = i
	isIdle := i.hasNoGuest()
	s.wg.Go(func() {
		if isRestored {
			s.sweep(i)
		}
		if !isIdle && s.boot(i) {
			s.injectIntoRun(i)
			for s.supervise(i) && s.wait(i, s.cfg.RestartDelay) {
				s.cfg.Log.Warn("restarting supervisor that ended", "instance", i.Name)
			}
		}
		select {
		case <-i.kill:
		case <-s.stop: // the server stops; the instance stays on record
			return
		}
		var isDue <-chan time.Time // nil when an injection makes the deletion hang
		if i.removal.Do != chaos.Stick {
			isDue = time.After(s.cfg.DeleteDelay + i.removal.Delay)
		}
		select {
		case <-isDue:
		case <-s.stop:
			return
		}
		s.forgetInstance(i)
	})
}

// hasNoGuest reports whether nothing runs on an instance that exists: it was stopped, or
// its boot failed.
func (i *instance) hasNoGuest() bool {
	if i.State != failed {
		return i.Power != ""
	}
	return i.Power != "running" || i.Failure != nil && i.Failure.Code == "OSProvisioningTimedOut"
}

// boot starts an instance. It reports whether the supervisor must run.
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
	case "VMExtensionProvisioningError": // the guest runs and is usable
		return s.recordBoot(i, failed, "running", why)
	case "OSProvisioningTimedOut": // the VM runs and costs money, but its agent never starts
		s.recordBoot(i, failed, "running", why)
	default:
		s.recordBoot(i, failed, "", why)
	}
	return false
}

// wait pauses for d. It returns false at once when the instance is deleted, its guest
// stops, or the server stops.
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

// recordBoot writes the result of a boot. It returns false when the instance is being
// deleted already.
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

// injectIntoRun carries out the injections for an instance that runs, after their delay.
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
		case chaos.Refuse: // the guest shuts down by itself: the VM still costs money
			s.mu.Lock()
			err = s.stopGuest(i, "stopped")
			s.mu.Unlock()
		}
		if err != nil {
			s.cfg.Log.Warn("injecting failure failed", "instance", i.Name, "action", o.Do, "error", err)
		}
	})
}

// stopGuest ends all processes of an instance. The instance stays, in the given power
// state. The lock is held.
func (s *Server) stopGuest(i *instance, power string) error {
	if i.State == deleting || i.Power == "stopped" || i.Power == "deallocated" {
		return nil
	}
	i.Power = power
	close(i.halt)
	return s.save(i.set, nil)
}

// forgetInstance removes an instance whose processes have ended from the record.
func (s *Server) forgetInstance(i *instance) {
	if err := os.RemoveAll(s.dir(i)); err != nil {
		s.cfg.Log.Warn("removing instance directory failed", "instance", i.Name, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	others := i.set.Instances[:0:0]
	for _, other := range i.set.Instances {
		if other != i {
			others = append(others, other)
		}
	}
	i.set.Instances = others
	delete(s.nodes, s.metadataKey(i))
	if err := s.save(i.set, nil); err != nil {
		s.cfg.Log.Error("removing instance failed; it stays on record", "instance", i.Name, "error", err)
	}
	s.removeIfEmpty(i.set)
}

func (s *Server) dir(i *instance) string { return filepath.Join(s.cfg.Dir, i.Name) }
