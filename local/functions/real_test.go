//go:build unix

package functions

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"dsvmpools/local/servicebus"
	"dsvmpools/shared/bus/tolerant"
	"dsvmpools/shared/bus/tolerant/tolerantest"
)

// What was seen on the real host, played here. docs/reliability.md has the rows.

// sendAny sends messages of any form to the queue jobs.
func sendAny(t testing.TB, bus *servicebus.Server, messages ...*azservicebus.AMQPAnnotatedMessage) {
	t.Helper()
	host, _ := tolerant.Endpoint(bus.ConnectionString("root"))
	client, err := azservicebus.NewClientFromConnectionString(bus.ConnectionString("root"), &azservicebus.ClientOptions{
		NewWebSocketConn: func(ctx context.Context, _ azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
			return tolerantest.Conn{Conn: c}, err
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(context.Background())
	s, err := client.NewSender("jobs", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if err := s.SendAMQPAnnotatedMessage(t.Context(), m, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func named(id string, body azservicebus.AMQPAnnotatedMessageBody, properties map[string]any) *azservicebus.AMQPAnnotatedMessage {
	return &azservicebus.AMQPAnnotatedMessage{
		Body:                  body,
		ApplicationProperties: properties,
		Properties:            &azservicebus.AMQPAnnotatedMessageProperties{MessageID: id},
	}
}

func bytesBody(parts ...string) (b azservicebus.AMQPAnnotatedMessageBody) {
	for _, p := range parts {
		b.Data = append(b.Data, []byte(p))
	}
	return b
}

func valueBody(v any) azservicebus.AMQPAnnotatedMessageBody {
	return azservicebus.AMQPAnnotatedMessageBody{Value: v}
}

// Row 2: one message whose body does not bind, and six good ones: ten tries, none of
// which reaches the handler, within about a second, and then all seven are dead.
func TestOneMessageKillsItsBatch(t *testing.T) {
	t.Parallel()
	bus, err := servicebus.Start(
		servicebus.Config{Addr: "127.0.0.1:0", Path: filepath.Join(t.TempDir(), "bus.db"), Queues: []servicebus.QueueConfig{{Name: "jobs"}},
			AccessKeys: []servicebus.AccessKey{{Name: "root", Key: "cm9vdA==", Send: true, Listen: true, Manage: true}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close() })
	var messages []*azservicebus.AMQPAnnotatedMessage
	for i := range 7 {
		body := bytesBody(fmt.Sprint(i))
		if i == 3 {
			body = valueBody(map[string]any{"price": tolerantest.Decimal})
		}
		messages = append(messages, named(fmt.Sprint(i), body, nil))
	}
	sendAny(t, bus, messages...)
	c := newControl(t)
	root := script(hostJSON, map[string]string{"Jobs": strings.Replace(jobsBatch, "binary", "string", 1)})
	_, log := start(t, root, roleApp, c, func(cfg *Config) {
		cfg.Settings = map[string]string{"JOBS": "jobs", "Bus": bus.ConnectionString("root")}
	})
	eventually(t, "seven dead messages", func() bool { _, _, _, dead := bus.Counts("jobs"); return dead == 7 })
	if delivered := bus.Stats().MessagesDelivered; delivered < 70 || delivered > 80 {
		t.Errorf("%d deliveries of seven messages, want ten of each", delivered)
	}
	if len(c.heard) > 0 || !strings.Contains(log.String(), "cannot be bound to a string") {
		t.Errorf("the handler heard %d invocations", len(c.heard))
	}
}

// Rows 2 and 16: what binds to a text arrives as one, with the forms of .NET.
func TestFormsOfMessages(t *testing.T) {
	t.Parallel()
	bus := startBus(t, "127.0.0.1:0", filepath.Join(t.TempDir(), "bus.db"))
	sendAny(
		t,
		bus,
		named("bytes", bytesBody("he", "llo"),
			map[string]any{"price": tolerantest.Decimal, "letter": tolerantest.Char, "id": amqp.UUID{1, 2, 3}, "none": nil, "n": int64(5)}),
		named("text", valueBody("hello"), nil),
	)
	for _, cardinality := range []string{"many", "one"} {
		seen := make(chan string, 10)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusInternalServerError) // so that they come again, to the other form
			seen <- string(b)
		}))
		t.Cleanup(server.Close)
		f := &function{
			name: "F",
			trigger: binding{
				Name:        "m",
				Type:        serviceBusTrigger,
				Connection:  "Bus",
				QueueName:   "jobs",
				Cardinality: cardinality,
				DataType:    "string",
			},
		}
		h, _ := goldenHost(t, f)
		u, _ := url.Parse(server.URL)
		port, _ := strconv.Atoi(u.Port())
		h.cfg.Settings["Bus"] = bus.ConnectionString("root")
		h.worker.set(func(s *state) { s.ready, s.port = true, port })
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { h.newBusLoop(f).run(ctx) })
		whole := ""
		for n := 0; n < 2; {
			select {
			case s := <-seen:
				if whole += s; cardinality == "one" {
					n++
				} else {
					n += strings.Count(s, "text\\\"") + strings.Count(s, "bytes\\\"")
				}
			case <-time.After(testTime):
				t.Fatalf("%s: only %s came", cardinality, whole)
			}
		}
		cancel()
		wg.Wait()
		h.buses.close()
		plain := strings.ReplaceAll(whole, `\`, "")
		for _, want := range []string{`"price":1.5`, `"letter":"😀"`, `"id":"01020300-0000-0000-0000-000000000000"`, `"none":null`, `"n":5`, `hello`, `9999-12-31T23:59:59`, `"FullyQualifiedNamespace":"127.0.0.1"`} {
			if !strings.Contains(plain, want) {
				t.Errorf("%s: %s is not in %s", cardinality, want, plain)
			}
		}
	}
}

// Row 8: while a batch runs, what comes later stays in the queue, and another
// receiver has it at once, at its first delivery.
func TestLaterMessagesStayInTheQueue(t *testing.T) {
	t.Parallel()
	bus := startBus(t, "127.0.0.1:0", filepath.Join(t.TempDir(), "bus.db"))
	send, c := sender(t, bus), newControl(t)
	began, finish := make(chan struct{}, 10), make(chan struct{})
	c.reply = func(event) int { began <- struct{}{}; <-finish; return http.StatusOK }
	jobsHost(t, bus, c)
	send(0, 1)
	<-began
	send(1, 4)
	client, err := azservicebus.NewClientFromConnectionString(bus.ConnectionString("root"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(context.Background())
	other, err := client.NewReceiverForQueue("jobs", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	for n := 0; n < 3; {
		got, err := other.ReceiveMessages(ctx, 3, nil)
		if err != nil {
			t.Fatalf("another receiver got %d of 3: %v", n, err)
		}
		for _, m := range got {
			if n++; m.DeliveryCount != 1 {
				t.Errorf("message %s has been delivered %d times", m.MessageID, m.DeliveryCount)
			}
			if err := other.CompleteMessage(ctx, m, nil); err != nil {
				t.Error(err)
			}
		}
	}
	close(finish)
}

// breaking is a handler that breaks connections before it replies, at first.
type breaking struct {
	*httptest.Server
	seen  atomic.Int64
	until int64
}

func newBreaking(t *testing.T, h *Host, until int64) *breaking {
	t.Helper()
	b := &breaking{until: until}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.seen.Add(1) <= b.until {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				c.Close()
			}
			return
		}
		w.WriteHeader(http.StatusTeapot)
	}))
	t.Cleanup(b.Close)
	u, err := url.Parse(b.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	h.worker.set(func(s *state) { s.ready, s.port = true, port })
	return b
}

// Row 7: a request whose connection breaks before a reply is sent again.
func TestRequestsAreSentAgain(t *testing.T) {
	t.Parallel()
	route := "{*path}"
	for _, tt := range []struct {
		method, body string
		breaks       int64 // connections that break
		sent         int64
		status       int
	}{
		{"GET", "", 1000, rounds * perRound, 500}, {"DELETE", "", 1000, rounds * perRound, 500}, {"POST", "", 1000, rounds, 500},
		{"PUT", "", 1000, rounds, 500},
		{"POST", "body", 1000, 1, 500}, {"DELETE", "body", 1000, 1, 500},
		{"DELETE", "", 39, 40, 418}, {"POST", "", 9, 10, 418}, {"GET", "", 0, 1, 418},
	} {
		t.Run(fmt.Sprintf("%s %s of %d", tt.method, tt.body, tt.breaks), func(t *testing.T) {
			t.Parallel()
			f := &function{
				name:    "Any",
				output:  "res",
				trigger: binding{Name: "req", Type: httpTrigger, AuthLevel: "anonymous", Route: &route},
			}
			if err := f.readHTTP(); err != nil {
				t.Fatal(err)
			}
			h, _ := goldenHost(t, f)
			h.file.CustomHandler.EnableProxyingHTTPRequest = true
			h.transport.DisableKeepAlives = true // its own repeats on a connection that was open would count
			b := newBreaking(t, h, tt.breaks)
			w := httptest.NewRecorder()
			r := httptest.NewRequest(tt.method, "/api/x", strings.NewReader(tt.body))
			began := time.Now()
			h.routes().ServeHTTP(w, r)
			if got := b.seen.Load(); got != tt.sent || w.Code != tt.status || w.Body.Len() > 0 {
				t.Errorf("sent %d times, and answered %d %q; want %d times and %d", got, w.Code, w.Body, tt.sent, tt.status)
			}
			if took := time.Since(began); tt.sent > 1 && tt.status == 500 && (took < time.Second || took > testTime) {
				t.Errorf("it took %s, want about two seconds", took)
			}
		})
	}
}

// Row 10: functionTimeout holds for HTTP. The client gets 500, the handler is killed
// with all that it was doing, and what was harmless goes to the next one.
func TestHTTPTimesOut(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	seen := make(chan string, 100)
	release := make(chan struct{})
	c.reply = func(e event) int {
		seen <- e.name
		if e.name == "slow" {
			<-release
		}
		return http.StatusOK
	}
	defer close(release)
	h, _ := start(t, script(hostJSON, map[string]string{"Api": httpAny}), roleApp, c,
		func(cfg *Config) { cfg.FunctionTimeout = 2 * time.Second })
	ready(t, h)
	pid := h.HandlerPID()
	type answer struct {
		status int
		body   string
	}
	ask := func(method, path, body string) chan answer {
		out := make(chan answer, 1)
		go func() {
			r, err := http.NewRequest(method, "http://"+h.Addr()+path, strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			r.Header.Set("x-functions-key", "fn-key")
			reply, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer reply.Body.Close()
			b, _ := io.ReadAll(reply.Body)
			out <- answer{reply.StatusCode, string(b)}
		}()
		return out
	}
	hear := func(want string) {
		t.Helper()
		select {
		case got := <-seen:
			if got != want {
				t.Errorf("the handler got %q, want %q", got, want)
			}
		case <-time.After(testTime):
			t.Fatalf("the handler never got %q", want)
		}
	}
	slow := ask("GET", "/api/tell/slow", "")
	hear("slow")
	other := ask("POST", "/api/tell/slow", "a body") // it dies with the first, long before its own time
	hear("slow")
	for name, got := range map[string]chan answer{"the one that timed out": slow, "the other": other} {
		select {
		case a := <-got:
			if a != (answer{500, ""}) {
				t.Errorf("%s: got %+v, want 500 and nothing", name, a)
			}
		case <-time.After(testTime):
			t.Fatalf("%s was never answered", name)
		}
	}
	hear("slow") // the GET again, for the next handler
	if now := h.HandlerPID(); now == pid || now == 0 {
		t.Errorf("the handler is %d, and was %d", now, pid)
	}
}

// Row 3: a function for many that is run by hand gets a list of one beside the
// metadata of a single message.
func TestFormOfARunByHand(t *testing.T) {
	t.Parallel()
	f := &function{
		name:    "Jobs",
		trigger: binding{Name: "messages", Type: serviceBusTrigger, Connection: "Bus", Cardinality: "many", DataType: "string"},
	}
	h, got := goldenHost(t, f)
	h.cfg.MasterKey = "master"
	r := httptest.NewRequest(http.MethodPost, "/admin/functions/Jobs", strings.NewReader(`{"input":"{\"pool\":\"cpu\"}"}`))
	r.Header.Set("x-functions-key", "master")
	h.routes().ServeHTTP(httptest.NewRecorder(), r)
	b, err := json.Marshal(hear(t, got).Body)
	if err != nil {
		t.Fatal(err)
	}
	var body struct {
		Data     map[string]string
		Metadata map[string]any
	}
	if err := json.Unmarshal(b, &body); err != nil {
		t.Fatal(err)
	}
	if want := `["{\"pool\":\"cpu\"}"]`; body.Data["messages"] != want {
		t.Errorf("got %s, want %s", body.Data["messages"], want)
	}
	for name, want := range map[string]any{"DeliveryCount": "0", "SequenceNumber": "-1", "EnqueuedTimeUtc": "0001-01-01T00:00:00", "LockToken": `"00000000-0000-0000-0000-000000000000"`, "MessageId": nil} {
		if got := body.Metadata[name]; got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	for name := range body.Metadata {
		if strings.HasSuffix(name, "Array") {
			t.Errorf("there is %s", name)
		}
	}
	h.wg.Wait()
}
