package queue

// Outcome of a delivery.
type Outcome int

const (
	Complete   Outcome = iota
	Abandon            // comes again; counts as a failed delivery
	Release            // comes again; does not count
	Defer              // waits to be asked for by its number
	DeadLetter         // moves to the dead-letter queue
)

// Settlement is what a receiver decides on a message in its hands.
type Settlement struct {
	Token   Token
	Outcome Outcome
	// Edit changes the message's bytes; nil leaves them. It may be called more
	// than once, and must not keep or change what it is given.
	Edit func(raw []byte) []byte
}

// change is one message's change on disk and, after the commit, in memory.
type change struct {
	it    *item
	erase bool
	count uint32
	state State
	edit  func(raw []byte) []byte
	moved *item // in the dead-letter queue; nil when it stays
}

// Settle ends locks, all changes in one commit, and returns an error or nil for
// each. ErrLockLost: the lock is not there any more.
func (q *Queue) Settle(all []Settlement) []error {
	errs := make([]error, len(all))
	changes := make([]change, len(all))
	locks := make([]*lock, len(all))
	now := q.env.now()
	q.mu.Lock()
	var onDisk, moving []*change
	for i, s := range all {
		k, err := q.find(s.Token, now)
		if err != nil {
			errs[i] = err
			continue
		}
		q.unlock(k) // nobody else settles it meanwhile
		if s.Outcome == Release {
			q.back(k.it)
			continue
		}
		locks[i] = k
		changes[i] = q.decide(k.it, s)
		onDisk = append(onDisk, &changes[i])
		if changes[i].moved != nil {
			moving = append(moving, &changes[i])
		}
	}
	q.mu.Unlock()
	if len(onDisk) == 0 {
		return errs
	}
	q.number(moving)
	err := q.disk.apply(q, onDisk)
	q.mu.Lock()
	for i, k := range locks {
		switch {
		case k == nil:
		case err != nil:
			errs[i] = err
			q.restore(k)
		default:
			q.settled(&changes[i])
		}
	}
	q.mu.Unlock()
	if err == nil {
		q.bury(moving)
	}
	return errs
}

// decide is what becomes of a message. The lock is held.
func (q *Queue) decide(it *item, s Settlement) change {
	c := change{it: it, count: it.count, state: it.state, edit: s.Edit}
	switch {
	case s.Outcome == Complete:
		c.erase = true
	case s.Outcome == Defer:
		c.state = Deferred
	case q.dead == nil: // a dead letter stays one, and its deliveries do not count
	case s.Outcome == DeadLetter:
		c.moved = &item{}
	default:
		c.count++
		if c.count >= q.opts.MaxDeliveryCount {
			c.moved = &item{}
			c.edit = q.marking(s.Edit, Exceeded)
		}
	}
	return c
}

// marking is an edit that also says why the queue dead-letters a message.
func (q *Queue) marking(edit func([]byte) []byte, cause Cause) func([]byte) []byte {
	return func(raw []byte) []byte {
		if edit != nil {
			raw = edit(raw)
		}
		return q.env.mark(raw, cause)
	}
}

// number gives messages their numbers in the dead-letter queue.
func (q *Queue) number(moving []*change) {
	if len(moving) == 0 {
		return
	}
	now := q.env.now()
	q.dead.mu.Lock()
	defer q.dead.mu.Unlock()
	for _, c := range moving {
		q.dead.lastSeq++
		*c.moved = item{seq: q.dead.lastSeq, enqueued: now, count: c.count, rare: &rare{enqueuedSeq: c.it.seq, deadFrom: q.name, index: -1}}
	}
}

// bury makes messages available in the dead-letter queue.
func (q *Queue) bury(moving []*change) {
	if len(moving) == 0 {
		return
	}
	q.dead.mu.Lock()
	defer q.dead.mu.Unlock()
	for _, c := range moving {
		q.dead.admit(c.moved)
	}
}

// settled takes a change over into memory. The lock is held.
func (q *Queue) settled(c *change) {
	it := c.it
	if c.erase || c.moved != nil {
		q.forget(it)
		return
	}
	it.count = c.count
	if it.state != c.state { // deferred now
		q.counts[it.state]--
		q.counts[c.state]++
		it.state = c.state
		q.parked[it.seq] = it
	}
	q.back(it)
}

// restore puts a lock in force again whose settlement could not be stored. The
// lock is held.
func (q *Queue) restore(k *lock) {
	if k.session != nil && k.session.holder == nil {
		q.back(k.it)
		return
	}
	q.hold(k)
}

// failed counts a delivery that ended by itself, and offers the message again
// at once: its place in a session must not be taken by a later one. What this
// means for the disk is the timer's. The lock is held.
func (q *Queue) failed(it *item) {
	if q.dead == nil {
		q.back(it)
		return
	}
	it.count++
	q.arm(q.env.now())
	if it.count >= q.opts.MaxDeliveryCount {
		q.dying = append(q.dying, death{it, Exceeded})
		return
	}
	q.uncounted = append(q.uncounted, it)
	q.back(it)
}

// CancelScheduled takes scheduled messages off the queue. ErrNotFound: one of
// them is not there, or was enqueued already; the others are left too.
func (q *Queue) CancelScheduled(seqs []int64) error {
	var changes []*change
	q.mu.Lock()
	for _, seq := range seqs {
		it := q.parked[seq]
		if it == nil || it.state != Scheduled || it.rare.index < 0 { // taken out already, also by this call
			for _, c := range changes {
				q.scheduled.push(c.it)
			}
			q.mu.Unlock()
			return ErrNotFound
		}
		q.scheduled.remove(it.rare.index)
		changes = append(changes, &change{it: it, erase: true})
	}
	q.mu.Unlock()
	err := q.disk.apply(q, changes)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range changes {
		if err != nil {
			q.scheduled.push(c.it)
			q.arm(c.it.rare.scheduledAt)
			continue
		}
		q.forget(c.it)
	}
	return err
}
