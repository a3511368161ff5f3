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

// session returns the session, made at first use. The mutex is held.
func (q *Queue) session(id string) *Session {
	s := q.sessions[id]
	if s == nil {
		s = &Session{id: id, touched: q.env.now()}
		q.sessions[id] = s
	}
	return s
}

// dropIdleSession forgets a session without messages, state and holder. The mutex is held.
func (q *Queue) dropIdleSession(s *Session) {
	if s.messages == 0 && s.holder == nil && len(s.state) == 0 && q.sessions[s.id] == s {
		delete(q.sessions, s.id)
	}
}

// signalSession wakes the holder of a session that has a message, or a client that
// waits for a session. The mutex is held.
func (q *Queue) signalSession(s *Session) {
	switch {
	case s.holder != nil:
		if s.holder.waiting {
			s.holder.waiting = false
			s.holder.signal()
		}
	case !s.open:
		s.open = true
		q.open = append(q.open, s)
		q.signalAcceptor()
	}
}

// signalAcceptor wakes one client that waits for a session, because there is one.
// The mutex is held.
func (q *Queue) signalAcceptor() {
	if len(q.acceptors) == 0 || len(q.open) == 0 {
		return
	}
	w := q.acceptors[0]
	q.acceptors = q.acceptors[1:]
	w.c <- struct{}{} // has room: a waiter is in the list at most once
}

// Accept locks the named session for a new receiver.
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
		q.releaseSession(s, true)
		s = q.session(id)
	}
	return q.lockSession(s, remove, now), nil
}

// AcceptNext locks the free session that has had a message for the longest time.
// It waits for one until wait is over or cancel is closed.
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
		if s := q.takeOpenSession(); s != nil {
			r := q.lockSession(s, remove, q.env.now())
			q.mu.Unlock()
			return r, nil
		}
		q.acceptors = append(q.acceptors, w)
		q.mu.Unlock()
		select {
		case <-w.c:
		case <-cancel:
			q.removeAcceptor(w)
			return nil, ErrCancelled
		case <-over.C:
			q.removeAcceptor(w)
			return nil, ErrTimeout
		}
	}
}

// removeAcceptor removes a waiter, and gives its signal to the next.
func (q *Queue) removeAcceptor(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.acceptors = slices.DeleteFunc(q.acceptors, func(other *waiter) bool { return other == w })
	if len(w.c) > 0 {
		q.signalAcceptor()
	}
}

// takeOpenSession takes the first of the open sessions that is still free and has
// a message. The mutex is
// held.
func (q *Queue) takeOpenSession() *Session {
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

// lockSession makes a new receiver the holder of a session. The mutex is held.
func (q *Queue) lockSession(s *Session, remove bool, now int64) *Receiver {
	r := q.newReceiver(s, remove)
	s.holder, s.until, s.touched = r, now+int64(q.opts.LockDuration), now
	q.held[s] = struct{}{}
	q.setTimer(s.until)
	return r
}

// releaseSession frees a session. The messages locked in it come again, in their
// old places. If the lock of the session has run out, each counts as a failed
// delivery. The mutex is held.
func (q *Queue) releaseSession(s *Session, failed bool) {
	holder := s.holder
	s.holder, s.until = nil, 0
	delete(q.held, s)
	for k := s.locks.first; k != nil; k = s.locks.first {
		q.removeLock(k)
		if failed {
			q.countFailure(k.it)
		} else {
			q.returnMessage(k.it)
		}
	}
	holder.waiting = false
	holder.signal()
	if s.ready.any() {
		q.signalSession(s)
	}
	q.dropIdleSession(s)
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
	return r.checkHold(r.q.env.now()) == nil
}

// RenewSession extends the session's lock.
func (r *Receiver) RenewSession() (time.Time, error) {
	now := r.q.env.now()
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	if err := r.checkHold(now); err != nil {
		return time.Time{}, err
	}
	r.session.until = now + int64(r.q.opts.LockDuration)
	return at(r.session.until), nil
}

// State is the session's state; nil when it has none.
func (r *Receiver) State() ([]byte, error) {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	return r.session.state, r.checkHold(r.q.env.now())
}

// SetState stores the session's state; an empty one clears it.
func (r *Receiver) SetState(state []byte) error {
	q := r.q
	q.mu.Lock()
	err := r.checkHold(q.env.now())
	q.mu.Unlock()
	if err != nil {
		return err
	}
	if err := q.disk.setState(q, r.session.id, state); err != nil {
		return err
	}
	q.mu.Lock()
	s := q.session(r.session.id) // it may have been released and forgotten meanwhile
	s.state, s.touched = state, q.env.now()
	s.stateAt = s.touched
	q.dropIdleSession(s)
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
