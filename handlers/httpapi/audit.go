package httpapi

import (
	"context"
	"net/http"
	"net/url"

	"dsvmpools/shared/caller"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/wire"
)

// Audit keeps the trail of who has changed what.
type Audit interface {
	// Begin notes a request before it is carried out, and returns what notes its end. With
	// an error nothing may be changed. target is path and parameters, without a key.
	Begin(ctx context.Context, c caller.Caller, method, target string) (end func(ctx context.Context, status int, made string), err error)
	// List lists requests, the newest first. A token it cannot read is invalid, with the
	// field "continue".
	List(ctx context.Context, q wire.AuditQuery) (wire.List[wire.AuditEntry], error)
}

const (
	// asksOnly is the route that has a body and changes nothing.
	asksOnly = "/api/files/missing"
	// opens is the route whose body says whether it changes anything: a rejoin only looks.
	opens = "/api/sessions"
	// givesTicket is the route that makes a ticket, also for a browser, which asks by GET.
	givesTicket = "/api/sessions/{id}/jupyter"
)

// isTraced reports whether the audit trail has the requests of a route: all that change
// something or let somebody in, but deliveries, which prove themselves and have a record of
// their own.
func (r route) isTraced() bool {
	return (r.method != http.MethodGet || r.path == givesTicket) && r.needs.kind != byNobody && r.path != asksOnly
}

// tracesItself reports whether a route that is traced finds out by the request whether this one
// is to be.
func (r route) tracesItself() bool { return r.method == http.MethodPost && r.path == opens }

// traced carries out a request between the two notes of the audit trail. What a caller has no
// right to is in the trail as well; a request of nobody is not, since anybody could fill it.
func (s *server) traced(w http.ResponseWriter, r *http.Request, serve func(w http.ResponseWriter, r *http.Request) error) error {
	c, isKnown := caller.Of(r.Context())
	if s.Audit == nil || !isKnown {
		return serve(w, r)
	}
	end, err := s.Audit.Begin(r.Context(), c, r.Method, targetOf(r))
	if err != nil {
		return err
	}
	noted := &notedWriter{ResponseWriter: w, status: http.StatusOK}
	defer func() {
		if p := recover(); p != nil {
			end(r.Context(), http.StatusInternalServerError, "")
			panic(p)
		}
		made := ""
		if noted.status < http.StatusMultipleChoices { // where a browser is sent to may hold a ticket
			made = w.Header().Get("Location")
		}
		end(r.Context(), noted.status, made)
	}()
	if err := serve(noted, r); err != nil {
		s.fail(noted, r, err)
	}
	return nil
}

// longestTarget bounds what the trail has of a path with its parameters, in bytes.
const longestTarget = 1000

// targetOf is path and parameters of a request, without a key.
func targetOf(r *http.Request) string {
	target := r.URL.EscapedPath()
	query, _ := url.ParseQuery(r.URL.RawQuery)
	if query.Del(keyParameter); len(query) > 0 {
		target += "?" + query.Encode()
	}
	return target[:min(len(target), longestTarget)]
}

// notedWriter remembers the status of an answer.
type notedWriter struct {
	http.ResponseWriter
	status int
}

func (w *notedWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *notedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// listAudit shows the trail.
func (s *server) listAudit(w http.ResponseWriter, r *http.Request) (err error) {
	if s.Audit == nil {
		return fault.New(fault.NotFound, "", "no audit trail is kept here")
	}
	values := r.URL.Query()
	q := wire.AuditQuery{User: values.Get("user"), Target: values.Get("target"), Continue: values.Get("continue")}
	if q.Limit, err = limitOf(values); err != nil {
		return err
	}
	if q.Since, err = pastInstant(values, "since", s.now()); err != nil {
		return err
	}
	if q.Until, err = pastInstant(values, "until", s.now()); err != nil {
		return err
	}
	list, err := s.Audit.List(r.Context(), q)
	if err != nil {
		return err
	}
	return writeOK(w, list)
}
