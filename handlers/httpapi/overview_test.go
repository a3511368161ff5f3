package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/oklog/ulid/v2"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

// askNow asks what goes on, with the tag of an earlier answer.
func askNow(t testing.TB, h http.Handler, query, tag string) (*httptest.ResponseRecorder, wire.Now) {
	t.Helper()
	r := httptest.NewRequest("GET", "/api/now"+query, nil)
	if tag != "" {
		r.Header.Set("If-None-Match", tag)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var now wire.Now
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &now); err != nil {
			t.Fatal(err)
		}
	}
	return w, now
}

// The answer changes its tag with each change of a pool, with who is asked about, and once a
// minute.
func TestNowHasATag(t *testing.T) {
	t.Parallel()
	app := apptest.Example(t)
	h := serve(app)
	w, now := askNow(t, h, "?user=ann", "")
	if w.Code != 200 || now.CostPerHour != "0.192" || now.Currency != "USD" || now.Troubles != 1 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	tag := w.Header().Get("ETag")
	for name, test := range map[string]struct {
		query, tag string
		want       int
	}{
		"the same":      {"?user=ann", tag, 304},
		"weak":          {"?user=ann", "W/" + tag, 304},
		"among others":  {"?user=ann", `"x", ` + tag, 304},
		"another":       {"?user=ann", `"x"`, 200},
		"of another":    {"?user=bob", tag, 200},
		"of a team":     {"?user=ann&team=vision", tag, 200},
		"without a tag": {"?user=ann", "", 200},
	} {
		if w, _ := askNow(t, h, test.query, test.tag); w.Code != test.want || w.Code == 304 && w.Body.Len() > 0 {
			t.Errorf("%s: got %d %s, want %d", name, w.Code, w.Body, test.want)
		}
	}
	if _, err := app.Jobs.Cancel(t.Context(), "third"); err != nil {
		t.Fatal(err)
	}
	w, after := askNow(t, h, "?user=ann", tag)
	if w.Code != 200 || after.Mine.Queued != now.Mine.Queued-1 {
		t.Errorf("after a cancellation: got %d %s", w.Code, w.Body)
	}
	tag = w.Header().Get("ETag")
	app.Clock.Set(app.Clock.Now().Add(time.Minute))
	if w, _ := askNow(t, h, "?user=ann", tag); w.Code != 200 || w.Header().Get("ETag") == tag {
		t.Errorf("a minute later: got %d with %s", w.Code, w.Header().Get("ETag"))
	}
}

// fillPools writes pools with nodes and waiting jobs.
func fillPools(tb testing.TB, app *apptest.Instance, pools, nodes, jobs int) {
	tb.Helper()
	for p := range pools {
		name := fmt.Sprintf("pool-%d", p)
		if err := app.Apply(tb.Context(), fmt.Sprintf(`{"name":%q,"sizes":["Standard_D4s_v5"],"nodes":{"max":%d}}`, name, nodes)); err != nil {
			tb.Fatal(err)
		}
		part, version, err := app.Store.Load(tb.Context(), name)
		if err != nil {
			tb.Fatal(err)
		}
		head := part.Head
		var changes []pool.Change
		flush := func() {
			head.Seq++
			head.Nonce = uuid.NewString()
			if version, err = app.Store.Commit(tb.Context(), name, version, head, changes); err != nil {
				tb.Fatal(err)
			}
			changes = changes[:0]
		}
		add := func(key string, row any) {
			changes = append(changes, pool.Change{Key: key, Value: row, Insert: true})
			if len(changes) == 95 {
				flush()
			}
		}
		at := apptest.Noon.Add(-time.Hour)
		for i := range nodes {
			n := &pool.Node{VMID: fmt.Sprintf("%08d-%d", i, p), Name: fmt.Sprintf("%s_%d", name, i), Set: head.Sets[0].Name, Size: "Standard_D4s_v5",
				State: pool.NodeReady, RunningAt: at, CreatedAt: at, Since: at, HeardAt: apptest.Noon, CPUs: 4, Price: "0.192", Currency: "USD", From: at, Mark: at}
			add(pool.NodeKey(n.VMID), n)
		}
		for i := range jobs {
			order := ulid.MustNew(ulid.Timestamp(at.Add(time.Duration(i)*time.Millisecond)), nil).String()
			j := &pool.Job{Order: order, ID: "job-" + order, State: job.Held, NotBefore: apptest.Noon.Add(time.Hour), SubmittedAt: at}
			j.Spec = job.Spec{ID: j.ID, Pool: name, Name: "train", Team: fmt.Sprint("team-", i%7), User: fmt.Sprint("user-", i%50),
				Command: []string{"true"}, Resources: job.Resources{CPUs: 1}, Priority: job.Normal}
			add(pool.JobKey(order), j)
		}
		head.Queued = jobs
		flush()
	}
}

// BenchmarkNow asks what goes on in 20 pools with 1,000 nodes and as many live jobs as -rows
// says: as it is after a change, and when nothing has changed.
func BenchmarkNow(b *testing.B) {
	app := apptest.New(b)
	fillPools(b, app, 20, 50, *rows/20)
	h := serve(app)
	w, now := askNow(b, h, "?user=user-3", "") // reads all rows once
	if w.Code != 200 || now.Jobs.Held != *rows/20*20 {
		b.Fatal(w.Code, w.Body)
	}
	b.Run("whole", func(b *testing.B) {
		for b.Loop() {
			w, _ := askNow(b, h, "?user=user-3", "")
			b.ReportMetric(float64(w.Body.Len()), "bytes")
		}
	})
	b.Run("changed", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			part, version, err := app.Store.Load(b.Context(), "pool-7")
			if err == nil {
				part.Head.Seq++
				part.Head.Nonce = uuid.NewString()
				_, err = app.Store.Commit(b.Context(), "pool-7", version, part.Head, nil)
			}
			if err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			askNow(b, h, "?user=user-3", "")
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		w, _ := askNow(b, h, "?user=user-3", "")
		tag := w.Header().Get("ETag")
		for b.Loop() {
			if w, _ := askNow(b, h, "?user=user-3", tag); w.Code != 304 {
				b.Fatal(w.Code)
			}
		}
	})
}
