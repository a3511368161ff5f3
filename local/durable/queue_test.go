package durable

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// Places where a message may be.
type where string

const (
	inQueue  where = "queue" // active or scheduled
	deferred where = "deferred"
	dead     where = "dead-letter queue"
	nowhere  where = "nowhere" // completed, or never arrived
)

// fate is where a message is: at one place when its last call was acknowledged,
// at one of two when that call is open.
type fate struct {
	at, or where
	seq    int64 // of a deferred one
}

// queueClient sends, receives and settles on a queue of its own.
type queueClient struct {
	rng    *rand.Rand
	queue  string
	fates  map[int]*fate
	batch  []int // sent together by the last call, when that is open
	next   int
	client *azservicebus.Client
	sender *azservicebus.Sender
	rec    *azservicebus.Receiver
}

const (
	waitingMost = 150 // messages; a client with more only receives
	peekMost    = 250
)

func newQueue(rng *rand.Rand, queue string) *queueClient {
	return &queueClient{rng: rng, queue: queue, fates: map[int]*fate{}}
}

// connect is a client that gives up at once.
func connect(e endpoints) (*azservicebus.Client, error) {
	return azservicebus.NewClientFromConnectionString(e.Bus, &azservicebus.ClientOptions{RetryOptions: azservicebus.RetryOptions{MaxRetries: -1}})
}

func (c *queueClient) audit(ctx context.Context, e endpoints) (lost []string) {
	there, err := c.look(ctx, e)
	if err != nil {
		return []string{fmt.Sprintf("%s cannot be looked at: %v", c.queue, err)}
	}
	for id, f := range c.fates {
		at, ok := there[id]
		if !ok {
			at = nowhere
		}
		if at != f.at && at != f.or {
			lost = append(lost, fmt.Sprintf("message %d of %s is in the %s; acknowledged: %s %s", id, c.queue, at, f.at, f.or))
		}
		delete(there, id)
		if f.at, f.or = at, ""; at == nowhere {
			delete(c.fates, id)
		}
	}
	for id, at := range there {
		lost = append(lost, fmt.Sprintf("message %d of %s is in the %s although it was completed or never sent", id, c.queue, at))
	}
	arrived := 0
	for _, id := range c.batch {
		if c.fates[id] != nil {
			arrived++
		}
	}
	if arrived != 0 && arrived != len(c.batch) {
		lost = append(lost, fmt.Sprintf("%d messages of a batch of %d arrived on %s", arrived, len(c.batch), c.queue))
	}
	c.batch = nil
	return lost
}

// look connects and finds all messages without touching them.
func (c *queueClient) look(ctx context.Context, e endpoints) (there map[int]where, err error) {
	if c.client, err = connect(e); err != nil {
		return nil, err
	}
	if c.sender, err = c.client.NewSender(c.queue, nil); err != nil {
		return nil, err
	}
	if c.rec, err = c.client.NewReceiverForQueue(c.queue, nil); err != nil {
		return nil, err
	}
	deadRec, err := c.client.NewReceiverForQueue(c.queue, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	if err != nil {
		return nil, err
	}
	defer deadRec.Close(ctx)
	there = map[int]where{}
	scheduled := map[int]bool{} // such a one gets another number when it is due, maybe while it is looked at
	for at, r := range map[where]*azservicebus.Receiver{inQueue: c.rec, dead: deadRec} {
		from := int64(0)
		for {
			page, err := r.PeekMessages(ctx, peekMost, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &from})
			if err != nil {
				return nil, err
			}
			if len(page) == 0 {
				break
			}
			for _, m := range page {
				from = *m.SequenceNumber + 1
				id, err := identify(m)
				if err != nil {
					return nil, err
				}
				if other, twice := there[id]; twice && !scheduled[id] {
					return nil, fmt.Errorf("message %d is there twice, in the %s and in the %s", id, other, at)
				}
				scheduled[id] = m.State == azservicebus.MessageStateScheduled
				if there[id] = at; m.State == azservicebus.MessageStateDeferred {
					there[id] = deferred
					if f := c.fates[id]; f != nil {
						f.seq = *m.SequenceNumber
					}
				}
			}
		}
	}
	return there, nil
}

// identify reads a message's number and checks its body.
func identify(m *azservicebus.ReceivedMessage) (int, error) {
	id, err := strconv.Atoi(m.MessageID)
	if err != nil || string(m.Body) != text(id) {
		return 0, fmt.Errorf("message %q is damaged", m.MessageID)
	}
	return id, nil
}

func (c *queueClient) message() (int, *azservicebus.Message) {
	c.next++
	name := strconv.Itoa(c.next)
	return c.next, &azservicebus.Message{MessageID: &name, Body: []byte(text(c.next))}
}

func (c *queueClient) work(ctx context.Context) error {
	waiting := 0
	for _, f := range c.fates {
		if f.at == inQueue {
			waiting++
		}
	}
	switch n := c.rng.IntN(10); {
	case n < 5 && waiting < waitingMost:
		return c.send(ctx)
	case n == 9:
		return c.takeDeferred(ctx)
	case waiting == 0:
		return c.send(ctx)
	}
	return c.receive(ctx)
}

// send sends one message, a batch, or one for later.
func (c *queueClient) send(ctx context.Context) error {
	var sent []int
	begin := func(id int) { c.fates[id], sent = &fate{at: nowhere, or: inQueue}, append(sent, id) }
	var err error
	switch c.rng.IntN(3) {
	case 0:
		id, m := c.message()
		begin(id)
		err = c.sender.SendMessage(ctx, m, nil)
	case 1:
		b, berr := c.sender.NewMessageBatch(ctx, nil)
		if berr != nil {
			return berr
		}
		for range 2 + c.rng.IntN(20) {
			id, m := c.message()
			if aerr := b.AddMessage(m, nil); aerr != nil {
				return aerr
			}
			begin(id)
		}
		c.batch = sent
		err = c.sender.SendMessageBatch(ctx, b, nil)
	default:
		id, m := c.message()
		begin(id)
		_, err = c.sender.ScheduleMessages(ctx, []*azservicebus.Message{m}, time.Now().Add(time.Duration(c.rng.IntN(3000))*time.Millisecond), nil)
	}
	if err != nil {
		return err
	}
	for _, id := range sent {
		*c.fates[id] = fate{at: inQueue}
	}
	c.batch = nil
	return nil
}

// receive takes what is there and settles it in one way or another.
func (c *queueClient) receive(ctx context.Context) error {
	// What is only scheduled does not come at once, so there may be nothing.
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	got, err := c.rec.ReceiveMessages(short, 1+c.rng.IntN(10), nil)
	if err != nil && short.Err() == nil {
		return err
	}
	for _, m := range got {
		if err := c.settle(ctx, m); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (c *queueClient) settle(ctx context.Context, m *azservicebus.ReceivedMessage) error {
	id, err := identify(m)
	if err != nil {
		return err
	}
	f := c.fates[id]
	if f == nil || f.at != inQueue && f.at != deferred {
		f = &fate{} // the next audit reports it
		c.fates[id] = f
	}
	var call func() error
	switch c.rng.IntN(6) {
	case 0:
		call, f.or = func() error { return c.rec.AbandonMessage(ctx, m, nil) }, f.at
		if f.at == deferred {
			call, f.or = func() error { return c.rec.CompleteMessage(ctx, m, nil) }, nowhere
		}
	case 1:
		call, f.or = func() error { return c.rec.DeferMessage(ctx, m, nil) }, deferred
	case 2:
		call, f.or = func() error { return c.rec.DeadLetterMessage(ctx, m, nil) }, dead
	default:
		call, f.or = func() error { return c.rec.CompleteMessage(ctx, m, nil) }, nowhere
	}
	if err := call(); err != nil {
		return err
	}
	f.at, f.or, f.seq = f.or, "", *m.SequenceNumber
	return nil
}

// takeDeferred receives a deferred message by its number and settles it.
func (c *queueClient) takeDeferred(ctx context.Context) error {
	var ids []int
	for id, f := range c.fates {
		if f.at == deferred {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return c.send(ctx)
	}
	slices.Sort(ids)
	f := c.fates[ids[c.rng.IntN(len(ids))]]
	got, err := c.rec.ReceiveDeferredMessages(ctx, []int64{f.seq}, nil)
	if err != nil {
		return err
	}
	for _, m := range got {
		if err := c.settle(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (c *queueClient) close(ctx context.Context) {
	if c.client != nil {
		c.client.Close(ctx)
	}
}
