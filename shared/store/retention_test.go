package store

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

func TestFilesOutliveAWrongClock(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	w := newWriter(t, s, "cpu")
	w.head.Deleting = true
	j := newJob(0)
	j.State, j.EndedAt, j.Attempts = job.Failed, time.Date(1970, 1, 1, 0, 0, 9, 0, time.UTC), []job.Attempt{{Number: 1}}
	w.commit(pool.Change{Key: pool.DoneKey(j.Order), Value: j, Insert: true})
	if n, err := s.DropDone(ctx, "cpu", dawn.Add(-time.Hour), 0); err != nil || n != 0 {
		t.Errorf("%d dropped (%v) before they were submitted", n, err)
	}
	if err := s.DeletePool(ctx, "cpu"); err != nil {
		t.Fatal(err)
	}
	for before, want := range map[time.Time]int{dawn: 0, dawn.Add(time.Second): 1} {
		if lists, err := s.DueExpiries(ctx, ExpireFiles, before, 10); err != nil || len(lists) != want {
			t.Errorf("before %s: %v (%v), want %d lists", before, lists, err, want)
		}
	}
}

func TestDropRejected(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	for i := range 6 {
		if err := s.Reject(ctx, ID{ID: fmt.Sprint("bad-", i), Reason: "no", At: dawn.Add(time.Duration(i) * time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.DropRejected(ctx, dawn.Add(3*time.Hour), 2); err != nil || n != 2 {
		t.Errorf("%d forgotten (%v), want 2 at once", n, err)
	}
	if n, err := s.DropRejected(ctx, dawn.Add(3*time.Hour), 10); err != nil || n != 1 {
		t.Errorf("%d forgotten (%v), want the third", n, err)
	}
	left, err := s.Rejected(ctx, 10)
	if err != nil || len(left) != 3 || left[2].ID != "bad-3" {
		t.Errorf("left are %v (%v)", left, err)
	}
	_, err = s.ID(ctx, "bad-2")
	wantCode(t, "a rejection that is forgotten", err, fault.NotFound)
}

func TestFilesDue(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	w := newWriter(t, s, "cpu")
	var changes []pool.Change
	for n := range 20 {
		c := finish(newJob(n))[1]
		c.Value.(*pool.Job).EndedAt = newJob(n).SubmittedAt
		changes = append(changes, c)
	}
	late := changes[12].Value.(*pool.Job)
	late.EndedAt = dawn.Add(time.Hour)
	w.commit(append(changes, insert(newJob(30)))...)
	look := func(before time.Time, limit int) (got []string) {
		t.Helper()
		for rest := true; rest; {
			due, passed, more, err := s.FilesDue(ctx, "cpu", before, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range due {
				got = append(got, b.ID)
			}
			if len(due) > limit {
				t.Errorf("%d at once", len(due))
			}
			if err := passed(ctx); err != nil {
				t.Fatal(err)
			}
			rest = more
		}
		return got
	}
	ids := func(from, to int) (list []string) {
		for n := from - 1; n >= to; n-- {
			if n != 12 {
				list = append(list, fmt.Sprint("job-", n))
			}
		}
		return list
	}
	at := func(n int) time.Time { return dawn.Add(time.Duration(n) * time.Millisecond) }
	if due, _, _, err := s.FilesDue(ctx, "cpu", at(10), 4); err != nil || len(due) != 4 {
		t.Fatalf("%v (%v)", due, err)
	}
	if got, want := look(at(10), 4), ids(10, 0); !slices.Equal(got, want) {
		t.Errorf("what was not noted comes again: got %v, want %v", got, want)
	}
	if got, want := look(at(15), 4), ids(15, 10); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// The one that ended late was looked at in vain, and holds the place.
	if got, want := look(at(20), 100), ids(20, 12); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// A live one that has ended by now is not missed.
	w.commit(finish(newJob(30))...)
	got := look(dawn.Add(2*time.Hour), 100)
	if !slices.Contains(got, "job-12") || !slices.Contains(got, "job-30") {
		t.Errorf("got %v, want those that ended late among them", got)
	}
	if got := look(dawn.Add(2*time.Hour), 100); len(got) != 0 {
		t.Errorf("all are through, got %v", got)
	}
}
