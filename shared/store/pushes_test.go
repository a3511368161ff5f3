package store

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/store/table"
)

func TestFactsThatDoNotFit(t *testing.T) {
	t.Parallel()
	if _, err := encodePush(&PushRecord{Facts: strings.Repeat("x", table.LongUnits+1)}); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("facts that do not fit: got %v", err)
	}
}

// A delivery that comes many times at once is noted once.
func TestBeginPush(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	var mu sync.Mutex
	var stands []PushRecord
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			st, err := s.BeginPush(ctx, PushRecord{Rule: "r", Key: "k", Commit: fmt.Sprint(i), Jobs: []string{"a"}, At: dawn})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			stands = append(stands, st)
		})
	}
	wg.Wait()
	row, err := s.Push(ctx, "r", "k")
	for _, st := range stands {
		if err != nil || !reflect.DeepEqual(st, row) {
			t.Errorf("got %+v, want %+v, %v", st, row, err)
		}
	}
	if _, err := s.Push(ctx, "r", "other"); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("another delivery: got %v", err)
	}
}

// Whoever changes a row at the same moment as others loses nothing of theirs.
func TestChangePush(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	if _, err := s.BeginPush(ctx, PushRecord{Rule: "r", Key: "k", Facts: "kept", At: dawn}); err != nil {
		t.Fatal(err)
	}
	const writers = pushRounds - 2 // each round one of them gets on
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			id := fmt.Sprintf("job-%d", i)
			st, err := s.ChangePush(ctx, "r", "k", func(st *PushRecord) bool { st.Jobs = append(st.Jobs, id); return true })
			if err != nil || !slices.Contains(st.Jobs, id) {
				t.Errorf("got %+v, %v", st, err)
			}
		})
	}
	wg.Wait()
	st, err := s.ChangePush(ctx, "r", "k", func(st *PushRecord) bool { st.Superseded = true; return false })
	if err != nil || !st.Superseded {
		t.Errorf("got %+v, %v", st, err)
	}
	if st, err = s.Push(ctx, "r", "k"); err != nil || len(st.Jobs) != writers || st.Superseded || st.Facts != "kept" {
		t.Errorf("got %+v, %v; want %d jobs, not superseded", st, err, writers)
	}
	if _, err := s.ChangePush(ctx, "r", "none", func(*PushRecord) bool { return true }); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("a push that is not known: got %v", err)
	}
	// Somebody who is always first.
	_, err = s.ChangePush(ctx, "r", "k", func(st *PushRecord) bool {
		if err := s.Pushes.table.Put(ctx, "come first", mustEncode(t, *st)); err != nil {
			t.Error(err)
		}
		return true
	})
	if fault.CodeOf(err) != fault.Throttled {
		t.Errorf("got %v, want it given up", err)
	}
}

func mustEncode(t *testing.T, st PushRecord) []byte {
	raw, err := encodePush(&st)
	if err != nil {
		t.Error(err)
	}
	return raw
}

func TestPushesOfRef(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	const ref, repository = "refs/heads/it's", "o'b/r"
	for key, st := range map[string]PushRecord{
		"one":        {Rule: "r", Repository: repository, Ref: ref},
		"two":        {Rule: "r", Repository: repository, Ref: ref, Sent: true},
		"superseded": {Rule: "r", Repository: repository, Ref: ref, Superseded: true},
		"branch":     {Rule: "r", Repository: repository, Ref: ref + "2"},
		"repository": {Rule: "r", Repository: "o/r", Ref: ref},
		"rule":       {Rule: "r-2", Repository: repository, Ref: ref},
	} {
		st.Key, st.At = key, dawn
		if _, err := s.BeginPush(ctx, st); err != nil {
			t.Fatal(err)
		}
	}
	var keys []string
	all, err := s.PushesOfRef(ctx, "r", repository, ref)
	for _, st := range all {
		keys = append(keys, st.Key)
	}
	if want := []string{"one", "two"}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("got %v, %v; want %v", keys, err, want)
	}
}

func TestStartsSinceAndDrop(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	for i := range 10 {
		for _, rule := range []string{"r", "r-2"} {
			if _, err := s.BeginPush(ctx, PushRecord{Rule: rule, Key: fmt.Sprint(i), At: dawn.Add(time.Duration(i) * time.Minute)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.PutRule(ctx, RuleRow{Name: "r", Document: "{}", ChangedAt: dawn}); err != nil {
		t.Fatal(err)
	}
	if err := s.PutStatusWatch(ctx, StatusWatch{Job: "a", At: dawn}); err != nil {
		t.Fatal(err)
	}
	count := func(rule string, since time.Duration, limit, want int) {
		t.Helper()
		if n, err := s.CountPushes(ctx, rule, dawn.Add(since), limit); err != nil || n != want {
			t.Errorf("%d pushes of %s since %s, %v; want %d", n, rule, since, err, want)
		}
	}
	count("r", 0, 100, 10)
	count("r", 0, 3, 3)
	count("r", 4*time.Minute, 100, 6)
	count("none", 0, 100, 0)
	for _, drop := range []struct{ limit, left int }{{3, 17}, {100, 10}, {100, 10}} {
		if err := s.DropPushes(ctx, dawn.Add(5*time.Minute), drop.limit); err != nil {
			t.Fatal(err)
		}
		one, err := s.CountPushes(ctx, "r", dawn, 100)
		two, err2 := s.CountPushes(ctx, "r-2", dawn, 100)
		if err != nil || err2 != nil || one+two != drop.left {
			t.Errorf("%d and %d pushes are left, want %d together", one, two, drop.left)
		}
	}
	count("r", 5*time.Minute, 100, 5)
	if _, err := s.Rule(ctx, "r"); err != nil {
		t.Errorf("the rule is gone: %v", err)
	}
	if rows, err := s.StatusWatches(ctx); err != nil || len(rows) != 1 {
		t.Errorf("the followed job is gone: %v, %v", rows, err)
	}
}

func TestStatusWatches(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	status := StatusWatch{
		Job:        "a",
		Rule:       "r",
		Repository: "o/r",
		Commit:     "c",
		Context:    "dsvm/r",
		Sent:       "pending",
		Tries:      3,
		Next:       dawn.Add(time.Hour),
		At:         dawn,
	}
	cancel := StatusWatch{Job: "a", Cancel: true, Rule: "r", At: dawn}
	other := StatusWatch{Job: "b!", At: dawn}
	for _, f := range []StatusWatch{{Job: "a", Sent: "old", Tries: 9}, status, cancel, other} {
		if err := s.PutStatusWatch(ctx, f); err != nil {
			t.Fatal(err)
		}
	}
	has := func(want ...StatusWatch) {
		t.Helper()
		if got, err := s.StatusWatches(ctx); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	has(cancel, status, other)
	for range 2 { // one that is gone is no error
		if err := s.DeleteStatusWatch(ctx, cancel); err != nil {
			t.Fatal(err)
		}
	}
	has(status, other)
}

func TestRules(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	long := RuleRow{Name: "long", Document: strings.Repeat(`{"é"}`, 3*table.ChunkUnits/5), ChangedAt: dawn}
	rules := []RuleRow{
		{Name: "a", Document: `{"a":1}`, ChangedAt: dawn},
		{Name: "b-2", Document: "{}", ChangedAt: dawn.Add(time.Hour)},
		long,
	}
	for _, r := range append([]RuleRow{{Name: "a", Document: long.Document, ChangedAt: dawn}}, rules...) {
		if err := s.PutRule(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Rules(ctx); err != nil || !reflect.DeepEqual(got, rules) {
		t.Errorf("got %.200v, %v", got, err)
	}
	if got, err := s.Rule(ctx, "long"); err != nil || got != long {
		t.Errorf("got %.200v, %v", got, err)
	}
	if err := s.PutRule(ctx, RuleRow{Name: "c", Document: strings.Repeat("x", table.LongUnits+1)}); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("a rule that does not fit: got %v", err)
	}
	if err := s.DeleteRule(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"delete": s.DeleteRule(ctx, "a"), "read": func() error { _, err := s.Rule(ctx, "a"); return err }()} {
		if fault.CodeOf(err) != fault.NotFound || !strings.Contains(err.Error(), "dsvm push list") {
			t.Errorf("%s what is gone: got %v", name, err)
		}
	}
}
