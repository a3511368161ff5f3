package store

import (
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

func newIDs(count int, writer string) []ID {
	ids := make([]ID, count)
	for i := range ids {
		ids[i] = ID{ID: fmt.Sprintf("job-%d", i), Pool: "cpu", Order: order(i), Hash: writer, At: dawn}
	}
	return ids
}

func TestRegister(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	first := newIDs(300, "one")
	now, fresh, err := s.Register(ctx, first)
	if err != nil || !reflect.DeepEqual(now, first) {
		t.Fatalf("registered %+v (%v), want what was asked for", now, err)
	}
	for i := range fresh {
		if !fresh[i] {
			t.Fatalf("id %d is not fresh", i)
		}
	}

	// Half of them are taken; one comes twice.
	second := append(newIDs(600, "two"), ID{ID: "job-599", Order: order(7), Hash: "three"}, ID{ID: "job-0"})
	now, fresh, err = s.Register(ctx, second)
	if err != nil {
		t.Fatal(err)
	}
	for i := range now {
		want, isFresh := second[i], i >= 300 && i < 600
		switch {
		case i < 300:
			want = first[i]
		case i == 600:
			want = second[599]
		case i == 601:
			want = first[0]
		}
		if !reflect.DeepEqual(now[i], want) || fresh[i] != isFresh {
			t.Errorf("id %d is %+v, fresh %v; want %+v, %v", i, now[i], fresh[i], want, isFresh)
		}
	}
	if got, err := s.ID(ctx, "job-599"); err != nil || !reflect.DeepEqual(got, second[599]) {
		t.Errorf("read %+v (%v), want %+v", got, err, second[599])
	}
	_, err = s.ID(ctx, "another/one")
	wantCode(t, "an id nobody used", err, fault.NotFound)
	_, _, err = s.Register(ctx, []ID{{}})
	wantCode(t, "an empty id", err, fault.Invalid)
}

func TestEachIDIsFreshOnce(t *testing.T) {
	t.Parallel()
	connection := serve(t)
	const writers, count = 8, 120
	var winners [count]atomic.Int32
	results := make([][]ID, writers)
	var group sync.WaitGroup
	for w := range writers {
		s := open(t, connection)
		group.Go(func() {
			now, fresh, err := s.Register(deadline(t), newIDs(count, fmt.Sprint(w)))
			if err != nil {
				t.Error(err)
				return
			}
			results[w] = now
			for i := range fresh {
				if fresh[i] {
					winners[i].Add(1)
					if now[i].Hash != fmt.Sprint(w) {
						t.Errorf("id %d is fresh in call %d with the row of call %s", i, w, now[i].Hash)
					}
				}
			}
		})
	}
	group.Wait()
	for i := range count {
		if n := winners[i].Load(); n != 1 {
			t.Errorf("id %d is fresh in %d calls, want 1", i, n)
		}
		for w := range writers {
			if results[w] != nil && results[w][i].Hash != results[0][i].Hash {
				t.Errorf("id %d is %s to one call and %s to another", i, results[w][i].Hash, results[0][i].Hash)
			}
		}
	}
}

func TestReject(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	bad := ID{ID: "any/id at\xff all", Pool: "No Such", Hash: "h", Reason: "no such pool", Field: "pool", At: dawn}
	taken := newIDs(2, "one")
	if _, _, err := s.Register(ctx, taken[:1]); err != nil {
		t.Fatal(err)
	}
	reject := func(id ID) {
		t.Helper()
		if err := s.Reject(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	ids := func() (got []string) {
		t.Helper()
		rejected, err := s.Rejected(ctx, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range rejected {
			got = append(got, id.ID+": "+id.Reason)
		}
		return got
	}
	reject(bad)
	reject(ID{ID: taken[0].ID, Reason: "too late", At: dawn.Add(1000)})
	reject(ID{ID: taken[1].ID, Reason: "first", At: dawn.Add(2000)})
	want := []string{"job-1: first", "any/id at\uFFFD all: no such pool"}
	if got := ids(); !reflect.DeepEqual(got, want) {
		t.Errorf("rejected are %q, want %q", got, want)
	}
	if got, err := s.ID(ctx, taken[0].ID); err != nil || got.State != "" {
		t.Errorf("a job's id became %+v (%v) by a rejection", got, err)
	}
	if got, err := s.ID(ctx, bad.ID); err != nil || got.State != job.Rejected || got.Field != "pool" {
		t.Errorf("rejected id is %+v (%v)", got, err)
	}

	// Again, later: listed once, with the new reason.
	reject(ID{ID: taken[1].ID, Reason: "second", At: dawn.Add(3000)})
	want[0] = "job-1: second"
	if got := ids(); !reflect.DeepEqual(got, want) {
		t.Errorf("rejected are %q, want %q", got, want)
	}

	// A corrected message under the same id is welcome.
	now, fresh, err := s.Register(ctx, taken)
	if err != nil || fresh[0] || !fresh[1] || now[1].State != "" || now[1].Hash != "one" {
		t.Errorf("registered %+v, %v (%v)", now, fresh, err)
	}
	if got := ids(); !reflect.DeepEqual(got, want[1:]) {
		t.Errorf("rejected are %q, want %q", got, want[1:])
	}
}
