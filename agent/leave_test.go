//go:build unix

package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// host is a metadata endpoint. Its events are what is put there.
type host struct {
	url string

	mu       sync.Mutex
	events   []scheduledEvent
	failures int // requests that fail first
	approved chan string
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{approved: make(chan string, 10)}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	h.url = s.URL + "/node/key"
	return h
}

func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failures > 0 || r.Header.Get("Metadata") != "true" {
		h.failures--
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	switch r.Method + " " + r.URL.Path + "?" + r.URL.RawQuery {
	case "GET /node/key/metadata/instance/compute?api-version=" + instanceVersion:
		fmt.Fprint(w, `{"vmId":"02AAB8A4-74EF-476E-8182-F6D2BA4166A6","name":"cpu_7","vmSize":"Standard_D4s_v5","tagsList":[{"name":"team","value":"x"},{"name":"dsvmpools-pool","value":"cpu"}]}`)
	case "GET /node/key/metadata/scheduledevents?api-version=" + eventsVersion:
		json.NewEncoder(w).Encode(map[string]any{"DocumentIncarnation": 1, "Events": h.events})
	case "POST /node/key/metadata/scheduledevents?api-version=" + eventsVersion:
		var p struct{ StartRequests []struct{ EventID string } }
		json.NewDecoder(r.Body).Decode(&p)
		h.approved <- p.StartRequests[0].EventID
	default:
		http.NotFound(w, r)
	}
}

func (h *host) announce(in time.Duration, kind string, names ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, scheduledEvent{EventID: "E-" + kind, EventType: kind, EventStatus: "Scheduled", ResourceType: "VirtualMachine",
		Resources: names, NotBefore: time.Now().Add(in).UTC().Format(http.TimeFormat)})
}

func leavings(all []protocol.Report) (found []protocol.Leaving) {
	for _, r := range all {
		for _, i := range r.Items {
			if i.Leaving != nil {
				found = append(found, *i.Leaving)
			}
		}
	}
	return found
}

func TestEviction(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	cfg := config(t)
	cfg.Metadata = h.url
	n := launched(t, cfg, newBus(t))
	n.work(assign(1, "/bin/sh", "-c",
		"trap 'echo saved > $DSVM_OUTPUT/checkpoint; exit 0' TERM; touch $DSVM_OUTPUT/up; while :; do sleep 0.01; done"),
		assign(2, "/bin/sh", "-c", "trap '' TERM; touch $DSVM_OUTPUT/up; while :; do sleep 0.01; done"))
	n.until("both starts", func(all []protocol.Report) bool { return starts(all) == 2 })
	for _, id := range []int64{1, 2} {
		awaitFile(t, n, id, "output/up")
	}
	h.announce(time.Hour, "Freeze", "cpu_0")
	h.announce(time.Hour, "Preempt", "cpu_1") // a neighbour
	h.announce(2*time.Second, "Preempt", "cpu_1", "CPU_0")
	for _, id := range []int64{1, 2} {
		if f := n.finished(id); f.State != string(job.AttemptEvicted) || f.ExitCode != job.ExitEvicted || f.StartedAt.IsZero() {
			t.Errorf("attempt %d: got %+v, want it evicted", id, f)
		}
	}
	if got := n.file(1, "output/checkpoint"); got != "saved\n" {
		t.Errorf("checkpoint: got %q", got)
	}
	n.until("the announcement", func(all []protocol.Report) bool {
		l := leavings(all)
		return len(l) == 1 && l[0].Event == "Preempt" && l[0].Reason != "" && !l[0].At.IsZero()
	})
	select {
	case id := <-h.approved:
		if id != "E-Preempt" {
			t.Errorf("acknowledged: got %s", id)
		}
	case <-time.After(deadline):
		t.Error("the event was not acknowledged")
	}
	// What comes all the same does not start.
	n.work(assign(3, "true"))
	if f := n.finished(3); f.State != string(job.AttemptEvicted) || !f.StartedAt.IsZero() {
		t.Errorf("assigned too late: got %+v", f)
	}
	n.settled()
}

func starts(all []protocol.Report) (n int) {
	for _, r := range all {
		for _, i := range r.Items {
			if i.Started != nil {
				n++
			}
		}
	}
	return n
}

// awaitFile waits for a file that an attempt makes.
func awaitFile(t *testing.T, n *node, id int64, name string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(deadline)
	for {
		if _, err := os.Stat(fmt.Sprintf("%s/jobs/cpu/job-%d/1/%s", n.cfg.Share, id, name)); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("attempt %d makes no %s", id, name)
		}
	}
}

// The VM of an idle node goes as soon as the pool has been told.
func TestEvictionOfAnIdleNode(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.failures = 1
	h.announce(time.Hour, "Terminate", "cpu_0")
	cfg := config(t)
	cfg.Metadata = h.url
	n := launched(t, cfg, newBus(t))
	select {
	case <-h.approved:
	case <-time.After(deadline):
		t.Fatal("the event was not acknowledged")
	}
	n.until("the announcement", func(all []protocol.Report) bool { return len(leavings(all)) == 1 })
}

func TestNodeAsksWhoItIs(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.failures = 1
	settings := map[string]string{"DSVM_METADATA_ENDPOINT": h.url, "DSVM_INSTANCE_DIR": t.TempDir(), "SHARE_PATH": "/share",
		"ServiceBusConnection": "secret"}
	cfg, err := ReadConfig(func(name string) string { return settings[name] })
	if err != nil {
		t.Fatal(err)
	}
	if !cfg.identify(t.Context()) || cfg.checkIdentity() != nil {
		t.Fatalf("got %+v, %v", cfg, cfg.checkIdentity())
	}
	if cfg.VMID != "02aab8a4-74ef-476e-8182-f6d2ba4166a6" || cfg.Node != "cpu_7" || cfg.Size != "Standard_D4s_v5" || cfg.Pool != "cpu" {
		t.Errorf("got %s %s %s %s", cfg.VMID, cfg.Node, cfg.Size, cfg.Pool)
	}
	settings["DSVM_NODE"], settings["DSVM_POOL"] = "mine", "gpu"
	if cfg, err = ReadConfig(func(name string) string { return settings[name] }); err != nil || !cfg.identify(t.Context()) ||
		cfg.Node != "mine" || cfg.Pool != "gpu" {
		t.Errorf("settings go first: got %s %s, %v", cfg.Node, cfg.Pool, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cfg.VMID = ""
	if cfg.identify(ctx) {
		t.Error("got an identity of nobody")
	}
	for _, bad := range []string{"169.254.169.254", "https://x", "http://u@x", "http://x?y", "http://%"} {
		settings["DSVM_METADATA_ENDPOINT"] = bad
		if _, err := ReadConfig(func(name string) string { return settings[name] }); err == nil ||
			!strings.Contains(err.Error(), "DSVM_METADATA_ENDPOINT") {
			t.Errorf("%s: got %v", bad, err)
		}
	}
}

// FuzzEvents: no document of events ends the agent, and only an event that names
// the node ends the node.
func FuzzEvents(f *testing.F) {
	f.Add(`{"DocumentIncarnation":1,"Events":[{"EventId":"A","EventType":"Preempt","EventStatus":"Scheduled","Resources":["cpu_0"],"NotBefore":"Mon, 19 Sep 2016 18:29:47 GMT"}]}`)
	f.Add(`{"Events":[{"EventType":"Terminate","Resources":[null,"cpu_0"],"NotBefore":""}]}`)
	f.Add(`{"Events":null}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, text string) {
		var document struct{ Events []scheduledEvent }
		if json.Unmarshal([]byte(text), &document) != nil {
			return
		}
		for _, e := range document.Events {
			if e.endsNode("cpu_0") && !strings.Contains(strings.ToLower(strings.Join(e.Resources, "\n")), "cpu_0") {
				t.Errorf("%+v ends cpu_0", e)
			}
			if now := time.Now(); e.NotBefore == "" && !e.at(now).Equal(now) {
				t.Errorf("%+v has a time", e)
			}
		}
	})
}
