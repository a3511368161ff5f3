package durable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// source is a receiver of either kind.
type source interface {
	ReceiveMessages(context.Context, int, *azservicebus.ReceiveMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
	ReceiveDeferredMessages(context.Context, []int64, *azservicebus.ReceiveDeferredMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
	PeekMessages(context.Context, int, *azservicebus.PeekMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
	CompleteMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.CompleteMessageOptions) error
	AbandonMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.AbandonMessageOptions) error
	DeferMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.DeferMessageOptions) error
	DeadLetterMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.DeadLetterOptions) error
}

// queue is a client of one queue, which nobody else uses.
type queue struct {
	name     string
	rng      *rand.Rand
	sessions []string // one empty name in a queue without sessions
	next     int
	live     map[string]*note
	states   map[string][]string // the possible states of each session

	client  *azservicebus.Client
	sender  *azservicebus.Sender
	sources map[string]source
	dead    *azservicebus.Receiver

	mu   sync.Mutex
	half [][]*note // sent or scheduled together, without an answer
}

func newQueue(name string, rng *rand.Rand, sessions ...string) *queue {
	q := &queue{name: name, rng: rng, sessions: sessions, live: map[string]*note{}, states: map[string][]string{}}
	for _, s := range sessions {
		q.states[s] = []string{""}
	}
	if len(sessions) == 0 {
		q.sessions = []string{""}
	}
	return q
}

func (q *queue) close() {
	if q.client == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // the server is dead; nobody is to be told
	q.client.Close(ctx)
	q.client = nil
}

func (q *queue) connect(l *life) (err error) {
	q.client, err = azservicebus.NewClientFromConnectionString(l.child.Bus,
		&azservicebus.ClientOptions{RetryOptions: azservicebus.RetryOptions{MaxRetries: -1}})
	if err != nil {
		return err
	}
	if q.sender, err = q.client.NewSender(q.name, nil); err != nil {
		return err
	}
	q.sources = map[string]source{}
	for _, s := range q.sessions {
		if s == "" {
			q.sources[s], err = q.client.NewReceiverForQueue(q.name, nil)
		} else {
			q.sources[s], err = q.client.AcceptSessionForQueue(l.ctx, q.name, s, nil)
		}
		if err != nil {
			return fmt.Errorf("%s: receiver %q: %w", q.name, s, err)
		}
	}
	q.dead, err = q.client.NewReceiverForQueue(q.name, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	return err
}

// change performs an operation that moves messages to another place.
func (q *queue) change(l *life, where place, f func() error, notes ...*note) error {
	q.mu.Lock()
	for _, n := range notes {
		n.may |= where
	}
	q.mu.Unlock()
	err := f()
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		return err
	}
	for _, n := range notes {
		if n.may = where; where == gone {
			delete(q.live, n.id)
		}
	}
	l.acknowledge()
	return nil
}

// newMessages makes messages that the queue does not have yet.
func (q *queue) newMessages(n int) (notes []*note, messages []*azservicebus.Message) {
	const maxBody = 2500
	session := q.sessions[q.rng.IntN(len(q.sessions))]
	for range n {
		m := &note{n: q.next, id: fmt.Sprintf("%s-%d", q.name, q.next), session: session, may: gone}
		m.body = strings.Repeat(m.id+" ", 1+q.rng.IntN(maxBody)/len(m.id))
		q.next++
		q.live[m.id] = m
		message := &azservicebus.Message{MessageID: &m.id, Body: []byte(m.body)}
		if session != "" {
			message.SessionID = &session
		}
		notes, messages = append(notes, m), append(messages, message)
	}
	return notes, messages
}

// among returns the messages in one place, in the order in which they were sent.
func (q *queue) among(session string, may place) (out []*note) {
	for _, n := range q.live {
		if n.may == may && n.session == session {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b *note) int { return cmp.Compare(a.n, b.n) })
	return out
}

// enough is the number of messages from which a queue is rather emptied.
const enough = 40

func (q *queue) step(l *life) error {
	session := q.sessions[q.rng.IntN(len(q.sessions))]
	from := q.sources[session]
	kind := q.rng.IntN(10)
	if len(q.live) > enough {
		kind = 5 + q.rng.IntN(5)
	}
	switch kind {
	case 0, 1:
		return q.send(l, session)
	case 2:
		return q.sendBatch(l)
	case 3:
		return q.schedule(l)
	case 4:
		if session == "" {
			return nil
		}
		state := fmt.Sprint(q.rng.Uint64())
		q.states[session] = append(q.states[session], state)
		err := from.(*azservicebus.SessionReceiver).SetSessionState(l.ctx, []byte(state), nil)
		if err == nil {
			q.states[session] = []string{state}
			l.acknowledge()
		}
		return err
	case 5:
		return q.cancel(l, session)
	case 6:
		return q.completeDeferred(l, session, from)
	case 7:
		return q.completeDead(l)
	}
	return q.receive(l, session, from)
}

// send sends single messages: all at the same time, but in a session one after the other.
func (q *queue) send(l *life, session string) error {
	const most = 4
	notes, messages := q.newMessages(1 + q.rng.IntN(most))
	errs := make([]error, len(notes))
	each := func(i int) {
		errs[i] = q.change(l, active, func() error { return q.sender.SendMessage(l.ctx, messages[i], nil) }, notes[i])
	}
	if session == "" {
		runAll(len(notes), each)
		return errors.Join(errs...)
	}
	for i := range notes {
		if each(i); errs[i] != nil {
			return errs[i]
		}
	}
	return nil
}

// expectAllOrNone records that all or none of the messages must be in the queue.
func (q *queue) expectAllOrNone(notes []*note, err error) error {
	if err != nil {
		q.half = append(q.half, notes)
	}
	return err
}

func (q *queue) sendBatch(l *life) error {
	const most = 9
	batch, err := q.sender.NewMessageBatch(l.ctx, nil)
	if err != nil {
		return err
	}
	notes, messages := q.newMessages(2 + q.rng.IntN(most))
	for _, m := range messages {
		if err := batch.AddMessage(m, nil); err != nil {
			return err
		}
	}
	return q.expectAllOrNone(notes, q.change(l, active, func() error { return q.sender.SendMessageBatch(l.ctx, batch, nil) }, notes...))
}

// schedule schedules messages: in an hour, or, in a queue without order, so soon that they
// become active around the next restart.
func (q *queue) schedule(l *life) error {
	const most = 3
	notes, messages := q.newMessages(1 + q.rng.IntN(most))
	at, where := time.Now().Add(time.Hour), scheduled
	if q.sessions[0] == "" && q.rng.IntN(2) == 0 {
		at, where = time.Now().Add(time.Duration(q.rng.IntN(100))*time.Millisecond), scheduled|active
	}
	return q.expectAllOrNone(notes, q.change(l, where, func() error {
		numbers, err := q.sender.ScheduleMessages(l.ctx, messages, at, nil)
		for i := range numbers {
			notes[i].seq = numbers[i]
		}
		return err
	}, notes...))
}

func (q *queue) cancel(l *life, session string) error {
	all := q.among(session, scheduled)
	if len(all) == 0 {
		return nil
	}
	n := all[q.rng.IntN(len(all))]
	return q.change(l, gone, func() error { return q.sender.CancelScheduledMessages(l.ctx, []int64{n.seq}, nil) }, n)
}

// completeDeferred completes a deferred message.
func (q *queue) completeDeferred(l *life, session string, from source) error {
	all := q.among(session, deferred)
	if len(all) == 0 {
		return nil
	}
	n := all[q.rng.IntN(len(all))]
	got, err := from.ReceiveDeferredMessages(l.ctx, []int64{n.seq}, nil)
	if err != nil {
		return fmt.Errorf("%s: deferred message %s: %w", q.name, n.id, err)
	}
	if len(got) != 1 || q.findNote(l, got[0]) != n {
		l.reportLoss("%s: deferred message %s is not there", q.name, n.id)
		return nil
	}
	return q.change(l, gone, func() error { return from.CompleteMessage(l.ctx, got[0], nil) }, n)
}

// patience is how long a message in the queue may take to arrive.
const patience = 10 * time.Second

var errNothing = errors.New("no message and no error")

// take receives n messages that must be in the queue, and finds their notes.
func (q *queue) take(l *life, from source, n int) ([]*azservicebus.ReceivedMessage, []*note, error) {
	ctx, cancel := context.WithTimeout(l.ctx, patience)
	defer cancel()
	// All n messages are in the queue. The SDK gives back messages that it did not wait
	// for; in a session, later ones could then come before them.
	got, err := from.ReceiveMessages(ctx, n, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: patience})
	if err == nil && len(got) == 0 { // what the SDK returns when the connection breaks
		err = errNothing
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: receive: %w", q.name, err)
	}
	notes := make([]*note, len(got))
	for i, m := range got {
		if notes[i] = q.findNote(l, m); notes[i] == nil {
			return nil, nil, fmt.Errorf("%s: a message that must not be there", q.name)
		}
	}
	return got, notes, nil
}

// completeDead completes a dead letter.
func (q *queue) completeDead(l *life) error {
	n := 0
	for _, s := range q.sessions {
		n += len(q.among(s, dead))
	}
	if n == 0 {
		return nil
	}
	got, notes, err := q.take(l, q.dead, 1)
	if err != nil {
		return err
	}
	if notes[0].may != dead {
		l.reportLoss("%s: message %s is dead, but was acknowledged as %v", q.name, notes[0].id, notes[0].may)
	}
	return q.change(l, gone, func() error { return q.dead.CompleteMessage(l.ctx, got[0], nil) }, notes...)
}

// receive takes messages and settles them at the same time, each in its own way.
func (q *queue) receive(l *life, session string, from source) error {
	const most = 6
	there := q.among(session, active)
	if len(there) == 0 {
		return nil
	}
	got, notes, err := q.take(l, from, 1+q.rng.IntN(min(most, len(there))))
	if err != nil {
		return err
	}
	for i, n := range notes {
		if n.may&active == 0 {
			l.reportLoss("%s: message %s was received, but acknowledged as %v", q.name, n.id, n.may)
		}
		if session != "" && n != there[i] {
			l.reportLoss("%s: session %s: message %s came where %s was the next", q.name, session, n.id, there[i].id)
		}
		n.may, n.seq = active, *got[i].SequenceNumber
	}
	ways := make([]int, len(got))
	for i := range ways {
		ways[i] = q.rng.IntN(8)
	}
	errs := make([]error, len(got))
	runAll(len(got), func(i int) { errs[i] = q.settle(l, from, got[i], notes[i], ways[i]) })
	return errors.Join(errs...)
}

func (q *queue) settle(l *life, from source, m *azservicebus.ReceivedMessage, n *note, way int) error {
	switch way {
	case 0:
		return q.change(l, deferred, func() error { return from.DeferMessage(l.ctx, m, nil) }, n)
	case 1:
		return q.change(l, dead, func() error { return from.DeadLetterMessage(l.ctx, m, nil) }, n)
	case 2, 3:
		n.mark[1]++
		return q.change(l, active, func() error {
			err := from.AbandonMessage(l.ctx, m, &azservicebus.AbandonMessageOptions{PropertiesToModify: map[string]any{"mark": n.mark[1]}})
			if err == nil {
				n.mark[0] = n.mark[1]
			}
			return err
		}, n)
	}
	return q.change(l, gone, func() error { return from.CompleteMessage(l.ctx, m, nil) }, n)
}
