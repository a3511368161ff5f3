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

	"dsvmpools/local/internal/tlsport"
)

// op is a long-running operation. It has ended when each of its instances runs, or, if it
// deletes, when none of them exists. hasEnded derives this from the instances, so an
// operation continues after a restart of the server.
type op struct {
	ID       string
	Set      string
	Deletes  bool
	VMIDs    []string
	WholeSet bool
	Begun    time.Time
	Ended    bool     // a newer operation took its place, before its instances were ready
	Failure  *Failure `json:",omitempty"` // the error with which it ends; nil = it succeeds
}

// register adds an operation, and removes those that ended long ago. It returns the ids
// of the removed ones. The lock is held.
func (s *Server) register(o *op) (expired []string) {
	now := time.Now().UTC()
	for id, old := range s.ops {
		if now.Sub(old.Begun) > keepOperations && s.hasEnded(old) {
			delete(s.ops, id)
			expired = append(expired, id)
		}
	}
	o.ID, o.Begun = uuid.NewString(), now
	s.ops[o.ID] = o
	return expired
}

// preempt ends the running operations on a set's model, because a newer one takes their
// place. Their instances are still created. It returns the operations that it changed.
// The lock is held.
func (s *Server) preempt(st *set) (changed []*op) {
	for _, o := range s.ops {
		if strings.EqualFold(o.Set, st.Name) && !o.Deletes && !s.hasEnded(o) {
			o.Ended, o.Failure = true, failure("OperationPreempted")
			changed = append(changed, o)
		}
	}
	return changed
}

// failOperations fails the operations that wait for an instance that has failed. It
// returns the operations that it changed. The lock is held.
func (s *Server) failOperations(i *instance) (changed []*op) {
	for _, o := range s.ops {
		if o.Failure == nil && !o.Deletes && slices.Contains(o.VMIDs, i.VMID) {
			o.Failure = i.Failure
			changed = append(changed, o)
		}
	}
	return changed
}

// baseURL returns the scheme and host that a request was sent to. Links in answers begin
// with it.
func (s *Server) baseURL(r *http.Request) string {
	if r.Host == "" {
		return s.URL()
	}
	return tlsport.Scheme(r) + "://" + r.Host
}

// announce sets the headers with the URLs of an operation's status.
func (s *Server) announce(w http.ResponseWriter, c *call, o *op) {
	url := fmt.Sprintf("%s/subscriptions/%s/providers/Microsoft.Compute/locations/%s/operations/%s?api-version=%s",
		s.baseURL(c.Request), s.cfg.SubscriptionID, s.cfg.Location, o.ID, c.URL.Query().Get("api-version"))
	w.Header().Set("Azure-AsyncOperation", url)
	if o.Deletes {
		w.Header().Set("Location", url+"&monitor=true")
	}
	s.retryAfter(w)
}

func (s *Server) retryAfter(w http.ResponseWriter) { setRetryAfter(w, s.cfg.RetryAfter) }

// setOf returns the name of an operation's scale set; "" = the operation is unknown.
func (s *Server) setOf(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.ops[id]; o != nil {
		return o.Set
	}
	return ""
}

// operation answers with the status of an operation.
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
	hasEnded := s.hasEnded(o)
	if c.URL.Query().Get("monitor") != "" {
		if !hasEnded {
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
	case !hasEnded:
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
		return false // the service searches for room for some time before it fails
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
