package queue

import (
	"errors"
	"time"
)

// retry is how long the timer waits when the disk refused what it had to do.
const retry = time.Second

// death is a message that the queue itself takes off.
type death struct {
	it    *item
	cause Cause
}

// arm has the queue's one timer go off no later than at. The lock is held.
func (q *Queue) arm(at int64) {
	if q.closed != nil || q.timerAt != 0 && q.timerAt <= at {
		return
	}
	q.timerAt = at
	wait := time.Duration(max(at-q.env.now(), 0)) + time.Microsecond
	if q.timer == nil {
		q.timer = time.AfterFunc(wait, q.tick)
		return
	}
	q.timer.Reset(wait)
}

// tick does what is due: locks end, sessions are lost, scheduled messages are
// enqueued, old ones expire.
func (q *Queue) tick() {
	q.mu.Lock()
	q.timerAt = 0
	if q.closed != nil {
		q.mu.Unlock()
		return
	}
	now := q.env.now()
	for k := q.expiry.first; k != nil && now > k.until; k = q.expiry.first {
		q.unlock(k)
		q.failed(k.it)
	}
	for s := range q.held {
		if now > s.until {
			q.release(s, true)
		}
	}
	var due []*item
	for len(q.scheduled.items) > 0 && q.scheduled.items[0].rare.scheduledAt <= now {
		due = append(due, q.scheduled.pop())
	}
	q.expire(now)
	dying, uncounted := q.dying, q.uncounted
	q.dying, q.uncounted = nil, nil
	q.mu.Unlock()

	err := errors.Join(q.activate(due, now), q.disk.recount(q, uncounted), q.bereave(dying))
	if err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrGone) {
		q.env.warn(q.name, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		q.arm(q.env.now() + int64(retry))
	}
	if next := q.next(); next != 0 {
		q.arm(next)
	}
}

// expire finds the messages whose time is over. Those in a receiver's hands are
// looked at when they come back. The lock is held.
func (q *Queue) expire(now int64) {
	for len(q.ages.items) > 0 && q.ages.items[0].at < now {
		it := q.ages.pop().it
		if it.gone || it.locked || it.state != Active {
			continue
		}
		q.forget(it)
		q.dying = append(q.dying, death{it, Expired})
	}
}

// next is when something happens by itself. The lock is held.
func (q *Queue) next() int64 {
	next := int64(0)
	earlier := func(at int64) {
		if next == 0 || at < next {
			next = at
		}
	}
	if q.expiry.first != nil {
		earlier(q.expiry.first.until + 1)
	}
	for s := range q.held {
		earlier(s.until + 1)
	}
	if len(q.scheduled.items) > 0 {
		earlier(q.scheduled.items[0].rare.scheduledAt)
	}
	if len(q.ages.items) > 0 {
		earlier(q.ages.items[0].at + 1)
	}
	return next
}

// bereave takes messages off that were delivered too often or have expired.
func (q *Queue) bereave(dying []death) error {
	if len(dying) == 0 {
		return nil
	}
	keep := q.Options().DeadLetterExpired
	changes, all := make([]change, len(dying)), make([]*change, len(dying))
	var moving []*change
	for i, d := range dying {
		changes[i] = change{it: d.it, count: d.it.count, erase: true}
		all[i] = &changes[i]
		if q.dead != nil && (d.cause == Exceeded || keep) {
			changes[i].moved, changes[i].edit = &item{}, q.marking(nil, d.cause)
			moving = append(moving, all[i])
		}
	}
	q.number(moving)
	err := q.disk.apply(q, all)
	q.mu.Lock()
	for _, d := range dying {
		if err != nil {
			q.dying = append(q.dying, d)
		} else {
			q.forget(d.it)
		}
	}
	q.mu.Unlock()
	if err == nil {
		q.bury(moving)
	}
	return err
}

// activate enqueues scheduled messages whose time has come, under new numbers.
func (q *Queue) activate(due []*item, now int64) error {
	if len(due) == 0 {
		return nil
	}
	fresh := make([]*item, len(due))
	q.mu.Lock()
	for i, it := range due {
		q.lastSeq++
		fresh[i] = &item{seq: q.lastSeq, enqueued: now, expires: it.expires, session: it.session, count: it.count,
			rare: &rare{enqueuedSeq: it.seq, index: -1}}
		q.join(fresh[i])
	}
	q.mu.Unlock()
	err := q.disk.renumber(q, due, fresh)
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, it := range due {
		if err != nil {
			q.part(fresh[i])
			q.scheduled.push(it)
			continue
		}
		q.forget(it)
		q.admit(fresh[i])
	}
	return err
}
