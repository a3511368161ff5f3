package durable

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// sessionClient sends numbers to a session, takes them in order and keeps the
// last one in the session's state.
type sessionClient struct {
	rng           *rand.Rand
	id            string
	sent          int // the last number that was acknowledged as sent
	sentOpen      bool
	completed     int // the last number that was acknowledged as completed
	completedOpen bool
	state         string
	stateOr       *string // written by a call that is open
	client        *azservicebus.Client
	sender        *azservicebus.Sender
	rec           *azservicebus.SessionReceiver
}

func newSession(rng *rand.Rand, id string) *sessionClient { return &sessionClient{rng: rng, id: id} }

func (c *sessionClient) audit(ctx context.Context, e endpoints) (lost []string) {
	var err error
	fail := func(what string, err error) []string {
		return []string{fmt.Sprintf("session %s: %s: %v", c.id, what, err)}
	}
	if c.client, err = connect(e); err != nil {
		return fail("connect", err)
	}
	if c.sender, err = c.client.NewSender(sessions, nil); err != nil {
		return fail("sender", err)
	}
	if c.rec, err = c.client.AcceptSessionForQueue(ctx, sessions, c.id, nil); err != nil {
		return fail("accept", err)
	}
	state, err := c.rec.GetSessionState(ctx, nil)
	if err != nil {
		return fail("state", err)
	}
	if got := string(state); got != c.state && (c.stateOr == nil || got != *c.stateOr) {
		lost = append(lost, fmt.Sprintf("session %s: its state is %q, acknowledged was %q", c.id, got, c.state))
	}
	c.state, c.stateOr = string(state), nil

	var there []int
	for from := int64(0); ; {
		page, err := c.rec.PeekMessages(ctx, peekMost, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &from})
		if err != nil {
			return fail("peek", err)
		}
		if len(page) == 0 {
			break
		}
		for _, m := range page {
			id, err := identify(m)
			if err != nil {
				return fail("peek", err)
			}
			there, from = append(there, id), *m.SequenceNumber+1
		}
	}
	first, last := c.completed+1, c.sent
	if c.completedOpen && (len(there) == 0 || there[0] != first) {
		first++
	}
	if c.sentOpen && len(there) > 0 && there[len(there)-1] == last+1 {
		last++
	}
	if len(there) != last-first+1 {
		lost = append(lost, fmt.Sprintf("session %s has %v; acknowledged: sent up to %d, completed up to %d", c.id, there, c.sent, c.completed))
	}
	for i, id := range there {
		if id != first+i {
			lost = append(lost, fmt.Sprintf("session %s is out of order: %v", c.id, there))
			break
		}
	}
	c.sent, c.completed, c.sentOpen, c.completedOpen = last, first-1, false, false
	return lost
}

func (c *sessionClient) work(ctx context.Context) error {
	switch n := c.rng.IntN(5); {
	case n == 0:
		next := strconv.Itoa(c.rng.IntN(1e6))
		c.stateOr = &next
		if err := c.rec.SetSessionState(ctx, []byte(next), nil); err != nil {
			return err
		}
		c.state, c.stateOr = next, nil
	case n < 3 && c.sent-c.completed < waitingMost || c.sent == c.completed:
		c.sentOpen = true
		name := strconv.Itoa(c.sent + 1)
		if err := c.sender.SendMessage(ctx, &azservicebus.Message{MessageID: &name, SessionID: &c.id, Body: []byte(text(c.sent + 1))}, nil); err != nil {
			return err
		}
		c.sent, c.sentOpen = c.sent+1, false
	default:
		got, err := c.rec.ReceiveMessages(ctx, 1, nil)
		if err != nil {
			return err
		}
		for _, m := range got {
			if id, err := identify(m); err != nil || id != c.completed+1 {
				return fmt.Errorf("session %s gave %q when %d was next: %v", c.id, m.MessageID, c.completed+1, err)
			}
			c.completedOpen = true
			if err := c.rec.CompleteMessage(ctx, m, nil); err != nil {
				return err
			}
			c.completed, c.completedOpen = c.completed+1, false
		}
	}
	return nil
}

func (c *sessionClient) close(ctx context.Context) {
	if c.client != nil {
		c.client.Close(ctx)
	}
}
