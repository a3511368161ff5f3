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

// op is a long-running operation: over when each of its instances is running,
// or gone when it deletes. That is seen from the instances, so that an
// operation goes on when the server starts again.
type op struct {
	ID       string
	Set      string
	Deletes  bool
	VMIDs    []string
	WholeSet bool
	Begun    time.Time
	Ended    bool     // before its instances were as asked for: another took its place
	Failure  *Failure `json:",omitempty"` // how it ends; nil = well
}

// register registers an operation. It returns the ids of those that nobody can ask
// for any more. The lock is held.
func (s *Server) register(o *op) (forgotten []string) {
	now := time.Now().UTC()
	for id, old := range s.ops {
		if now.Sub(old.Begun) > keepOperations && s.hasEnded(old) {
			delete(s.ops, id)
			forgotten = append(forgotten, id)
		}
	}
	o.ID, o.Begun = uuid.NewString(), now
	s.ops[o.ID] = o
	return forgotten
}

// preempt ends the operations on a set's model that are under way: a newer one
// takes their place. Their instances come all the same. The lock is held.
func (s *Server) preempt(st *set) (ended []*op) {
	for _, o := range s.ops {
		if strings.EqualFold(o.Set, st.Name) && !o.Deletes && !s.hasEnded(o) {
			o.Ended, o.Failure = true, failure("OperationPreempted")
			ended = append(ended, o)
		}
	}
	return ended
}

// failOperations has the operations that wait for an instance failOperations with it. The lock is
// held.
func (s *Server) failOperations(i *instance) (changed []*op) {
	for _, o := range s.ops {
		if o.Failure == nil && !o.Deletes && slices.Contains(o.VMIDs, i.VMID) {
			o.Failure = i.Failure
			changed = append(changed, o)
		}
	}
	return changed
}

// baseURL is the URL that a request was sent to: what answers point to.
func (s *Server) baseURL(c *call) string {
	if c.Host == "" {
		return s.URL()
	}
	return "http://" + c.Host
}

// announce tells the caller where an operation can be followed.
func (s *Server) announce(w http.ResponseWriter, c *call, o *op) {
	url := fmt.Sprintf("%s/subscriptions/%s/providers/Microsoft.Compute/locations/%s/operations/%s?api-version=%s",
		s.baseURL(c), s.cfg.SubscriptionID, s.cfg.Location, o.ID, c.URL.Query().Get("api-version"))
	w.Header().Set("Azure-AsyncOperation", url)
	if o.Deletes {
		w.Header().Set("Location", url+"&monitor=true")
	}
	s.retryAfter(w)
}

func (s *Server) retryAfter(w http.ResponseWriter) { setRetryAfter(w, s.cfg.RetryAfter) }

// setOf is the scale set of an operation; "" when it is not known.
func (s *Server) setOf(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.ops[id]; o != nil {
		return o.Set
	}
	return ""
}

// operation answers how an operation stands.
func (s *Server) operation(w http.ResponseWriter, c *call) error {
	id := c.PathValue("operation")
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.ops[id]
	if o == nil {
		return refuse(http.StatusNotFound, "NotFound", "The operation could not be found.")
	}
	if err := s.limit(w, "operation", id, 1); err != nil {
		return err
	}
	over := s.hasEnded(o)
	if c.URL.Query().Get("monitor") != "" {
		if !over {
			s.retryAfter(w)
			w.WriteHeader(http.StatusAccepted)
			return nil
		}
		if o.Failure != nil {
			return o.Failure
		}
		_, err := w.Write([]byte("{}"))
		return err
	}
	body := map[string]any{"name": o.ID, "startTime": o.Begun.Format(time.RFC3339Nano), "status": "Succeeded"}
	switch {
	case !over:
		body["status"] = "InProgress"
		s.retryAfter(w)
	case o.Failure != nil:
		body["status"], body["error"] = "Failed", o.Failure.body()
	}
	return json.NewEncoder(w).Encode(body)
}

// hasEnded reports whether an operation has ended. The lock is held.
func (s *Server) hasEnded(o *op) bool {
	if o.Ended {
		return true
	}
	st := s.sets[strings.ToLower(o.Set)]
	if st == nil {
		return true
	}
	if o.Failure != nil && !o.Deletes && time.Since(o.Begun) < s.cfg.BootDelay/2 {
		return false // room is looked for, for some time
	}
	if o.WholeSet && st.Deleting {
		return false
	}
	pending := map[string]bool{}
	for _, id := range o.VMIDs {
		pending[id] = true
	}
	for _, i := range st.Instances {
		if pending[i.VMID] && (o.Deletes || i.State == creating) {
			return false
		}
	}
	return true
}
