//go:build unix

package functions

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"dsvmpools/shared/invoke"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// Times of the Service Bus side.
const (
	// A receiver asks for few messages and waits hardly at all after the first,
	// as long as little comes: the SDK's own 20 ms would be most of a job's way
	// to its node. A batch that came full is followed by a larger one that may
	// take longer to fill. What is asked for and not awaited is delivered all the
	// same, and given back: asking for much too early costs more than it brings.
	fewMessages     = 16
	gatherBriefly   = time.Millisecond
	gatherUnderLoad = 20 * time.Millisecond
	receiveWait     = 30 * time.Second // of one receive; the SDK advises a deadline
	settleTime      = 30 * time.Second // of all settlements of a batch
	settleAtOnce    = 64               // settlements under way
	retryPause      = time.Second      // before a receiver that failed is made anew
)

// buses are the clients, one for each connection setting.
type buses struct {
	mu  sync.Mutex
	all map[string]*azservicebus.Client
}

func (b *buses) client(setting, connection string) (*azservicebus.Client, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.all[setting]; c != nil {
		return c, nil
	}
	c, err := azservicebus.NewClientFromConnectionString(connection, &azservicebus.ClientOptions{
		RetryOptions: azservicebus.RetryOptions{MaxRetries: 2, RetryDelay: 200 * time.Millisecond, MaxRetryDelay: 2 * time.Second}})
	if err != nil {
		return nil, err
	}
	if b.all == nil {
		b.all = map[string]*azservicebus.Client{}
	}
	b.all[setting] = c
	return c, nil
}

func (b *buses) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, c := range b.all {
		c.Close(ctx)
	}
}

// listen receives batches for a function, one at a time, for as long as the
// host runs.
func (h *Host) listen(f function) {
	for h.ctx.Err() == nil {
		if _, err := h.worker.port(h.ctx); err != nil {
			h.pause(retryPause)
			continue
		}
		if err := h.receive(f); err != nil && h.ctx.Err() == nil {
			h.log.Warn("a Service Bus trigger begins anew", "function", f.name, "queue", f.trigger.QueueName, "error", err)
			h.pause(retryPause)
		}
	}
}

// receive runs one receiver until it fails.
func (h *Host) receive(f function) error {
	setting := f.trigger.Connection
	connection := h.cfg.Settings[setting]
	if connection == "" {
		return fmt.Errorf("the setting %s is missing", setting)
	}
	client, err := h.buses.client(setting, connection)
	if err != nil {
		return err
	}
	receiver, err := client.NewReceiverForQueue(f.trigger.QueueName, nil)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		receiver.Close(ctx)
	}()
	most := h.file.Extensions.ServiceBus.MaxMessageBatchSize
	if most == 0 {
		most = defaultBatch
	}
	if f.trigger.Cardinality != "many" {
		most = 1
	}
	n, gather := min(fewMessages, most), gatherBriefly
	for h.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(h.ctx, receiveWait)
		messages, err := receiver.ReceiveMessages(ctx, n, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: gather})
		cancel()
		if len(messages) == n {
			n, gather = min(2*n, most), gatherUnderLoad
		} else {
			n, gather = min(fewMessages, most), gatherBriefly
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if len(messages) > 0 {
			h.batch(f, receiver, messages)
		}
	}
	return nil
}

// batch invokes the function with messages and settles all of them alike.
func (h *Host) batch(f function, receiver *azservicebus.Receiver, messages []*azservicebus.ReceivedMessage) {
	in := make([]invoke.Message, len(messages))
	for i, m := range messages {
		in[i] = convert(m)
	}
	id := newID()
	_, err := h.call(f, id, invoke.EncodeBatch(f.name, f.trigger.Name, id, time.Now(), in))
	if err != nil {
		if h.ctx.Err() != nil {
			return // the locks run out, and the messages come again
		}
		h.log.Error("an invocation failed; its messages come again", "function", f.name, "messages", len(messages), "error", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.ctx), settleTime)
	defer cancel()
	slots := make(chan struct{}, settleAtOnce)
	var wg sync.WaitGroup
	for _, m := range messages {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			settle := receiver.CompleteMessage(ctx, m, nil)
			if err != nil {
				settle = receiver.AbandonMessage(ctx, m, nil)
			}
			if settle != nil {
				h.log.Warn("a message could not be settled; it comes again", "function", f.name, "message", m.MessageID, "error", settle)
			}
		})
	}
	wg.Wait()
}

func convert(m *azservicebus.ReceivedMessage) invoke.Message {
	out := invoke.Message{Body: m.Body, ID: m.MessageID, DeliveryCount: int(m.DeliveryCount), Properties: m.ApplicationProperties}
	set := func(into, from *string) {
		if from != nil {
			*into = *from
		}
	}
	set(&out.ContentType, m.ContentType)
	set(&out.Subject, m.Subject)
	set(&out.CorrelationID, m.CorrelationID)
	set(&out.SessionID, m.SessionID)
	if m.SequenceNumber != nil {
		out.SequenceNumber = *m.SequenceNumber
	}
	if m.EnqueuedTime != nil {
		out.EnqueuedAt = *m.EnqueuedTime
	}
	return out
}
