package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/local"
	"dsvmpools/local/chaos"
	"dsvmpools/shared/client"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// instance is a deployment in this process, whose handler and nodes are real
// processes.
type instance struct {
	*local.Instance
	t      testing.TB
	client *client.Client
	bus    *azservicebus.Client
	ctx    context.Context

	mu    sync.Mutex
	asked []int // capacities that were asked for
}

func startInstance(t testing.TB, settings map[string]string, change ...func(*local.Config)) *instance {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	i := &instance{t: t, ctx: ctx}
	cfg := local.Config{Dir: t.TempDir(), Program: []string{os.Args[0]}, Settings: settings, BootDelay: 50 * time.Millisecond,
		OnCapacity: func(_ string, n int, _ time.Time) {
			i.mu.Lock()
			defer i.mu.Unlock()
			i.asked = append(i.asked, n)
		}}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if i.Instance, err = local.Start(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	if i.client, err = client.New(i.URL, i.Key); err != nil {
		t.Fatal(err)
	}
	if i.bus, err = azservicebus.NewClientFromConnectionString(i.ServiceBus, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.bus.Close(context.Background()) })
	return i
}

func (i *instance) apply(doc string) {
	i.t.Helper()
	if _, err := i.client.Apply(i.ctx, []byte(doc)); err != nil {
		i.t.Fatal(err)
	}
}

func (i *instance) send(queue string, messages ...*azservicebus.Message) {
	i.t.Helper()
	s, err := i.bus.NewSender(queue, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	defer s.Close(i.ctx)
	for _, m := range messages {
		if err := s.SendMessage(i.ctx, m, nil); err != nil {
			i.t.Fatal(err)
		}
	}
}

func (i *instance) until(what string, ok func() bool) {
	i.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-i.ctx.Done():
			i.t.Fatalf("%s did not happen", what)
		}
	}
}

// job waits for a job's end.
func (i *instance) job(id string) wire.Job {
	i.t.Helper()
	var j wire.Job
	i.until("the end of job "+id, func() bool {
		var err error
		j, err = i.client.Job(i.ctx, id)
		return err == nil && j.State.Final()
	})
	return j
}

func (i *instance) jobs(n int) []wire.Job {
	i.t.Helper()
	var jobs []wire.Job
	i.until(fmt.Sprintf("the end of %d jobs", n), func() bool {
		var err error
		jobs, err = i.client.Jobs(i.ctx, client.JobFilter{}, n+1)
		return err == nil && len(jobs) >= n && !slices.ContainsFunc(jobs, func(j wire.Job) bool { return !j.State.Final() })
	})
	return jobs
}

func body(format string, args ...any) *azservicebus.Message {
	return &azservicebus.Message{Body: fmt.Appendf(nil, format, args...)}
}

// Two handlers take from the same queues and drive the same pool at once, as on
// a plan that scales out: limits hold, and nothing is done twice.
func TestTwoHandlersDriveOnePool(t *testing.T) {
	t.Parallel()
	i := startInstance(t, nil)
	if _, err := i.ScaleOut(i.ctx); err != nil {
		t.Fatal(err)
	}
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":3}}`)
	const n = 60
	var wg sync.WaitGroup
	for part := range 4 {
		wg.Go(func() {
			var all []*azservicebus.Message
			for k := part; k < n; k += 4 {
				m := body(`{"id":"job-%d","pool":"cpu","command":["sh","-c","echo ran >> $DSVM_SHARE/job-%d; sleep 0.05"]}`, k, k)
				all = append(all, m, m) // each comes twice
			}
			i.send("jobs", all...)
		})
	}
	wg.Wait()
	type edge struct {
		at    time.Time
		start bool
	}
	edges := map[string][]edge{}
	for _, j := range i.jobs(n) {
		if j.State != job.Succeeded || len(j.Attempts) != 1 {
			t.Errorf("job %s is %s after %d attempts: %s", j.ID, j.State, len(j.Attempts), j.Reason)
			continue
		}
		a := j.Attempts[0]
		edges[a.Node] = append(edges[a.Node], edge{*a.StartedAt, true}, edge{*a.EndedAt, false})
		if ran, err := os.ReadFile(i.Share + "/" + j.ID); err != nil || string(ran) != "ran\n" {
			t.Errorf("job %s ran as %q, %v", j.ID, ran, err)
		}
	}
	for node, list := range edges {
		slices.SortFunc(list, func(a, b edge) int { return a.at.Compare(b.at) })
		running, most := 0, 0
		for _, e := range list {
			if e.start {
				running++
			} else {
				running--
			}
			most = max(most, running)
		}
		if most > 2 {
			t.Errorf("node %s has 2 cpus and ran %d jobs at once", node, most)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if slices.Max(i.asked) > 3 {
		t.Errorf("capacities %v were asked for; the pool has at most 3 nodes", i.asked)
	}
}

// Bad input on the queue: each gets a sentence that names the field and what to
// do, its message is on `rejected`, and the others of its batch go on.
func TestRejectedMessages(t *testing.T) {
	t.Parallel()
	i := startInstance(t, map[string]string{"DSVM_UNKNOWN_POOL_AGAIN": "100ms"})
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1}}`)
	tests := []struct {
		id, body, field, says string
	}{
		{"", `{"pool":`, "", "not valid JSON"},
		{"unknown-field", `{"id":"unknown-field","pool":"cpu","comand":["x"]}`, "comand", "did you mean `command`"},
		{"wrong-type", `{"id":"wrong-type","pool":"cpu","command":"x"}`, "command", "write a list"},
		{"no-pool-there", `{"id":"no-pool-there","pool":"gpu","command":["x"]}`, "pool", `there is no pool "gpu"`},
		{"no-command", `{"id":"no-command","pool":"cpu","command":[]}`, "command", "`command` is missing"},
		{"bad-duration", `{"id":"bad-duration","pool":"cpu","command":["x"],"timeout":"soon"}`, "timeout", "write 90s, 15m, 2h or 1d"},
		{"", `{"id":"no spaces","pool":"cpu","command":["x"]}`, "id", "1 to 100 characters"},
		{"too-long", `{"id":"too-long","pool":"cpu","command":["` + strings.Repeat("x", 33<<10) + `"]}`, "", "files on the share"},
		{"not-yet", `{"id":"not-yet","pool":"cpu","command":["x"],"image":"x"}`, "image", "not supported yet"},
		{"too-large", `{"id":"too-large","pool":"cpu","command":["x"],"resources":{"cpus":64}}`, "resources.cpus", "ask for fewer"},
	}
	var messages []*azservicebus.Message
	for k, tt := range tests {
		id := tt.id
		if id == "" {
			id = fmt.Sprintf("message-%d", k)
		}
		messages = append(
			messages,
			&azservicebus.Message{Body: []byte(tt.body), MessageID: to.Ptr(id), ApplicationProperties: map[string]any{"sender": "me"}},
		)
	}
	i.send("jobs", append(messages, body(`{"id":"good","pool":"cpu","command":["true"]}`))...)
	r, err := i.bus.NewReceiverForQueue("rejected", nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]*azservicebus.ReceivedMessage{}
	for len(got) < len(tests) {
		ms, err := r.ReceiveMessages(i.ctx, 10, nil)
		if err != nil {
			t.Fatalf("%v; got %d of %d", err, len(got), len(tests))
		}
		for _, m := range ms {
			got[string(m.Body)] = m
			if err := r.CompleteMessage(i.ctx, m, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range tests {
		m := got[tt.body]
		if m == nil {
			t.Errorf("%.60s is not on rejected", tt.body)
			continue
		}
		p := m.ApplicationProperties
		reason, _ := p["reason"].(string)
		if p["field"] != tt.field || !strings.Contains(reason, tt.says) || p["source"] != "jobs" || p["sender"] != "me" ||
			p["rejectedAt"] == nil {
			t.Errorf("%.60s: got %v, want field %q and %q", tt.body, p, tt.field, tt.says)
		}
		if tt.id == "" {
			continue
		}
		if j := i.job(tt.id); j.State != job.Rejected || !strings.Contains(j.Reason, tt.says) {
			t.Errorf("job %s: got %s %q", tt.id, j.State, j.Reason)
		}
	}
	if j := i.job("good"); j.State != job.Succeeded {
		t.Errorf("the good one of the batch is %s: %s", j.State, j.Reason)
	}
	// A corrected message under the same id is welcome.
	i.send("jobs", body(`{"id":"unknown-field","pool":"cpu","command":["true"]}`))
	i.until("the corrected job's end", func() bool {
		j, err := i.client.Job(i.ctx, "unknown-field")
		return err == nil && j.State == job.Succeeded
	})
}

// The same job three times runs once, also when a repeat comes after its end;
// another body under its id is a conflict.
func TestRepeatsAndConflicts(t *testing.T) {
	t.Parallel()
	i := startInstance(t, nil)
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1}}`)
	same := func() *azservicebus.Message {
		return body(`{"id":"one","pool":"cpu","command":["sh","-c","echo ran >> $DSVM_SHARE/one"]}`)
	}
	i.send("jobs", same(), same())
	if j := i.job("one"); j.State != job.Succeeded {
		t.Fatalf("got %s: %s", j.State, j.Reason)
	}
	i.send("jobs", same(), body(`{"id":"one","pool":"cpu","command":["true"]}`), body(`{"id":"after","pool":"cpu","command":["true"]}`))
	if j := i.job("after"); j.State != job.Succeeded {
		t.Errorf("got %s", j.State)
	}
	i.until("the conflict on rejected", func() bool {
		active, _, _, _ := i.Bus.Counts("rejected")
		return active == 1
	})
	j := i.job("one")
	if ran, err := os.ReadFile(i.Share + "/one"); err != nil || string(ran) != "ran\n" || j.State != job.Succeeded || len(j.Attempts) != 1 {
		t.Errorf("ran %q, %v; job %s after %d attempts", ran, err, j.State, len(j.Attempts))
	}
}

// Over HTTP the same input gets a problem document.
func TestProblems(t *testing.T) {
	t.Parallel()
	i := startInstance(t, nil)
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1}}`)
	for _, tt := range []struct {
		body, key, field string
		status           int
	}{
		{`{"pool":"cpu","comand":["x"]}`, i.Key, "comand", 400},
		{`{"pool":"gpu","command":["x"]}`, i.Key, "pool", 404},
		{`{"pool":"cpu","command":["x"],"resources":{"cpus":64}}`, i.Key, "resources.cpus", 400},
		{`{"pool":"cpu","command":["true"]}`, "wrong", "", 401},
	} {
		r, _ := http.NewRequestWithContext(i.ctx, http.MethodPost, i.URL+"/api/jobs", strings.NewReader(tt.body))
		r.Header.Set("x-functions-key", tt.key)
		r.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		var p wire.Problem
		json.NewDecoder(answer.Body).Decode(&p)
		answer.Body.Close()
		if answer.StatusCode != tt.status || p.Field != tt.field || tt.field != "" && p.Detail == "" {
			t.Errorf("%s: got %d %+v, want %d and field %q", tt.body, answer.StatusCode, p, tt.status, tt.field)
		}
	}
}

// A node that is deleted behind the pool's back is replaced, and its job runs
// again; an idle pool goes back to nothing.
func TestNodeDeletedBehindOurBack(t *testing.T) {
	t.Parallel()
	i := startInstance(t, map[string]string{"DSVM_MISSING_FOR": "200ms", "DSVM_FLEET_POLL": "100ms", "RECONCILE_SCHEDULE": "* * * * * *"})
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1},"idleTimeout":"1s"}`)
	i.send("jobs", body(`{"id":"one","pool":"cpu","command":["sh","-c","[ $DSVM_ATTEMPT -gt 1 ] || sleep 600"],"retry":{"max":1,"on":["nodeLost"],"backoff":"10ms"}}`))
	i.until("the first attempt", func() bool {
		j, err := i.client.Job(i.ctx, "one")
		return err == nil && j.State == job.Running
	})
	if err := (chaos.Client{URL: i.Control, Key: i.ControlKey}).Kill(i.ctx, i.Compute.Instances()[0].Name); err != nil {
		t.Fatal(err)
	}
	j := i.job("one")
	if j.State != job.Succeeded || len(j.Attempts) != 2 || j.Attempts[0].State != job.AttemptNodeLost ||
		*j.Attempts[0].ExitCode != job.ExitNodeLost {
		t.Errorf("got %+v", j)
	}
	i.until("an empty pool", func() bool { return len(i.Compute.Instances()) == 0 })
}

// A node that is evicted says so, its job runs again without a retry, and its VM
// does not wait for the end of the notice.
func TestNodeEvicted(t *testing.T) {
	t.Parallel()
	i := startInstance(t, map[string]string{"DSVM_MISSING_FOR": "200ms", "DSVM_FLEET_POLL": "100ms", "RECONCILE_SCHEDULE": "* * * * * *"})
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1},"idleTimeout":"1s"}`)
	i.send("jobs", body(`{"id":"one","pool":"cpu","command":["sh","-c","[ $DSVM_ATTEMPT -gt 1 ] || sleep 600"]}`))
	i.until("the first attempt", func() bool {
		j, err := i.client.Job(i.ctx, "one")
		return err == nil && j.State == job.Running
	})
	began := time.Now()
	if err := (chaos.Client{URL: i.Control, Key: i.ControlKey}).Evict(i.ctx, i.Compute.Instances()[0].Name); err != nil {
		t.Fatal(err)
	}
	j := i.job("one")
	if j.State != job.Succeeded || len(j.Attempts) != 2 || j.Attempts[0].State != job.AttemptEvicted ||
		*j.Attempts[0].ExitCode != job.ExitEvicted {
		t.Errorf("got %+v", j)
	}
	if took := time.Since(began); took > 25*time.Second {
		t.Errorf("it took %s, as long as the notice", took)
	}
}

// Cancelling ends a job that runs and one that waits; deleting a pool ends
// everything it has.
func TestCancelAndDelete(t *testing.T) {
	t.Parallel()
	i := startInstance(t, map[string]string{"DSVM_FLEET_POLL": "100ms"})
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1},"pack":false}`)
	i.send(
		"jobs",
		body(`{"id":"runs","pool":"cpu","command":["sleep","600"]}`),
		body(`{"id":"waits","pool":"cpu","command":["sleep","600"]}`),
		body(`{"id":"stays","pool":"cpu","command":["sleep","600"]}`),
	)
	i.until("the first job's start", func() bool {
		j, err := i.client.Job(i.ctx, "runs")
		return err == nil && j.State == job.Running
	})
	for _, id := range []string{"waits", "runs"} {
		if _, err := i.client.Cancel(i.ctx, id); err != nil {
			t.Fatal(err)
		}
		if j := i.job(id); j.State != job.Cancelled {
			t.Errorf("job %s is %s: %s", id, j.State, j.Reason)
		}
	}
	if _, err := i.client.Delete(i.ctx, "cpu"); err != nil {
		t.Fatal(err)
	}
	i.until("the pool's end", func() bool {
		pools, err := i.client.Pools(i.ctx)
		return err == nil && len(pools) == 0 && len(i.Compute.Instances()) == 0
	})
}
