package queue

import "crypto/rand"

// lock is the hold of a receiver on a message.
type lock struct {
	token      Token
	it         *item
	until      int64    // for a lock under a session: the session's end counts
	session    *Session // nil: the lock ends by itself
	list       *lockList
	prev, next *lock
}

// lockList is a list of locks in the order of their end. All locks of a queue
// are equally long, so one that is given or renewed goes to the end.
type lockList struct{ first, last *lock }

func (l *lockList) add(k *lock) {
	k.list, k.prev, k.next = l, l.last, nil
	for k.prev != nil && k.prev.until > k.until { // given before locks became shorter
		k.prev, k.next = k.prev.prev, k.prev
	}
	if k.prev != nil {
		k.prev.next = k
	} else {
		l.first = k
	}
	if k.next != nil {
		k.next.prev = k
	} else {
		l.last = k
	}
}

func (l *lockList) remove(k *lock) {
	if k.prev != nil {
		k.prev.next = k.next
	} else {
		l.first = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	} else {
		l.last = k.prev
	}
	k.list, k.prev, k.next = nil, nil, nil
}

// lockMessage gives a message to a receiver. The mutex is held.
func (q *Queue) lockMessage(it *item, s *Session, now int64) *lock {
	k := &lock{token: newToken(), it: it, until: now + int64(q.opts.LockDuration), session: s}
	it.locked = true
	q.enforceLock(k)
	return k
}

// enforceLock puts a lock in force. The mutex is held.
func (q *Queue) enforceLock(k *lock) {
	q.locks[k.token] = k
	if k.session != nil {
		k.session.locks.add(k)
		return
	}
	q.expiry.add(k)
	q.setTimer(k.until)
}

// removeLock takes a lock out of force. After that the caller decides about the
// message. The mutex is held.
func (q *Queue) removeLock(k *lock) {
	delete(q.locks, k.token)
	k.list.remove(k)
}

// hasEnded reports whether a lock has ended. The mutex is held.
func (k *lock) hasEnded(now int64) bool {
	if k.session != nil {
		return k.session.holder == nil || now > k.session.until
	}
	return now > k.until
}

// end is when a lock ends. The mutex is held.
func (k *lock) end() int64 {
	if k.session != nil {
		return k.session.until
	}
	return k.until
}

// findLock returns a lock that is in force. The mutex is held.
func (q *Queue) findLock(t Token, now int64) (*lock, error) {
	k := q.locks[t]
	if k == nil || k.hasEnded(now) {
		return nil, ErrLockLost
	}
	return k, nil
}

func newToken() Token {
	var t Token
	rand.Read(t[:])
	t[6], t[8] = t[6]&0x0f|0x40, t[8]&0x3f|0x80 // a random UUID, as clients expect
	return t
}
