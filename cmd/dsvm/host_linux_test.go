package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/handlers/httpapi/openapitest"
	"dsvmpools/local"
	"dsvmpools/shared/bus/tolerant"
	"dsvmpools/shared/bus/tolerant/tolerantest"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/usage"
	"dsvmpools/shared/wire"
)

// never is a schedule whose next occurrence no test lives to see.
const never = "0 0 0 29 2 *"

// withoutTimers has no timer fire.
func withoutTimers(more map[string]string) map[string]string {
	s := map[string]string{
		"RECONCILE_SCHEDULE":      never,
		"NIGHTLY_SCALE_DOWN":      never,
		"RECORD_USAGE_SCHEDULE":   never,
		"WATCH_BUDGETS_SCHEDULE":  never,
		"REFRESH_PRICES_SCHEDULE": never,
		"COMMIT_STATUS_SCHEDULE":  never,
	}
	for name, v := range more {
		s[name] = v
	}
	return s
}

// For minutes after its start a host may fire no timer. Nothing waits for one: jobs
// run, what they cost is in the ledger, and the pool goes back to nothing.
func TestWithoutTimers(t *testing.T) {
	t.Parallel()
	i := startInstance(t, withoutTimers(map[string]string{"DSVM_FLEET_POLL": "100ms"}))
	i.send("pools", body(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1},"idleTimeout":"1s"}`))
	i.until("the pool", func() bool { _, err := i.client.Pool(i.ctx, "cpu"); return err == nil })
	i.send("jobs", body(`{"id":"one","pool":"cpu","command":["true"]}`))
	if j := i.job("one"); j.State != job.Succeeded {
		t.Errorf("got %s: %s", j.State, j.Reason)
	}
	i.until("an empty pool", func() bool { return len(i.Compute.Instances()) == 0 })
	i.until("the ledger", func() bool {
		report, err := i.client.Usage(i.ctx, usage.Query{By: usage.ByJob}, 0)
		return err == nil && len(report.Items) > 0 && report.Open == (usage.Open{})
	})
}

// Each of the app's HTTP functions gets its requests from the host: the API with its
// key only, pushes and pages without one.
func TestEachFunctionGetsItsRequests(t *testing.T) {
	t.Parallel()
	i := startInstance(t, withoutTimers(nil))
	for _, tt := range []struct {
		method, path, key string
		status            int
		says              string
	}{
		{"GET", "/api/pools", i.Key, 200, "["}, {"GET", "/api/pools", "", 401, ""}, {"GET", "/API/pools", i.Key, 200, "["}, {"GET", "/x/../api/pools", "", 401, ""}, {"GET", "/api/jobs/a%2Fb", i.Key, 404, "no job"},
		{"POST", "/api/push/github", "", 401, "secret"}, {"POST", "/API/Push/GitHub/", "", 401, "secret"}, {"GET", "/api/push/github", "", 404, ""}, {"POST", "/api/push", "", 401, ""},
		{"GET", "/", "", 200, "dsvmpools"}, {"HEAD", "/", "", 200, ""}, {"GET", "/index.html", "", 404, "no such page"}, {"GET", "/api", "", 404, "no such page"}, {"POST", "/", "", 204, ""}, {"GET", "/web/nothing", "", 404, "no such page"}, {"GET", "/web/login", "", 405, "use POST"},
		{"POST", "/web/api/jobs", "", 401, "Nobody has signed in"}, {"POST", "/web/api/jobs", i.Key, 401, "Nobody has signed in"}, {"GET", "//api/pools", "", 404, ""}, {"GET", "/api%2Fpools", "", 404, "no such page"},
	} {
		r, err := http.NewRequestWithContext(i.ctx, tt.method, i.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Opaque = tt.path // as it is
		if strings.HasPrefix(tt.path, "//") {
			r.URL.Opaque = "http:" + strings.Replace(i.URL, "http:", "", 1) + tt.path
		}
		if tt.key != "" {
			r.Header.Set("x-functions-key", tt.key)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != tt.status || !strings.Contains(string(text), tt.says) {
			t.Errorf("%s %s: got %d %.200s, want %d and %q", tt.method, tt.path, answer.StatusCode, text, tt.status, tt.says)
		}
	}
}

// The host sends a request without a body up to forty times when its connection to
// the handler breaks. Each such request of the API has one effect: the first call
// changes rows and sends messages, and those behind it nothing.
func TestFortyTimes(t *testing.T) {
	onlyLong(t)
	t.Parallel()
	// A node takes longer to boot than another to go: one that came earlier would take the next job, and
	// not the one of the node that is deleted.
	i := startInstance(t, withoutTimers(map[string]string{"DSVM_FLEET_POLL": "100ms", "DSVM_LEDGER_DELAY": "100ms"}),
		func(c *local.Config) { c.BootDelay = 2 * time.Second })
	call := func(method, path string) int {
		r, err := http.NewRequestWithContext(i.ctx, method, i.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("x-functions-key", i.Key)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		_, _ = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode
	}
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1},"pack":false}`)
	if _, err := i.client.ApplyRules(i.ctx, []byte(`{"name":"r","provider":"github","repository":"octo/model","secret":"GITHUB_PUSH_SECRET","job":{"pool":"cpu","command":["x"]}}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := i.client.ApplyBudgets(i.ctx, []byte(`{"name":"b","scope":{"pool":"cpu"},"amount":"1000","currency":"USD","period":"month"}`)); err != nil {
		t.Fatal(err)
	}
	i.send(
		"jobs",
		body(`{"id":"runs","pool":"cpu","user":"ann","command":["sleep","600"]}`),
		body(`{"id":"waits","pool":"cpu","user":"bob","command":["sleep","600"]}`),
		body(`{"id":"stays","pool":"cpu","user":"bob","command":["sleep","600"]}`),
	)
	i.until("the first job's start", func() bool {
		j, err := i.client.Job(i.ctx, "runs")
		return err == nil && j.State == job.Running
	})
	// quiet waits until nothing changes any more.
	quiet := func() (sent, written int64) {
		since := time.Now()
		for i.ctx.Err() == nil {
			s, w := i.Bus.Stats().MessagesSent, i.Tables.Stats().EntitiesWritten
			if s != sent || w != written {
				sent, written, since = s, w, time.Now()
			}
			if time.Since(since) > time.Second {
				return sent, written
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-i.ctx.Done():
			}
		}
		t.Fatal("the instance never came to rest")
		return 0, 0
	}
	i.send("jobs", body(`{"id":"wrong","pool":"cpu","comand":["x"]}`))
	var rejected string
	i.until("the rejected message", func() bool {
		all, err := i.client.Rejected(i.ctx, wire.RejectedFilter{}, 1)
		if len(all) == 1 {
			rejected = all[0].Key
		}
		return err == nil && rejected != ""
	})
	quiet()
	did := map[string]bool{}
	now := func(id string) (j wire.Job) {
		j, err := i.client.Job(i.ctx, id)
		if err != nil {
			t.Error(err)
		}
		return j
	}
	nodes, err := i.client.Nodes(i.ctx, "cpu")
	if err != nil || len(nodes) != 1 {
		t.Fatalf("got the nodes %v, %v; want one", nodes, err)
	}
	node := "/api/nodes/" + nodes[0].ID
	for _, tt := range []struct {
		route, path string
		first       int
		after       []int // what the others may answer
		ended       func() bool
	}{
		{"POST /api/pools/{name}/resume", "/api/pools/cpu/resume", 200, nil, func() bool { return true }},
		{"POST /api/nodes/{node}/release", node + "/release", 202, []int{202}, func() bool { return now("runs").State == job.Running }},
		{"POST /api/nodes/{node}/drain", node + "/drain", 202, []int{202}, func() bool {
			nodes, err := i.client.Nodes(i.ctx, "cpu")
			return err == nil && len(nodes) == 1 && nodes[0].State == "draining"
		}},
		{"DELETE /api/nodes/{node}", node, 202, []int{202, 404}, func() bool { // and its work goes on elsewhere
			j := now("runs")
			return j.State == job.Running && len(j.Attempts) == 2
		}},
		{"POST /api/jobs/{id}/hold", "/api/jobs/waits/hold", 202, []int{202}, func() bool { return now("waits").State == job.Held }},
		{"POST /api/jobs/{id}/release", "/api/jobs/waits/release", 202, []int{202}, func() bool { return now("waits").State == job.Queued }},
		{"DELETE /api/rejected/{key}", "/api/rejected/" + rejected, 204, []int{204, 404}, func() bool {
			all, err := i.client.Rejected(i.ctx, wire.RejectedFilter{}, 1)
			return err == nil && len(all) == 0
		}},
		{"POST /api/jobs/{id}/cancel", "/api/jobs/waits/cancel", 202, []int{202}, func() bool { return i.job("waits").State == job.Cancelled }},
		{"POST /api/jobs/{id}/cancel", "/api/jobs/runs/cancel", 202, []int{202}, func() bool {
			j := i.job("runs")
			return j.State == job.Cancelled && len(j.Attempts) == 2
		}},
		{"POST /api/jobs/cancel", "/api/jobs/cancel?user=bob", 202, []int{202}, func() bool { return i.job("stays").State == job.Cancelled }},
		{"POST /api/usage/rebuild", "/api/usage/rebuild", 200, nil, func() bool { return true }},
		{"POST /api/prices/refresh", "/api/prices/refresh", 200, nil, func() bool { return true }},
		{"DELETE /api/budgets/{name}", "/api/budgets/b", 204, []int{204, 404}, func() bool {
			_, err := i.client.Budget(i.ctx, "b")
			return fault.CodeOf(err) == fault.NotFound
		}},
		{"POST /api/sessions/{id}/stop", "/api/sessions/none/stop", 404, []int{404}, func() bool { return true }},
		{"POST /api/sessions/{id}/jupyter", "/api/sessions/none/jupyter", 403, []int{403}, func() bool { return true }},
		{"DELETE /api/rules/{name}", "/api/rules/r", 204, []int{204, 404}, func() bool { return true }},
		{"DELETE /api/pools/{name}", "/api/pools/cpu", 202, []int{202, 204, 404}, func() bool {
			pools, err := i.client.Pools(i.ctx)
			return err == nil && len(pools) == 0 && len(i.Compute.Instances()) == 0
		}},
	} {
		did[tt.route] = true
		method, _, _ := strings.Cut(tt.route, " ")
		if got := call(method, tt.path); got != tt.first && got != 200 {
			t.Errorf("%s: the first answer is %d, want %d", tt.route, got, tt.first)
		}
		for range 4 { // right behind it
			call(method, tt.path)
		}
		i.until("the effect of "+tt.route, tt.ended)
		sent, written := quiet()
		for range 35 {
			if got := call(method, tt.path); !slices.Contains(tt.after, got) && got != 200 {
				t.Errorf("%s again: got %d, want one of %v", tt.route, got, tt.after)
			}
		}
		// Sums that are built again, and prices that are asked for again, are written again, with the
		// same values. The audit trail has two rows of each request.
		isWritten := tt.route == "POST /api/usage/rebuild" || tt.route == "POST /api/prices/refresh"
		if s, w := quiet(); s != sent || w != written && w != written+2*35 && !isWritten {
			t.Errorf("%s: 35 more sent %d messages and wrote %d entities", tt.route, s-sent, w-written)
		}
	}
	spec, err := openapitest.ReadSpecification("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range spec.Bodyless() {
		if !did[route] {
			t.Errorf("%s takes no body and may come forty times; try it here", route)
		}
	}
}

// A thousand jobs with a message among every hundred that the host cannot hand over:
// whole batches die of them. All jobs run, each once, and every bad message is on
// `rejected` with its content.
func TestBadMessagesAmongAThousand(t *testing.T) {
	t.Parallel()
	i := startInstance(t, map[string]string{"RECONCILE_SCHEDULE": "* * * * * *", "DSVM_REVIVE_AFTER": "1s,2s,4s,8s"})
	i.apply(`{"name":"cpu","sizes":["Standard_D4s_v5"],"nodes":{"min":2,"max":2},"idleTimeout":"1h"}`)
	host, _ := tolerant.Endpoint(i.ServiceBus)
	client, err := azservicebus.NewClientFromConnectionString(i.ServiceBus, &azservicebus.ClientOptions{
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
	const n = 1000
	bad := []azservicebus.AMQPAnnotatedMessageBody{
		{Value: map[string]any{"pool": "cpu", "price": tolerantest.Decimal}},
		{Sequence: [][]any{{"cpu", int64(1)}}},
		{Value: tolerantest.Decimal},
		{Value: int64(7)},
	}
	content := []string{`"price": "1.5"`, `"cpu"`, `"1.5"`, "7"}
	batch, err := s.NewMessageBatch(i.ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	add := func(m *azservicebus.AMQPAnnotatedMessage) {
		t.Helper()
		if err := batch.AddAMQPAnnotatedMessage(m, nil); err == nil {
			return
		}
		if err := s.SendMessageBatch(i.ctx, batch, nil); err != nil {
			t.Fatal(err)
		}
		if batch, err = s.NewMessageBatch(i.ctx, nil); err == nil {
			err = batch.AddAMQPAnnotatedMessage(m, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for k := range n {
		if k%100 == 50 {
			add(
				&azservicebus.AMQPAnnotatedMessage{
					Body:       bad[k/100%len(bad)],
					Properties: &azservicebus.AMQPAnnotatedMessageProperties{MessageID: fmt.Sprintf("bad-%d", k/100)},
				},
			)
		}
		doc := fmt.Appendf(nil, `{"id":"job-%d","pool":"cpu","command":["sh","-c","echo ran >> $DSVM_SHARE/job-%d"]}`, k, k)
		m := &azservicebus.AMQPAnnotatedMessage{Body: azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{doc}}}
		if k%3 == 0 {
			m.Body = azservicebus.AMQPAnnotatedMessageBody{Value: string(doc)} // as JMS and others send texts
		}
		add(m)
	}
	if err := s.SendMessageBatch(i.ctx, batch, nil); err != nil {
		t.Fatal(err)
	}
	rejected, err := i.bus.NewReceiverForQueue("rejected", nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for len(seen) < n/100 {
		got, err := rejected.ReceiveMessages(i.ctx, 10, nil)
		if err != nil {
			t.Fatalf("%d bad messages were rejected: %v", len(seen), err)
		}
		for _, m := range got {
			var k int
			fmt.Sscanf(m.MessageID, "bad-%d", &k)
			reason, _ := m.ApplicationProperties["reason"].(string)
			if seen[m.MessageID] || !strings.HasPrefix(m.MessageID, "bad-") || !strings.Contains(string(m.Body), content[k%len(content)]) ||
				!strings.Contains(reason, "AMQP") {
				t.Errorf("%s was rejected as %s with %q", m.MessageID, m.Body, reason)
			}
			seen[m.MessageID] = true
			if err := rejected.CompleteMessage(i.ctx, m, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	i.until("all jobs' ends", func() bool {
		p, err := i.client.Pool(i.ctx, "cpu")
		active, scheduled, locked, dead := i.Bus.Counts("jobs")
		return err == nil && p.Queued+p.Running == 0 && active+scheduled+locked+dead == 0
	})
	for k := range n {
		if ran, err := os.ReadFile(fmt.Sprintf("%s/job-%d", i.Share, k)); err != nil || string(ran) != "ran\n" {
			t.Errorf("job %d ran as %q, %v", k, ran, err)
		}
	}
	if active, _, _, _ := i.Bus.Counts("rejected"); active > 0 {
		t.Errorf("%d more were rejected", active)
	}
}
