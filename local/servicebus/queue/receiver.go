package queue

import (
	"slices"
	"time"
)

// Receiver takes messages from a queue, or from the session it holds.
type Receiver struct {
	// C is signalled when there may be something to take, or when the session
	// was lost. Whoever is signalled calls Take, or Pass.
	C chan struct{}

	q       *Queue
	session *Session // nil in a queue without sessions
	remove  bool     // receive and delete
	waiting bool     // asked, and got nothing
	closed  bool
}

// Receiver makes one for a queue without sessions. With remove, messages are
// off the queue for good when they are handed out.
func (q *Queue) Receiver(remove bool) (*Receiver, error) {
	if q.opts.Sessions {
		return nil, ErrSessionNeeded
	}
	return q.receiver(nil, remove), nil
}

func (q *Queue) receiver(s *Session, remove bool) *Receiver {
	return &Receiver{C: make(chan struct{}, 1), q: q, session: s, remove: remove}
}

func (r *Receiver) signal() {
	select {
	case r.C <- struct{}{}:
	default:
	}
}

// Take hands out up to n messages. When there are none, C is signalled later.
func (r *Receiver) Take(n int) ([]*Message, error) {
	q := r.q
	now := q.env.now()
	q.mu.Lock()
	if err := r.lost(now); err != nil {
		q.mu.Unlock()
		return nil, err
	}
	from := &q.ready
	if r.session != nil {
		from = &r.session.ready
	}
	var items []*item
	for len(items) < n {
		it := from.pop()
		if it == nil {
			break
		}
		if it.gone {
			continue
		}
		if it.expires != 0 && now > it.expires { // its age is looked at by the timer
			q.arm(it.expires)
			q.ages.push(age{it.expires, it})
			continue
		}
		items = append(items, it)
	}
	if len(items) == 0 {
		r.wait()
		q.mu.Unlock()
		return nil, nil
	}
	locks := make([]*lock, len(items))
	out := make([]*Message, len(items))
	for i, it := range items {
		if r.remove {
			it.locked = true // by nobody that could settle it
			out[i] = q.message(it)
			continue
		}
		locks[i] = q.lock(it, r.session, now)
		out[i] = q.message(it)
		out[i].Token, out[i].LockedUntil = locks[i].token, at(locks[i].end())
	}
	if r.session == nil {
		q.feed()
	}
	q.mu.Unlock()
	if r.remove {
		return out, r.delete(items, out)
	}
	if err := q.disk.read(q, out); err != nil {
		q.mu.Lock()
		for i, it := range items {
			if q.locks[locks[i].token] != nil {
				q.unlock(locks[i])
				q.back(it)
			}
		}
		q.mu.Unlock()
		return nil, err
	}
	return out, nil
}

// delete reads messages and takes them off the queue in one commit.
func (r *Receiver) delete(items []*item, out []*Message) error {
	q := r.q
	err := q.disk.readAndErase(q, out)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range items {
		if err != nil {
			q.back(it)
		} else {
			q.forget(it)
		}
	}
	return err
}

// lost reports why the receiver gets nothing any more. The lock is held.
func (r *Receiver) lost(now int64) error {
	switch {
	case r.q.closed != nil:
		return r.q.closed
	case r.closed:
		return ErrCancelled
	case r.session != nil && (r.session.holder != r || now > r.session.until):
		return ErrLockLost
	}
	return nil
}

// wait has the receiver told of the next message. The lock is held.
func (r *Receiver) wait() {
	if r.waiting {
		return
	}
	r.waiting = true
	if r.session == nil {
		r.q.hungry = append(r.q.hungry, r)
	}
}

// Pass hands a signal on that the receiver has no use for: it takes nothing
// now. It reports ErrLockLost when the session was lost.
func (r *Receiver) Pass() error {
	q := r.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.session == nil && !r.waiting {
		q.feed()
	}
	return r.lost(q.env.now())
}

// Close ends the receiver. A session is given back, and what was locked under
// it comes again and does not count as failed. Other locks stay until they end:
// they may still be settled.
func (r *Receiver) Close() {
	q := r.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.closed {
		return
	}
	r.closed = true
	if r.session != nil {
		if r.session.holder == r {
			q.release(r.session, false)
		}
		return
	}
	if r.waiting {
		q.hungry = slices.DeleteFunc(q.hungry, func(other *Receiver) bool { return other == r })
		return
	}
	q.feed() // it may have been told of a message that it did not take
}

// message is an item as it is delivered, without its bytes. The lock is held.
func (q *Queue) message(it *item) *Message {
	m := &Message{Seq: it.seq, Enqueued: at(it.enqueued), Expires: at(it.expires), State: it.state, DeliveryCount: it.count}
	if it.rare != nil {
		m.EnqueuedSeq, m.DeadFrom = it.rare.enqueuedSeq, it.rare.deadFrom
	}
	return m
}

// back makes a message available again that is in nobody's hands. The lock is
// held.
func (q *Queue) back(it *item) {
	it.locked = false
	if it.gone || it.state != Active {
		return
	}
	if it.expires != 0 && q.env.now() > it.expires { // it did not expire while it was locked
		q.ages.push(age{it.expires, it})
		q.arm(it.expires)
		return
	}
	q.offer(it)
}

// Fetch hands out deferred messages by number, locked, or removed for good.
// session is nil in a queue without sessions.
func (q *Queue) Fetch(seqs []int64, r *Receiver, remove bool) ([]*Message, error) {
	now := q.env.now()
	var s *Session
	q.mu.Lock()
	if r != nil {
		if err := r.lost(now); err != nil {
			q.mu.Unlock()
			return nil, err
		}
		s = r.session
	}
	items := make([]*item, 0, len(seqs))
	for _, seq := range seqs {
		it := q.parked[seq]
		if it == nil || it.state != Deferred || it.locked || it.session != s || slices.Contains(items, it) {
			q.mu.Unlock()
			return nil, ErrNotFound
		}
		items = append(items, it)
	}
	out := make([]*Message, len(items))
	for i, it := range items {
		out[i] = q.message(it)
		if remove {
			it.locked = true
			continue
		}
		k := q.lock(it, s, now)
		out[i].Token, out[i].LockedUntil = k.token, at(k.end())
	}
	q.mu.Unlock()
	if remove {
		return out, (&Receiver{q: q}).delete(items, out)
	}
	return out, q.disk.read(q, out)
}

// Renew extends the lock on a message.
func (q *Queue) Renew(t Token) (time.Time, error) {
	now := q.env.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	k, err := q.find(t, now)
	if err != nil {
		return time.Time{}, err
	}
	if k.session != nil { // it ends with the session's
		return at(k.session.until), nil
	}
	q.expiry.remove(k)
	k.until = now + int64(q.opts.LockDuration)
	q.expiry.add(k)
	return at(k.until), nil
}
