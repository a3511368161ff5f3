package service_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/invoke"
	"dsvmpools/shared/service"
	"dsvmpools/shared/store"
)

func TestCancelPrevious(t *testing.T) {
	t.Parallel()
	h := newHook(t, aRule+`,"cancelPrevious":true}`)
	first, _ := h.push("d1", payload("refs/heads/main", "1", "2"))
	other, _ := h.push("d2", payload("refs/heads/other", "1", "2"))
	if rows, err := h.store.StatusWatches(t.Context()); err != nil || len(rows) > 0 || len(other) != 1 {
		t.Fatalf("a push to another branch: %+v, %v", rows, err)
	}
	h.push("d3", payload("refs/heads/main", "2", "3"))
	// The first job's message is still on the queue, so that its end is owed.
	rows, err := h.store.StatusWatches(t.Context())
	if err != nil || len(rows) != 1 || !rows[0].Cancel || rows[0].Job != first[0] {
		t.Errorf("got %+v, %v; want %s to be cancelled", rows, err, first[0])
	}
	if jobs, reason := h.push("d4", payload("refs/heads/main", "9", "2")); len(jobs) > 0 || !strings.Contains(reason, "newer push") {
		t.Errorf("an older push that comes late: got %v: %s", jobs, reason)
	}
	h.queued(3)
	// When the job is known, it is cancelled and no longer owed; here it was refused.
	if err := h.store.Reject(t.Context(), store.ID{ID: first[0], Reason: "no", At: h.now()}); err != nil {
		t.Fatal(err)
	}
	if err := h.CommitStatus(t.Context(), invoke.Tick{}); err != nil {
		t.Fatal(err)
	}
	if rows, err = h.store.StatusWatches(t.Context()); err != nil || len(rows) > 0 {
		t.Errorf("got %+v, %v", rows, err)
	}
}

// A ref that is set anew, by force or after it was deleted, may lead back to where an
// older push began; it is the newer one unless deliveries can have overtaken each
// other.
func TestCancelPreviousAnew(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		before, flag string
		after        time.Duration
		jobs         int
	}{
		"forced, later":           {"3", `"forced":true,`, service.Overtaking + time.Second, 1},
		"a branch again, later":   {"0", "", service.Overtaking + time.Second, 1},
		"forced, overtaken":       {"3", `"forced":true,`, service.Overtaking - time.Second, 0},
		"a new branch, overtaken": {"0", "", service.Overtaking - time.Second, 0},
		"not forced":              {"3", "", service.Overtaking + time.Second, 0},
		"forced, one step back":   {"2", `"forced":true,`, time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHook(t, aRule+`,"cancelPrevious":true}`)
			clock := h.now()
			h.clock = func() time.Time { return clock }
			first, _ := h.push("d1", payload("refs/heads/main", "1", "2"))
			clock = clock.Add(tt.after)
			body := bytes.Replace(payload("refs/heads/main", tt.before, "1"), []byte("{"), []byte("{"+tt.flag), 1)
			jobs, reason := h.push("d2", body)
			if len(jobs) != tt.jobs {
				t.Errorf("started %v: %s; want %d", jobs, reason, tt.jobs)
			}
			rows, err := h.store.StatusWatches(t.Context())
			if err != nil || len(rows) != tt.jobs || tt.jobs > 0 && (!rows[0].Cancel || rows[0].Job != first[0]) {
				t.Errorf("to be cancelled: %+v, %v; want what the older push started", rows, err)
			}
		})
	}
}
