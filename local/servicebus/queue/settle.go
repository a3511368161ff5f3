package queue

// Disposition is what a receiver does with a delivery.
type Disposition int

const (
	Complete   Disposition = iota
	Abandon                // comes again; counts as a failed delivery
	Release                // comes again; does not count
	Defer                  // waits to be asked for by its number
	DeadLetter             // moves to the dead-letter queue
)

// Settlement is the decision of a receiver on a message that it holds.
type Settlement struct {
	Token       Token
	Disposition Disposition
	// Edit changes the message's bytes; nil leaves them. It may be called more
	// than once, and must not keep or change its argument.
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
		k, err := q.findLock(s.Token, now)
		if err != nil {
			errs[i] = err
			continue
		}
		q.removeLock(k) // nobody else can settle it meanwhile
		if s.Disposition == Release {
			q.returnMessage(k.it)
			continue
		}
		locks[i] = k
		changes[i] = q.decideChange(k.it, s)
		onDisk = append(onDisk, &changes[i])
		if changes[i].moved != nil {
			moving = append(moving, &changes[i])
		}
	}
	q.mu.Unlock()
	if len(onDisk) == 0 {
		return errs
	}
	q.numberDeadLetters(moving)
	err := q.disk.apply(q, onDisk)
	q.mu.Lock()
	for i, k := range locks {
		switch {
		case k == nil:
		case err != nil:
			errs[i] = err
			q.restoreLock(k)
		default:
			q.applyInMemory(&changes[i])
		}
	}
	q.mu.Unlock()
	if err == nil {
		q.admitDeadLetters(moving)
	}
	return errs
}

// decideChange turns a settlement into a change. The mutex is held.
func (q *Queue) decideChange(it *item, s Settlement) change {
	c := change{it: it, count: it.count, state: it.state, edit: s.Edit}
	switch {
	case s.Disposition == Complete:
		c.erase = true
	case s.Disposition == Defer:
		c.state = Deferred
	case q.dead == nil: // a dead letter stays a dead letter, and its deliveries do not count
	case s.Disposition == DeadLetter:
		c.moved = &item{}
	default:
		c.count++
		if c.count >= q.opts.MaxDeliveryCount {
			c.moved = &item{}
			c.edit = q.editWithCause(s.Edit, Exceeded)
		}
	}
	return c
}

// editWithCause returns an edit that also writes why the queue dead-letters a message.
func (q *Queue) editWithCause(edit func([]byte) []byte, cause Cause) func([]byte) []byte {
	return func(raw []byte) []byte {
		if edit != nil {
			raw = edit(raw)
		}
		return q.env.mark(raw, cause)
	}
}

// numberDeadLetters gives messages their numbers in the dead-letter queue.
func (q *Queue) numberDeadLetters(moving []*change) {
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

// admitDeadLetters makes messages available in the dead-letter queue.
func (q *Queue) admitDeadLetters(moving []*change) {
	if len(moving) == 0 {
		return
	}
	q.dead.mu.Lock()
	defer q.dead.mu.Unlock()
	for _, c := range moving {
		q.dead.admitMessage(c.moved)
	}
}

// applyInMemory makes a committed change in memory. The mutex is held.
func (q *Queue) applyInMemory(c *change) {
	it := c.it
	if c.erase || c.moved != nil {
		q.forgetMessage(it)
		return
	}
	it.count = c.count
	if it.state != c.state { // deferred now
		q.counts[it.state]--
		q.counts[c.state]++
		it.state = c.state
		q.parked[it.seq] = it
	}
	q.returnMessage(it)
}

// restoreLock puts a lock back, because its settlement could not be stored. The
// mutex is held.
func (q *Queue) restoreLock(k *lock) {
	if k.session != nil && k.session.holder == nil {
		q.returnMessage(k.it)
		return
	}
	q.enforceLock(k)
}

// countFailure counts a delivery whose lock ran out, and offers the message again
// at once, so that no later message takes its place in a session. The timer
// writes the count to disk. The mutex is held.
func (q *Queue) countFailure(it *item) {
	if q.dead == nil {
		q.returnMessage(it)
		return
	}
	it.count++
	q.setTimer(q.env.now())
	if it.count >= q.opts.MaxDeliveryCount {
		q.dying = append(q.dying, death{it, Exceeded})
		return
	}
	q.uncounted = append(q.uncounted, it)
	q.returnMessage(it)
}

// CancelScheduled deletes scheduled messages. ErrNotFound: one of them is not
// there, or was enqueued already; then none is deleted.
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
			q.setTimer(c.it.rare.scheduledAt)
			continue
		}
		q.forgetMessage(c.it)
	}
	return err
}
