package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

// states are all states of a job, in the order of its life.
var states = []job.State{job.Submitted, job.Held, job.Queued, job.Assigned, job.Running,
	job.Succeeded, job.Failed, job.Cancelled, job.TimedOut, job.Rejected}

// shortFields asks for rows without attempts, with why and cost.
const shortFields = "list"

// jobParameters are those of a list of jobs, without those of every list.
var jobParameters = []string{"id", "pool", "team", "user", "state", "sweep", "name", "label", "since", "until",
	"sort", "reverse", "count", "fields"}

func (s *server) listJobs(w http.ResponseWriter, r *http.Request) error {
	if r.URL.Query().Has("id") {
		return s.findJobs(w, r)
	}
	q, err := jobQuery(r.URL.Query(), s.now())
	if err != nil {
		return err
	}
	page, err := s.Jobs.List(r.Context(), q)
	if err != nil {
		return err
	}
	if !q.Short {
		return writeOK(w, wire.NewJobList(page))
	}
	rows, err := s.Jobs.Rows(r.Context(), page.Jobs)
	if err != nil {
		return err
	}
	return writeOK(w, wire.NewShortJobList(page, rows))
}

// jobQuery reads which jobs to list.
func jobQuery(q url.Values, now time.Time) (out wire.JobQuery, err error) {
	out.Pool, out.Team, out.User, out.Sweep, out.Name = q.Get("pool"), q.Get("team"), q.Get("user"), q.Get("sweep"), q.Get("name")
	out.Sort, out.Continue = wire.JobSort(q.Get("sort")), q.Get("continue")
	if out.Sort != "" && !slices.Contains(wire.JobSorts, out.Sort) {
		return out, fault.New(fault.Invalid, "sort", "jobs are not sorted by %.50q; use one of %s", string(out.Sort), join(wire.JobSorts))
	}
	switch text := q.Get("fields"); text {
	case "":
	case shortFields:
		out.Short = true
	default:
		return out, fault.New(fault.Invalid, "fields", "fields is %.50q; it takes %s", text, shortFields)
	}
	for _, text := range q["state"] {
		some := []job.State{job.State(text)}
		if text == wire.Active {
			some = wire.ActiveStates
		}
		if text != wire.Active && !slices.Contains(states, job.State(text)) {
			return out, fault.New(fault.Invalid, "state", "no job is ever %.50q; the states are %s, and %s for those that have not ended", text,
				join(states), wire.Active)
		}
		for _, state := range some {
			if !slices.Contains(out.States, state) {
				out.States = append(out.States, state)
			}
		}
	}
	if out.Labels, err = labelsOf(q); err != nil {
		return out, err
	}
	if out.Limit, err = limitOf(q); err != nil {
		return out, err
	}
	if out.Reverse, err = boolean(q, "reverse"); err != nil {
		return out, err
	}
	if out.Count, err = boolean(q, "count"); err != nil {
		return out, err
	}
	if out.Since, err = pastInstant(q, "since", now); err != nil {
		return out, err
	}
	if out.Until, err = pastInstant(q, "until", now); err != nil {
		return out, err
	}
	if !out.Since.IsZero() && !out.Until.IsZero() && !out.Since.Before(out.Until) {
		return out, fault.New(fault.Invalid, "since", "since (%s) is not before until (%s)",
			out.Since.Format(time.RFC3339), out.Until.Format(time.RFC3339))
	}
	return out, nil
}

// labelsOf reads the labels that jobs must have; nil = none are given.
func labelsOf(q url.Values) (labels map[string]string, err error) {
	for _, text := range q["label"] {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fault.New(fault.Invalid, "label", "label is %.50q; it takes NAME=VALUE", text)
		}
		if had, twice := labels[name]; twice && had != value {
			return nil, fault.New(fault.Invalid, "label", "no job has label %.50q with two values; name one", name)
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[name] = value
	}
	return labels, nil
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
	if err := s.mayChangeJob(r, id); err != nil {
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
	if err := mayCancel(callerOf(r), f); err != nil {
		return err
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

func (s *server) showJobCost(w http.ResponseWriter, r *http.Request) error {
	id, err := jobID(r)
	if err != nil {
		return err
	}
	j, err := s.Jobs.Job(r.Context(), id)
	if err != nil {
		return err
	}
	cost, err := s.Usage.JobCost(r.Context(), j)
	if err != nil {
		return err
	}
	return writeOK(w, cost)
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
