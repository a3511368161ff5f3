package store

import (
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// writeOld writes a row of an id as versions did that kept capitals in keys.
func writeOld(t *testing.T, s *Store, id ID) {
	t.Helper()
	e := table.NewRow(hashPartition(id.ID), escapeKey(id.ID))
	writeID(e, &id)
	e.Text("Nonce", "old")
	if err := s.IDs.table.Insert(deadline(t), "write an id of an earlier version", e.JSON()); err != nil {
		t.Fatal(err)
	}
}

// TestIDsWithoutCase: two ids that differ by letter case alone are one, which keeps the
// spelling that it had first.
func TestIDsWithoutCase(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	first := ID{ID: "Nightly", Pool: "cpu", Order: order(1), Hash: "a", At: dawn}
	now, fresh, err := s.Register(ctx, []ID{first, {ID: "nightly", Pool: "cpu", Order: order(2), Hash: "b", At: dawn}})
	if err != nil || !fresh[0] || fresh[1] || now[0].ID != "Nightly" || now[1].ID != "Nightly" || now[1].Hash != "a" {
		t.Fatalf("in one call: got %+v, %v, %v", now, fresh, err)
	}
	for _, spelling := range []string{"nightly", "NIGHTLY", "Nightly", "nIGHTLY"} {
		now, fresh, err := s.Register(ctx, []ID{{ID: spelling, Pool: "gpu", Order: order(3), Hash: "c", At: dawn}})
		if err != nil || fresh[0] || now[0].ID != "Nightly" || now[0].Order != order(1) {
			t.Errorf("%s: got %+v, %v, %v", spelling, now, fresh, err)
		}
		if found, err := s.ID(ctx, spelling); err != nil || found.ID != "Nightly" {
			t.Errorf("%s is found as %+v, %v", spelling, found, err)
		}
		if err := s.Reject(ctx, ID{ID: spelling, Reason: "r", At: dawn}); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := s.ID(ctx, "nightly"); err != nil || found.State == job.Rejected {
		t.Errorf("a refused document has taken the id of a job: %+v, %v", found, err)
	}
	if err := s.Reject(ctx, ID{ID: "Bad", Reason: "r", At: dawn}); err != nil {
		t.Fatal(err)
	}
	if now, fresh, err := s.Register(ctx, []ID{{ID: "bad", Pool: "cpu", Order: order(4), Hash: "d", At: dawn}}); err != nil || !fresh[0] ||
		now[0].ID != "bad" {
		t.Errorf("a corrected document: got %+v, %v, %v", now, fresh, err)
	}
}

// TestIDsOfBefore: a row whose key has capitals is found in every spelling, and its id is
// not given out again.
func TestIDsOfBefore(t *testing.T) {
	t.Parallel()
	for i, state := range []job.State{"", "", job.Rejected} { // the second is registered before it is looked for
		s, ctx := open(t, serve(t)), deadline(t)
		old := ID{ID: "Train-A.7", Pool: "cpu", Order: order(1), Hash: "a", State: state, At: dawn}
		if writeOld(t, s, old); i == 0 {
			if found, err := s.ID(ctx, "Train-A.7"); err != nil || found.Order != old.Order {
				t.Fatalf("got %+v, %v", found, err)
			}
			if found, err := s.ID(ctx, "train-a.7"); err != nil || found.ID != old.ID {
				t.Errorf("in another spelling: got %+v, %v", found, err)
			}
		}
		now, fresh, err := s.Register(ctx, []ID{{ID: "Train-A.7", Pool: "cpu", Order: order(2), Hash: "b", At: dawn}})
		if rejected := state == job.Rejected; err != nil || fresh[0] != rejected || (now[0].Order == order(1)) == rejected {
			t.Errorf("%q registered again: got %+v, %v, %v", state, now, fresh, err)
		}
	}
	_, err := open(t, serve(t)).ID(deadline(t), "Never-Used")
	wantCode(t, "an id nobody used", err, fault.NotFound)
}

func TestTakenMember(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	writeOld(t, s, ID{ID: "Old.3", Pool: "cpu", Order: order(9), Hash: "o", At: dawn})
	ids := []ID{}
	for _, id := range []string{"y.10", "y.x", "y.01", "y", "yy.1", "y.0.5", "Z.2", "w.1"} {
		ids = append(ids, ID{ID: id, Pool: "cpu", Order: order(len(ids)), Hash: id, At: dawn})
	}
	if _, _, err := s.Register(ctx, ids); err != nil {
		t.Fatal(err)
	}
	if err := s.Reject(ctx, ID{ID: "r.0", Reason: "r", At: dawn}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		sweep   string
		members int
		want    string
	}{{"y", 10, ""}, {"y", 11, "y.10"}, {"Y", 11, "y.10"}, {"z", 3, "Z.2"}, {"z", 2, ""}, {"y.0", 6, "y.0.5"}, {"r", 10, ""}, {"v", 100_000, ""}, {"Old", 4, "Old.3"}, {"w", 2, "w.1"}} {
		if got, err := s.FindTakenMember(ctx, test.sweep, test.members); err != nil || got != test.want {
			t.Errorf("%s with %d members: got %q, %v, want %q", test.sweep, test.members, got, err, test.want)
		}
	}
}

// FuzzFold: a key has no capitals but those of escapes, and two ids share one exactly
// when they differ by letter case alone.
func FuzzFold(f *testing.F) {
	f.Add("Nightly", "nightly")
	f.Add("a/b", "A/b")
	f.Add("İ", "i")
	f.Add("K", "K")
	f.Fuzz(func(t *testing.T, a, b string) {
		a, b = normalize(a), normalize(b)
		if (idKey(a) == idKey(b)) != (foldCase(a) == foldCase(b)) && len(a) < 100 && len(b) < 100 {
			t.Fatalf("%q has the key %q, and %q has %q", a, idKey(a), b, idKey(b))
		}
		if foldCase(foldCase(a)) != foldCase(a) || idPartition(a) != idPartition(foldCase(a)) {
			t.Fatalf("%q is folded to %q", a, foldCase(a))
		}
	})
}

// TestEndsOfIDsOfBefore: finished jobs of an earlier version, whose ids have capitals and
// were never looked for since, are remembered when their rows go. One whose id differs by
// letter case alone from that of another job keeps neither its rows nor the other's end
// from being what they are. When the ids go, the rows of that version go with them.
func TestEndsOfIDsOfBefore(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	w := newWriter(t, s, "cpu")
	w.head.Deleting = true
	var changes []pool.Change
	for i, id := range []string{"Alone", "Both", "both", "BOTH"} {
		j := newJob(i)
		j.ID, j.State, j.ExitCode, j.EndedAt = id, job.Failed, 10+i, j.SubmittedAt.Add(time.Minute)
		changes = append(changes, pool.Change{Key: pool.DoneKey(j.Order), Value: j, Insert: true})
		writeOld(t, s, ID{ID: id, Pool: "cpu", Order: j.Order, Hash: id, At: dawn})
	}
	w.commit(changes...)
	if err := s.DeletePool(ctx, "cpu"); err != nil {
		t.Fatal(err)
	}
	for id, code := range map[string]int{"Alone": 10, "alone": 10, "both": 12} {
		if row, err := s.ID(ctx, id); err != nil || row.State != job.Failed || row.End.ExitCode != code {
			t.Errorf("%s is remembered as %+v (%v), want exit code %d", id, row, err, code)
		}
	}
	lists, err := s.DueExpiries(ctx, ExpireIDs, dawn.Add(time.Hour), 10)
	if err != nil || len(lists) != 1 || len(lists[0].Jobs) != 4 {
		t.Fatalf("got the lists %v (%v)", lists, err)
	}
	for range 2 { // it may be killed before the list is through
		if err := s.DropIDs(ctx, lists[0]); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"Alone", "alone", "Both", "both", "BOTH"} {
		_, err := s.ID(ctx, id)
		wantCode(t, id+", which is forgotten", err, fault.NotFound)
	}

	old := ID{ID: "Bad", State: job.Rejected, Reason: "r", At: dawn}
	writeOld(t, s, old)
	if err := s.listRejection(ctx, &old); err != nil {
		t.Fatal(err)
	}
	if n, err := s.DropRejected(ctx, dawn.Add(time.Hour), 10); n != 1 || err != nil {
		t.Fatalf("dropped %d rejections (%v)", n, err)
	}
	_, err = s.ID(ctx, "Bad")
	wantCode(t, "a rejection that is forgotten", err, fault.NotFound)
}
