package queue

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"dsvmpools/local/disk"
)

// place is where the model believes a message to be.
type place int

const (
	waiting place = iota
	inHand
	apart
	planned
	dead
)

// model is what a queue should hold, by text.
type model struct {
	places map[string]place
	counts map[string]uint32
	hands  map[string]*Message
	parked map[string]int64
}

// failed is what becomes of a message in hand whose delivery failed.
func (m *model) failed(text string, limit uint32) {
	m.back(text)
	m.counts[text]++
	if m.counts[text] >= limit {
		m.places[text] = dead
	}
}

// back is what becomes of a message in hand that was given back: deferred once,
// it is deferred for good.
func (m *model) back(text string) {
	m.places[text] = waiting
	if m.hands[text].State == Deferred {
		m.places[text] = apart
	}
	delete(m.hands, text)
}

// TestAgainstAModel does a random sequence of operations on a queue, which is
// closed and opened again in between, and on a model.
func TestAgainstAModel(t *testing.T) {
	t.Parallel()
	const limit, steps = 4, 600
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(7, seed))
			c := newClock()
			path := filepath.Join(t.TempDir(), "q.db")
			opts := Options{MaxDeliveryCount: limit}
			b, q := open(t, path, c, opts)
			m := &model{map[string]place{}, map[string]uint32{}, map[string]*Message{}, map[string]int64{}}
			r := receiver(t, q)
			for step := range steps {
				text := fmt.Sprint("m", step)
				switch rnd.IntN(12) {
				case 0, 1, 2:
					send(t, q, say(text))
					m.places[text] = waiting
				case 3:
					m.parked[text] = send(t, q, New{Raw: []byte(text), ScheduledAt: c.now().Add(1000 * time.Hour)})[0]
					m.places[text] = planned
				case 4, 5:
					m.take(t, r)
				case 6, 7, 8:
					m.settle(t, q, rnd)
				case 9:
					m.unpark(t, q, rnd)
				case 10:
					c.advance(lockTime + 1)
					q.runTimer()
					for text := range maps.Clone(m.hands) {
						m.failed(text, limit)
					}
				case 11:
					if rnd.IntN(4) > 0 {
						break
					}
					b.Close()
					b, q = open(t, path, c, opts)
					r = receiver(t, q)
					for text := range maps.Clone(m.hands) { // locks are dropped, nothing is counted
						m.back(text)
					}
				}
				m.check(t, q)
				if t.Failed() {
					t.Fatalf("at step %d", step)
				}
			}
		})
	}
}

func (m *model) of(p place) (out []string) {
	for text, at := range m.places {
		if at == p {
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return out
}

func (m *model) take(t *testing.T, r *Receiver) {
	got, err := r.Take(3)
	if err != nil {
		t.Fatal(err)
	}
	if want := min(3, len(m.of(waiting))); len(got) != want {
		t.Errorf("taken: got %q, want %d of %q", texts(got), want, m.of(waiting))
	}
	for _, msg := range got {
		text := string(msg.Raw)
		if m.places[text] != waiting || msg.DeliveryCount != m.counts[text] {
			t.Errorf(
				"taken: %s at place %d with count %d, want it waiting with %d",
				text,
				m.places[text],
				msg.DeliveryCount,
				m.counts[text],
			)
		}
		m.places[text], m.hands[text] = inHand, msg
	}
}

func (m *model) settle(t *testing.T, q *Queue, rnd *rand.Rand) {
	names := slices.Sorted(maps.Keys(m.hands))
	if len(names) == 0 {
		return
	}
	text := names[rnd.IntN(len(names))]
	msg := m.hands[text]
	o := Disposition(rnd.IntN(5))
	settled(t, q, settle(msg.Token, o))
	switch o {
	case Complete:
		delete(m.places, text)
	case Abandon:
		m.failed(text, q.opts.MaxDeliveryCount)
	case Release:
		m.back(text)
	case Defer:
		m.places[text], m.parked[text] = apart, msg.Seq
	case DeadLetter:
		m.places[text] = dead
	}
	delete(m.hands, text)
}

// unpark fetches a deferred message, or cancels a scheduled one.
func (m *model) unpark(t *testing.T, q *Queue, rnd *rand.Rand) {
	if names := m.of(apart); len(names) > 0 {
		text := names[rnd.IntN(len(names))]
		got, err := q.Fetch([]int64{m.parked[text]}, nil, false)
		if err != nil || string(got[0].Raw) != text {
			t.Fatalf("fetch %s: got %q, %v", text, texts(got), err)
		}
		m.places[text], m.hands[text] = inHand, got[0]
	}
	if names := m.of(planned); len(names) > 0 {
		text := names[rnd.IntN(len(names))]
		if err := q.CancelScheduled([]int64{m.parked[text]}); err != nil {
			t.Fatal(err)
		}
		delete(m.places, text)
	}
}

// check compares numbers, and where each message is.
func (m *model) check(t *testing.T, q *Queue) {
	t.Helper()
	var deferredInHand int
	for _, msg := range m.hands {
		if msg.State == Deferred {
			deferredInHand++
		}
	}
	want := fmt.Sprint(
		[]int{
			len(m.of(waiting)) + len(m.hands) - deferredInHand,
			len(m.of(planned)),
			len(m.of(apart)) + deferredInHand,
			len(m.hands),
			len(m.of(dead)),
		},
	)
	until(t, "active, scheduled, deferred, locked and dead ones as many as "+want, func() bool {
		a, s, d, l := q.Counts()
		n, _, _, _ := q.DeadLetters().Counts()
		return fmt.Sprint([]int{a, s, d, l, n}) == want
	})
	for q, want := range map[*Queue]int{q: len(m.places) - len(m.of(dead)), q.DeadLetters(): len(m.of(dead))} {
		err := q.disk.view(q, func(s tables) error {
			if f, b := countKeys(t, s.facts), countKeys(t, s.bytes); f != want || b != want {
				t.Errorf("%s on disk: got %d records and %d bodies, want %d", q.Name(), f, b, want)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	peeked, err := q.Peek(0, 10_000, 1<<30, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(peeked) != len(m.places)-len(m.of(dead)) {
		t.Errorf("peek: got %d messages, want %d", len(peeked), len(m.places)-len(m.of(dead)))
	}
	if !slices.IsSortedFunc(peeked, func(a, b *Message) int { return int(a.Seq - b.Seq) }) {
		t.Error("peek is not in order")
	}
}

func FuzzRecord(f *testing.F) {
	f.Add((&item{enqueued: 1, expires: 2, session: &Session{id: "s"}, rare: &rare{enqueuedSeq: 3, deadFrom: "q"}}).record(4, Deferred))
	f.Add((&item{enqueued: -1}).record(0, Active))
	f.Fuzz(func(t *testing.T, b []byte) {
		var it item
		id, err := it.parse(b)
		if err != nil {
			return
		}
		if id != "" {
			it.session = &Session{id: id}
		}
		var again item
		if got, err := again.parse(it.record(it.count, it.state)); err != nil || got != id || again.count != it.count ||
			again.expires != it.expires {
			t.Errorf("got %+v of %q, %v, want %+v of %q", again, got, err, it, id)
		}
	})
}

func countKeys(t *testing.T, b *disk.Bucket) (n int) {
	t.Helper()
	if err := b.ForEach(func(_, _ []byte) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}
