package service_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/job"
	"dsvmpools/shared/store"
)

// ask sends a job over HTTP, and returns the status and what is wrong.
func (h *hook) ask(doc string) (int, string) {
	h.t.Helper()
	w := h.call("POST", "/api/jobs", map[string]string{"Content-Type": "application/json"}, []byte(doc))
	var problem struct{ Detail string }
	json.Unmarshal(w.Body.Bytes(), &problem)
	return w.Code, problem.Detail
}

func plainJob(id string) string {
	return fmt.Sprintf(`{"id":%q,"pool":"cpu","command":["x"]}`, id)
}

func sweepJob(id string) string {
	return fmt.Sprintf(`{"id":%q,"pool":"cpu","command":["x"],"sweep":{"count":3}}`, id)
}

// TestIDsWithoutCase: the same id in other letters is refused with the spelling that
// stands, and every spelling finds the job.
func TestIDsWithoutCase(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	if code, why := h.ask(plainJob("Nightly")); code != http.StatusAccepted {
		t.Fatalf("got %d %s", code, why)
	}
	if code, why := h.ask(plainJob("Nightly")); code != http.StatusAccepted {
		t.Errorf("the same again: got %d %s", code, why)
	}
	for _, doc := range []string{plainJob("nightly"), `{"id":"NIGHTLY","pool":"gpu","command":["y"]}`} {
		if code, why := h.ask(doc); code != http.StatusConflict || !strings.Contains(why, `"Nightly"`) ||
			!strings.Contains(why, "letter case") {
			t.Errorf("%s: got %d %s", doc, code, why)
		}
	}
	for _, spelling := range []string{"nightly", "NIGHTLY"} {
		w := h.call("GET", "/api/jobs/"+spelling, nil, nil)
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"id":"Nightly"`) {
			t.Errorf("%s is found as %d %s", spelling, w.Code, w.Body)
		}
	}
	if code, why := h.ask(`{"id":"then","pool":"cpu","command":["x"],"after":["nightly"]}`); code == http.StatusAccepted ||
		!strings.Contains(why, `spelled "Nightly"`) {
		t.Errorf("after another spelling: got %d %s", code, why)
	}
	// In one batch of the queue, the first one counts.
	batch := []invoke.Message{{ID: "m1", Body: []byte(plainJob("Both"))}, {ID: "m2", Body: []byte(plainJob("both"))}}
	if err := h.SubmitJob(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if row, err := h.store.ID(t.Context(), "BOTH"); err != nil || row.ID != "Both" || row.State == job.Rejected {
		t.Errorf("got %+v, %v", row, err)
	}
	if reasons := h.rejectedReasons(1); !strings.Contains(reasons[0], `"Both"`) {
		t.Errorf("got %q", reasons)
	}
}

// rejectedReasons takes so many messages off the queue of rejected ones.
func (h *hook) rejectedReasons(want int) []string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	receiver, err := h.client.NewReceiverForQueue("rejected", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	defer receiver.Close(ctx)
	var reasons []string
	for len(reasons) < want {
		got, err := receiver.ReceiveMessages(ctx, want-len(reasons), nil)
		if err != nil {
			h.t.Fatalf("%d of %d came: %v", len(reasons), want, err)
		}
		for _, m := range got {
			if err := receiver.CompleteMessage(ctx, m, nil); err != nil {
				h.t.Fatal(err)
			}
			reason, _ := m.ApplicationProperties["reason"].(string)
			reasons = append(reasons, reason)
		}
	}
	return reasons
}

// TestMembersAndJobs: a job and a member of a sweep never have the same id, whichever
// comes first, in whatever letters, and in one batch.
func TestMembersAndJobs(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	for _, step := range []struct {
		doc  string
		code int
		says string
	}{
		{plainJob("y.0"), http.StatusAccepted, ""}, {sweepJob("y"), http.StatusConflict, `would have the id "y.0"`}, {sweepJob("Y"), http.StatusConflict, `would have the id "y.0"`},
		{sweepJob("z"), http.StatusAccepted, ""}, {plainJob("z.2"), http.StatusConflict, "belongs to a member of a sweep"}, {plainJob("Z.2"), http.StatusConflict, "belongs to a member of a sweep"},
		{plainJob("z.3"), http.StatusAccepted, ""}, {sweepJob("z"), http.StatusAccepted, ""}, // the same sweep again
		{plainJob("w.3"), http.StatusAccepted, ""}, {sweepJob("w"), http.StatusAccepted, ""}, // it has members 0 to 2
		{plainJob("v"), http.StatusAccepted, ""}, {plainJob("v.0"), http.StatusAccepted, ""}, // v is no sweep
	} {
		if code, why := h.ask(step.doc); code != step.code || !strings.Contains(why, step.says) {
			t.Errorf("%s: got %d %s, want %d %s", step.doc, code, why, step.code, step.says)
		}
	}
	batch := []invoke.Message{
		{ID: "1", Body: []byte(plainJob("a.1"))},
		{ID: "2", Body: []byte(sweepJob("A"))},
		{ID: "3", Body: []byte(sweepJob("b"))},
		{ID: "4", Body: []byte(plainJob("B.2"))},
	}
	if err := h.SubmitJob(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	reasons := strings.Join(h.rejectedReasons(2), "; ")
	if !strings.Contains(reasons, `would have the id "A.1"`) || !strings.Contains(reasons, `"B.2" belongs to a member`) {
		t.Errorf("got %s", reasons)
	}
}

// TestUnportableNames: ids and names that the share cannot hold are refused, also where a
// MessageId stands for an id.
func TestUnportableNames(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	for _, id := range []string{"nul", "CON", "com1.x", "a.", "a "} {
		if code, why := h.ask(plainJob(id)); code != http.StatusBadRequest && code != http.StatusUnprocessableEntity {
			t.Errorf("%q: got %d %s", id, code, why)
		}
		w := h.call(
			"POST",
			"/api/jobs",
			map[string]string{"Content-Type": "application/json", "Idempotency-Key": id},
			[]byte(`{"pool":"cpu","command":["x"]}`),
		)
		if w.Code != http.StatusBadRequest && w.Code != http.StatusUnprocessableEntity ||
			!strings.Contains(w.Body.String(), "Idempotency-Key") {
			t.Errorf("%q as a key: got %d %s", id, w.Code, w.Body)
		}
		if err := h.SubmitJob(t.Context(), []invoke.Message{{ID: id, Body: []byte(`{"pool":"cpu","command":["x"]}`)}}); err != nil {
			t.Fatal(err)
		}
		if reasons := h.rejectedReasons(1); !strings.Contains(reasons[0], "the MessageId cannot stand for one") {
			t.Errorf("%q as a MessageId: got %q", id, reasons)
		}
	}
	for _, name := range []string{"con", "nul", "prn", "aux", "com1", "lpt9"} {
		w := h.call(
			"PUT",
			"/api/pools/"+name,
			map[string]string{"Content-Type": "application/json"},
			fmt.Appendf(nil, `{"name":%q,"sizes":["Standard_D4s_v5"],"nodes":{"max":2}}`, name),
		)
		if w.Code < 400 || !strings.Contains(w.Body.String(), "cannot be the name of a folder on the share") {
			t.Errorf("pool %s: got %d %s", name, w.Code, w.Body)
		}
	}
}

// TestMembersAndJobsAtOnce: of a job and a sweep that are submitted in the same moment, one
// with the id of a member of the other, at most one is taken, and an id that is refused is
// free again. Each has looked for the other before either registers.
func TestMembersAndJobsAtOnce(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	clock := h.clock
	for i := range 5 {
		sweep := fmt.Sprint("y", i)
		docs := []string{plainJob(sweep + ".0"), sweepJob(sweep)}
		both := make(chan struct{})
		var looked atomic.Int32
		h.clock = func() time.Time { // the first use is the time of registration
			switch n := looked.Add(1); {
			case n == 2:
				close(both)
			case n == 1:
				select {
				case <-both:
				case <-time.After(20 * time.Second):
				}
			}
			return clock()
		}
		codes := make([]int, len(docs))
		var wg sync.WaitGroup
		for i, doc := range docs {
			wg.Go(func() { codes[i], _ = h.ask(doc) })
		}
		wg.Wait()
		taken := 0
		for i, code := range codes {
			switch code {
			case http.StatusAccepted:
				taken++
			case http.StatusConflict:
				if row, err := h.store.ID(t.Context(), []string{sweep + ".0", sweep}[i]); fault.CodeOf(err) != fault.NotFound {
					t.Errorf("%s was refused, and its id stands for %+v (%v)", docs[i], row, err)
				}
			default:
				t.Errorf("%s: got %d", docs[i], code)
			}
		}
		if taken > 1 {
			t.Errorf("both of %s were taken", docs)
		}
	}
}

// TestRivalsAfterAKill: both were registered, and what took them in was killed before it
// looked again. Neither is taken while the other is there; when one has been given up, the
// other is.
func TestRivalsAfterAKill(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	var ids []store.ID
	for _, doc := range []string{plainJob("y.0"), sweepJob("y")} {
		spec, err := job.Parse([]byte(doc), "application/json")
		if err != nil {
			t.Fatal(err)
		}
		id := store.ID{ID: spec.ID, Pool: "cpu", Order: ulid.Make().String(), Hash: spec.Hash(), Via: store.ByHTTP, At: h.now()}
		if spec.Sweep != nil {
			id.End.Members = spec.Sweep.Members()
		}
		ids = append(ids, id)
	}
	stands, _, err := h.store.Register(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range []string{plainJob("y.0"), sweepJob("y")} {
		if code, why := h.ask(doc); code == http.StatusAccepted {
			t.Errorf("%s was taken: %s", doc, why)
		}
	}
	row, err := h.store.ID(t.Context(), stands[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.RejectLost(t.Context(), row, "lost", h.now()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if code, why := h.ask(sweepJob("y")); code != http.StatusAccepted {
			t.Errorf("the other is gone: got %d %s", code, why)
		}
	}
}
