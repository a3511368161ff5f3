package store

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

// counted puts a counter of requests before the tables.
func counted(t *testing.T, connection string) (*atomic.Int64, string) {
	t.Helper()
	var endpoint string
	for part := range strings.SplitSeq(connection, ";") {
		if value, ok := strings.CutPrefix(part, "TableEndpoint="); ok {
			endpoint = value
		}
	}
	target, err := url.Parse(endpoint)
	if err != nil || target.Host == "" {
		t.Fatalf("no endpoint in %q: %v", connection, err)
	}
	var requests atomic.Int64
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: target.Scheme, Host: target.Host})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return &requests, strings.Replace(connection, target.Host, server.Listener.Addr().String(), 1)
}

// What 500 jobs with two `after` each name is read with some 80 requests: 14 ids each,
// in 16 partitions. Read one by one it took 1,000.
func TestFindAllCostsFewRequests(t *testing.T) {
	t.Parallel()
	requests, connection := counted(t, serve(t))
	s, ctx := open(t, connection), deadline(t)
	if _, _, err := s.Register(ctx, newIDs(1000, "one")); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i := range 1000 {
		ids = append(ids, fmt.Sprintf("job-%d", i))
	}
	before := requests.Load()
	found, err := s.FindAll(ctx, ids)
	if err != nil || len(found) != len(ids) {
		t.Fatalf("%d ids found, want %d (%v)", len(found), len(ids), err)
	}
	n := requests.Load() - before
	t.Logf("%d requests for %d ids", n, len(ids))
	if n == 0 || n > 90 {
		t.Errorf("%d requests for %d ids, want no more than 90", n, len(ids))
	}
}

// FindAll says of each id what Find says.
func TestFindAll(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	taken := newIDs(30, "one")
	taken = append(taken, ID{ID: "Capital", Pool: "gpu", Order: order(40), Hash: "h", At: dawn})
	if _, _, err := s.Register(ctx, taken); err != nil {
		t.Fatal(err)
	}
	if err := s.Reject(ctx, ID{ID: "refused", Reason: "no", At: dawn}); err != nil {
		t.Fatal(err)
	}
	ids := []string{"", "nobody", "Nobody", "nobody.3", "o'clock", "refused", "Capital", "capital", "JOB-1", "job-1", "job-1", "job-29"}
	found, err := s.FindAll(ctx, ids)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		want, err := s.Find(ctx, id)
		got, ok := found[id]
		if (err == nil) != ok || got.ID != want.ID || got.Order != want.Order || got.State != want.State {
			t.Errorf("%q: got %+v %v, want %+v (%v)", id, got, ok, want, err)
		}
		if err != nil && id != "" && fault.CodeOf(err) != fault.NotFound {
			t.Errorf("%q: %v", id, err)
		}
	}
	if len(found) != 6 || found["refused"].State != job.Rejected {
		t.Errorf("%d found: %+v", len(found), found)
	}
}
