package bus

import (
	"context"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// senders are the senders of this process, one for each queue, on a client of their own.
// That client never repeats a send: a refusal that it repeats by itself would be hidden from
// the pace. Without repetitions it does not open a lost connection again either, so a
// client that has failed is replaced.
type senders struct {
	cfg Config

	mu     sync.Mutex
	client *azservicebus.Client // nil = none yet
	all    map[string]*azservicebus.Sender
}

// of returns the sender of a queue, and the client that it belongs to.
func (s *senders) of(queue string) (*azservicebus.Sender, *azservicebus.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		client, err := s.cfg.Client(&azservicebus.ClientOptions{RetryOptions: azservicebus.RetryOptions{MaxRetries: -1}})
		if err != nil {
			return nil, nil, err
		}
		s.client, s.all = client, map[string]*azservicebus.Sender{}
	}
	if sender := s.all[queue]; sender != nil {
		return sender, s.client, nil
	}
	sender, err := s.client.NewSender(queue, nil)
	if err != nil {
		return nil, s.client, err
	}
	s.all[queue] = sender
	return sender, s.client, nil
}

// replace has the next send use a new client, unless another has come already. Sends that
// are under way on the old one fail and are repeated.
func (s *senders) replace(failed *azservicebus.Client) {
	s.mu.Lock()
	isCurrent := s.client == failed && failed != nil
	if isCurrent {
		s.client, s.all = nil, nil
	}
	s.mu.Unlock()
	if isCurrent {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
			defer cancel()
			_ = failed.Close(ctx) // its connection is lost anyway
		}()
	}
}

func (s *senders) close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		return nil
	}
	return s.client.Close(ctx)
}
