package drive

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/scheduler"
)

// slowFleet answers for the set "slow" only when "quick" has been asked.
type slowFleet struct {
	Fleet
	mu    sync.Mutex
	calls []string
	asked chan struct{}
}

func (f *slowFleet) called(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, what)
}

func (f *slowFleet) Grow(ctx context.Context, _ string, _ pool.Spec, set pool.Set, _ int) (Operation, error) {
	f.called("grow " + set.Name)
	if set.Name == "quick" {
		close(f.asked)
		return Operation{Token: "token", After: time.Second}, nil
	}
	select {
	case <-f.asked:
		return Operation{}, fault.New(fault.Preempted, "", "overtaken")
	case <-ctx.Done():
		return Operation{}, ctx.Err()
	}
}

func (f *slowFleet) Remove(_ context.Context, _, set string, _ []*pool.Node) error {
	f.called("remove " + set)
	return nil
}

func (f *slowFleet) Poll(_ context.Context, token string) (Operation, error) {
	return Operation{Token: token, After: time.Second}, nil
}

// A slow answer about one set keeps no other from growing; what is deleted in a set
// goes before what is asked of it; answers say what they are about.
func TestSetsAreCalledSideBySide(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f := &slowFleet{asked: make(chan struct{})}
	d := New(Config{Fleet: f, Timing: scheduler.DefaultTiming, Log: slog.New(slog.DiscardHandler)})
	slow, quick := pool.Set{Name: "slow"}, pool.Set{Name: "quick"}
	events := d.callSets(ctx, "p", pool.Spec{}, pool.Effects{
		Sets:   map[string]*pool.SetCalls{"slow": {Set: slow, Grow: 2}, "quick": {Set: quick, Grow: 1, Poll: "old", PollKind: pool.OpGrow}},
		Remove: []*pool.Node{{VMID: "a", Set: "slow", InstanceID: "0"}},
	})
	if at := slices.Index(f.calls, "remove slow"); at < 0 || at > slices.Index(f.calls, "grow slow") {
		t.Errorf("got %v", f.calls)
	}
	if len(events) != 3 {
		t.Fatalf("got %+v", events)
	}
	if a := events[0].(pool.Answered); a.Set != "quick" || a.Target != 1 || a.Token != "token" || a.Of != "" {
		t.Errorf("the request of quick: got %+v", a)
	}
	if a := events[1].(pool.Answered); a.Set != "quick" || a.Of != "old" || a.Token != "old" || a.Target != 0 {
		t.Errorf("the look at quick: got %+v", a)
	}
	if a := events[2].(pool.Answered); a.Set != "slow" || a.Target != 2 || a.Err == nil || a.Err.Code != fault.Preempted {
		t.Errorf("the request of slow: got %+v", a)
	}
}

// agingFleet lets time pass while it lists.
type agingFleet struct {
	Fleet
	now time.Time
}

func (f *agingFleet) List(_ context.Context, _ string, _ pool.Spec, set pool.Set) (pool.Listed, error) {
	f.now = f.now.Add(time.Minute)
	return pool.Listed{Set: set.Name}, nil
}

// A list is as old as the call for it, however long the answer takes.
func TestListIsAsOldAsItsCall(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	f := &agingFleet{now: began}
	d := New(Config{Fleet: f, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return f.now }})
	events := d.listSet(t.Context(), "p", pool.Spec{}, pool.Set{Name: "a"}, false)
	if len(events) != 1 || !events[0].(pool.Listed).At.Equal(began) {
		t.Errorf("asked at %s, got %+v", began, events)
	}
}
