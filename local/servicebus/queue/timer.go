package queue

import (
	"errors"
	"time"
)

// retry is how long the timer waits after the disk refused a change.
const retry = time.Second

// death is a message that the queue itself removes.
type death struct {
	it    *item
	cause Cause
}

// setTimer makes the one timer of the queue fire no later than at. The mutex is held.
func (q *Queue) setTimer(at int64) {
	if q.closed != nil || q.timerAt != 0 && q.timerAt <= at {
		return
	}
	q.timerAt = at
	wait := time.Duration(max(at-q.env.now(), 0)) + time.Microsecond
	if q.timer == nil {
		q.timer = time.AfterFunc(wait, q.runTimer)
		return
	}
	q.timer.Reset(wait)
}

// runTimer does all that is due: locks end, sessions are lost, scheduled messages
// are enqueued, old messages expire.
func (q *Queue) runTimer() {
	q.mu.Lock()
	q.timerAt = 0
	if q.closed != nil {
		q.mu.Unlock()
		return
	}
	now := q.env.now()
	for k := q.expiry.first; k != nil && now > k.until; k = q.expiry.first {
		q.removeLock(k)
		q.countFailure(k.it)
	}
	for s := range q.held {
		if now > s.until {
			q.releaseSession(s, true)
		}
	}
	var due []*item
	for len(q.scheduled.items) > 0 && q.scheduled.items[0].rare.scheduledAt <= now {
		due = append(due, q.scheduled.pop())
	}
	q.expireMessages(now)
	dying, uncounted := q.dying, q.uncounted
	q.dying, q.uncounted = nil, nil
	q.mu.Unlock()

	err := errors.Join(q.enqueueScheduled(due, now), q.disk.recount(q, uncounted), q.removeDying(dying))
	if err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrGone) {
		q.env.warn(q.name, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		q.setTimer(q.env.now() + int64(retry))
	}
	if next := q.nextTime(); next != 0 {
		q.setTimer(next)
	}
}

// expireMessages finds the messages whose time is over. A locked one is checked
// when it comes back. The mutex is held.
func (q *Queue) expireMessages(now int64) {
	for len(q.ages.items) > 0 && q.ages.items[0].at < now {
		it := q.ages.pop().it
		if it.gone || it.locked || it.state != Active {
			continue
		}
		q.forgetMessage(it)
		q.dying = append(q.dying, death{it, Expired})
	}
}

// nextTime is when the timer has something to do next; 0: never. The mutex is held.
func (q *Queue) nextTime() int64 {
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

// removeDying removes messages that were delivered too often or have expired.
func (q *Queue) removeDying(dying []death) error {
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
			changes[i].moved, changes[i].edit = &item{}, q.editWithCause(nil, d.cause)
			moving = append(moving, all[i])
		}
	}
	q.numberDeadLetters(moving)
	err := q.disk.apply(q, all)
	q.mu.Lock()
	for _, d := range dying {
		if err != nil {
			q.dying = append(q.dying, d)
		} else {
			q.forgetMessage(d.it)
		}
	}
	q.mu.Unlock()
	if err == nil {
		q.admitDeadLetters(moving)
	}
	return err
}

// enqueueScheduled enqueues scheduled messages whose time has come, with new numbers.
func (q *Queue) enqueueScheduled(due []*item, now int64) error {
	if len(due) == 0 {
		return nil
	}
	fresh := make([]*item, len(due))
	q.mu.Lock()
	for i, it := range due {
		q.lastSeq++
		fresh[i] = &item{seq: q.lastSeq, enqueued: now, expires: it.expires, session: it.session, count: it.count,
			rare: &rare{enqueuedSeq: it.seq, index: -1}}
		q.joinSession(fresh[i])
	}
	q.mu.Unlock()
	err := q.disk.renumber(q, due, fresh)
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, it := range due {
		if err != nil {
			q.leaveSession(fresh[i])
			q.scheduled.push(it)
			continue
		}
		q.forgetMessage(it)
		q.admitMessage(fresh[i])
	}
	return err
}
