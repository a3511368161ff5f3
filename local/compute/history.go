//go:build unix

package compute

import "time"

// Bounds of the snapshots that lists with a lag are answered from.
const (
	longestLag   = 10 * time.Minute
	maxSnapshots = 1000
)

// snapshot holds a set's instances as they were at one time.
type snapshot struct {
	at        time.Time
	instances []*instance
}

// recordSnapshot records a set's instances as they are now. The lock is held.
func (s *Server) recordSnapshot(st *set) {
	if s.cfg.Chaos == nil {
		return
	}
	now := time.Now()
	snap := snapshot{at: now}
	for _, i := range st.Instances {
		snap.instances = append(snap.instances, &instance{
			VMID:    i.VMID,
			ID:      i.ID,
			Name:    i.Name,
			Size:    i.Size,
			Created: i.Created,
			State:   i.State,
			Power:   i.Power,
			Failure: i.Failure,
		})
	}
	st.past = append(st.past, snap)
	drop := max(len(st.past)-maxSnapshots, 0)
	for drop+1 < len(st.past) && now.Sub(st.past[drop+1].at) > longestLag {
		drop++
	}
	st.past = append(st.past[:0:0], st.past[drop:]...)
}

// instancesAt returns the instances as they were at a time, or the oldest snapshot.
func (st *set) instancesAt(at time.Time) []*instance {
	var then []*instance
	for n, snap := range st.past {
		if n > 0 && snap.at.After(at) {
			break
		}
		then = snap.instances
	}
	return then
}
