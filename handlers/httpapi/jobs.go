package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

// states are all states of a job, in the order of its life.
var states = []job.State{job.Submitted, job.Held, job.Queued, job.Assigned, job.Running,
	job.Succeeded, job.Failed, job.Cancelled, job.TimedOut, job.Rejected}

func (s *server) listJobs(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	limit, err := limitOf(q)
	if err != nil {
		return err
	}
	f := wire.JobFilter{
		Pool:  q.Get("pool"),
		Team:  q.Get("team"),
		User:  q.Get("user"),
		State: job.State(q.Get("state")),
		Sweep: q.Get("sweep"),
	}
	if f.Pool != "" {
		if err := checkPool(f.Pool); err != nil {
			return err
		}
	}
	if f.State != "" && !slices.Contains(states, f.State) {
		return fault.New(fault.Invalid, "state", "no job is ever %.50q; the states are %s", string(f.State), join(states))
	}
	jobs, next, err := s.Jobs.List(r.Context(), f, limit, q.Get("continue"))
	if err != nil {
		return err
	}
	if len(jobs) == 0 && f.Pool != "" {
		// A pool that is not there must not look like a pool without jobs.
		if _, err := s.pools(r, f.Pool); err != nil {
			return err
		}
	}
	items := make([]wire.Job, len(jobs))
	for i, j := range jobs {
		items[i] = wire.NewJob(j)
	}
	return writeOK(w, wire.NewList(items, next))
}

func (s *server) submitJob(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	spec, err := job.Parse(body, r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	if key := r.Header.Get(wire.IdempotencyHeader); key != "" {
		if err := job.CheckNewID(key); err != nil {
			return fault.New(
				fault.Invalid,
				wire.IdempotencyHeader,
				"the header %s is the id of the job: %s",
				wire.IdempotencyHeader,
				job.IDForm,
			)
		}
		if spec.ID != "" && spec.ID != key {
			return fault.New(
				fault.Invalid,
				"id",
				"the document says id %q and the header %s says %q; give one of them, or the same in both",
				spec.ID,
				wire.IdempotencyHeader,
				key,
			)
		}
		spec.ID = key
	}
	if spec.ID == "" {
		spec.ID = strings.ToLower(ulid.Make().String())
	}
	j, err := s.Jobs.Submit(r.Context(), spec)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/api/jobs/"+url.PathEscape(j.ID))
	writeJSON(w, http.StatusAccepted, "application/json", wire.NewJobDetail(j))
	return nil
}

func (s *server) showJob(w http.ResponseWriter, r *http.Request) error {
	id, err := jobID(r)
	if err != nil {
		return err
	}
	j, err := s.Jobs.Job(r.Context(), id)
	if err != nil {
		return err
	}
	return writeOK(w, wire.NewJobDetail(j))
}

func (s *server) cancelJob(w http.ResponseWriter, r *http.Request) error {
	return s.changeJob(w, r, s.Jobs.Cancel)
}

func (s *server) releaseJob(w http.ResponseWriter, r *http.Request) error {
	return s.changeJob(w, r, s.Jobs.Release)
}

func (s *server) changeJob(w http.ResponseWriter, r *http.Request, change func(context.Context, string) (*pool.Job, error)) error {
	id, err := jobID(r)
	if err != nil {
		return err
	}
	j, err := change(r.Context(), id)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusAccepted, "application/json", wire.NewJobDetail(j))
	return nil
}

// cancelJobs ends everything of a user or a team.
func (s *server) cancelJobs(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	f := wire.JobFilter{Pool: q.Get("pool"), Team: q.Get("team"), User: q.Get("user")}
	if f.Team == "" && f.User == "" {
		return fault.New(fault.Invalid, "user", "say whose jobs are to end: ?user=NAME or ?team=NAME")
	}
	if f.Pool != "" {
		if err := checkPool(f.Pool); err != nil {
			return err
		}
	}
	n, err := s.Jobs.CancelAll(r.Context(), f)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusAccepted, "application/json", wire.Cancelled{Jobs: n})
	return nil
}

func (s *server) explainJob(w http.ResponseWriter, r *http.Request) error {
	id, err := jobID(r)
	if err != nil {
		return err
	}
	e, err := s.Jobs.Explain(r.Context(), id)
	if err != nil {
		return err
	}
	return writeOK(w, e)
}

// jobID is the id in the path. What cannot be an id names no job.
func jobID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if job.CheckID(id) != nil {
		return "", job.NoJob(id)
	}
	return id, nil
}

func join[T ~string](items []T) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = string(item)
	}
	return strings.Join(texts, ", ")
}
