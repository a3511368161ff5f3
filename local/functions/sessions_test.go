//go:build unix

package functions

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/local/servicebus"
)

// sessionBus has one queue with sessions, and a sender to it: each message's
// body and id is SESSION-NUMBER.
func sessionBus(t *testing.T) (bus *servicebus.Server, send func(session string, from, to int)) {
	t.Helper()
	bus, err := servicebus.Start(servicebus.Config{Addr: "127.0.0.1:0", Path: filepath.Join(t.TempDir(), "bus.db"),
		Queues:     []servicebus.QueueConfig{{Name: "jobs", RequiresSession: true, MaxDeliveryCount: 5, LockDuration: 5 * time.Second}},
		AccessKeys: []servicebus.AccessKey{{Name: "root", Key: "cm9vdA==", Send: true, Listen: true, Manage: true}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close() })
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
	return bus, func(session string, from, to int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), testTime)
		defer cancel()
		for i := from; i < to; i++ {
			id := fmt.Sprintf("%s-%d", session, i)
			if err := s.SendMessage(ctx, &azservicebus.Message{MessageID: &id, SessionID: &session, Body: []byte(id)}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

const (
	sessionHost   = `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"handler"}},"extensions":{"serviceBus":{"maxConcurrentSessions":%d,"sessionIdleTimeout":"%s"}}}`
	sessionSingle = `{"name":"message","type":"serviceBusTrigger","direction":"in","queueName":"jobs","connection":"Bus","isSessionsEnabled":true,"dataType":"binary"}`
	sessionBatch  = `{"name":"message","type":"serviceBusTrigger","direction":"in","queueName":"jobs","connection":"Bus","isSessionsEnabled":true,"dataType":"binary","cardinality":"many"}`
)

func sessionsHost(t *testing.T, bus *servicebus.Server, c *control, concurrent int, idle, trigger string) {
	t.Helper()
	h, _ := start(t, script(fmt.Sprintf(sessionHost, concurrent, idle), map[string]string{"Jobs": trigger}), roleApp, c, func(cfg *Config) {
		cfg.Settings = map[string]string{"Bus": bus.ConnectionString("root")}
	})
	ready(t, h)
}

// A session's messages come in their order, one at a time or in batches, also
// when one of them fails and comes again; and two sessions go on side by side.
func TestOrderInSessions(t *testing.T) {
	t.Parallel()
	for name, trigger := range map[string]string{"single": sessionSingle, "batch": sessionBatch} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bus, send := sessionBus(t)
			c := newControl(t)
			var mu sync.Mutex
			failed := map[string]bool{}
			c.reply = func(e event) int { // each session's message 3 fails once
				mu.Lock()
				defer mu.Unlock()
				status := http.StatusOK
				for _, m := range e.msgs {
					if strings.HasSuffix(m.ID, "-3") && !failed[m.ID] {
						failed[m.ID], status = true, http.StatusInternalServerError
					}
				}
				return status
			}
			const n = 8
			send("a", 0, n)
			send("b", 0, n)
			sessionsHost(t, bus, c, 2, "00:00:00.2", trigger)
			order := map[string][]string{}
			for len(order["a"]) < n || len(order["b"]) < n {
				e := c.next(t)
				for _, m := range e.msgs {
					if m.SessionID != e.msgs[0].SessionID {
						t.Errorf("a batch of two sessions: %v", e.msgs)
					}
					// A message comes a second time only after a failure.
					if !slices.Contains(order[m.SessionID], m.ID) {
						order[m.SessionID] = append(order[m.SessionID], m.ID)
					}
				}
			}
			for _, session := range []string{"a", "b"} {
				for i, id := range order[session] {
					if want := fmt.Sprintf("%s-%d", session, i); id != want {
						t.Errorf("place %d: got %s, want %s", i, id, want)
					}
				}
			}
			eventually(t, "everything settled", func() bool { return bus.Stats().Settled >= 2*n })
			if !failed["a-3"] || !failed["b-3"] {
				t.Error("nothing failed, and so nothing came again")
			}
		})
	}
}

// With one session at a time, the next one follows when the first is idle, and the first
// gets messages again later.
func TestIdleSessionMakesRoom(t *testing.T) {
	t.Parallel()
	bus, send := sessionBus(t)
	c := newControl(t)
	sessionsHost(t, bus, c, 1, "00:00:00.1", sessionSingle)
	for _, session := range []string{"a", "b", "a"} {
		send(session, 0, 1)
		if e := c.next(t); len(e.msgs) != 1 || e.msgs[0].SessionID != session {
			t.Errorf("got %+v, want a message of %s", e.msgs, session)
		}
	}
}

// No more sessions than maxConcurrentSessions are worked on at a time.
func TestMaxConcurrentSessions(t *testing.T) {
	t.Parallel()
	bus, send := sessionBus(t)
	c := newControl(t)
	var mu sync.Mutex
	running, most := 0, 0
	release := make(chan struct{})
	c.reply = func(event) int {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		<-release
		mu.Lock()
		running--
		mu.Unlock()
		return http.StatusOK
	}
	const n = 5
	for i := range n {
		send(fmt.Sprint("s", i), 0, 1)
	}
	sessionsHost(t, bus, c, 2, "00:00:00.1", sessionSingle)
	eventually(t, "two sessions at a time", func() bool { mu.Lock(); defer mu.Unlock(); return running == 2 })
	close(release)
	for range n {
		c.next(t)
	}
	if most != 2 {
		t.Errorf("%d sessions were worked on at a time, want 2", most)
	}
}

// A session stays locked as long as its function runs, also longer than one lock lasts.
func TestSessionLockIsRenewed(t *testing.T) {
	t.Parallel()
	q := newFakeQueue()
	s := &fakeSession{fakeQueue: q, until: time.Now().Add(20 * time.Millisecond)}
	l := &busLoop{
		f:       &function{name: "F", trigger: binding{Name: "m"}},
		session: true,
		renewal: time.Minute,
		most:    1,
		ready:   func(context.Context) error { return nil },
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _, _ = l.singles(ctx, s) }()
	eventually(t, "renewals while nothing comes", func() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.renewed >= 3 })
	cancel()
	<-ended
}

type fakeSession struct {
	*fakeQueue
	until time.Time
}

func (s *fakeSession) sessionLock() *delivery {
	d := &delivery{}
	d.LockedUntil = s.until
	return d
}
