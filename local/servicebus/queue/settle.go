package queue

import (
	"container/heap"
	"sort"
	"time"
)

// Outcome of a delivery.
type Outcome int

const (
	Complete   Outcome = iota
	Abandon            // comes again; counts as a failed delivery
	Release            // comes again; does not count
	Defer              // waits to be asked for by its number
	DeadLetter         // moves to the dead-letter queue
)

// Settle ends the lock on a message, on disk first. raw replaces the message's
// bytes when it is not nil. ErrLockLost: the lock is not there any more.
func (q *Queue) Settle(token Token, o Outcome, raw []byte) error {
	q.mu.Lock()
	it := q.locks[token]
	if it == nil || q.lockOver(it, q.now()) {
		q.mu.Unlock()
		return ErrLockLost
	}
	delete(q.locks, token) // nobody else settles it meanwhile
	q.mu.Unlock()
	err := q.settle(it, o, raw)
	if err != nil {
		q.mu.Lock()
		if !it.gone && it.token == token {
			q.locks[token] = it
		}
		q.mu.Unlock()
	}
	return err
}

func (q *Queue) settle(it *item, o Outcome, raw []byte) error {
	switch o {
	case Complete:
		return q.remove([]*item{it})
	case Release:
		q.mu.Lock()
		q.back(it)
		q.mu.Unlock()
		return nil
	case Abandon:
		return q.failed(it, raw)
	case Defer:
		if err := q.disk.update(q, it, it.count, Deferred, raw); err != nil {
			return err
		}
		q.mu.Lock()
		it.state, it.token, it.lockedUntil = Deferred, Token{}, time.Time{}
		q.mu.Unlock()
		return nil
	default:
		if q.dead == nil { // a dead letter cannot be dead-lettered
			return q.failed(it, raw)
		}
		return q.move(it, raw, nil)
	}
}

// failed counts a delivery as failed and offers the message again, or moves it
// to the dead-letter queue when that was once too often.
func (q *Queue) failed(it *item, raw []byte) error {
	count := it.count
	if q.dead != nil { // in a dead-letter queue deliveries do not count
		count++
	}
	if q.dead != nil && count >= q.opts.MaxDeliveryCount {
		it.count = count
		return q.move(it, raw, exceeded)
	}
	if err := q.disk.update(q, it, count, it.state, raw); err != nil {
		return err
	}
	q.mu.Lock()
	it.count = count
	q.back(it)
	q.mu.Unlock()
	return nil
}

// back makes an unlocked message available again. The lock is held.
func (q *Queue) back(it *item) {
	if it.gone {
		return
	}
	if it.state == Deferred {
		it.token, it.lockedUntil = Token{}, time.Time{}
		return
	}
	q.offer(it)
}

// Rewrite changes a message's bytes on its way to the dead-letter queue.
type Rewrite func(raw []byte) []byte

// exceeded is set by the protocol layer: it marks a message as dead-lettered
// because it was delivered too often.
var exceeded Rewrite = func(raw []byte) []byte { return raw }

// OnExceeded sets how a message is marked that was delivered too often.
func OnExceeded(r Rewrite) { exceeded = r }

// move puts a message into the dead-letter queue and takes it off this one, in
// one commit.
func (q *Queue) move(it *item, raw []byte, rewrite Rewrite) error {
	if raw == nil {
		raws, err := q.disk.raw(q, []*item{it})
		if err != nil {
			return err
		}
		raw = raws[0]
	}
	if rewrite != nil {
		raw = rewrite(raw)
	}
	m := New{Raw: raw, deadFrom: q.name, enqueuedSeq: it.seq, count: it.count}
	if it.session != nil {
		m.SessionID, m.HasSession = it.session.ID, true
	}
	dead := q.dead
	dead.mu.Lock()
	dead.lastSeq++
	moved := dead.newItem(m, dead.lastSeq, q.now())
	dead.mu.Unlock()
	if err := q.disk.move(q, it, dead, moved, m); err != nil {
		return err
	}
	q.mu.Lock()
	q.forget(it)
	q.mu.Unlock()
	dead.mu.Lock()
	dead.admit(moved)
	dead.mu.Unlock()
	return nil
}

// Renew extends the lock on a message.
func (q *Queue) Renew(token Token) (time.Time, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	it := q.locks[token]
	if it == nil || q.lockOver(it, now) {
		return time.Time{}, ErrLockLost
	}
	it.lockedUntil = now.Add(q.opts.LockDuration)
	return it.lockedUntil, nil
}

// lockOver reports whether the lock has run out. The lock of a message that was
// taken under a session ends with the session's.
func (q *Queue) lockOver(it *item, now time.Time) bool {
	if it.byLink {
		return it.session.holder == nil || now.After(it.session.lockedUntil)
	}
	return now.After(it.lockedUntil)
}

// Locked returns a locked message's bytes, for outcomes that change them.
func (q *Queue) Locked(token Token) ([]byte, error) {
	q.mu.Lock()
	it := q.locks[token]
	q.mu.Unlock()
	if it == nil {
		return nil, ErrLockLost
	}
	raws, err := q.disk.raw(q, []*item{it})
	if err != nil {
		return nil, err
	}
	return raws[0], nil
}

// Fetch hands out deferred messages by number, locked, or removed for good.
func (q *Queue) Fetch(seqs []int64, session *Session, remove bool) ([]*Message, error) {
	now := q.now()
	var items []*item
	q.mu.Lock()
	for _, seq := range seqs {
		it := q.all[seq]
		if it == nil || it.state != Deferred || q.locks[it.token] == it || session != nil && it.session != session {
			for _, it := range items {
				delete(q.locks, it.token)
			}
			q.mu.Unlock()
			return nil, ErrNotFound
		}
		it.token, it.lockedUntil, it.byLink = newToken(), now.Add(q.opts.LockDuration), session != nil
		q.locks[it.token] = it
		items = append(items, it)
	}
	q.arm()
	q.mu.Unlock()
	out, err := q.read(items)
	if err == nil && remove {
		err = q.remove(items)
	}
	return out, err
}

// CancelScheduled takes scheduled messages off the queue. ErrNotFound: one of
// them is not there, or was enqueued already; the others are left too.
func (q *Queue) CancelScheduled(seqs []int64) error {
	var items []*item
	q.mu.Lock()
	for _, seq := range seqs {
		it := q.all[seq]
		if it == nil || it.state != Scheduled || it.index < 0 {
			q.mu.Unlock()
			return ErrNotFound
		}
		items = append(items, it)
	}
	for _, it := range items {
		heap.Remove(&q.scheduled, it.index)
	}
	q.mu.Unlock()
	return q.remove(items)
}

// Peek shows messages from a number on, in order, without taking them.
func (q *Queue) Peek(from int64, n int, session *Session) ([]*Message, error) {
	now := q.now()
	q.mu.Lock()
	var items []*item
	for _, it := range q.all {
		if it.seq >= from && (session == nil || it.session == session) && !q.expired(it, now) {
			items = append(items, it)
		}
	}
	q.mu.Unlock()
	sort.Slice(items, func(i, j int) bool { return items[i].seq < items[j].seq })
	if len(items) > n {
		items = items[:n]
	}
	return q.read(items)
}

// Counts says how many messages are active, scheduled, deferred and locked.
func (q *Queue) Counts() (active, scheduled, deferred, locked int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range q.all {
		switch it.state {
		case Active:
			active++
		case Scheduled:
			scheduled++
		case Deferred:
			deferred++
		}
	}
	return active, scheduled, deferred, len(q.locks)
}
