package queue

import (
	"errors"
	"path/filepath"
	"testing"
	"time"
)

func TestCreatedQueuesAndTheirNotesLast(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "q.db")
	b, _ := open(t, path, nil, Options{})
	q, err := b.Add("New", Options{LockDuration: lockTime, MaxDeliveryCount: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Add("nEW", Options{}); !errors.Is(err, ErrExists) {
		t.Errorf("added twice: got %v, want %v", err, ErrExists)
	}
	if err := b.Note("New", []byte("note")); err != nil {
		t.Fatal(err)
	}
	send(t, q, say("kept"))
	b.Close()

	b, _ = open(t, path, nil, Options{})
	notes, err := b.Notes()
	if err != nil || len(notes) != 1 || string(notes["new"]) != "note" {
		t.Fatalf("notes: got %q, %v", notes, err)
	}
	q, err = b.Add("New", Options{LockDuration: lockTime, MaxDeliveryCount: 1})
	if err != nil {
		t.Fatal(err)
	}
	take(t, receiver(t, q), 1, "kept")
}

func TestDelete(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "q.db")
	b, q := open(t, path, nil, Options{})
	send(t, q, say("lost"))
	r := receiver(t, q)
	take(t, r, 1, "lost")
	take(t, r, 1)
	if err := b.Note("Q", []byte("note")); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(q); err != nil {
		t.Fatal(err)
	}
	<-r.C // all that wait are woken
	if _, err := r.Take(1); !errors.Is(err, ErrGone) {
		t.Errorf("take: got %v, want %v", err, ErrGone)
	}
	if _, err := q.Send(say("late")); !errors.Is(err, ErrGone) {
		t.Errorf("send: got %v, want %v", err, ErrGone)
	}
	if b.Queue("q") != nil || b.Queue("q/$deadletterqueue") != nil || b.Delete(q) == nil {
		t.Error("the queue is there after it was deleted")
	}
	q, err := b.Add("q", Options{LockDuration: lockTime})
	if err != nil {
		t.Fatal(err)
	}
	take(t, receiver(t, q), 1)
	if notes, _ := b.Notes(); len(notes) != 0 {
		t.Errorf("notes: got %q, want none", notes)
	}
}

func TestShorterLocksEndFirst(t *testing.T) {
	t.Parallel()
	c := newClock()
	q := fresh(t, c, Options{MaxDeliveryCount: 9})
	send(t, q, say("a"), say("b"))
	r := receiver(t, q)
	take(t, r, 1, "a")
	q.Change(Options{LockDuration: time.Second, MaxDeliveryCount: 9})
	take(t, r, 1, "b")
	c.advance(2 * time.Second)
	q.runTimer()
	take(t, r, 2, "b")
}

func TestDuplicatesAreDropped(t *testing.T) {
	t.Parallel()
	c := newClock()
	path := filepath.Join(t.TempDir(), "q.db")
	opts := Options{Duplicates: time.Minute}
	b, q := open(t, path, c, opts)
	one := New{ID: "1", Raw: []byte("one")}
	if got := send(t, q, one, one, New{Raw: []byte("no id")}, New{Raw: []byte("no id")}); got[0] != 1 || got[1] != 0 || got[3] != 3 {
		t.Errorf("numbers: got %v, want 1 0 2 3", got)
	}
	take(t, receiver(t, q), 9, "one", "no id", "no id")
	b.Close()

	_, q = open(t, path, c, opts)
	if got := send(t, q, one); got[0] != 0 {
		t.Errorf("a duplicate after a restart: got number %d, want it dropped", got[0])
	}
	c.advance(time.Minute)
	if got := send(t, q, one); got[0] == 0 {
		t.Error("the window is over, but the message was dropped")
	}
	if n := len(q.recent.order); n != 1 {
		t.Errorf("remembered: got %d ids, want 1", n)
	}
}
