//go:build unix

package compute

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// evictionNotice is the time from the event to the eviction of a Spot instance.
const evictionNotice = 30 * time.Second

// event is a Scheduled Event. All instances of the set see it, as all instances of a
// placement group do.
type event struct {
	id       string
	kind     string
	resource string // name of the instance that it is about
	at       time.Time
	started  bool
	approved chan struct{} // closed when an instance has approved it
}

// Evict evicts an instance as the cloud evicts a Spot one: it announces the eviction,
// and carries it out after the notice or after an approval. The eviction policy of the
// set says what then happens to the instance. Regular instances can be evicted too,
// which the cloud never does.
func (s *Server) Evict(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.findInstance(name)
	if err != nil {
		return err
	}
	for _, e := range i.set.events {
		if e.resource == i.Name {
			return nil // it is being evicted
		}
	}
	e := &event{
		id:       strings.ToUpper(uuid.NewString()),
		kind:     "Preempt",
		resource: i.Name,
		at:       time.Now().Add(s.cfg.EvictionNotice),
		approved: make(chan struct{}),
	}
	i.set.events = append(i.set.events, e)
	i.set.incarnation++
	s.wg.Go(func() { s.carryOutEvent(i, e) })
	return nil
}

// carryOutEvent waits for an event's time and does what it announced.
func (s *Server) carryOutEvent(i *instance, e *event) {
	t := time.NewTimer(time.Until(e.at))
	defer t.Stop()
	select {
	case <-t.C:
	case <-e.approved:
	case <-i.kill:
	case <-s.stop:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i.set.events = slices.DeleteFunc(i.set.events, func(other *event) bool { return other == e })
	i.set.incarnation++
	if i.State == deleting {
		return
	}
	var err error
	if _, policy := i.set.priority(); policy == "Deallocate" {
		err = s.stopGuest(i, "deallocated")
	} else {
		err = s.removeInstances(i.set, []*instance{i}, nil)
	}
	if err != nil {
		s.cfg.Log.Error("evicting instance failed", "instance", i.Name, "error", err)
	}
}

// scheduledEvents answers with the events of a set, or reads the approval of some of them.
// The lock is not held.
func (s *Server) scheduledEvents(w http.ResponseWriter, r *http.Request, i *instance, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPost {
		return i.set.approve(body)
	}
	events := []any{}
	for _, e := range i.set.events {
		status, at := "Scheduled", e.at.UTC().Format(http.TimeFormat)
		if e.started {
			status, at = "Started", ""
		}
		events = append(events, map[string]any{
			"EventId":           e.id,
			"EventType":         e.kind,
			"EventStatus":       status,
			"EventSource":       "Platform",
			"Description":       "",
			"ResourceType":      "VirtualMachine",
			"Resources":         []string{e.resource},
			"NotBefore":         at,
			"DurationInSeconds": -1,
		})
	}
	return json.NewEncoder(w).Encode(map[string]any{"DocumentIncarnation": i.set.incarnation, "Events": events})
}

// approve starts events at once. The lock is held.
func (st *set) approve(body []byte) error {
	var p struct {
		StartRequests []struct{ EventID string }
	}
	if err := json.Unmarshal(body, &p); err != nil || len(p.StartRequests) == 0 {
		return metadataError{http.StatusBadRequest, "Bad request. StartRequests with the EventId of an event are required"}
	}
	for _, want := range p.StartRequests {
		n := slices.IndexFunc(st.events, func(e *event) bool { return strings.EqualFold(e.id, want.EventID) })
		if n < 0 {
			return metadataError{http.StatusBadRequest, fmt.Sprintf("Bad request. Event %.40q is not known", want.EventID)}
		}
		if e := st.events[n]; !e.started {
			e.started = true
			st.incarnation++
			close(e.approved)
		}
	}
	return nil
}
