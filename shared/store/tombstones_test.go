package store

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

func TestEndsOfMembersComeBack(t *testing.T) {
	t.Parallel()
	ends := make([]memberEnd, 0, maxEnds)
	for i := range 50_000 {
		switch {
		case i == 7:
			ends = append(ends, memberEnd{})
		case i%3 == 0:
			ends = append(ends, newMemberEnd(job.Failed, -1073741510, 2))
		case i%5 == 0:
			ends = append(ends, newMemberEnd(job.Cancelled, job.ExitCancelled, 0))
		default:
			ends = append(ends, newMemberEnd(job.Succeeded, 0, 1))
		}
	}
	few := ends[:1000]
	if got := parseEnds(formatEnds(few)); !slices.Equal(got, few) {
		t.Errorf("they came back as %v", got)
	}
	text := formatEnds(ends)
	if len(text) > maxEndsText {
		t.Errorf("the text has %d characters, more than a row holds", len(text))
	}
	states := func(ends []memberEnd) (all []byte) {
		for _, e := range ends {
			all = append(all, e.state)
		}
		return all
	}
	if got := parseEnds(text); !bytes.Equal(states(got), states(ends)) {
		t.Errorf("the states of %d came back, or not as they were; want those of %d", len(got), len(ends))
	}
	if text := formatEnds(slices.Repeat([]memberEnd{newMemberEnd(job.Succeeded, 0, 1)}, maxEnds)); text != "sx100000" {
		t.Errorf("a good sweep is %q", text)
	}
}

func FuzzEndsOfMembers(f *testing.F) {
	for _, seed := range []string{"sx98f137a2s", "ux3c1006a0", "sx100001", "f--1", "sa-1", "sx0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ends := parseEnds(text)
		if len(ends) > maxEnds {
			t.Fatalf("%d members", len(ends))
		}
		if again := parseEnds(formatEnds(ends)); !slices.Equal(again, ends) {
			t.Fatalf("%v became %v", ends, again)
		}
	})
}

// deadPool is a pool in which everything has ended, and its ids.
type deadPool struct {
	w    *writer
	jobs []*pool.Job // none of a sweep
	want map[string]ID
}

// newDeadPool makes a pool of n jobs, of which every third has failed, beside a
// sweep of four members, of which the last one never came into being.
func newDeadPool(t *testing.T, s *Store, n int) *deadPool {
	t.Helper()
	d := &deadPool{w: newWriter(t, s, "cpu"), want: map[string]ID{}}
	var ids []ID
	var changes []pool.Change
	done := func(j *pool.Job) {
		changes = append(changes, pool.Change{Key: pool.DoneKey(j.Order), Value: j, Insert: true})
	}
	register := func(j *pool.Job) {
		ids = append(ids, ID{ID: j.ID, Pool: "cpu", Order: j.Order, Hash: "h" + j.ID, Via: ByQueue, At: j.SubmittedAt})
	}
	for i := range n {
		j := newJob(i)
		j.Spec.Name, j.Spec.User = "train", "ann"
		j.State, j.EndedAt = job.Succeeded, j.SubmittedAt.Add(time.Minute)
		j.Attempts = []job.Attempt{
			{Number: 1, State: job.AttemptEvicted},
			{Number: 2, State: job.AttemptSucceeded, StartedAt: j.SubmittedAt.Add(time.Second), EndedAt: j.EndedAt},
		}
		if i%3 == 0 {
			j.State, j.ExitCode, j.Reason = job.Failed, 7, "it broke"
		}
		d.jobs = append(d.jobs, j)
		done(j)
		register(j)
		d.want[j.ID] = ID{
			ID:     j.ID,
			Pool:   "cpu",
			Order:  j.Order,
			Hash:   "h" + j.ID,
			Via:    ByQueue,
			At:     j.SubmittedAt,
			State:  j.State,
			Reason: j.Reason,
			End: End{
				ExitCode:  j.ExitCode,
				StartedAt: j.SubmittedAt.Add(time.Second),
				EndedAt:   j.EndedAt,
				Name:      "train",
				Team:      j.Spec.Team,
				User:      "ann",
				Attempts:  2,
			},
		}
	}
	sweep := newJob(n)
	sweep.ID, sweep.Spec.Sweep = "tune", &job.Sweep{Count: 4}
	sweep.State, sweep.ExitCode, sweep.Reason, sweep.EndedAt = job.Cancelled, job.ExitCancelled, "its pool was deleted", dawn.Add(time.Hour)
	sweep.Progress = &pool.Progress{Next: 3, StartedAt: dawn, Succeeded: 1, Failed: 1, Cancelled: 2}
	done(sweep)
	register(sweep)
	for index, m := range []struct {
		state job.State
		code  int
	}{{job.Succeeded, 0}, {job.Failed, 3}, {job.Cancelled, job.ExitCancelled}} {
		j := newJob(n)
		j.Order, j.ID, j.State, j.ExitCode, j.EndedAt = job.MemberOrder(
			sweep.Order,
			index,
		), job.MemberID(
			"tune",
			index,
		), m.state, m.code, dawn.Add(
			time.Minute,
		)
		j.Spec.Index, j.Attempts = &index, []job.Attempt{{Number: 1}}
		done(j)
	}
	if _, _, err := s.Register(deadline(t), ids); err != nil {
		t.Fatal(err)
	}
	d.w.head.Deleting = true
	d.w.commit(changes...)
	return d
}

// endState is how one job of a pool has ended.
func endState(ctx context.Context, s *Store, name, id string) (job.State, error) {
	states, err := s.EndStates(ctx, []string{id})
	if err == nil && (states[id].State == "" || states[id].Pool != name) {
		err = fault.New(fault.NotFound, "", "job %q has not ended", id)
	}
	return states[id].State, err
}

// check looks whether each job still says how it ended, by its row or by its id.
func (d *deadPool) check(t *testing.T, s *Store, gone bool) {
	t.Helper()
	ctx := deadline(t)
	for _, j := range d.jobs {
		if state, err := endState(ctx, s, "cpu", j.ID); err != nil || state != j.State {
			t.Errorf("job %s has ended as %q (%v), want %s", j.ID, state, err, j.State)
		}
	}
	for index, want := range []job.State{job.Succeeded, job.Failed, job.Cancelled, job.Cancelled} {
		if state, err := endState(ctx, s, "cpu", job.MemberID("tune", index)); err != nil || state != want {
			t.Errorf("member %d has ended as %q (%v), want %s", index, state, err, want)
		}
	}
	if state, err := endState(ctx, s, "cpu", "tune"); err != nil || state != job.Cancelled {
		t.Errorf("the sweep has ended as %q (%v)", state, err)
	}
	_, err := s.Find(ctx, "tune.4")
	wantCode(t, "a member that there never was", err, fault.NotFound)
	if !gone {
		return
	}
	for id, want := range d.want {
		if got, err := s.Find(ctx, id); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("the id remembers %+v (%v), want %+v", got, err, want)
		}
	}
	if row, err := s.Find(ctx, "tune.1"); err != nil || row.End.ExitCode != 3 || row.End.Attempts != 1 || row.Reason == "" {
		t.Errorf("the member that failed is %+v (%v)", row, err)
	}
	if row, err := s.Find(ctx, "tune.3"); err != nil || row.Reason != "its pool was deleted" || row.End.ExitCode != job.ExitCancelled {
		t.Errorf("the member that never was is %+v (%v)", row, err)
	}
	if row, err := s.ID(ctx, "tune"); err != nil || row.End.Members != 4 || row.End.Succeeded != 1 || row.End.Failed != 1 ||
		row.End.Cancelled != 2 {
		t.Errorf("the sweep is %+v (%v)", row, err)
	}
}

func TestIDsRememberHowJobsEndedWhenTheirPoolIsDeleted(t *testing.T) {
	t.Parallel()
	s := open(t, serve(t))
	d := newDeadPool(t, s, 150)
	d.check(t, s, false)
	if err := s.DeletePool(deadline(t), "cpu"); err != nil {
		t.Fatal(err)
	}
	d.check(t, s, true)

	// Made again: what was, is still known, and is no job of the new pool.
	again := newWriter(t, s, "cpu")
	again.commit()
	d.check(t, s, true)
	if _, err := endState(deadline(t), s, "other", d.jobs[0].ID); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("another pool hears of it: %v", err)
	}
	now, fresh, err := s.Register(deadline(t), []ID{{ID: d.jobs[1].ID, Pool: "cpu", Order: order(999), Hash: "h" + d.jobs[1].ID, At: dawn}})
	if err != nil || fresh[0] || now[0].Order != d.jobs[1].Order || !now[0].HasEnded() || !now[0].ClaimedAt.IsZero() {
		t.Errorf("its message again: %+v, fresh %v (%v); want the job that has ended", now, fresh, err)
	}
}

// TestEndOfAnIDThatStandsForAnotherJob: an id was given up, and taken by another job,
// while the first job came in late and ended. The end of the first is not written into
// the row of the second.
func TestEndOfAnIDThatStandsForAnotherJob(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	d := newDeadPool(t, s, 40)
	late := d.jobs[7]
	row, err := s.ID(ctx, late.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.RejectLost(ctx, row, "lost", dawn); err != nil {
		t.Fatal(err)
	}
	if _, fresh, err := s.Register(ctx, []ID{{ID: late.ID, Pool: "cpu", Order: order(900), Hash: "h", At: dawn}}); err != nil || !fresh[0] {
		t.Fatalf("fresh %v (%v), want a new registration", fresh, err)
	}
	if n, err := s.DropDone(ctx, "cpu", dawn.Add(2*time.Hour), 0); err != nil || n != 44 {
		t.Fatalf("%d dropped (%v), want 44", n, err)
	}
	if row, err := s.ID(ctx, late.ID); err != nil || row.Order != order(900) || row.HasEnded() {
		t.Errorf("the id is %+v (%v), want that of a job that has not ended", row, err)
	}
	if row, err := s.ID(ctx, d.jobs[8].ID); err != nil || !row.HasEnded() {
		t.Errorf("the id of another job is %+v (%v), want its end", row, err)
	}
}

// killer is a line to the tables that breaks for good at a certain write.
type killer struct {
	*httptest.Server
	left int // writes until it breaks
}

// kill makes a line that takes so many writes; of the next one the request or the
// reply is lost, and nothing gets through after it.
func kill(t *testing.T, connection string, writes int, reply bool) (*killer, string) {
	t.Helper()
	target, forward := proxyTo(t, connection)
	k := &killer{left: writes}
	turn := make(chan struct{}, 1)
	k.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			forward.ServeHTTP(w, r)
			return
		}
		turn <- struct{}{}
		k.left--
		left := k.left
		<-turn
		switch {
		case left >= 0:
			forward.ServeHTTP(w, r)
		case left == -1 && reply:
			replyLost(w, r, forward)
		default:
			requestLost(w, r, forward)
		}
	}))
	t.Cleanup(k.Close)
	return k, strings.Replace(connection, target, strings.TrimPrefix(k.URL, "http://"), 1)
}

// Killed at each of its writes, neither the deletion of a pool nor the dropping of old
// rows leaves an end unreadable, and either is gone on with.
func TestDeletionIsKilledAnywhere(t *testing.T) {
	t.Parallel()
	for name, drop := range map[string]func(context.Context, *Store) error{
		"the pool": func(ctx context.Context, s *Store) error { return s.DeletePool(ctx, "cpu") },
		"old rows": func(ctx context.Context, s *Store) error {
			_, err := s.DropDone(ctx, "cpu", dawn.Add(2*time.Hour), 0)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := serve(t)
			s := open(t, direct)
			d := newDeadPool(t, s, 40)
			const mostWrites = 60 // more than it takes in all
			killed := 0
			for writes := range mostWrites {
				_, line := kill(t, direct, writes, writes%2 == 0)
				broken, err := Open(Config{ConnectionString: line})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(deadline(t), 150*time.Millisecond)
				err = drop(ctx, broken)
				cancel()
				broken.Close()
				d.check(t, s, false)
				if err == nil || t.Failed() {
					break
				}
				killed++
			}
			if killed < 5 {
				t.Errorf("it was killed %d times only", killed)
			}
			if err := drop(deadline(t), s); err != nil {
				t.Fatal(err)
			}
			d.check(t, s, true)
			if jobs, _, err := s.Jobs(deadline(t), "cpu", JobFilter{}, 10, ""); err != nil || len(jobs) != 0 {
				t.Errorf("%d rows are left (%v)", len(jobs), err)
			}
		})
	}
}

func TestDropDoneBuriesAndForgetsInOrder(t *testing.T) {
	t.Parallel()
	s, ctx := open(t, serve(t)), deadline(t)
	d := newDeadPool(t, s, 30)
	due := dawn.Add(time.Minute + 10*time.Millisecond) // ten jobs and three members have ended before
	if n, err := s.DropDone(ctx, "cpu", due, time.Hour); err != nil || n != 0 {
		t.Errorf("%d dropped (%v) although a few may wait for more", n, err)
	}
	if n, err := s.DropDone(ctx, "cpu", due, 0); err != nil || n != 13 {
		t.Errorf("%d dropped (%v), want 13", n, err)
	}
	d.check(t, s, false)
	if row, err := s.ID(ctx, d.jobs[9].ID); err != nil || !row.HasEnded() {
		t.Errorf("the newest that was due is %+v (%v)", row, err)
	}
	if row, err := s.ID(ctx, d.jobs[10].ID); err != nil || row.HasEnded() {
		t.Errorf("the oldest that was not due is %+v (%v)", row, err)
	}

	for _, kind := range []ExpiryKind{ExpireFiles, ExpireIDs} {
		if lists, err := s.DueExpiries(ctx, kind, dawn.Add(time.Minute), 10); err != nil || len(lists) != 0 {
			t.Errorf("%s: %v (%v) before the time", kind, lists, err)
		}
		want := []ArchivedJob{{d.jobs[9].Order, d.jobs[9].ID}} // newest first, after the members, which have no id of their own
		if kind == ExpireFiles {
			sweep := order(30)
			want = []ArchivedJob{{sweep + ".00002", "tune.2"}, {sweep + ".00001", "tune.1"}, {sweep + ".00000", "tune.0"}, want[0]}
		}
		lists, err := s.DueExpiries(ctx, kind, dawn.Add(2*time.Minute), 10)
		if err != nil || len(lists) != 1 || lists[0].Pool != "cpu" || len(lists[0].Jobs) != len(want)+9 ||
			!slices.Equal(lists[0].Jobs[:len(want)], want) {
			t.Fatalf("%s: %v (%v), want the ten", kind, lists, err)
		}
	}

	// An id that stands for another job by now stays.
	lists, _ := s.DueExpiries(ctx, ExpireIDs, dawn.Add(2*time.Minute), 10)
	lists[0].Jobs = append(
		lists[0].Jobs, ArchivedJob{order(500), d.jobs[20].ID}, ArchivedJob{d.jobs[21].Order, d.jobs[21].ID},
		ArchivedJob{order(501), "no such"},
	)
	for range 2 {
		if err := errors.Join(s.DropIDs(ctx, lists[0]), s.DeleteExpiry(ctx, lists[0])); err != nil {
			t.Fatal(err)
		}
	}
	if lists, err := s.DueExpiries(ctx, ExpireIDs, dawn.Add(time.Hour), 10); err != nil || len(lists) != 0 {
		t.Errorf("what is through is listed again: %v (%v)", lists, err)
	}
	_, err := s.ID(ctx, d.jobs[0].ID)
	wantCode(t, "an id that is forgotten", err, fault.NotFound)
	for _, n := range []int{20, 21} { // another job's, and one whose row is there
		if _, err := s.ID(ctx, d.jobs[n].ID); err != nil {
			t.Errorf("id %d: %v", n, err)
		}
	}
}
