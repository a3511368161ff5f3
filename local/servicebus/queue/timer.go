package queue

import (
	"container/heap"
	"time"
)

// arm sets the queue's one timer to the next instant at which something happens
// by itself: a lock runs out, a scheduled message is due. The lock is held.
func (q *Queue) arm() {
	if q.closed {
		return
	}
	next := q.nextEvent()
	if next.IsZero() {
		return
	}
	wait := max(next.Sub(q.now()), 0) + time.Millisecond
	if q.timer == nil {
		q.timer = time.AfterFunc(wait, q.tick)
		q.timerAt = next
		return
	}
	if q.timerAt.IsZero() || next.Before(q.timerAt) {
		q.timer.Reset(wait)
		q.timerAt = next
	}
}

// nextEvent looks at the scheduled messages, and at the locks through the time
// the oldest of them could have been given. The lock is held.
func (q *Queue) nextEvent() time.Time {
	var next time.Time
	at := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if q.scheduled.Len() > 0 {
		at(q.scheduled.items[0].scheduledAt)
	}
	if len(q.locks) > 0 || q.anyHeld() {
		// No lock is shorter than the duration, so looking a few times in it is
		// exact enough and costs nothing with a million locks.
		at(q.now().Add(q.opts.LockDuration / lockLooks))
	}
	return next
}

// lockLooks is how often within a lock's duration the locks are looked through.
const lockLooks = 10

func (q *Queue) anyHeld() bool {
	for _, s := range q.sessions {
		if s.holder != nil {
			return true
		}
	}
	return false
}

// tick does what is due.
func (q *Queue) tick() {
	now := q.now()
	q.mu.Lock()
	q.timerAt = time.Time{}
	if q.closed {
		q.mu.Unlock()
		return
	}
	var lost []*item
	for token, it := range q.locks {
		if !it.byLink && now.After(it.lockedUntil) {
			delete(q.locks, token)
			lost = append(lost, it)
		}
	}
	for _, s := range q.sessions {
		if s.holder != nil && now.After(s.lockedUntil) {
			q.giveBack(s, true)
		}
	}
	var due []*item
	for q.scheduled.Len() > 0 && !q.scheduled.items[0].scheduledAt.After(now) {
		due = append(due, heap.Pop(&q.scheduled).(*item))
	}
	q.mu.Unlock()
	for _, it := range lost {
		if err := q.failed(it, nil); err != nil {
			q.mu.Lock()
			q.back(it)
			q.mu.Unlock()
		}
	}
	q.activate(due, now)
	q.mu.Lock()
	q.arm()
	q.mu.Unlock()
}

// activate enqueues scheduled messages whose time has come, under new numbers.
func (q *Queue) activate(due []*item, now time.Time) {
	if len(due) == 0 {
		return
	}
	fresh := make([]*item, len(due))
	q.mu.Lock()
	for i, it := range due {
		q.lastSeq++
		copied := *it
		copied.enqueuedSeq, copied.seq, copied.state, copied.enqueued = it.seq, q.lastSeq, Active, now
		fresh[i] = &copied
	}
	q.mu.Unlock()
	err := q.disk.renumber(q, due, fresh)
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, it := range due {
		if err != nil { // tried again with the next tick
			heap.Push(&q.scheduled, it)
			continue
		}
		q.forget(it)
		q.admit(fresh[i])
	}
}
