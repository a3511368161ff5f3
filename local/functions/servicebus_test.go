//go:build unix

package functions

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/local/servicebus"
)

func startBus(t testing.TB, addr, path string) *servicebus.Server {
	t.Helper()
	s, err := servicebus.Start(
		servicebus.Config{Addr: addr, Path: path, Queues: []servicebus.QueueConfig{{Name: "jobs", MaxDeliveryCount: 3}},
			AccessKeys: []servicebus.AccessKey{{Name: "root", Key: "cm9vdA==", Send: true, Listen: true, Manage: true}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// sender sends to the queue jobs, each message with its number as id and body.
func sender(t testing.TB, bus *servicebus.Server) func(from, to int) {
	t.Helper()
	client, err := azservicebus.NewClientFromConnectionString(bus.ConnectionString("root"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := client.NewSender("jobs", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		_ = client.Close(ctx)
	})
	return func(from, to int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), testTime)
		defer cancel()
		batch, err := s.NewMessageBatch(ctx, nil)
		for i := from; i < to && err == nil; i++ {
			id, kind := fmt.Sprint(i), "application/json"
			err = batch.AddMessage(
				&azservicebus.Message{
					MessageID:             &id,
					ContentType:           &kind,
					Body:                  []byte(id),
					ApplicationProperties: map[string]any{"n": int64(i)},
				},
				nil,
			)
		}
		if err == nil {
			err = s.SendMessageBatch(ctx, batch, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func jobsHost(t testing.TB, bus *servicebus.Server, c *control) *Host {
	t.Helper()
	h, _ := start(t, script(hostJSON, map[string]string{"Jobs": jobsBatch}), roleApp, c, func(cfg *Config) {
		cfg.Settings = map[string]string{"JOBS": "jobs", "Bus": bus.ConnectionString("root")}
	})
	ready(t, h)
	return h
}

// A message that was accepted is in the handler's hands within milliseconds, and
// a thousand of them take few invocations.
func TestQueueToHandler(t *testing.T) {
	t.Parallel()
	bus := startBus(t, "127.0.0.1:0", filepath.Join(t.TempDir(), "bus.db"))
	send, c := sender(t, bus), newControl(t)
	jobsHost(t, bus, c)
	send(0, 1)
	first := c.next(t)
	if len(first.msgs) != 1 {
		t.Fatalf("got %d messages", len(first.msgs))
	}
	m := first.msgs[0]
	if m.ID != "0" || string(m.Body) != "0" || m.ContentType != "application/json" || m.DeliveryCount != 1 || m.SequenceNumber == 0 ||
		time.Since(m.EnqueuedAt).Abs() > time.Minute || m.Properties["n"] != float64(0) { // the test's own JSON has made it a float
		t.Errorf("got %+v", m)
	}
	const n = 1001
	send(1, n)
	seen, calls := map[string]bool{}, 0
	for len(seen) < n-1 {
		calls++
		for _, m := range c.next(t).msgs {
			seen[m.ID] = true
		}
	}
	if calls > n/4 {
		t.Errorf("%d messages took %d invocations", n, calls)
	}
	eventually(t, "everything settled", func() bool { return bus.Stats().Settled >= n })
}

// A failed batch comes again until the queue gives its messages up.
func TestRedelivery(t *testing.T) {
	t.Parallel()
	bus := startBus(t, "127.0.0.1:0", filepath.Join(t.TempDir(), "bus.db"))
	send, c := sender(t, bus), newControl(t)
	c.reply = func(event) int { return http.StatusInternalServerError }
	jobsHost(t, bus, c)
	send(0, 1)
	for want := 1; want <= 3; want++ {
		if e := c.next(t); len(e.msgs) != 1 || e.msgs[0].DeliveryCount != want {
			t.Errorf("delivery %d: got %+v", want, e.msgs)
		}
	}
	client, err := azservicebus.NewClientFromConnectionString(bus.ConnectionString("root"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	defer client.Close(ctx)
	dead, err := client.NewReceiverForQueue("jobs", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	if err != nil {
		t.Fatal(err)
	}
	got, err := dead.ReceiveMessages(ctx, 1, nil)
	if err != nil || len(got) != 1 || got[0].MessageID != "0" {
		t.Errorf("dead letters: got %v, %v", got, err)
	}
}

// Service Bus may be stopped and started again under the host.
func TestServiceBusRestarts(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bus.db")
	bus := startBus(t, "127.0.0.1:0", path)
	send, c := sender(t, bus), newControl(t)
	h := jobsHost(t, bus, c)
	send(0, 1)
	c.next(t)
	pid := h.HandlerPID()
	addr := bus.Addr()
	if err := bus.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err := net.Listen("tcp", addr); err == nil { // the port is free again
		l.Close()
	}
	bus = startBus(t, addr, path)
	send = sender(t, bus)
	send(1, 2)
	for { // the first may come again, if its settlement was cut off
		if e := c.next(t); e.msgs[len(e.msgs)-1].ID == "1" {
			break
		}
	}
	if h.HandlerPID() != pid {
		t.Error("the handler was restarted")
	}
}

// BenchmarkLatency measures from a message's acceptance to its function's start.
func BenchmarkLatency(b *testing.B) {
	bus := startBus(b, "127.0.0.1:0", filepath.Join(b.TempDir(), "bus.db"))
	send, c := sender(b, bus), newControl(b)
	var mu sync.Mutex
	var began time.Time
	c.reply = func(event) int {
		mu.Lock()
		defer mu.Unlock()
		began = time.Now()
		return http.StatusOK
	}
	jobsHost(b, bus, c)
	send(0, 1)
	c.next(b)
	var total time.Duration
	n := 0
	for b.Loop() {
		n++
		send(n, n+1)
		accepted := time.Now()
		c.next(b)
		mu.Lock()
		total += max(0, began.Sub(accepted))
		mu.Unlock()
	}
	b.ReportMetric(float64(total.Microseconds())/float64(n), "µs/start")
}

// BenchmarkThousand measures a thousand messages through the host, settled.
func BenchmarkThousand(b *testing.B) {
	bus := startBus(b, "127.0.0.1:0", filepath.Join(b.TempDir(), "bus.db"))
	send, c := sender(b, bus), newControl(b)
	jobsHost(b, bus, c)
	calls, n := 0, 0
	for b.Loop() {
		send(n*1000, (n+1)*1000)
		n++
		for got := 0; got < 1000; calls++ {
			got += len(c.next(b).msgs)
		}
		eventually(b, "everything settled", func() bool { return bus.Stats().Settled >= int64(n)*1000 })
	}
	b.ReportMetric(float64(calls)/float64(n), "calls/op")
	s := bus.Stats()
	b.ReportMetric(float64(s.MessagesDelivered)/float64(n), "deliveries/op")
}

func TestNamespace(t *testing.T) {
	t.Parallel()
	settings := map[string]string{
		"A":                          "SharedAccessKeyName=x;Endpoint=sb://127.0.0.1:5672/;SharedAccessKey=a=b",
		"B__fullyQualifiedNamespace": "n.servicebus.windows.net",
	}
	for connection, want := range map[string]string{"A": "127.0.0.1", "B": "n.servicebus.windows.net", "C": ""} {
		if got := namespace(settings, connection); got != want {
			t.Errorf("%s: got %q, want %q", connection, got, want)
		}
	}
}

// With cardinality one each message is an invocation of its own, and only the one
// that failed comes again.
func TestSinglesFromTheQueue(t *testing.T) {
	t.Parallel()
	bus := startBus(t, "127.0.0.1:0", filepath.Join(t.TempDir(), "bus.db"))
	send, c := sender(t, bus), newControl(t)
	c.reply = func(e event) int {
		if len(e.msgs) == 1 && e.msgs[0].ID == "3" && e.msgs[0].DeliveryCount == 1 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	}
	one := `{"name":"message","type":"serviceBusTrigger","direction":"in","queueName":"jobs","connection":"Bus","cardinality":"one"}`
	h, _ := start(t, script(hostJSON, map[string]string{"One": one}), roleApp, c, func(cfg *Config) {
		cfg.Settings = map[string]string{"Bus": bus.ConnectionString("root")}
	})
	ready(t, h)
	const n = 10
	send(0, n)
	got := map[string]int{}
	for range n + 1 {
		e := c.next(t)
		if len(e.msgs) != 1 || string(e.msgs[0].Body) != e.msgs[0].ID {
			t.Fatalf("got %+v", e.msgs)
		}
		got[e.msgs[0].ID]++
	}
	if len(got) != n || got["3"] != 2 {
		t.Errorf("got %v, want each once and 3 twice", got)
	}
	eventually(t, "everything settled", func() bool { return bus.Stats().Settled >= n })
}
