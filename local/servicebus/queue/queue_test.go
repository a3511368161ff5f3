package queue

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clock is a time that tests move.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }
func say(text string) New                { return New{Raw: []byte(text)} }
func in(session, text string) New {
	return New{Raw: []byte(text), SessionID: session, HasSession: true}
}
func settle(t Token, o Disposition) Settlement { return Settlement{Token: t, Disposition: o} }

const lockTime = time.Minute

func open(tb testing.TB, path string, c *clock, opts Options) (*Broker, *Queue) {
	tb.Helper()
	if opts.LockDuration == 0 {
		opts.LockDuration = lockTime
	}
	if opts.MaxDeliveryCount == 0 {
		opts.MaxDeliveryCount = 3
	}
	now := time.Now
	if c != nil {
		now = c.now
	}
	b, err := Open(Config{Path: path, Queues: map[string]Options{"Q": opts}, Now: now,
		Mark: func(raw []byte, cause Cause) []byte {
			return append(append([]byte(nil), raw...), fmt.Sprintf("!%d", cause)...)
		},
		Warn: func(queue string, err error) { tb.Errorf("%s: %v", queue, err) }})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { b.Close() })
	return b, b.Queue("q")
}

func fresh(tb testing.TB, c *clock, opts Options) *Queue {
	tb.Helper()
	_, q := open(tb, filepath.Join(tb.TempDir(), "q.db"), c, opts)
	return q
}

func send(tb testing.TB, q *Queue, messages ...New) []int64 {
	tb.Helper()
	seqs, err := q.Send(messages...)
	if err != nil {
		tb.Fatal(err)
	}
	return seqs
}

func receiver(tb testing.TB, q *Queue) *Receiver {
	tb.Helper()
	r, err := q.Receiver(false)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// take expects exactly these texts, in this order.
func take(tb testing.TB, r *Receiver, n int, want ...string) []*Message {
	tb.Helper()
	got, err := r.Take(n)
	if err != nil {
		tb.Fatal(err)
	}
	if texts := texts(got); fmt.Sprint(texts) != fmt.Sprint(want) {
		tb.Fatalf("taken: got %q, want %q", texts, want)
	}
	return got
}

func texts(ms []*Message) []string {
	out := make([]string, len(ms))
	for i, m := range ms {
		out[i] = string(m.Raw)
	}
	return out
}

func settled(tb testing.TB, q *Queue, s ...Settlement) {
	tb.Helper()
	if err := errors.Join(q.Settle(s)...); err != nil {
		tb.Fatal(err)
	}
}

// until waits for a condition that a timer or another goroutine brings about.
func until(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			tb.Fatalf("not within ten seconds: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	q := fresh(t, newClock(), Options{})
	send(t, q, say("a"), say("b"), say("c"), say("d"), say("e"))
	r := receiver(t, q)
	m := take(t, r, 10, "a", "b", "c", "d", "e")
	edit := func(raw []byte) []byte { return []byte(strings.ToUpper(string(raw))) }
	settled(t, q, settle(m[0].Token, Complete), settle(m[1].Token, Abandon), settle(m[2].Token, Release),
		settle(m[3].Token, Defer), Settlement{Token: m[4].Token, Disposition: DeadLetter, Edit: edit})
	again := take(t, r, 10, "b", "c")
	if again[0].DeliveryCount != 1 || again[1].DeliveryCount != 0 {
		t.Errorf("counts: got %d after abandoning and %d after releasing, want 1 and 0", again[0].DeliveryCount, again[1].DeliveryCount)
	}
	deferred, err := q.Fetch([]int64{m[3].Seq}, nil, false)
	if err != nil || string(deferred[0].Raw) != "d" || deferred[0].State != Deferred {
		t.Errorf("fetch: got %v, %v", deferred, err)
	}
	dead := take(t, receiver(t, q.DeadLetters()), 10, "E")
	if dead[0].DeadFrom != "Q" || dead[0].EnqueuedSeq != m[4].Seq {
		t.Errorf("dead letter: got %+v", dead[0])
	}
	for i, err := range q.Settle([]Settlement{settle(m[0].Token, Complete), settle(again[0].Token, Complete)}) {
		if want := []error{ErrLockLost, nil}[i]; err != want {
			t.Errorf("settlement %d: got %v, want %v", i, err, want)
		}
	}
}

func TestLocksRunOut(t *testing.T) {
	t.Parallel()
	c := newClock()
	q := fresh(t, c, Options{MaxDeliveryCount: 2})
	send(t, q, say("a"), say("b"))
	r := receiver(t, q)
	m := take(t, r, 2, "a", "b")
	c.advance(lockTime / 2)
	if until, err := q.Renew(m[1].Token); err != nil || !until.Equal(c.now().Add(lockTime).UTC()) {
		t.Errorf("renew: got %v, %v", until, err)
	}
	c.advance(lockTime/2 + 1)
	q.runTimer()
	a := take(t, r, 2, "a")
	if a[0].DeliveryCount != 1 {
		t.Errorf("count: got %d, want 1", a[0].DeliveryCount)
	}
	if err := q.Settle([]Settlement{settle(m[0].Token, Complete)})[0]; err != ErrLockLost {
		t.Errorf("the old lock: got %v, want %v", err, ErrLockLost)
	}
	if _, err := q.Renew(m[0].Token); err != ErrLockLost {
		t.Errorf("renewing the old lock: got %v, want %v", err, ErrLockLost)
	}
	settled(t, q, settle(m[1].Token, Complete))
	c.advance(lockTime + 1)
	q.runTimer() // the second failed delivery
	until(t, "dead-lettered", func() bool { n, _, _, _ := q.DeadLetters().Counts(); return n == 1 })
	dead := take(t, receiver(t, q.DeadLetters()), 1, "a!0")
	for range 5 { // deliveries of a dead letter do not count
		settled(t, q.DeadLetters(), settle(dead[0].Token, Abandon))
		dead = take(t, receiver(t, q.DeadLetters()), 1, "a!0")
	}
	if dead[0].DeliveryCount != 2 {
		t.Errorf("a dead letter's count: got %d, want 2", dead[0].DeliveryCount)
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprint("dead-lettered ", keep), func(t *testing.T) {
			t.Parallel()
			c := newClock()
			q := fresh(t, c, Options{DefaultTTL: time.Hour, DeadLetterExpired: keep})
			send(
				t,
				q,
				say("by default"),
				New{Raw: []byte("soon"), TTL: time.Minute},
				New{Raw: []byte("asks for more"), TTL: 24 * time.Hour},
			)
			held := receiver(t, q)
			m := take(t, held, 1, "by default")
			c.advance(lockTime - 1)
			if _, err := q.Renew(m[0].Token); err != nil {
				t.Fatal(err)
			}
			c.advance(2)
			if got, err := held.Take(10); err != nil || len(got) != 1 || string(got[0].Raw) != "asks for more" {
				t.Errorf("after a minute: got %q, %v", texts(got), err)
			}
			c.advance(lockTime)
			q.runTimer()
			c.advance(time.Hour) // locks are long over, and so is everybody's time
			q.runTimer()
			until(t, "all expired", func() bool { n, _, _, l := q.Counts(); return n == 0 && l == 0 })
			want := 0
			if keep {
				want = 3
			}
			until(t, "dead letters", func() bool { n, _, _, _ := q.DeadLetters().Counts(); return n == want })
			if got, _ := q.Peek(0, 10, 1<<20, nil); len(got) != 0 {
				t.Errorf("peek: got %q", texts(got))
			}
		})
	}
}

func TestNothingExpiresInHand(t *testing.T) {
	t.Parallel()
	c := newClock()
	q := fresh(t, c, Options{})
	send(t, q, New{Raw: []byte("x"), TTL: lockTime})
	m := take(t, receiver(t, q), 1, "x")
	c.advance(lockTime - 1)
	if _, err := q.Renew(m[0].Token); err != nil {
		t.Fatal(err)
	}
	c.advance(lockTime / 2)
	q.runTimer()
	if a, _, _, l := q.Counts(); a != 1 || l != 1 {
		t.Errorf("past its time, in hand: got %d active and %d locked, want 1 and 1", a, l)
	}
	settled(t, q, settle(m[0].Token, Abandon))
	q.runTimer()
	until(t, "gone when it came back", func() bool { a, _, _, _ := q.Counts(); return a == 0 })
}

func TestASignalIsPassedOn(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*Receiver){"by one that leaves": (*Receiver).Close, "by one that wants nothing": func(r *Receiver) { _ = r.Pass() }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := fresh(t, newClock(), Options{})
			first, second := receiver(t, q), receiver(t, q)
			take(t, first, 1)
			take(t, second, 1)
			send(t, q, say("x"))
			<-first.C
			if len(second.C) != 0 {
				t.Error("one message woke two receivers")
			}
			leave(first)
			<-second.C
			take(t, second, 1, "x")
		})
	}
}

func TestScheduled(t *testing.T) {
	t.Parallel()
	c := newClock()
	q := fresh(t, c, Options{})
	due := c.now().Add(time.Hour)
	seqs := send(
		t,
		q,
		New{Raw: []byte("second"), ScheduledAt: due.Add(1)},
		New{Raw: []byte("first"), ScheduledAt: due},
		New{Raw: []byte("never"), ScheduledAt: due},
		say("now"),
	)
	for name, wrong := range map[string][]int64{"twice the same": {seqs[2], seqs[2]}, "an active one": {seqs[2], seqs[3]}, "none": {seqs[2], 99}} {
		if err := q.CancelScheduled(wrong); err != ErrNotFound {
			t.Errorf("cancel %s: got %v, want %v", name, err, ErrNotFound)
		}
	}
	if err := q.CancelScheduled(seqs[2:3]); err != nil {
		t.Fatal(err)
	}
	if a, s, _, _ := q.Counts(); a != 1 || s != 2 {
		t.Errorf("counts: got %d active, %d scheduled, want 1, 2", a, s)
	}
	r := receiver(t, q)
	settled(t, q, settle(take(t, r, 10, "now")[0].Token, Complete))
	c.advance(time.Hour)
	q.runTimer()
	m := take(t, r, 10, "first")
	if m[0].EnqueuedSeq != seqs[1] || m[0].Seq <= seqs[3] || m[0].Enqueued.Before(due) {
		t.Errorf("got %+v, want a new number after %d and the old one %d", m[0], seqs[3], seqs[1])
	}
	c.advance(1)
	q.runTimer()
	take(t, r, 10, "second")
}

func TestReopened(t *testing.T) {
	t.Parallel()
	c := newClock()
	path := filepath.Join(t.TempDir(), "q.db")
	b, q := open(t, path, c, Options{Sessions: true, DefaultTTL: time.Hour})
	send(
		t,
		q,
		in("a", "1"),
		in("a", "2"),
		in("", "no name"),
		New{Raw: []byte("later"), SessionID: "a", HasSession: true, ScheduledAt: c.now().Add(time.Minute)},
	)
	r, err := q.Accept("a", false)
	if err != nil {
		t.Fatal(err)
	}
	m := take(t, r, 2, "1", "2")
	settled(t, q, settle(m[0].Token, Abandon), settle(m[1].Token, Defer))
	if err := r.SetState([]byte("state")); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if _, err := q.Send(in("a", "x")); err != ErrClosed {
		t.Errorf("send after the end: got %v, want %v", err, ErrClosed)
	}
	_, q = open(t, path, c, Options{Sessions: true, DefaultTTL: time.Hour})
	if got := q.Sessions(time.Time{}); fmt.Sprintf("%q", got) != `["" "a"]` {
		t.Errorf("sessions: got %q", got)
	}
	r, err = q.Accept("a", false)
	if err != nil {
		t.Fatal(err)
	}
	if state, err := r.State(); err != nil || string(state) != "state" {
		t.Errorf("state: got %q, %v", state, err)
	}
	again := take(t, r, 10, "1")
	if again[0].DeliveryCount != 1 || !again[0].Expires.Equal(again[0].Enqueued.Add(time.Hour)) {
		t.Errorf("got %+v", again[0])
	}
	if got, err := q.Fetch([]int64{m[1].Seq}, r, true); err != nil || string(got[0].Raw) != "2" {
		t.Errorf("fetch: got %q, %v", texts(got), err)
	}
	c.advance(time.Minute)
	q.runTimer()
	if seqs := send(t, q, in("a", "new")); seqs[0] != 6 {
		t.Errorf("number: got %d, want 6: none is given twice", seqs[0])
	}
}

func TestOtherFilesAreLeftAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "q.db")
	b, q := open(t, path, nil, Options{})
	send(t, q, say("x"))
	if err := q.disk.update(q, func(_ *bboltTx, t tables) error { return t.facts.Put(key(1), []byte(`{"t":1}`)) }); err != nil {
		t.Fatal(err)
	}
	b.Close()
	_, err := Open(Config{Path: path, Queues: map[string]Options{"q": {}}, Now: time.Now})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "another version") {
		t.Errorf("a record of another form: got %v", err)
	}
}

// No message is left lying while receivers wait, however they come and go.
func TestNobodySleepsThroughAMessage(t *testing.T) {
	t.Parallel()
	q := fresh(t, nil, Options{})
	const total, receivers = 1500, 8
	var got atomic.Int64
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range receivers {
		wg.Go(func() {
			r, _ := q.Receiver(i%2 == 0)
			for turn := 0; ; turn++ {
				ms, err := r.Take(1 + i%3)
				if err != nil {
					t.Error(err)
				}
				for _, m := range ms {
					if i%2 != 0 {
						settled(t, q, settle(m.Token, Complete))
					}
				}
				if len(ms) > 0 {
					if got.Add(int64(len(ms))) == total {
						close(done)
					}
					continue
				}
				if turn%5 == 0 { // leave, woken or not, and come again
					r.Close()
					r, _ = q.Receiver(i%2 == 0)
					continue
				}
				select {
				case <-r.C:
					if turn%7 == 0 {
						_ = r.Pass()
					}
				case <-done:
					return
				}
			}
		})
	}
	for range 3 {
		wg.Go(func() {
			for range total / 3 {
				send(t, q, say("x"))
			}
		})
	}
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%d of %d messages were taken", got.Load(), total)
	}
	wg.Wait()
	if a, _, _, l := q.Counts(); a != 0 || l != 0 {
		t.Errorf("left: %d active, %d locked", a, l)
	}
}
