package httpapi

import (
	"cmp"
	"context"
	"net/http"

	"dsvmpools/shared/answer"
	"dsvmpools/shared/metrics"
	"dsvmpools/shared/version"
	"dsvmpools/shared/wire"
)

// Overview shows what goes on over all pools, for a page that asks every few seconds. It writes
// nothing.
type Overview interface {
	// Version names the answer of Now to a query: the same version, the same answer, but for
	// times and amounts that are less than a minute old. It costs little.
	Version(ctx context.Context, q wire.NowQuery) (string, error)
	// Now counts jobs and nodes, and says what they cost.
	Now(ctx context.Context, q wire.NowQuery) (wire.Now, error)
	// Troubles lists what a person must do something about. What cannot be found out now is in
	// the list, too.
	Troubles(ctx context.Context) ([]wire.Trouble, error)
	// Timeline says what nodes did. A pool that was never there has no nodes.
	Timeline(ctx context.Context, q wire.TimelineQuery) (wire.Timeline, error)
	// Metrics are figures for a system that watches the deployment.
	Metrics(ctx context.Context) ([]metrics.Family, error)
}

// showMetrics writes figures as OpenMetrics.
func (s *server) showMetrics(w http.ResponseWriter, r *http.Request) error {
	families, err := s.Overview.Metrics(r.Context())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", metrics.ContentType)
	return metrics.Write(w, families)
}

// showNow says what goes on. Without `user`, a person's own jobs are in `mine`.
func (s *server) showNow(w http.ResponseWriter, r *http.Request) error {
	q := wire.NowQuery{Team: r.URL.Query().Get("team"), User: cmp.Or(r.URL.Query().Get("user"), callerOf(r).Name)}
	name, err := s.Overview.Version(r.Context(), q)
	if err != nil {
		return err
	}
	tag := `"` + name + `"`
	w.Header().Set("ETag", tag)
	if answer.Has(r, tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	now, err := s.Overview.Now(r.Context(), q)
	if err != nil {
		return err
	}
	now.Version = version.Read().Version
	return writeOK(w, now)
}

func (s *server) listTroubles(w http.ResponseWriter, r *http.Request) error {
	all, err := s.Overview.Troubles(r.Context())
	if err != nil {
		return err
	}
	return writeOK(w, wire.NewList(all, ""))
}

func (s *server) showTimeline(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	buckets, err := number(q, "buckets", 1, wire.MaxBuckets, wire.DefaultBuckets)
	if err != nil {
		return err
	}
	out := wire.TimelineQuery{Pool: q.Get("pool"), Buckets: int(buckets)}
	if out.From, err = pastInstant(q, "from", s.now()); err != nil {
		return err
	}
	if out.To, err = pastInstant(q, "to", s.now()); err != nil {
		return err
	}
	t, err := s.Overview.Timeline(r.Context(), out)
	if err != nil {
		return err
	}
	return writeOK(w, t)
}
