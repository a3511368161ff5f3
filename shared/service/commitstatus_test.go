package service_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/store"
)

func TestCommitStatus(t *testing.T) {
	t.Parallel()
	h := newHook(t, aRule+`,"status":{"token":"GITHUB_PUSH_TOKEN","api":"HOSTAPI"}}`)
	h.statuses.fail = 1
	jobs, _ := h.push("d1", payload("refs/heads/main", "1", "2"))
	clock := h.now()
	h.clock = func() time.Time { return clock }
	tick := func(want string) {
		t.Helper()
		if err := h.CommitStatus(t.Context(), invoke.Tick{}); err != nil {
			t.Fatal(err)
		}
		if got := h.statuses.told(); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	tick("") // the host asks to be left alone for 90 s
	clock = clock.Add(89 * time.Second)
	tick("")
	clock = clock.Add(2 * time.Second)
	tick("2222 pending dsvm/r")
	tick("2222 pending dsvm/r") // nothing twice
	if err := h.store.Reject(t.Context(), store.ID{ID: jobs[0], Reason: "no such pool", At: clock}); err != nil {
		t.Fatal(err)
	}
	tick("2222 pending dsvm/r, 2222 error dsvm/r")
	tick("2222 pending dsvm/r, 2222 error dsvm/r")
	if rows, err := h.store.StatusWatches(t.Context()); err != nil || len(rows) > 0 {
		t.Errorf("the job is still followed: %+v, %v", rows, err)
	}
	if strings.Contains(h.log.String(), "t0ken") {
		t.Error("the log has the token")
	}
	if w := h.call("DELETE", "/api/rules/r", nil, nil); w.Code != http.StatusNoContent {
		t.Errorf("delete: got %d", w.Code)
	}
	if _, err := h.store.Rule(t.Context(), "r"); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("after the deletion: got %v", err)
	}
}

// Many pushes at once, each delivered twice at the same moment, start exactly
// their jobs.
func TestManyPushes(t *testing.T) {
	t.Parallel()
	h := newHook(t, aRule+`}`)
	const pushes = 80
	var wg sync.WaitGroup
	for i := range 2 * pushes {
		wg.Go(func() { h.push("d", payload(fmt.Sprintf("refs/heads/b%d", i/2), "1", "2")) })
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ids := map[string]bool{}
	for {
		more, err := h.receiver.PeekMessages(ctx, 1, &azservicebus.PeekMessagesOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(more) == 0 {
			break
		}
		ids[more[0].MessageID] = true
	}
	if len(ids) != pushes {
		t.Errorf("got %d jobs, want %d", len(ids), pushes)
	}
	for i := range pushes { // all is done: nothing more of it
		if jobs, _ := h.push("d", payload(fmt.Sprintf("refs/heads/b%d", i), "1", "2")); len(jobs) > 0 {
			t.Fatalf("push %d started %v again", i, jobs)
		}
	}
}
