package httpapi

import (
	"bytes"
	"cmp"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/oklog/ulid/v2"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// submit takes one document, or a JSON list of them.
func (s *server) submit(w http.ResponseWriter, r *http.Request) error {
	body, release, err := s.readJobs(w, r)
	if err != nil {
		return err
	}
	defer release()
	dry, err := boolean(r.URL.Query(), "dryRun")
	if err != nil {
		return err
	}
	isList := isJSONList(body, r.Header.Get("Content-Type"))
	switch {
	case dry && isList:
		return fault.New(fault.Invalid, "dryRun", "a dry run takes one document; send those of the list one by one")
	case dry:
		return s.dryRunJob(w, r, body)
	case isList:
		return s.submitList(w, r, body)
	}
	return s.submitJob(w, r, body)
}

// isJSONList reports whether a body is a list of jobs. A YAML list is refused as before.
func isJSONList(body []byte, contentType string) bool {
	return document.IsList(body) && !strings.Contains(strings.ToLower(contentType), "yaml")
}

// readJobs reads a document, or a list. A list that is longer than a document takes the
// memory of an upload until it is released: what is made of it is larger than it is.
func (s *server) readJobs(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	body, err = io.ReadAll(io.LimitReader(r.Body, wire.MaxDocument+1))
	if err != nil {
		return nil, nil, bodyError(w, err, wire.ListTooLarge())
	}
	if len(body) <= wire.MaxDocument {
		return body, func() {}, nil
	}
	if !document.IsList(body) {
		w.Header().Set("Connection", "close") // nobody reads the rest
		return nil, nil, wire.TooLarge()
	}
	list, err := s.readInto(w, r, io.MultiReader(bytes.NewReader(body), r.Body), wire.MaxJobsBytes, wire.ListTooLarge())
	if err != nil {
		return nil, nil, err
	}
	return list.Bytes, list.Release, nil
}

func (s *server) submitJob(w http.ResponseWriter, r *http.Request, body []byte) error {
	spec, err := readSpec(r, body)
	if err != nil {
		return err
	}
	spec.ID = cmp.Or(spec.ID, newID())
	j, err := s.Jobs.Submit(r.Context(), spec)
	if err != nil {
		return err
	}
	w.Header().Set("Location", locate(r, "/api/jobs/"+url.PathEscape(j.ID)))
	writeJSON(w, http.StatusAccepted, "application/json", wire.NewJobDetail(j))
	return nil
}

// dryRunJob says what submitJob would do with the same request, and does nothing.
func (s *server) dryRunJob(w http.ResponseWriter, r *http.Request, body []byte) error {
	spec, err := readSpec(r, body)
	if err != nil {
		return err
	}
	answer, err := s.Jobs.DryRun(r.Context(), spec)
	if err != nil {
		return err
	}
	return writeOK(w, answer)
}

// readSpec reads the document of a job. It has the id that the document or the header
// gives; "" = neither does.
func readSpec(r *http.Request, body []byte) (job.Spec, error) {
	spec, err := job.Parse(body, r.Header.Get("Content-Type"))
	if err != nil {
		return spec, err
	}
	if err := claimJob(callerOf(r), &spec); err != nil {
		return spec, err
	}
	spec.ID, err = idOf(spec.ID, r.Header.Get(wire.IdempotencyHeader))
	return spec, err
}

// idOf is the id of a job whose document names one or none, and whose request may have one
// in a header; "" = neither has.
func idOf(id, key string) (string, error) {
	if key != "" && job.CheckNewID(key) != nil {
		return "", fault.New(fault.Invalid, wire.IdempotencyHeader, "the header %s is the id of the job: %s", wire.IdempotencyHeader, job.IDForm)
	}
	if key != "" && id != "" && id != key {
		return "", fault.New(fault.Invalid, "id", "the document says id %q and the header %s says %q; give one of them, or the same in both",
			id, wire.IdempotencyHeader, key)
	}
	return cmp.Or(id, key), nil
}

func newID() string { return strings.ToLower(ulid.Make().String()) }

// submitList takes the documents of a list, each for itself: one that is refused does not
// stop the others. The answer says in their order what became of each.
func (s *server) submitList(w http.ResponseWriter, r *http.Request, body []byte) error {
	if r.Header.Get(wire.IdempotencyHeader) != "" {
		return fault.New(fault.Invalid, wire.IdempotencyHeader,
			"the header %s is the id of one job; give each document of a list its own `id` in its place", wire.IdempotencyHeader)
	}
	items, err := document.ParseList(body, wire.MaxJobs)
	if err != nil {
		return err
	}
	answer := make([]wire.Submitted, len(items))
	var specs []job.Spec
	var at []int // where the specs stand in the list
	refuse := func(i int, err error) {
		p := s.problem(r, err)
		answer[i].Status, answer[i].Problem = p.Status, &p
	}
	for i, item := range items {
		var spec job.Spec
		node, err := item.Parse()
		if err == nil {
			spec, err = job.ParseNode(node)
		}
		if err == nil {
			err = claimJob(callerOf(r), &spec)
		}
		answer[i] = wire.Submitted{ID: spec.ID, Status: http.StatusAccepted}
		if err != nil {
			refuse(i, err)
			continue
		}
		spec.ID = cmp.Or(spec.ID, newID())
		answer[i].ID = spec.ID
		specs, at = append(specs, spec), append(at, i)
	}
	for k, err := range s.Jobs.SubmitAll(r.Context(), specs) {
		if err != nil {
			refuse(at[k], err)
		}
	}
	writeJSON(w, http.StatusMultiStatus, "application/json", wire.NewList(answer, ""))
	return nil
}
