package queue

import (
	"sort"
	"time"
)

// Session is a line of its own within a queue, held by one receiver at a time.
type Session struct {
	ID          string
	ready       heapOf
	holder      any // the receiver; nil: free
	lockedUntil time.Time
	state       []byte
	touched     time.Time
}

// session returns the session, made at first use. The lock is held.
func (q *Queue) session(id string) *Session {
	s := q.sessions[id]
	if s == nil {
		s = &Session{ID: id, ready: heapOf{less: bySeq}, touched: q.now()}
		q.sessions[id] = s
	}
	return s
}

// Accept gives a session to a holder: the named one, or the next that is free
// and has messages. It returns nil without an error when there is none.
func (q *Queue) Accept(id *string, holder any) (*Session, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, ErrClosed
	}
	if !q.opts.Sessions {
		return nil, ErrNoSession
	}
	now := q.now()
	var s *Session
	if id != nil {
		s = q.session(*id)
		if s.holder != nil && !now.After(s.lockedUntil) {
			return nil, ErrSessionHeld
		}
	} else if s = q.next(now); s == nil {
		return nil, nil
	}
	if s.holder != nil {
		q.giveBack(s, true)
	}
	s.holder, s.lockedUntil, s.touched = holder, now.Add(q.opts.LockDuration), now
	q.arm()
	return s, nil
}

// next is the free session whose first message is the oldest.
func (q *Queue) next(now time.Time) *Session {
	var best *Session
	for _, s := range q.sessions {
		free := s.holder == nil || now.After(s.lockedUntil)
		if free && s.ready.Len() > 0 && (best == nil || s.ready.items[0].seq < best.ready.items[0].seq) {
			best = s
		}
	}
	return best
}

// RenewSession extends a session's lock.
func (q *Queue) RenewSession(s *Session, holder any) (time.Time, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	if s.holder != holder || now.After(s.lockedUntil) {
		return time.Time{}, ErrLockLost
	}
	s.lockedUntil = now.Add(q.opts.LockDuration)
	return s.lockedUntil, nil
}

// LockedUntil is the end of the session's lock.
func (q *Queue) LockedUntil(s *Session) time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return s.lockedUntil
}

// ReleaseSession gives a session back. What its holder had locked comes again
// and does not count as failed.
func (q *Queue) ReleaseSession(s *Session, holder any) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.holder == holder {
		q.giveBack(s, false)
	}
}

// giveBack frees a session. When its lock has run out, the deliveries under it
// count as failed. The lock is held.
func (q *Queue) giveBack(s *Session, failed bool) {
	s.holder, s.lockedUntil = nil, time.Time{}
	for token, it := range q.locks {
		if it.session != s || !it.byLink {
			continue
		}
		delete(q.locks, token)
		if failed {
			go q.failed(it, nil)
		} else {
			q.back(it)
		}
	}
	q.wake(s)
	if len(s.state) == 0 && s.ready.Len() == 0 && !q.inUse(s) {
		delete(q.sessions, s.ID)
	}
}

// inUse reports whether any message belongs to the session. Sessions are few
// and this is asked when one is given back. The lock is held.
func (q *Queue) inUse(s *Session) bool {
	for _, it := range q.all {
		if it.session == s {
			return true
		}
	}
	return false
}

// SessionState returns a session's state; nil when it has none.
func (q *Queue) SessionState(id string) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.sessions[id]; s != nil {
		return s.state
	}
	return nil
}

// SetSessionState stores a session's state; an empty one clears it. holder must
// have the session.
func (q *Queue) SetSessionState(id string, state []byte, holder any) error {
	q.mu.Lock()
	s := q.sessions[id]
	if s == nil || s.holder != holder || q.now().After(s.lockedUntil) {
		q.mu.Unlock()
		return ErrLockLost
	}
	q.mu.Unlock()
	if err := q.disk.setState(q, id, state); err != nil {
		return err
	}
	q.mu.Lock()
	s.state, s.touched = state, q.now()
	q.mu.Unlock()
	return nil
}

// Held returns the session if the holder has it.
func (q *Queue) Held(id string, holder any) (*Session, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.sessions[id]
	if s == nil || s.holder != holder {
		return nil, ErrLockLost
	}
	return s, nil
}

// Sessions lists sessions that have messages or state and were touched after a
// time, by name.
func (q *Queue) Sessions(after time.Time) []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	used := map[*Session]bool{}
	for _, it := range q.all {
		if it.session != nil {
			used[it.session] = true
		}
	}
	var ids []string
	for id, s := range q.sessions {
		if (used[s] || len(s.state) > 0) && s.touched.After(after) {
			ids = append(ids, id)
		}
	}
	sort.Strings(ids)
	return ids
}
