package store

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
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

// How 1,000 jobs have ended, which 500 jobs with two `after` each come after, is read with
// some 150 requests: their ids, and then their finished rows, 14 each. Read one by one it
// took 2,000.
func TestEndStatesCostsFewRequests(t *testing.T) {
	t.Parallel()
	requests, connection := counted(t, serve(t))
	s, ctx := open(t, connection), deadline(t)
	w := &writer{t: t, s: s, name: "cpu", head: pool.Head{Spec: pool.Spec{Name: "cpu"}}}
	w.commit()
	var ids []string
	var registered []ID
	for batch := range 20 {
		var changes []pool.Change
		for i := range 50 {
			j := newJob(batch*50 + i)
			j.State, j.EndedAt = []job.State{job.Succeeded, job.Failed}[i%2], dawn
			changes = append(changes, pool.Change{Key: pool.DoneKey(j.Order), Value: j, Insert: true})
			registered = append(registered, ID{ID: j.ID, Pool: "cpu", Order: j.Order, Hash: "h", At: dawn})
			ids = append(ids, j.ID)
		}
		w.commit(changes...)
	}
	if _, _, err := s.Register(ctx, registered); err != nil {
		t.Fatal(err)
	}
	before := requests.Load()
	states, err := s.EndStates(ctx, ids)
	if err != nil || len(states) != len(ids) {
		t.Fatalf("%d jobs have ended, want %d (%v)", len(states), len(ids), err)
	}
	for i, id := range ids {
		if want := []job.State{job.Succeeded, job.Failed}[i%2]; states[id].State != want {
			t.Errorf("job %s has ended as %q, want %s", id, states[id].State, want)
		}
	}
	n := requests.Load() - before
	t.Logf("%d requests for %d ids", n, len(ids))
	if n == 0 || n > 170 {
		t.Errorf("%d requests for %d ids, want no more than 170", n, len(ids))
	}
}

// EndStates says of each id where its job is and how it has ended, or that nobody
// remembers it. A member of a sweep that is on its way is neither.
func TestEndStatesOfAllPools(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	live, ended := newJob(1), newJob(4)
	ended.State, ended.EndedAt = job.Failed, dawn
	w := &writer{t: t, s: s, name: "cpu", head: pool.Head{Spec: pool.Spec{Name: "cpu"}}}
	w.commit(pool.Change{Key: pool.JobKey(live.Order), Value: live, Insert: true})
	other := &writer{t: t, s: s, name: "gpu", head: pool.Head{Spec: pool.Spec{Name: "gpu"}}}
	other.commit(pool.Change{Key: pool.DoneKey(ended.Order), Value: ended, Insert: true})
	if _, _, err := s.Register(ctx, []ID{
		{ID: live.ID, Pool: "cpu", Order: live.Order, Hash: "h", At: dawn},
		{ID: "elsewhere", Pool: "gpu", Order: order(2), Hash: "h", At: dawn},
		{ID: "coming", Pool: "cpu", Order: order(3), Hash: "h", At: dawn, End: End{Members: 4}},
		{ID: ended.ID, Pool: "gpu", Order: ended.Order, Hash: "h", At: dawn},
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Reject(ctx, ID{ID: "refused", Reason: "no", At: dawn}); err != nil {
		t.Fatal(err)
	}
	want := map[string]pool.EndState{
		live.ID:     {Pool: "cpu"},
		"elsewhere": {Pool: "gpu"},
		"coming":    {Pool: "cpu"},
		ended.ID:    {Pool: "gpu", State: job.Failed},
		"refused":   {State: job.Rejected},
		"unknown":   {Forgotten: true},
		"unknown.3": {Forgotten: true},
	}
	states, err := s.EndStates(ctx, append(slices.Collect(maps.Keys(want)), "coming.3", ""))
	if err != nil || !maps.Equal(states, want) {
		t.Errorf("got %v (%v), want %v", states, err, want)
	}
}
