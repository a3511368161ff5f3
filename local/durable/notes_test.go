package durable

import (
	"fmt"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// place is the set of states in which a message may be. After an acknowledged operation
// that is one state; after one without an answer it is two.
type place uint8

const (
	gone place = 1 << iota // settled, or never accepted
	active
	scheduled
	deferred
	dead
)

func (p place) String() string {
	var out []string
	for i, name := range []string{"gone", "active", "scheduled", "deferred", "dead"} {
		if p&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return strings.Join(out, " or ")
}

// note is what the test knows about a message.
type note struct {
	id      string
	n       int // its number in the queue
	session string
	body    string
	may     place
	seq     int64 // its sequence number, to receive a deferred or cancel a scheduled message
	mark    [2]int64
}

// maxPeek is more than a queue ever has, so that one page shows all messages at one moment.
const maxPeek = 250

// check looks at every message, without receiving any.
func (q *queue) check(l *life) error {
	if err := q.connect(l); err != nil {
		return err
	}
	seen := map[string]place{}
	for _, s := range q.sessions {
		if err := q.look(l, s, q.sources[s], seen); err != nil {
			return fmt.Errorf("%s: look at %q: %w", q.name, s, err)
		}
	}
	if err := q.look(l, "", q.dead, seen); err != nil {
		return fmt.Errorf("%s: look at dead letters: %w", q.name, err)
	}
	for _, group := range q.half {
		n := 0
		for _, note := range group {
			if seen[note.id] != 0 {
				n++
			}
		}
		if n != 0 && n != len(group) {
			l.reportLoss("%s: %d messages of %d that were sent together", q.name, n, len(group))
		}
	}
	q.half = nil
	for id, n := range q.live {
		l.compared.Add(1)
		p := seen[id]
		switch {
		case p == 0 && n.may&gone == 0:
			l.reportLoss("%s: message %s was acknowledged as %v, and is not there", q.name, id, n.may)
			delete(q.live, id)
		case p == 0:
			delete(q.live, id)
		case p == scheduled && n.may&active != 0:
			n.may = scheduled | active
		default:
			n.may = p
		}
	}
	return nil
}

// look peeks at the messages of one receiver.
func (q *queue) look(l *life, session string, from source, seen map[string]place) error {
	messages, err := from.PeekMessages(l.ctx, maxPeek, &azservicebus.PeekMessagesOptions{FromSequenceNumber: to.Ptr(int64(0))})
	if err != nil {
		return err
	}
	last := -1 // the number of the previous active message
	for _, m := range messages {
		p := []place{active, deferred, scheduled}[m.State]
		if from == source(q.dead) {
			p = dead
		}
		n := q.findNote(l, m)
		if n == nil {
			continue
		}
		if seen[m.MessageID] != 0 {
			l.reportLoss("%s: message %s is there twice, as %v and as %v", q.name, n.id, seen[n.id], p)
		}
		if seen[n.id] = p; n.may&p == 0 {
			l.reportLoss("%s: message %s is %v, but was acknowledged as %v", q.name, n.id, p, n.may)
		}
		if session != "" && p == active {
			if n.session != session || n.n < last {
				l.reportLoss("%s: message %s of session %q is in session %q after message %d", q.name, n.id, n.session, session, last)
			}
			last = n.n
		}
		n.seq = *m.SequenceNumber
		if got, _ := m.ApplicationProperties["mark"].(int64); got != n.mark[0] && got != n.mark[1] {
			l.reportLoss("%s: message %s was abandoned with mark %d, and has %d", q.name, n.id, n.mark[1], got)
		} else {
			n.mark = [2]int64{got, got}
		}
	}
	r, ok := from.(*azservicebus.SessionReceiver)
	if !ok {
		return nil
	}
	got, err := r.GetSessionState(l.ctx, nil)
	if err != nil {
		return err
	}
	l.compared.Add(1)
	if !slices.Contains(q.states[session], string(got)) {
		l.reportLoss("%s: the state of session %s is %q, but %q was acknowledged", q.name, session, got, q.states[session])
	}
	q.states[session] = []string{string(got)}
	return nil
}

// findNote returns the note of a message in the queue.
func (q *queue) findNote(l *life, m *azservicebus.ReceivedMessage) *note {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.live[m.MessageID]
	if n == nil {
		l.reportLoss("%s: message %s is there, but it was settled", q.name, m.MessageID)
		return nil
	}
	if string(m.Body) != n.body {
		l.reportLoss("%s: message %s has another body: %d bytes instead of %d", q.name, n.id, len(m.Body), len(n.body))
	}
	return n
}
