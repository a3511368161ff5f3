// Package queue is the engine below the local Service Bus: durable queues with
// locks, sessions, dead-letter queues and scheduled messages. It knows nothing
// of AMQP: a message is bytes with a few facts about them.
//
// What is acknowledged is on disk: Send, Settle and SetState return after the
// commit, and no lock is held while they wait for it. In memory is the order of
// the messages and what is locked; their bytes are read when they are delivered.
// Locks do not survive a restart: the messages come again. A delivery that
// failed because its lock ran out is counted at once and written down a little
// later, so that a crash may forget it.
package queue

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"dsvmpools/local/disk"
)

// Errors that callers act on.
var (
	ErrLockLost      = errors.New("the lock was lost")
	ErrSessionHeld   = errors.New("the session is held by another receiver")
	ErrSessionNeeded = errors.New("the queue requires sessions")
	ErrNoSession     = errors.New("the queue has no sessions")
	ErrNotFound      = errors.New("no such message")
	ErrTimeout       = errors.New("no session became free in time")
	ErrCancelled     = errors.New("the receiver has left")
	ErrClosed        = disk.ErrClosed
)

// State of a message.
type State byte

const (
	Active State = iota
	Deferred
	Scheduled
)

// Token names a lock on a message.
type Token [16]byte

// Message is a message as it is delivered.
type Message struct {
	Seq           int64
	EnqueuedSeq   int64 // number it had in its first queue, or while it was scheduled; 0 = Seq
	Enqueued      time.Time
	Expires       time.Time // zero: never
	State         State
	DeliveryCount uint32 // failed deliveries
	DeadFrom      string // queue it was dead-lettered from
	Token         Token
	LockedUntil   time.Time
	Raw           []byte
}

// New is a message to be sent.
type New struct {
	SessionID   string
	HasSession  bool
	TTL         time.Duration // 0 = none
	ScheduledAt time.Time     // zero: now
	ID          string        // what duplicates have in common; empty: it has none
	EnqueuedSeq int64         // number it had in another queue; 0: none
	DeadFrom    string        // queue it was dead-lettered from
	Raw         []byte
}

// Options of one queue.
type Options struct {
	Sessions          bool
	LockDuration      time.Duration
	MaxDeliveryCount  uint32
	DefaultTTL        time.Duration // the longest a message lives too; 0 = for ever
	DeadLetterExpired bool          // expired messages are dead-lettered, not dropped
	Duplicates        time.Duration // how long a message is remembered, so that another of its id is dropped; 0 = not at all
}

// Cause is why the queue itself dead-letters a message.
type Cause int

const (
	Exceeded Cause = iota // delivered too often
	Expired               // outlived its time
)

// item is a message in memory: what decides where it goes, without its bytes.
// There may be millions of them.
type item struct {
	seq      int64
	enqueued int64 // unix nanoseconds
	expires  int64 // 0: never
	session  *Session
	rare     *rare // nil for most
	count    uint32
	state    State
	locked   bool
	gone     bool
}

// rare is what few messages have.
type rare struct {
	enqueuedSeq int64
	scheduledAt int64
	deadFrom    string
	index       int // among the scheduled ones
}

// Queue is one queue, or the dead-letter queue of one.
type Queue struct {
	name string // as it was given
	key  string // in lower case: in the store
	opts Options
	disk *store
	dead *Queue // nil for a dead-letter queue
	env  *env

	mu        sync.Mutex
	ready     line            // in a queue without sessions
	scheduled heapOf[*item]   // by time
	parked    map[int64]*item // deferred and scheduled ones: asked for by number
	ages      heapOf[age]     // of messages that expire
	mortal    int             // messages that expire and are there
	locks     map[Token]*lock
	expiry    lockList // of locks that end by themselves, the oldest first
	hungry    []*Receiver
	sessions  map[string]*Session
	held      map[*Session]struct{}
	open      []*Session // free ones with messages, the one waiting longest first
	accepting []*waiter
	dying     []death // to be taken off the queue by the timer
	uncounted []*item // whose count is to be written down by the timer
	counts    [3]int  // by state
	lastSeq   int64
	timer     *time.Timer
	timerAt   int64
	recent    recent // ids of messages, where duplicates are looked for
	closed    error  // why it is not to be used any more

	deleted atomic.Bool // nothing is written any more
}

// env is what all queues of a broker share.
type env struct {
	now  func() int64 // unix nanoseconds, steady
	mark func(raw []byte, cause Cause) []byte
	warn func(queue string, err error)
}

// Name of the queue, as it was given.
func (q *Queue) Name() string { return q.name }

// Options of the queue.
func (q *Queue) Options() Options {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.opts
}

// DeadLetters is the dead-letter queue; nil for one.
func (q *Queue) DeadLetters() *Queue { return q.dead }

// Send stores messages, all or none, and returns their sequence numbers when
// they are on disk.
func (q *Queue) Send(messages ...New) ([]int64, error) {
	if q.opts.Duplicates > 0 {
		return q.sendOnce(messages)
	}
	return q.send(messages, nil)
}

// send is Send, which also stores ids that are to be remembered.
func (q *Queue) send(messages []New, ids []seen) ([]int64, error) {
	now := q.env.now()
	items := make([]*item, len(messages))
	seqs := make([]int64, len(messages))
	block := make([]item, len(messages))
	q.mu.Lock()
	if err := q.closed; err != nil {
		q.mu.Unlock()
		return nil, err
	}
	for i, m := range messages {
		if q.opts.Sessions && !m.HasSession {
			q.mu.Unlock()
			return nil, ErrSessionNeeded
		}
		items[i] = &block[i]
	}
	for i, m := range messages {
		q.lastSeq++
		seqs[i] = q.lastSeq
		q.fill(items[i], m, now)
	}
	q.mu.Unlock()
	err := q.disk.put(q, items, messages, ids)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range items {
		if err != nil {
			q.part(it)
			continue
		}
		q.admit(it)
	}
	return seqs, err
}

// fill makes an item of a new message. The lock is held.
func (q *Queue) fill(it *item, m New, now int64) {
	it.seq, it.enqueued = q.lastSeq, now
	from := now
	if m.EnqueuedSeq != 0 || m.DeadFrom != "" {
		it.rare = &rare{enqueuedSeq: m.EnqueuedSeq, deadFrom: m.DeadFrom, index: -1}
	}
	if at := m.ScheduledAt.UnixNano(); !m.ScheduledAt.IsZero() && at > now {
		it.state, it.rare, from = Scheduled, &rare{scheduledAt: at, index: -1}, at
	}
	ttl := m.TTL
	if d := q.opts.DefaultTTL; d > 0 && (ttl == 0 || ttl > d) {
		ttl = d
	}
	if ttl > 0 {
		it.expires = from + int64(ttl)
	}
	if q.opts.Sessions {
		it.session = q.session(m.SessionID)
		q.join(it)
	}
}

// join counts a message to its session, before it is stored: a session that
// something is on its way to is not forgotten. The lock is held.
func (q *Queue) join(it *item) {
	if it.session != nil {
		it.session.messages++
	}
}

// part is the opposite of join. The lock is held.
func (q *Queue) part(it *item) {
	if s := it.session; s != nil {
		s.messages--
		q.dropIdle(s)
	}
}

// admit puts a stored message where it belongs. The lock is held.
func (q *Queue) admit(it *item) {
	q.counts[it.state]++
	if it.session != nil {
		it.session.touched = it.enqueued
	}
	if it.expires != 0 {
		q.mortal++
		q.ages.push(age{it.expires, it})
		q.arm(it.expires)
	}
	switch it.state {
	case Scheduled:
		q.parked[it.seq] = it
		q.scheduled.push(it)
		q.arm(it.rare.scheduledAt)
	case Deferred:
		q.parked[it.seq] = it
	case Active:
		q.offer(it)
	}
}

// offer makes an active message available. The lock is held.
func (q *Queue) offer(it *item) {
	if it.session != nil {
		it.session.ready.push(it)
		q.offered(it.session)
		return
	}
	q.ready.push(it)
	q.feed()
}

// feed tells one waiting receiver that there is something. One that takes not
// all of it tells the next. The lock is held.
func (q *Queue) feed() {
	if len(q.hungry) == 0 || !q.ready.any() {
		return
	}
	r := q.hungry[0]
	q.hungry = q.hungry[1:]
	r.waiting = false
	r.signal()
}

// forget takes an item out of memory. The lock is held.
func (q *Queue) forget(it *item) {
	if it.gone {
		return
	}
	it.gone = true
	q.counts[it.state]--
	if it.state != Active {
		delete(q.parked, it.seq)
	}
	if it.expires != 0 {
		q.mortal--
		q.trimAges()
	}
	q.part(it)
}

// Counts says how many messages are active (locked ones too), scheduled,
// deferred and locked.
func (q *Queue) Counts() (active, scheduled, deferred, locked int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.counts[Active], q.counts[Scheduled], q.counts[Deferred], len(q.locks)
}

// at makes a time of nanoseconds; zero stays zero.
func at(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
