package servicebus

import (
	"errors"
	"sync"

	"dsvmpools/local/servicebus/amqp"
	"dsvmpools/local/servicebus/queue"
)

// maxHops is how often a message is forwarded before it is a dead letter.
const maxHops = 4

// hopsName annotates a message on its way through forwarding queues. Receivers
// do not see it.
const hopsName = "x-opt-dsvmpools-hops"

// mover forwards the messages of a queue. It sends a message to the target before
// it deletes it from the source: a crash in between duplicates it, never loses it.
type mover struct {
	stop chan struct{}
	done sync.WaitGroup
}

// restartMovers stops the movers of an entity, and starts those that its description
// asks for. s.changing is held.
func (s *Server) restartMovers(e *entity) {
	e.stopMoving()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, way := range []struct {
		from *queue.Queue
		to   *string
	}{{e.queue, e.about.ForwardTo}, {e.queue.DeadLetters(), e.about.ForwardDeadLetteredMessagesTo}} {
		if way.to == nil {
			continue
		}
		r, err := way.from.Receiver(false)
		if err != nil {
			s.log.Error("forwarding the queue failed", "queue", way.from.Name(), "error", err)
			continue
		}
		m := &mover{stop: make(chan struct{})}
		target := entityPath(*way.to)
		m.done.Go(func() { s.moveMessages(m, way.from, r, target) })
		e.movers = append(e.movers, m)
	}
}

// stopMoving ends the movers.
func (e *entity) stopMoving() {
	e.mu.Lock()
	movers := e.movers
	e.movers = nil
	e.mu.Unlock()
	for _, m := range movers {
		close(m.stop)
		m.done.Wait()
	}
}

// moveMessages forwards until it is stopped.
func (s *Server) moveMessages(m *mover, from *queue.Queue, r *queue.Receiver, target string) {
	defer r.Close()
	for {
		messages, err := r.Take(takeAtOnce)
		if err != nil {
			return
		}
		for _, msg := range messages {
			s.moveMessage(from, msg, target)
		}
		var idle <-chan struct{} = r.C
		if len(messages) > 0 {
			idle = always
		}
		select {
		case <-m.stop:
			return
		case <-idle:
		}
	}
}

// always is a channel that is always ready.
var always = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// moveMessage forwards one message, or makes it a dead letter.
func (s *Server) moveMessage(from *queue.Queue, msg *queue.Message, target string) {
	settle := queue.Settlement{Token: msg.Token}
	if reason, why := s.forwardMessage(msg, target); reason != "" {
		if from.DeadLetters() == nil {
			return // a dead letter stays a dead letter; the mover tries again when its lock has ended
		}
		settle.Disposition = queue.DeadLetter
		settle.Edit = setProperties(amqp.Map{{Key: deadReason, Value: reason}, {Key: deadDescription, Value: why}})
	}
	if err := errors.Join(from.Settle([]queue.Settlement{settle})...); err != nil && !errors.Is(err, queue.ErrClosed) &&
		!errors.Is(err, queue.ErrGone) {
		s.log.Error("removing a forwarded message failed; it may be forwarded again", "queue", from.Name(), "number", msg.Seq, "error", err)
	}
}

// forwardMessage sends a message to the target. The reason is "" if that worked.
func (s *Server) forwardMessage(msg *queue.Message, target string) (reason, why string) {
	e, to := s.find(target)
	p, err := amqp.ParseMessage(msg.Raw)
	switch {
	case to == nil || !e.enabled(true):
		return "TransferMessageFailed", "The queue '" + target + "' cannot be sent to."
	case err != nil:
		return "TransferMessageFailed", err.Error()
	}
	hops, _ := p.Annotations.Get(hopsName).(int32)
	if hops++; hops > maxHops {
		return "MaxTransferHopCountExceeded", "The message was forwarded too often."
	}
	p.Annotations = p.Annotations.With(amqp.Pair{Key: amqp.Symbol(hopsName), Value: hops})
	raw := p.Append(make([]byte, 0, len(msg.Raw)+hopsRoom))
	n, _, why := checkMessage(e, p, raw)
	if why != "" {
		return "TransferMessageFailed", why
	}
	n.TTL = 0
	if !msg.Expires.IsZero() {
		n.TTL = max(msg.Expires.Sub(s.now()), 1)
	}
	n.EnqueuedSeq, n.DeadFrom = msg.Seq, msg.DeadFrom
	if msg.EnqueuedSeq != 0 {
		n.EnqueuedSeq = msg.EnqueuedSeq
	}
	if _, err := to.Send(n); err != nil {
		return "TransferMessageFailed", err.Error()
	}
	e.touch(s.now())
	return "", ""
}

// hopsRoom is the size of the annotation in bytes, at most.
const hopsRoom = 64
