//go:build unix

package compute

import (
	"encoding/json"
	"fmt"
	"net/http"
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
	Failure  *Failure `json:",omitempty"` // how it ends; nil = well
}

// begin registers an operation. It returns the ids of those that nobody can ask
// for any more. The lock is held.
func (s *Server) begin(o *op) (forgotten []string) {
	now := time.Now().UTC()
	for id, old := range s.ops {
		if now.Sub(old.Begun) > keepOperations && s.over(old) {
			delete(s.ops, id)
			forgotten = append(forgotten, id)
		}
	}
	o.ID, o.Begun = uuid.NewString(), now
	s.ops[o.ID] = o
	return forgotten
}

// follow tells the caller where an operation can be followed.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, o *op) {
	url := fmt.Sprintf("%s/subscriptions/%s/providers/Microsoft.Compute/locations/%s/operations/%s?api-version=%s",
		s.URL(), s.cfg.SubscriptionID, s.cfg.Location, o.ID, r.URL.Query().Get("api-version"))
	w.Header().Set("Azure-AsyncOperation", url)
	if o.Deletes {
		w.Header().Set("Location", url+"&monitor=true")
	}
	s.retryAfter(w)
}

func (s *Server) retryAfter(w http.ResponseWriter) { setRetryAfter(w, s.cfg.RetryAfter) }

// operation answers how an operation stands.
func (s *Server) operation(w http.ResponseWriter, r *http.Request, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.ops[id]
	if o == nil {
		return refuse(http.StatusNotFound, "NotFound", "The operation could not be found.")
	}
	over := s.over(o)
	if r.URL.Query().Get("monitor") != "" {
		if !over {
			s.retryAfter(w)
			w.WriteHeader(http.StatusAccepted)
			return nil
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

// over reports whether an operation has ended. The lock is held.
func (s *Server) over(o *op) bool {
	st := s.sets[strings.ToLower(o.Set)]
	if st == nil {
		return true
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
