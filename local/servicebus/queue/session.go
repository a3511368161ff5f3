package queue

import (
	"slices"
	"sort"
	"time"
)

// Session is a line of its own within a queue, held by one receiver at a time.
type Session struct {
	id       string
	ready    line
	locks    lockList // of messages in the holder's hands
	holder   *Receiver
	until    int64
	state    []byte
	touched  int64
	stateAt  int64 // when the state was set
	messages int   // in whatever state
	open     bool  // in the queue's list of free sessions
}

// waiter waits for a session to become free.
type waiter struct{ c chan struct{} }

// session returns the session, made at first use. The lock is held.
func (q *Queue) session(id string) *Session {
	s := q.sessions[id]
	if s == nil {
		s = &Session{id: id, touched: q.env.now()}
		q.sessions[id] = s
	}
	return s
}

// dropIdle forgets a session that has nothing and nobody. The lock is held.
func (q *Queue) dropIdle(s *Session) {
	if s.messages == 0 && s.holder == nil && len(s.state) == 0 && q.sessions[s.id] == s {
		delete(q.sessions, s.id)
	}
}

// offered tells who may take from a session that it has a message. The lock is
// held.
func (q *Queue) offered(s *Session) {
	switch {
	case s.holder != nil:
		if s.holder.waiting {
			s.holder.waiting = false
			s.holder.signal()
		}
	case !s.open:
		s.open = true
		q.open = append(q.open, s)
		q.invite()
	}
}

// invite tells one of those who wait for a session that there is one. The lock
// is held.
func (q *Queue) invite() {
	if len(q.accepting) == 0 || len(q.open) == 0 {
		return
	}
	w := q.accepting[0]
	q.accepting = q.accepting[1:]
	w.c <- struct{}{} // has room: a waiter is in the list at most once
}

// Accept gives out a named session.
func (q *Queue) Accept(id string, remove bool) (*Receiver, error) {
	now := q.env.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed != nil:
		return nil, q.closed
	case !q.opts.Sessions:
		return nil, ErrNoSession
	}
	s := q.session(id)
	if s.holder != nil {
		if now <= s.until {
			return nil, ErrSessionHeld
		}
		q.release(s, true)
		s = q.session(id)
	}
	return q.give(s, remove, now), nil
}

// AcceptNext gives out the free session that has waited longest with a message.
// It waits for one, until cancel is closed.
func (q *Queue) AcceptNext(remove bool, wait time.Duration, cancel <-chan struct{}) (*Receiver, error) {
	if !q.opts.Sessions {
		return nil, ErrNoSession
	}
	over := time.NewTimer(wait)
	defer over.Stop()
	w := &waiter{c: make(chan struct{}, 1)}
	for {
		q.mu.Lock()
		if err := q.closed; err != nil {
			q.mu.Unlock()
			return nil, err
		}
		if s := q.nextOpen(); s != nil {
			r := q.give(s, remove, q.env.now())
			q.mu.Unlock()
			return r, nil
		}
		q.accepting = append(q.accepting, w)
		q.mu.Unlock()
		select {
		case <-w.c:
		case <-cancel:
			q.leave(w)
			return nil, ErrCancelled
		case <-over.C:
			q.leave(w)
			return nil, ErrTimeout
		}
	}
}

// leave takes a waiter out; what it was told of goes to the next.
func (q *Queue) leave(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.accepting = slices.DeleteFunc(q.accepting, func(other *waiter) bool { return other == w })
	if len(w.c) > 0 {
		q.invite()
	}
}

// nextOpen takes the first of the open sessions that still is one. The lock is
// held.
func (q *Queue) nextOpen() *Session {
	for len(q.open) > 0 {
		s := q.open[0]
		q.open = q.open[1:]
		s.open = false
		if s.holder == nil && s.ready.any() {
			return s
		}
	}
	return nil
}

// give makes a receiver the holder of a session. The lock is held.
func (q *Queue) give(s *Session, remove bool, now int64) *Receiver {
	r := q.receiver(s, remove)
	s.holder, s.until, s.touched = r, now+int64(q.opts.LockDuration), now
	q.held[s] = struct{}{}
	q.arm(s.until)
	return r
}

// release frees a session. What is locked under it comes again, in its place;
// when the session's lock has run out, that counts as a failed delivery. The
// lock is held.
func (q *Queue) release(s *Session, failed bool) {
	holder := s.holder
	s.holder, s.until = nil, 0
	delete(q.held, s)
	for k := s.locks.first; k != nil; k = s.locks.first {
		q.unlock(k)
		if failed {
			q.failed(k.it)
		} else {
			q.back(k.it)
		}
	}
	holder.waiting = false
	holder.signal()
	if s.ready.any() {
		q.offered(s)
	}
	q.dropIdle(s)
}

// Session is the id of the session the receiver was given.
func (r *Receiver) Session() string { return r.session.id }

// LockedUntil is the end of the session's lock.
func (r *Receiver) LockedUntil() time.Time {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	return at(r.session.until)
}

// Holds reports whether the receiver has the session of this id.
func (r *Receiver) Holds(id string) bool {
	if r.session == nil || r.session.id != id {
		return false
	}
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	return r.lost(r.q.env.now()) == nil
}

// RenewSession extends the session's lock.
func (r *Receiver) RenewSession() (time.Time, error) {
	now := r.q.env.now()
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	if err := r.lost(now); err != nil {
		return time.Time{}, err
	}
	r.session.until = now + int64(r.q.opts.LockDuration)
	return at(r.session.until), nil
}

// State is the session's state; nil when it has none.
func (r *Receiver) State() ([]byte, error) {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	return r.session.state, r.lost(r.q.env.now())
}

// SetState stores the session's state; an empty one clears it.
func (r *Receiver) SetState(state []byte) error {
	q := r.q
	q.mu.Lock()
	err := r.lost(q.env.now())
	q.mu.Unlock()
	if err != nil {
		return err
	}
	if err := q.disk.setState(q, r.session.id, state); err != nil {
		return err
	}
	q.mu.Lock()
	s := q.session(r.session.id) // it may have been given up and forgotten meanwhile
	s.state, s.touched = state, q.env.now()
	s.stateAt = s.touched
	q.dropIdle(s)
	q.mu.Unlock()
	return nil
}

// Sessions lists, by name, the sessions that have messages or state; with a
// time, those whose state was set after it.
func (q *Queue) Sessions(after time.Time) []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var ids []string
	for id, s := range q.sessions {
		listed := s.messages > 0 || len(s.state) > 0
		if !after.IsZero() {
			listed = len(s.state) > 0 && s.stateAt > after.UnixNano()
		}
		if listed {
			ids = append(ids, id)
		}
	}
	sort.Strings(ids)
	return ids
}
