package service_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/service"
	"dsvmpools/shared/store"
	"dsvmpools/shared/wire"
)

// submit sends documents as messages.
func (h *hook) submit(documents ...string) {
	h.t.Helper()
	var in []invoke.Message
	for i, d := range documents {
		in = append(
			in,
			invoke.Message{
				ID:          fmt.Sprint("m-", i),
				Body:        []byte(d),
				ContentType: "application/json",
				Properties:  map[string]any{service.PropUnknown: "true"},
			},
		)
	}
	if err := h.SubmitJob(h.t.Context(), in); err != nil {
		h.t.Fatal(err)
	}
}

// post sends a document over HTTP.
func (h *hook) post(document string) (int, wire.Job) {
	h.t.Helper()
	w := h.call("POST", "/api/jobs", map[string]string{"Content-Type": "application/json"}, []byte(document))
	var j wire.Job
	_ = json.Unmarshal(w.Body.Bytes(), &j) // a problem has none of its fields
	return w.Code, j
}

func (h *hook) makePool(name string) {
	h.t.Helper()
	spec, err := pool.Parse(fmt.Appendf(nil, `{"name":%q,"sizes":["Standard_D4s_v5"],"nodes":{"max":2}}`, name), "application/json")
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.service.Pools.Apply(h.t.Context(), spec); err != nil {
		h.t.Fatal(err)
	}
}

// run has a job run and succeed on the node.
func (h *hook) run(id string) {
	h.t.Helper()
	h.submit(fmt.Sprintf(`{"id":%q,"pool":"cpu","command":["true"]}`, id))
	j := h.job(id)
	if j.State != job.Assigned {
		h.t.Fatalf("job %s is %+v", id, j)
	}
	h.report(reportEnd(j.N, h.now()))
}

// drop deletes the rows of a pool that is being deleted, as if its node had gone.
func (h *hook) drop(name string) {
	h.t.Helper()
	if err := h.service.Ledger.Record(h.t.Context(), name); err != nil {
		h.t.Fatal(err)
	}
	if err := h.store.DeletePool(h.t.Context(), name); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hook) delete(name string) {
	h.t.Helper()
	if err := h.service.Pools.Delete(h.t.Context(), name); err != nil {
		h.t.Fatal(err)
	}
}

// rejections is how many messages were rejected so far.
func (h *hook) rejections() int {
	h.t.Helper()
	rows, err := h.store.Rejected(h.t.Context(), 100)
	if err != nil {
		h.t.Fatal(err)
	}
	return len(rows)
}

// A job of a pool that is gone has ended as it did, whoever asks, and its message
// once more is the same job: also when the pool is there again.
func TestJobOfADeletedPool(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	h.run("good")
	h.submit(`{"id":"later","pool":"cpu","notBefore":"2999-01-01T00:00:00Z","command":["true"]}`,
		`{"id":"tune","pool":"cpu","after":["later:any"],"sweep":{"count":3},"command":["true"]}`)
	h.delete("cpu")
	h.drop("cpu")
	for _, made := range []bool{false, true} {
		t.Run(fmt.Sprintf("made again %v", made), func(t *testing.T) {
			if made {
				h.makePool("cpu")
			}
			for id, want := range map[string]job.State{"good": job.Succeeded, "later": job.Cancelled, "tune": job.Cancelled, "tune.2": job.Cancelled} {
				j := h.job(id)
				if j.State != want || j.Spec.Pool != "cpu" || want == job.Cancelled && j.Reason != "its pool was deleted" {
					t.Errorf("job %s is %s: %q, want %s", id, j.State, j.Reason, want)
				}
				if j, err := h.service.Jobs.Cancel(t.Context(), id); err != nil || j.State != want {
					t.Errorf("cancelled, job %s is %+v (%v), want %s as before", id, j, err, want)
				}
				if e, err := h.service.Jobs.Explain(t.Context(), id); err != nil || e.State != want {
					t.Errorf("explain %s: %+v (%v)", id, e, err)
				}
			}
			if j := h.job("good"); j.AttemptCount() != 1 || j.EndedAt.IsZero() || j.Archived.StartedAt.IsZero() {
				t.Errorf("good is %+v", j)
			}
			if w := h.call("GET", "/api/jobs/tune.3", nil, nil); w.Code != http.StatusNotFound {
				t.Errorf("a member there never was: %d", w.Code)
			}
			w := h.call("GET", "/api/jobs/tune", nil, nil)
			var tune wire.Job
			if err := json.Unmarshal(w.Body.Bytes(), &tune); err != nil || tune.Sweep == nil || tune.Sweep.Members != 3 ||
				tune.Sweep.Cancelled != 3 ||
				tune.Kept == "" ||
				tune.Spec != nil {
				t.Errorf("tune is %s", w.Body)
			}

			again := `{"id":"good","pool":"cpu","command":["true"]}`
			h.submit(again)
			if code, j := h.post(again); code != http.StatusAccepted || j.State != job.Succeeded {
				t.Errorf("posted again: %d, %+v; want the job as it ended", code, j)
			}
			if h.rejections() > 0 {
				t.Error("its message was rejected when it came again")
			}
			if code, _ := h.post(`{"id":"good","pool":"cpu","command":["false"]}`); code == http.StatusAccepted {
				t.Error("another document was taken under its id")
			}
			if !made {
				return
			}
			if jobs, _, err := h.store.Jobs(t.Context(), "cpu", store.JobFilter{}, 10, ""); err != nil || len(jobs) != 0 {
				t.Errorf("the new pool has %v (%v)", jobs, err)
			}
			h.submit(
				`{"id":"next","pool":"cpu","after":["good","tune.1:failure"],"command":["true"]}`,
				`{"id":"never","pool":"cpu","after":["tune"],"command":["true"]}`,
			)
			if j := h.job("next"); j.State != job.Queued {
				t.Errorf("next is %s: %s", j.State, j.Reason)
			}
			if j := h.job("never"); j.State != job.Cancelled {
				t.Errorf("never is %s: %s", j.State, j.Reason)
			}
		})
	}
}

// A finished row that has gone by its age does not let the job's message run it again,
// whatever process takes it.
func TestJobWhoseRowHasGone(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	h.run("good")
	row, err := h.store.ID(t.Context(), "good")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := h.store.DropDone(t.Context(), "cpu", h.now().Add(time.Minute), 0); err != nil || n != 1 {
		t.Fatalf("%d dropped (%v)", n, err)
	}
	h.submit(`{"id":"good","pool":"cpu","command":["true"]}`)
	h.restart()
	h.submit(`{"id":"good","pool":"cpu","command":["true"]}`)
	// One that had read the id before the row went.
	ended, err := h.service.Driver().Submit(t.Context(), "cpu", resubmission(row))
	if err != nil || len(ended.Refused) > 0 {
		t.Errorf("%+v, %v", ended, err)
	}
	if j := h.job("good"); j.State != job.Succeeded || j.Archived == nil {
		t.Errorf("it is %s, with rows %v", j.State, j.Archived == nil)
	}
}

// Whoever is refused binds no id, whichever way: a corrected document is welcome.
func TestRefusedSubmissionBindsNoID(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	h.run("warm") // the pool has been seen by this process
	free := func(what, id string) {
		t.Helper()
		if row, err := h.store.ID(t.Context(), id); fault.CodeOf(err) != fault.NotFound && row.State != job.Rejected {
			t.Errorf("%s: the id stands for %+v", what, row)
		}
		if code, j := h.post(fmt.Sprintf(`{"id":%q,"pool":"gpu","command":["true"]}`, id)); code != http.StatusAccepted || j.State.Final() {
			t.Errorf("%s: the corrected document: %d, %s", what, code, j.State)
		}
	}
	for name, document := range map[string]string{
		"too-large": `{"id":%q,"pool":"cpu","resources":{"cpus":99},"command":["true"]}`,
		"no-pool":   `{"id":%q,"pool":"nowhere","command":["true"]}`,
		"after":     `{"id":%q,"pool":"cpu","after":["nobody"],"command":["true"]}`,
		"unread":    `{"id":%q,"pool":"cpu","commando":["true"]}`,
	} {
		h.submit(fmt.Sprintf(document, name))
		if j := h.job(name); j.State != job.Rejected || j.Reason == "" {
			t.Errorf("%s: it is %s", name, j.State)
		}
		if code, _ := h.post(fmt.Sprintf(document, name+"-http")); code == http.StatusAccepted {
			t.Errorf("%s was taken", name)
		}
		free(name, name)
		free(name, name+"-http")
	}
	h.delete("cpu")
	document := `{"id":%q,"pool":"cpu","command":["true"]}`
	h.submit(fmt.Sprintf(document, "going"))
	if j := h.job("going"); j.State != job.Rejected {
		t.Errorf("going is %s", j.State)
	}
	if code, _ := h.post(fmt.Sprintf(document, "going-http")); code != http.StatusConflict {
		t.Errorf("a pool that is being deleted: %d, want a conflict", code)
	}
	free("being deleted", "going")
	free("being deleted", "going-http")
	h.drop("cpu") // this process still believes in it
	if code, _ := h.post(fmt.Sprintf(document, "gone-http")); code != http.StatusNotFound {
		t.Errorf("a pool that has gone: %d", code)
	}
	h.submit(fmt.Sprintf(document, "gone"))
	if j := h.job("gone"); j.State != job.Rejected {
		t.Errorf("gone is %s", j.State)
	}
	free("gone", "gone")
	free("gone", "gone-http")
}

// An id that was registered and has no job is given up: after a time in which its
// message could still come.
func TestLostJob(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	h.change(func(c *service.Config) { c.ReviveAfter = []time.Duration{time.Minute, time.Hour} })
	document := func(id string) job.Spec {
		spec, err := job.Parse(fmt.Appendf(nil, `{"id":%q,"pool":"cpu","command":["true"]}`, id), "application/json")
		if err != nil {
			t.Fatal(err)
		}
		return spec
	}
	for _, c := range []struct {
		id, via string
		age     time.Duration
		want    job.State
	}{
		{"http-new", store.ByHTTP, 4 * time.Minute, job.Submitted},
		{"http-old", store.ByHTTP, 6 * time.Minute, job.Rejected},
		{"queue-new", store.ByQueue, 70 * time.Minute, job.Submitted},
		{"queue-old", store.ByQueue, 72 * time.Minute, job.Rejected},
	} {
		spec := document(c.id)
		_, _, err := h.store.Register(
			t.Context(),
			[]store.ID{{ID: c.id, Pool: "cpu", Order: ulid.Make().String(), Hash: spec.Hash(), Via: c.via, At: h.now().Add(-c.age)}},
		)
		if err != nil {
			t.Fatal(err)
		}
		h.submit(fmt.Sprintf(`{"id":"then-%s","pool":"cpu","after":[%[1]q],"command":["true"]}`, c.id))
		if j := h.job("then-" + c.id); (j.State == job.Cancelled) != (c.want == job.Rejected) {
			t.Errorf("what comes after %s is %s: %s", c.id, j.State, j.Reason)
		}
		if j := h.job(c.id); j.State != c.want || (c.want == job.Rejected) != (j.Reason != "") {
			t.Errorf("%s is %s: %s, want %s", c.id, j.State, j.Reason, c.want)
		}
		// Its message after all.
		h.submit(fmt.Sprintf(`{"id":%q,"pool":"cpu","command":["true"]}`, c.id))
		if j := h.job(c.id); j.State.Final() || j.State == job.Submitted {
			t.Errorf("%s came after all and is %s", c.id, j.State)
		}
	}
	// One that is there is not lost, however long ago it was registered.
	later := h.now().Add(100 * 24 * time.Hour)
	h.clock = func() time.Time { return later }
	if j := h.job("http-old"); j.State.Final() {
		t.Errorf("a live job was given up: %s", j.Reason)
	}
}

// resubmission is that of a registered id whose message has come once more.
func resubmission(row store.ID) []drive.Submission {
	return []drive.Submission{
		{
			Submit: pool.Submit{
				Order: row.Order,
				ID:    row.ID,
				At:    row.At,
				Spec:  job.Spec{ID: row.ID, Pool: row.Pool, Command: []string{"true"}},
			},
		},
	}
}

// reportEnd is how a node reports that an attempt has succeeded.
func reportEnd(n int64, at time.Time) protocol.ReportItem {
	return protocol.ReportItem{Finished: &protocol.Finished{N: n, State: "succeeded", StartedAt: at, EndedAt: at}}
}
