package httpapi

import (
	"context"
	"net/http"
	"regexp"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// Rejected shows, sends again and removes the messages on the queue `rejected`. They are named
// by their keys; a key that names none is notFound.
type Rejected interface {
	// List lists at most limit messages that pass the filter, the oldest first, and the token
	// that continues the list, "" at its end. A page may have fewer and go on.
	List(ctx context.Context, f wire.RejectedFilter, limit int, cont string) ([]wire.Rejected, string, error)
	// Show returns one message with its properties and the begin of its body.
	Show(ctx context.Context, key string) (wire.Rejected, error)
	// Resubmit does what a message asks for, or what the document asks for if it is not nil,
	// and removes the message. A document that is refused changes nothing. Throttled: it is
	// done, but another receiver has the message.
	Resubmit(ctx context.Context, key string, document []byte, contentType string) (wire.Resubmitted, error)
	// Delete removes a message. Throttled: another receiver has it.
	Delete(ctx context.Context, key string) error
}

// queueName is the form of the names of queues in Service Bus.
var queueName = regexp.MustCompile(`^[A-Za-z0-9._/~-]{1,260}$`)

func (s *server) listRejected(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	limit, err := limitOf(q)
	if err != nil {
		return err
	}
	f := wire.RejectedFilter{Source: q.Get("source"), Pool: q.Get("pool"), Job: q.Get("job")}
	if f.Pool != "" {
		if err := job.CheckPool("pool", f.Pool); err != nil {
			return err
		}
	}
	if f.Source != "" && !queueName.MatchString(f.Source) {
		return fault.New(fault.Invalid, "source", "%.50q cannot be the name of a queue; it is jobs, pools, pool-events or node-events", f.Source)
	}
	if f.Job != "" && job.CheckID(f.Job) != nil {
		return fault.New(fault.Invalid, "job", "%.50q cannot be the id of a job; it takes %s", f.Job, job.IDForm)
	}
	items, next, err := s.Rejected.List(r.Context(), f, limit, q.Get("continue"))
	if err != nil {
		return err
	}
	return writeOK(w, wire.NewList(items, next))
}

func (s *server) showRejected(w http.ResponseWriter, r *http.Request) error {
	one, err := s.Rejected.Show(r.Context(), r.PathValue("key"))
	if err != nil {
		return err
	}
	return writeOK(w, one)
}

// resubmit does a rejected message again: as it is without a body, else with the document in
// the body.
func (s *server) resubmit(w http.ResponseWriter, r *http.Request) error {
	document, err := readBody(w, r)
	if err != nil {
		return err
	}
	if len(document) == 0 {
		document = nil
	}
	out, err := s.Rejected.Resubmit(r.Context(), r.PathValue("key"), document, r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusAccepted, "application/json", out)
	return nil
}

func (s *server) deleteRejected(w http.ResponseWriter, r *http.Request) error {
	if err := s.Rejected.Delete(r.Context(), r.PathValue("key")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
