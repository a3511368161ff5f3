package queue

import (
	"slices"
	"time"
)

// Receiver takes messages from a queue, or from the session it holds.
type Receiver struct {
	// C is signalled when there may be something to take, or when the session
	// was lost. The receiver of a signal calls Take, or Pass.
	C chan struct{}

	q       *Queue
	session *Session // nil in a queue without sessions
	remove  bool     // receive and delete
	waiting bool     // asked, got nothing, and waits for a signal
	closed  bool
}

// Receiver makes a receiver for a queue without sessions. With remove, a message
// is deleted when it is handed out.
func (q *Queue) Receiver(remove bool) (*Receiver, error) {
	if q.opts.Sessions {
		return nil, ErrSessionNeeded
	}
	return q.newReceiver(nil, remove), nil
}

func (q *Queue) newReceiver(s *Session, remove bool) *Receiver {
	return &Receiver{C: make(chan struct{}, 1), q: q, session: s, remove: remove}
}

func (r *Receiver) signal() {
	select {
	case r.C <- struct{}{}:
	default:
	}
}

// Take hands out up to n messages. If there are none, C is signalled later.
func (r *Receiver) Take(n int) ([]*Message, error) {
	q := r.q
	now := q.env.now()
	q.mu.Lock()
	if err := r.checkHold(now); err != nil {
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
		if it.expires != 0 && now > it.expires { // the timer handles its age
			q.setTimer(it.expires)
			q.ages.push(age{it.expires, it})
			continue
		}
		items = append(items, it)
	}
	if len(items) == 0 {
		r.awaitMessage()
		q.mu.Unlock()
		return nil, nil
	}
	locks := make([]*lock, len(items))
	out := make([]*Message, len(items))
	for i, it := range items {
		if r.remove {
			it.locked = true // and nobody can settle it
			out[i] = q.messageOf(it)
			continue
		}
		locks[i] = q.lockMessage(it, r.session, now)
		out[i] = q.messageOf(it)
		out[i].Token, out[i].LockedUntil = locks[i].token, at(locks[i].end())
	}
	if r.session == nil {
		q.signalReceiver()
	}
	q.mu.Unlock()
	if r.remove {
		return out, r.deleteMessages(items, out)
	}
	if err := q.disk.read(q, out); err != nil {
		q.mu.Lock()
		for i, it := range items {
			if q.locks[locks[i].token] != nil {
				q.removeLock(locks[i])
				q.returnMessage(it)
			}
		}
		q.mu.Unlock()
		return nil, err
	}
	return out, nil
}

// deleteMessages reads messages and deletes them in one commit.
func (r *Receiver) deleteMessages(items []*item, out []*Message) error {
	q := r.q
	err := q.disk.readAndErase(q, out)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range items {
		if err != nil {
			q.returnMessage(it)
		} else {
			q.forgetMessage(it)
		}
	}
	return err
}

// checkHold reports why the receiver gets no more messages, nil if it does. The mutex is held.
func (r *Receiver) checkHold(now int64) error {
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

// awaitMessage registers the receiver for a signal at the next message. The mutex is held.
func (r *Receiver) awaitMessage() {
	if r.waiting {
		return
	}
	r.waiting = true
	if r.session == nil {
		r.q.waiting = append(r.q.waiting, r)
	}
}

// Pass gives a signal to the next receiver, because this one takes nothing now. It
// returns ErrLockLost if the session was lost.
func (r *Receiver) Pass() error {
	q := r.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.session == nil && !r.waiting {
		q.signalReceiver()
	}
	return r.checkHold(q.env.now())
}

// Close ends the receiver. It releases its session; the messages locked in that
// session come again, and this does not count as a failed delivery. Other locks
// stay until they end: they may still be settled.
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
			q.releaseSession(r.session, false)
		}
		return
	}
	if r.waiting {
		q.waiting = slices.DeleteFunc(q.waiting, func(other *Receiver) bool { return other == r })
		return
	}
	q.signalReceiver() // it may have had a signal for a message that it did not take
}

// messageOf returns an item in the form of a delivery, without its bytes. The mutex is held.
func (q *Queue) messageOf(it *item) *Message {
	m := &Message{Seq: it.seq, Enqueued: at(it.enqueued), Expires: at(it.expires), State: it.state, DeliveryCount: it.count}
	if it.rare != nil {
		m.EnqueuedSeq, m.DeadFrom = it.rare.enqueuedSeq, it.rare.deadFrom
	}
	return m
}

// returnMessage makes a message available again that no receiver holds any more.
// The mutex is held.
func (q *Queue) returnMessage(it *item) {
	it.locked = false
	if it.gone || it.state != Active {
		return
	}
	if it.expires != 0 && q.env.now() > it.expires { // it did not expire while it was locked
		q.ages.push(age{it.expires, it})
		q.setTimer(it.expires)
		return
	}
	q.offerMessage(it)
}

// Fetch hands out deferred messages by number, locked, or removed for good.
// session is nil in a queue without sessions.
func (q *Queue) Fetch(seqs []int64, r *Receiver, remove bool) ([]*Message, error) {
	now := q.env.now()
	var s *Session
	q.mu.Lock()
	if r != nil {
		if err := r.checkHold(now); err != nil {
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
		out[i] = q.messageOf(it)
		if remove {
			it.locked = true
			continue
		}
		k := q.lockMessage(it, s, now)
		out[i].Token, out[i].LockedUntil = k.token, at(k.end())
	}
	q.mu.Unlock()
	if remove {
		return out, (&Receiver{q: q}).deleteMessages(items, out)
	}
	return out, q.disk.read(q, out)
}

// Renew extends the lock on a message.
func (q *Queue) Renew(t Token) (time.Time, error) {
	now := q.env.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	k, err := q.findLock(t, now)
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
