package handlers

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/service"
)

// One message that makes the handler panic does not keep the others of its part
// from being done. It comes back later each time, and is rejected in the end, with
// the job that it brings.
func TestPanics(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		properties map[string]any
		err        error // nil: a panic
		tries      int64 // on the message that comes back
		revived    int64
		after      time.Duration
		rejected   bool
	}{
		{name: "once", tries: 1, after: time.Second},
		{name: "again", properties: map[string]any{service.PropTries: int64(3)}, tries: 4, after: 8 * time.Second},
		{name: "too often in a row", properties: map[string]any{service.PropTries: int64(panicsInARow)}, revived: 1, after: time.Minute},
		{name: "after the first revival", properties: map[string]any{service.PropTries: int64(panicsInARow), service.PropRevived: int64(1)}, revived: 2, after: 10 * time.Minute},
		{name: "after the last", properties: map[string]any{service.PropTries: int64(panicsInARow), service.PropRevived: int64(3)}, rejected: true},
		{name: "an outage never ends in a rejection", properties: map[string]any{service.PropTries: int64(1000)}, err: errors.New("away"), tries: 1001, after: time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			app := apptest.New(t, func(c *service.Config) { c.ReviveAfter = reviveAfter })
			f := newFunctions(app)
			bad := invoke.Message{ID: "bad", Body: []byte(`{"id":"bad","pool":"cpu","command":["x"]}`), Properties: tt.properties}
			var mu sync.Mutex
			var done []string
			err := byPool(
				t.Context(),
				f,
				"jobs",
				map[string][]invoke.Message{"cpu": {{ID: "one"}, bad, {ID: "two"}}, "gpu": {{ID: "three"}}},
				func(m invoke.Message) invoke.Message { return m },
				func(_ context.Context, _ string, part []invoke.Message) error {
					for _, m := range part {
						if m.ID == "bad" && tt.err == nil {
							panic("a mistake")
						}
						if m.ID == "bad" {
							return tt.err
						}
					}
					mu.Lock()
					defer mu.Unlock()
					for _, m := range part {
						done = append(done, m.ID)
					}
					return nil
				},
			)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(done)
			want := []string{"one", "three", "two"}
			if tt.err != nil {
				want = []string{"three"} // the outage is that of the whole part
			}
			if !slices.Equal(done, want) {
				t.Errorf("done: %v, want %v", done, want)
			}
			seen := slices.DeleteFunc(app.Bus.Take("jobs"), func(m bus.Message) bool { return m.ID != "bad" })
			if tt.rejected {
				id, err := app.Store.ID(t.Context(), "bad")
				if len(seen) > 0 || err != nil || !strings.Contains(id.Reason, "the handler panicked: a mistake") {
					t.Errorf("%d came back, %+v, %v; want the job rejected", len(seen), id, err)
				}
				return
			}
			if _, err := app.Store.ID(t.Context(), "bad"); fault.CodeOf(err) != fault.NotFound {
				t.Errorf("the job is known: %v", err)
			}
			if len(seen) != 1 || service.Number(seen[0].Properties[service.PropTries]) != tt.tries ||
				service.Number(seen[0].Properties[service.PropRevived]) != tt.revived || seen[0].At.Sub(apptest.Noon) != tt.after {
				t.Errorf("came back as %+v, want %d tries, %d revivals, after %s", seen, tt.tries, tt.revived, tt.after)
			}
		})
	}
}

// newFunctions returns the triggers over the use cases of a test.
func newFunctions(app *apptest.Instance) *Functions {
	return New(Config{Service: app.Service, Bus: app.Bus, UnknownAgain: time.Minute, Log: app.Log, Now: app.Clock.Now})
}
