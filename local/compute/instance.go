//go:build unix

package compute

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// poolTag names the pool of a set's instances.
const poolTag = "dsvmpools-pool"

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
	if missing > 0 && s.cfg.Allocate != nil {
		granted, why := s.cfg.Allocate(st.Name, st.SKU.Name, missing)
		missing, o.Failure = min(max(granted, 0), missing), why
	}
	now := time.Now().UTC()
	fresh := make([]*instance, missing)
	for n := range fresh {
		id := st.NextID + n
		fresh[n] = &instance{VMID: uuid.NewString(), ID: fmt.Sprint(id), Name: fmt.Sprintf("%s_%d", st.Name, id),
			Size: st.SKU.Name, Created: now, State: creating, set: st, kill: make(chan struct{})}
		o.VMIDs = append(o.VMIDs, fresh[n].VMID)
	}
	var going []*instance
	if len(alive) > capacity {
		going = alive[capacity:]
	}
	if err := s.change(st, capacity, fresh, going, o); err != nil {
		return nil, err
	}
	if s.cfg.OnCapacity != nil {
		s.cfg.OnCapacity(st.Name, capacity, now)
	}
	return o, nil
}

// remove begins to delete instances; the capacity falls with them. The lock is
// held.
func (s *Server) remove(st *set, going []*instance, o *op) error {
	var begun []*instance
	for _, i := range going {
		if i.State != deleting {
			begun = append(begun, i)
		}
	}
	return s.change(st, max(int(st.SKU.Capacity)-len(begun), 0), nil, begun, o)
}

// change writes a new capacity with the instances that come and go for it, and
// has them come and go only when it is on disk. The lock is held.
func (s *Server) change(st *set, capacity int, fresh, going []*instance, o *op) error {
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
	if o != nil {
		forgotten = s.begin(o)
	}
	if err := s.save(st, o, forgotten...); err != nil {
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

// endIfEmpty removes a set that is being deleted and has no instances left. The
// lock is held.
func (s *Server) endIfEmpty(st *set) {
	if !st.Deleting || len(st.Instances) > 0 {
		return
	}
	delete(s.sets, strings.ToLower(st.Name))
	if err := s.save(st, nil); err != nil {
		s.cfg.Log.Error("a deleted scale set stays on record", "set", st.Name, "error", err)
	}
}

// run lives an instance's life: boot, supervisor, restarts, deletion. One that
// was there before the server was may have left processes, when the server was
// killed: their supervisor takes them down, but that is not relied upon.
func (s *Server) run(i *instance, again bool) {
	s.wg.Go(func() {
		if again {
			s.sweep(i)
		}
		if s.wait(i, s.cfg.BootDelay) {
			s.running(i)
			for s.supervise(i) && s.wait(i, s.cfg.RestartDelay) {
				s.cfg.Log.Warn("an instance's supervisor ended and is started again", "instance", i.Name)
			}
		}
		select {
		case <-i.kill:
		case <-s.stop: // the machine stops; the instance stays on record
			return
		}
		select {
		case <-time.After(s.cfg.DeleteDelay):
		case <-s.stop:
			return
		}
		s.gone(i)
	})
}

// wait pauses; false when the instance is to go, or the machine stops.
func (s *Server) wait(i *instance, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-i.kill:
		return false
	case <-s.stop:
		return false
	case <-t.C:
		return true
	}
}

func (s *Server) running(i *instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i.State != creating {
		return
	}
	i.State = running
	if err := s.save(i.set, nil); err != nil {
		s.cfg.Log.Error("an instance's state could not be stored", "instance", i.Name, "error", err)
	}
}

// gone takes an instance off the record when nothing of it is left.
func (s *Server) gone(i *instance) {
	if err := os.RemoveAll(s.dir(i)); err != nil {
		s.cfg.Log.Warn("an instance's directory could not be removed", "instance", i.Name, "error", err)
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
	if err := s.save(i.set, nil); err != nil {
		s.cfg.Log.Error("a deleted instance stays on record", "instance", i.Name, "error", err)
	}
	s.endIfEmpty(i.set)
}

func (s *Server) dir(i *instance) string { return filepath.Join(s.cfg.Dir, i.Name) }
