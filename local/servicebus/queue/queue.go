// Package queue is the engine below the local Service Bus: durable queues with
// locks, sessions, dead-letter queues and scheduled messages. It knows nothing
// of AMQP: a message is bytes with a few facts about them.
//
// What is acknowledged is on disk: Send, Settle and SetState return after the
// commit. The order of messages and what is locked is kept in memory; bodies
// are read from disk when they are delivered. Locks do not survive a restart:
// the messages come again.
package queue

import (
	"container/heap"
	"crypto/rand"
	"errors"
	"sync"
	"time"
)

// Errors that callers act on.
var (
	ErrLockLost      = errors.New("the lock was lost")
	ErrSessionHeld   = errors.New("the session is held by another receiver")
	ErrSessionNeeded = errors.New("the queue requires sessions")
	ErrNoSession     = errors.New("the queue has no sessions")
	ErrNotFound      = errors.New("no such message")
	ErrClosed        = errors.New("the queue is closed")
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
	EnqueuedSeq   int64 // of its first queue, or of the scheduled message it was; 0 = Seq
	Enqueued      time.Time
	ScheduledAt   time.Time // zero: was never scheduled
	Expires       time.Time // zero: never
	State         State
	DeliveryCount uint32 // failed deliveries
	SessionID     string
	HasSession    bool
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
	Raw         []byte
	deadFrom    string
	enqueuedSeq int64
	count       uint32
}

// Options of one queue.
type Options struct {
	Sessions         bool
	LockDuration     time.Duration
	MaxDeliveryCount uint32
	DefaultTTL       time.Duration
	DeadLetterTTL    bool // expired messages are dead-lettered
}

// item is a message in memory: everything but its bytes.
type item struct {
	seq         int64
	enqueuedSeq int64
	enqueued    time.Time
	scheduledAt time.Time
	expires     time.Time
	state       State
	count       uint32
	session     *Session // nil in a queue without sessions
	deadFrom    string
	token       Token
	lockedUntil time.Time // zero: not locked
	byLink      bool      // locked under a session: lives as long as the session's lock
	index       int       // in the heap it waits in; -1: in none
	gone        bool
	size        int
}

// Queue is one queue, or the dead-letter queue of one.
type Queue struct {
	name string
	opts Options
	disk *store
	dead *Queue // nil for a dead-letter queue
	now  func() time.Time

	mu        sync.Mutex
	all       map[int64]*item
	ready     heapOf // in a queue without sessions
	scheduled heapOf
	locks     map[Token]*item
	sessions  map[string]*Session
	waiters   map[*Waiter]struct{}
	lastSeq   int64
	timer     *time.Timer
	timerAt   time.Time
	closed    bool
}

// Waiter is told when there may be something to take.
type Waiter struct {
	C    chan struct{}
	want *Session // only messages of this session; nil = any
	next bool     // waits for a free session
}

// Wait registers a waiter; Leave takes it out. session is nil in a queue
// without sessions; next asks for free sessions.
func (q *Queue) Wait(session *Session, next bool) *Waiter {
	w := &Waiter{C: make(chan struct{}, 1), want: session, next: next}
	q.mu.Lock()
	q.waiters[w] = struct{}{}
	q.mu.Unlock()
	return w
}

// Leave takes a waiter out.
func (q *Queue) Leave(w *Waiter) {
	q.mu.Lock()
	delete(q.waiters, w)
	q.mu.Unlock()
}

// wake tells those who may take a message of the session. The lock is held.
func (q *Queue) wake(s *Session) {
	for w := range q.waiters {
		if w.want == s || w.next && s != nil && s.holder == nil {
			select {
			case w.C <- struct{}{}:
			default:
			}
		}
	}
}

// Name of the queue.
func (q *Queue) Name() string { return q.name }

// Options of the queue.
func (q *Queue) Options() Options { return q.opts }

// DeadLetters is the dead-letter queue.
func (q *Queue) DeadLetters() *Queue { return q.dead }

// Send stores messages, all or none, and returns their sequence numbers when
// they are on disk.
func (q *Queue) Send(messages ...New) ([]int64, error) {
	now := q.now()
	items := make([]*item, len(messages))
	seqs := make([]int64, len(messages))
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil, ErrClosed
	}
	for i, m := range messages {
		if q.opts.Sessions && !m.HasSession && m.deadFrom == "" {
			q.mu.Unlock()
			return nil, ErrSessionNeeded
		}
		q.lastSeq++
		it := q.newItem(m, q.lastSeq, now)
		items[i], seqs[i] = it, it.seq
	}
	q.mu.Unlock()
	if err := q.disk.put(q, items, messages); err != nil {
		return nil, err
	}
	q.mu.Lock()
	for _, it := range items {
		q.admit(it)
	}
	q.arm()
	q.mu.Unlock()
	return seqs, nil
}

func (q *Queue) newItem(m New, seq int64, now time.Time) *item {
	it := &item{seq: seq, enqueuedSeq: m.enqueuedSeq, enqueued: now, index: -1, deadFrom: m.deadFrom, count: m.count, size: len(m.Raw)}
	ttl := m.TTL
	if d := q.opts.DefaultTTL; d > 0 && (ttl == 0 || ttl > d) {
		ttl = d
	}
	from := now
	if m.ScheduledAt.After(now) {
		it.state, it.scheduledAt, from = Scheduled, m.ScheduledAt, m.ScheduledAt
	}
	if ttl > 0 && m.deadFrom == "" {
		it.expires = from.Add(ttl)
	}
	if q.opts.Sessions || m.HasSession {
		it.session = q.session(m.SessionID)
	}
	return it
}

// admit puts a stored message where it belongs. The lock is held.
func (q *Queue) admit(it *item) {
	q.all[it.seq] = it
	switch it.state {
	case Scheduled:
		heap.Push(&q.scheduled, it)
	case Active:
		q.offer(it)
	}
}

// offer makes a message available. The lock is held.
func (q *Queue) offer(it *item) {
	it.token, it.lockedUntil = Token{}, time.Time{}
	if q.opts.Sessions {
		heap.Push(&it.session.ready, it)
		q.wake(it.session)
		return
	}
	heap.Push(&q.ready, it)
	q.wake(nil)
}

// line is where a receiver takes from. The lock is held.
func (q *Queue) line(s *Session) *heapOf {
	if s != nil {
		return &s.ready
	}
	return &q.ready
}

// Take hands out up to n messages, locked. Nothing there is no error. With
// remove they are taken off the queue for good, on disk before Take returns.
func (q *Queue) Take(n int, session *Session, holder any, remove bool) ([]*Message, error) {
	now := q.now()
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil, ErrClosed
	}
	if session != nil && session.holder != holder {
		q.mu.Unlock()
		return nil, ErrLockLost
	}
	line := q.line(session)
	var items, expired []*item
	for len(items) < n && line.Len() > 0 {
		it := heap.Pop(line).(*item)
		if q.expired(it, now) {
			expired = append(expired, it)
			continue
		}
		it.token = newToken()
		it.lockedUntil = now.Add(q.opts.LockDuration)
		it.byLink = session != nil
		q.locks[it.token] = it
		items = append(items, it)
	}
	if !remove {
		q.arm()
	}
	q.mu.Unlock()
	q.drop(expired)
	out, err := q.read(items)
	if err == nil && remove {
		err = q.remove(items)
	}
	if err != nil {
		q.mu.Lock()
		for _, it := range items {
			delete(q.locks, it.token)
			q.offer(it)
		}
		q.mu.Unlock()
		return nil, err
	}
	return out, nil
}

// read makes deliverable messages of items.
func (q *Queue) read(items []*item) ([]*Message, error) {
	if len(items) == 0 {
		return nil, nil
	}
	raws, err := q.disk.raw(q, items)
	if err != nil {
		return nil, err
	}
	out := make([]*Message, len(items))
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, it := range items {
		out[i] = q.message(it, raws[i])
	}
	return out, nil
}

// message is an item with its bytes. The lock is held.
func (q *Queue) message(it *item, raw []byte) *Message {
	m := &Message{Seq: it.seq, EnqueuedSeq: it.enqueuedSeq, Enqueued: it.enqueued, ScheduledAt: it.scheduledAt, Expires: it.expires,
		State: it.state, DeliveryCount: it.count, DeadFrom: it.deadFrom, Token: it.token, LockedUntil: it.lockedUntil, Raw: raw}
	if it.session != nil {
		m.SessionID, m.HasSession = it.session.ID, true
		if it.byLink {
			m.LockedUntil = it.session.lockedUntil
		}
	}
	return m
}

// expired reports whether a message has outlived its time. Locked messages do
// not expire, nor do those in a dead-letter queue.
func (q *Queue) expired(it *item, now time.Time) bool {
	return !it.expires.IsZero() && now.After(it.expires) && it.state == Active
}

// drop takes expired messages off the queue. Their time is over whether this
// succeeds or not; what stays on disk is dropped when it is met again.
func (q *Queue) drop(items []*item) {
	if len(items) == 0 {
		return
	}
	if q.opts.DeadLetterTTL && q.dead != nil {
		for _, it := range items {
			if raws, err := q.disk.raw(q, []*item{it}); err == nil {
				_ = q.move(it, raws[0], nil)
			}
		}
		return
	}
	_ = q.remove(items)
}

// remove deletes messages, on disk first.
func (q *Queue) remove(items []*item) error {
	if err := q.disk.remove(q, items); err != nil {
		return err
	}
	q.mu.Lock()
	for _, it := range items {
		q.forget(it)
	}
	q.mu.Unlock()
	return nil
}

// forget takes an item out of memory. The lock is held.
func (q *Queue) forget(it *item) {
	it.gone = true
	delete(q.all, it.seq)
	if q.locks[it.token] == it {
		delete(q.locks, it.token)
	}
}

func newToken() Token {
	var t Token
	rand.Read(t[:])
	t[6], t[8] = t[6]&0x0f|0x40, t[8]&0x3f|0x80 // a random UUID, as clients expect
	return t
}

// heapOf is a heap of items in which each knows its place.
type heapOf struct {
	items []*item
	less  func(a, b *item) bool
}

func bySeq(a, b *item) bool { return a.seq < b.seq }

func byTime(a, b *item) bool {
	if !a.scheduledAt.Equal(b.scheduledAt) {
		return a.scheduledAt.Before(b.scheduledAt)
	}
	return a.seq < b.seq
}

func (h *heapOf) Len() int           { return len(h.items) }
func (h *heapOf) Less(i, j int) bool { return h.less(h.items[i], h.items[j]) }
func (h *heapOf) Swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.items[i].index, h.items[j].index = i, j
}
func (h *heapOf) Push(x any) {
	it := x.(*item)
	it.index = len(h.items)
	h.items = append(h.items, it)
}
func (h *heapOf) Pop() any {
	last := len(h.items) - 1
	it := h.items[last]
	h.items[last] = nil
	h.items = h.items[:last]
	it.index = -1
	return it
}
