package httpapi

import (
	"context"
	"net/http"
	"net/url"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

// findJobs lists jobs by their ids.
func (s *server) findJobs(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	ids := q["id"]
	if len(q) > 1 {
		return fault.New(fault.Invalid, "id", "id names the jobs of the list; leave out the other parameters")
	}
	if len(ids) > wire.MaxNamed {
		return fault.New(fault.Invalid, "id", "id is given %d times; name at most %d jobs at once", len(ids), wire.MaxNamed)
	}
	for _, id := range ids {
		if job.CheckID(id) != nil {
			return fault.New(fault.Invalid, "id", "%q is no id of a job; an id is %s", document.Clip(id), job.IDForm)
		}
	}
	jobs, err := s.Jobs.Find(r.Context(), ids)
	if err != nil {
		return err
	}
	return writeOK(w, wire.NewJobList(wire.JobPage{Jobs: jobs}))
}

func (s *server) holdJob(w http.ResponseWriter, r *http.Request) error {
	return s.changeJob(w, r, s.Jobs.Hold)
}

func (s *server) setPriority(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	n, err := document.Parse(body, r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	in := document.Read(n, "priority")
	p := job.Priority(in.String("priority", string(job.High)))
	if err := in.Err(); err != nil {
		return n.Locate(err)
	}
	if err := job.CheckPriority(p); err != nil {
		return err
	}
	return s.changeJob(w, r, func(ctx context.Context, id string) (*pool.Job, error) { return s.Jobs.SetPriority(ctx, id, p) })
}

// rerunJob takes the body {} and nothing else. The Functions host repeats a request that has
// no body when its connection to the handler breaks, and each would make a job.
func (s *server) rerunJob(w http.ResponseWriter, r *http.Request) error {
	id, err := jobID(r)
	if err != nil {
		return err
	}
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	if len(body) == 0 {
		return fault.New(fault.Invalid, "", "the request has no body and may come twice, so that the job would run twice; send {} as its body")
	}
	n, err := document.Parse(body, r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	if err := document.Read(n).Err(); err != nil {
		return n.Locate(err)
	}
	if err := s.mayChangeJob(r, id); err != nil {
		return err
	}
	j, err := s.Jobs.Rerun(r.Context(), id)
	if err != nil {
		return err
	}
	w.Header().Set("Location", locate(r, "/api/jobs/"+url.PathEscape(j.ID)))
	writeJSON(w, http.StatusAccepted, "application/json", wire.NewJobDetail(j))
	return nil
}
