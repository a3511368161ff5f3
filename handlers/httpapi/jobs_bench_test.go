package httpapi_test

import (
	"flag"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/oklog/ulid/v2"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// rows is how many finished jobs, or rows of the ledger, a benchmark has.
var rows = flag.Int("rows", 100_000, "finished jobs and rows of the ledger in benchmarks")

// fillJobs writes finished jobs of a pool, the newest at noon, one each second. One in ten has
// failed, and one in a thousand has timed out; user rare has the oldest one, and the first
// thousand are members of a sweep.
func fillJobs(tb testing.TB, app *apptest.Instance, jobs int) {
	tb.Helper()
	if err := app.Apply(tb.Context(), `{"name":"cpu","sizes":["Standard_D4s_v5"],"nodes":{"max":1}}`); err != nil {
		tb.Fatal(err)
	}
	part, version, err := app.Store.Load(tb.Context(), "cpu")
	if err != nil {
		tb.Fatal(err)
	}
	head := part.Head
	var changes []pool.Change
	flush := func() {
		head.Seq++
		head.Nonce = uuid.NewString()
		if version, err = app.Store.Commit(tb.Context(), "cpu", version, head, changes); err != nil {
			tb.Fatal(err)
		}
		changes = changes[:0]
	}
	index := 0
	for i := range jobs {
		at := apptest.Noon.Add(-time.Duration(i) * time.Second)
		j := &pool.Job{Order: ulid.MustNew(ulid.Timestamp(at), nil).String(), ID: fmt.Sprint("job-", i), State: job.Succeeded, SubmittedAt: at, EndedAt: at}
		j.Spec = job.Spec{ID: j.ID, Pool: "cpu", Name: "train", Team: fmt.Sprint("team-", i%7), User: fmt.Sprint("user-", i%50), Command: []string{"true"},
			Labels: map[string]string{"project": fmt.Sprint("p", i%5)}, Resources: job.Resources{CPUs: 1}, Priority: job.Normal}
		j.Attempts = []job.Attempt{{Number: 1, State: job.AttemptSucceeded, Node: "cpu_1", VMID: "vm", AssignedAt: at, StartedAt: at, EndedAt: at}}
		switch {
		case i == jobs-1:
			j.Spec.User = "rare"
		case i >= 100 && i < 1100:
			j.Order = fmt.Sprintf("%s.%05d", ulid.MustNew(ulid.Timestamp(apptest.Noon.Add(-100*time.Second)), nil), index)
			j.Spec.Index, index = &index, index+1
		case i%1000 == 7:
			j.State = job.TimedOut
		case i%10 == 3:
			j.State, j.ExitCode = job.Failed, 1
		}
		if j.Spec.Index != nil {
			n := *j.Spec.Index
			j.Spec.Index = &n
		}
		changes = append(changes, pool.Change{Key: pool.DoneKey(j.Order), Value: j, Insert: true})
		if len(changes) == 95 {
			flush()
		}
	}
	flush()
}

// BenchmarkJobList has the first page of lists over as many finished jobs as -rows says. p99 is
// over the runs of one list.
func BenchmarkJobList(b *testing.B) {
	app := apptest.New(b)
	fillJobs(b, app, *rows)
	h := serve(app)
	for _, list := range []struct{ name, query string }{
		{"plain", ""},
		{"pool", "pool=cpu"},
		{"state", "state=failed"},
		{"rareState", "state=timedOut"},
		{"noState", "state=cancelled"},
		{"active", "state=running"},
		{"user", "user=user-3"},
		{"mine", "user=user-3&fields=list"},
		{"rareUser", "user=rare"},
		{"noUser", "user=nobody"},
		{"team", "team=team-3"},
		{"since", "since=2026-03-02T11:00:00Z"},
		{"until", "until=2026-03-01"},
		{"label", "label=project=p1"},
		{"noLabel", "label=project=none"},
		{"name", "name=train"},
		{"sortEnded", "sort=ended&since=2026-03-02T10:00:00Z"},
	} {
		b.Run(list.name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest("GET", "/api/jobs?limit=100&"+list.query, nil))
				if w.Code != 200 {
					b.Fatal(w.Code, w.Body)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}
