package bus_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"dsvmpools/local/chaos"
	"dsvmpools/local/servicebus"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/protocol"
)

// throttled is a Bus on a namespace with 100 credits a second, whose clock the test moves.
func throttled(t *testing.T) (*bus.Bus, *servicebus.Server, *atomic.Int64) {
	t.Helper()
	var seconds atomic.Int64
	seconds.Store(1_000_000)
	server, err := servicebus.Start(servicebus.Config{
		Addr:       "127.0.0.1:0",
		Path:       filepath.Join(t.TempDir(), "bus.db"),
		Queues:     []servicebus.QueueConfig{{Name: "pool-events"}, {Name: "work", RequiresSession: true}},
		AccessKeys: []servicebus.AccessKey{{Name: "root", Key: key, Manage: true}},
		CloudRates: true,
		Credits:    100,
		Now:        func() time.Time { return time.Unix(seconds.Load(), 0) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	b, err := bus.Open(bus.Config{ConnectionString: server.ConnectionString("root"), Queues: bus.DefaultQueues})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(context.Background()) })
	return b, server, &seconds
}

// TestRefusedSend has the namespace refuse a message until its next second. The sender
// does not notice, but new work waits from then on, and reports of nodes do not.
func TestRefusedSend(t *testing.T) {
	t.Parallel()
	b, server, seconds := throttled(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var hundred []bus.Message
	for range 100 {
		hundred = append(hundred, bus.Message{Body: []byte("{}")})
	}
	if err := b.Send(ctx, "pool-events", hundred...); err != nil {
		t.Fatal(err)
	}
	if err := b.Took(ctx, "jobs", 1_000); err != nil {
		t.Fatalf("before the first refusal: %v", err)
	}
	sent := make(chan error, 1)
	go func() { sent <- b.Work(ctx, "cpu.node", []protocol.WorkItem{{N: 1}}) }()
	for server.RateStats().Sends.Refused == 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	seconds.Add(1)
	if err := <-sent; err != nil {
		t.Errorf("a message that was refused for a moment: %v", err)
	}
	if err := b.Took(ctx, "jobs", 1_000_000); err != nil { // this one takes the time of those after it
		t.Fatal(err)
	}
	short, stop := context.WithTimeout(ctx, time.Millisecond)
	defer stop()
	if err := b.Took(short, "jobs", 1); err == nil {
		t.Error("after a refusal, new jobs do not wait")
	}
	if err := b.Took(short, "node-events", 1); err != nil {
		t.Errorf("after a refusal, reports of nodes wait: %v", err)
	}
}

// TestRefusedForLong has the namespace refuse a message until the bus gives up.
func TestRefusedForLong(t *testing.T) {
	t.Parallel()
	b, _, _ := throttled(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := b.Send(ctx, "pool-events", make([]bus.Message, 100)...)
	if err != nil {
		t.Fatal(err)
	}
	if err = b.Send(ctx, "pool-events", bus.Message{}); fault.CodeOf(err) != fault.Throttled || !bus.IsBusy(err) {
		t.Errorf("got %v, want a fault that says throttled", err)
	}
}

// TestSendAfterALoss has links and connections break while messages are sent: each arrives.
func TestSendAfterALoss(t *testing.T) {
	t.Parallel()
	for _, what := range []chaos.Action{chaos.Detach, chaos.Disconnect, chaos.Refuse, chaos.Throttle} {
		t.Run(fmt.Sprint(what), func(t *testing.T) {
			t.Parallel()
			set := chaos.New(1)
			server, err := servicebus.Start(servicebus.Config{
				Addr:       "127.0.0.1:0",
				Path:       filepath.Join(t.TempDir(), "bus.db"),
				Queues:     []servicebus.QueueConfig{{Name: "pool-events"}},
				AccessKeys: []servicebus.AccessKey{{Name: "root", Key: key, Manage: true}},
				Chaos:      set,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			b, err := bus.Open(bus.Config{ConnectionString: server.ConnectionString("root"), Queues: bus.DefaultQueues})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close(context.Background())
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			for i := range 3 {
				if i == 1 {
					if _, err := set.Add(chaos.Injection{Do: what, Target: "servicebus/send/*", Count: 2}); err != nil {
						t.Fatal(err)
					}
				}
				if err := b.Send(ctx, "pool-events", bus.Message{ID: fmt.Sprint(i)}); err != nil {
					t.Errorf("message %d: %v", i, err)
				}
			}
			if active, _, _, _ := server.Counts("pool-events"); active != 3 {
				t.Errorf("%d messages arrived, want 3", active)
			}
		})
	}
}
