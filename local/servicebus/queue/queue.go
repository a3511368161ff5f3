// Package queue is the engine below the local Service Bus: durable queues with
// locks, sessions, dead-letter queues and scheduled messages. It knows nothing
// of AMQP: a message is bytes with a few facts about them.
//
// An acknowledged change is on disk: Send, Settle and SetState return after the
// commit, and hold no mutex while they wait for it. The memory holds the order of
// the messages and their locks; the bytes are read at delivery. Locks do not
// survive a restart: the messages come again. A delivery whose lock ran out is
// counted in memory at once and on disk a little later, so a crash may forget it.
//
// Order of mutexes: Broker.mu or recent.sending first, then a transaction of the
// store, then Queue.mu. Nothing waits for the store while it holds Queue.mu, and
// the mutex of a dead-letter queue is never taken inside that of its queue.
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

// item is a message in memory: the facts that decide where it goes, without its
// bytes. There may be millions of items.
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

// rare holds facts that few messages have.
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
	parked    map[int64]*item // deferred and scheduled ones: fetched by number
	ages      heapOf[age]     // of messages that expire
	mortal    int             // messages that expire and are there
	locks     map[Token]*lock
	expiry    lockList // of locks that end by themselves, the oldest first
	waiting   []*Receiver
	sessions  map[string]*Session
	held      map[*Session]struct{}
	open      []*Session // free ones with messages, the one waiting longest first
	acceptors []*waiter
	dying     []death // the timer removes them
	uncounted []*item // the timer stores their counts
	counts    [3]int  // by state
	lastSeq   int64
	timer     *time.Timer
	timerAt   int64
	recent    recent // ids of messages, if the queue drops duplicates
	closed    error  // why it can no longer be used

	deleted atomic.Bool // nothing is written after this
}

// env is shared by all queues of a broker.
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

// send is Send, and also stores ids that the queue must remember.
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
		q.fillItem(items[i], m, now)
	}
	q.mu.Unlock()
	err := q.disk.put(q, items, messages, ids)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range items {
		if err != nil {
			q.leaveSession(it)
			continue
		}
		q.admitMessage(it)
	}
	return seqs, err
}

// fillItem sets the facts of a new message. The mutex is held.
func (q *Queue) fillItem(it *item, m New, now int64) {
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
		q.joinSession(it)
	}
}

// joinSession counts a message to its session before it is stored, so that a
// session with a message on its way is not forgotten. The mutex is held.
func (q *Queue) joinSession(it *item) {
	if it.session != nil {
		it.session.messages++
	}
}

// leaveSession is the opposite of joinSession. The mutex is held.
func (q *Queue) leaveSession(it *item) {
	if s := it.session; s != nil {
		s.messages--
		q.dropIdleSession(s)
	}
}

// admitMessage puts a stored message in its place in memory. The mutex is held.
func (q *Queue) admitMessage(it *item) {
	q.counts[it.state]++
	if it.session != nil {
		it.session.touched = it.enqueued
	}
	if it.expires != 0 {
		q.mortal++
		q.ages.push(age{it.expires, it})
		q.setTimer(it.expires)
	}
	switch it.state {
	case Scheduled:
		q.parked[it.seq] = it
		q.scheduled.push(it)
		q.setTimer(it.rare.scheduledAt)
	case Deferred:
		q.parked[it.seq] = it
	case Active:
		q.offerMessage(it)
	}
}

// offerMessage makes an active message available. The mutex is held.
func (q *Queue) offerMessage(it *item) {
	if it.session != nil {
		it.session.ready.push(it)
		q.signalSession(it.session)
		return
	}
	q.ready.push(it)
	q.signalReceiver()
}

// signalReceiver wakes one waiting receiver because there is a message. A receiver
// that leaves messages wakes the next. The mutex is held.
func (q *Queue) signalReceiver() {
	if len(q.waiting) == 0 || !q.ready.any() {
		return
	}
	r := q.waiting[0]
	q.waiting = q.waiting[1:]
	r.waiting = false
	r.signal()
}

// forgetMessage removes an item from memory. The mutex is held.
func (q *Queue) forgetMessage(it *item) {
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
	q.leaveSession(it)
}

// Counts says how many messages are active (locked ones too), scheduled,
// deferred and locked.
func (q *Queue) Counts() (active, scheduled, deferred, locked int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.counts[Active], q.counts[Scheduled], q.counts[Deferred], len(q.locks)
}

// at converts unix nanoseconds to a time; zero stays zero.
func at(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
