//go:build unix

package agent

import (
	"context"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/shared/protocol"
)

// losingBus loses the lock of its first session while a message is on its way
// to the agent: the message arrives, and by then the session is not held.
type losingBus struct{ *memBus }

type losingSession struct{ session }

func (b *losingBus) accept(ctx context.Context) (session, error) {
	s, err := b.memBus.accept(ctx)
	if err == nil && b.memBus.accepts == 1 {
		return &losingSession{s}, nil
	}
	return s, err
}

func (s *losingSession) left() time.Duration { return time.Second }

func (s *losingSession) renew(context.Context) error {
	return &azservicebus.Error{Code: azservicebus.CodeLockLost}
}

func (s *losingSession) receive(ctx context.Context) (*message, error) {
	m, err := s.session.receive(ctx)
	if m != nil {
		<-ctx.Done()
	}
	return m, err
}

// TestLockLostWhileReceiving: what the journal has taken is started, whether
// the session that brought it is still held or not.
func TestLockLostWhileReceiving(t *testing.T) {
	t.Parallel()
	const jobs = 20 // chance alone starts none, or all, of so many
	bus := &losingBus{newBus(t)}
	var items []protocol.WorkItem
	for n := int64(1); n <= jobs; n++ {
		items = append(items, assign(n, "true"))
	}
	bus.work(items...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- live(ctx, config(t), bus) }()
	t.Cleanup(func() { cancel(); <-done })
	bus.until("the end of every assignment", func(all []protocol.Report) bool { return len(ends(all)) == jobs })
	bus.settled()
}
