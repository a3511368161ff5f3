package service_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/handlers"
	"dsvmpools/local/servicebus"
	"dsvmpools/local/tables"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/fleet"
	"dsvmpools/shared/job"
	"dsvmpools/shared/outbound"
	"dsvmpools/shared/push"
	"dsvmpools/shared/push/status"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/service"
	"dsvmpools/shared/store"
	"dsvmpools/shared/wire"
)

const hookSecret = "It's a Secret to Everybody"

// hook is an app with real tables and queues, as a Git host sees it.
type hook struct {
	*handlers.Functions
	service  *service.Service
	store    *store.Store
	config   service.Config // of the service
	clock    func() time.Time
	share    string // that the API serves logs from
	t        *testing.T
	http     http.Handler
	client   *azservicebus.Client
	receiver *azservicebus.Receiver
	log      *journal
	statuses *recorder
	server   *servicebus.Server
}

// journal is a log that several goroutines write.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// recorder is a Git host's API that remembers what it was told.
type recorder struct {
	mu    sync.Mutex
	got   []string
	words string // of the last one
	fail  int    // answers with 429 so often
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, _ := io.ReadAll(q.Body)
	var in struct{ State, Context, Description string }
	_ = json.Unmarshal(body, &in)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail > 0 {
		r.fail--
		w.Header().Set("Retry-After", "90")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	r.got = append(r.got, q.URL.Path[strings.LastIndexByte(q.URL.Path, '/')+1:][:4]+" "+in.State+" "+in.Context)
	r.words = in.Description
	w.WriteHeader(http.StatusCreated)
}

func (r *recorder) told() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.got, ", ")
}

func newHook(t *testing.T, rules string) *hook {
	t.Helper()
	dir := t.TempDir()
	key := "a2V5a2V5a2V5a2V5"
	tb, err := tables.Start(
		tables.Config{Addr: "127.0.0.1:0", Path: filepath.Join(dir, "t.db"), Account: "test", Key: key, Log: slog.New(slog.DiscardHandler)},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tb.Close() })
	sb, err := servicebus.Start(servicebus.Config{Addr: "127.0.0.1:0", Path: filepath.Join(dir, "s.db"),
		Queues: []servicebus.QueueConfig{
			{Name: "jobs"},
			{Name: "pools"},
			{Name: "pool-events"},
			{Name: "rejected"},
			{Name: "node-events"},
			{Name: "work", RequiresSession: true},
		},
		AccessKeys: []servicebus.AccessKey{{Name: "all", Key: key, Send: true, Listen: true, Manage: true}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sb.Close() })
	h := &hook{t: t, log: &journal{}, statuses: &recorder{}, server: sb}
	git := httptest.NewServer(h.statuses)
	t.Cleanup(git.Close)
	settings := map[string]string{"GITHUB_PUSH_SECRET": hookSecret, "GITHUB_PUSH_TOKEN": "t0ken", "DSVM_PUBLIC_URL": "https://dsvm.example"}
	here, err := outbound.Parse("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(store.Config{ConnectionString: tb.ConnectionString()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	b, err := bus.Open(bus.Config{ConnectionString: sb.ConnectionString("all"), Queues: bus.DefaultQueues})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(context.WithoutCancel(t.Context())) })
	scaleSets, err := fleet.New(fleet.Config{
		SubscriptionID: "s",
		ResourceGroup:  "g",
		Region:         "l",
		Endpoint:       "http://127.0.0.1:1",
		Credential:     fleet.StaticCredential("k"),
	})
	if err != nil {
		t.Fatal(err)
	}
	hosts := here.Client()
	h.store = st
	h.clock = func() time.Time { return time.Now().UTC() }
	h.config = service.Config{
		Store:   st,
		Bus:     b,
		Fleet:   service.NewFleet(scaleSets, service.NodeModel{Model: fleet.Model{Region: "l", SSHPublicKey: "ssh-ed25519 AAAA"}}, nil),
		Timing:  scheduler.DefaultTiming,
		Region:  "l",
		Sizes:   scaleSets.Sizes,
		Setting: func(name string) string { return settings[name] },
		Statuses: func(rule *push.Rule, token string) service.StatusPoster {
			return status.Poster{Provider: rule.Provider, Server: rule.Server, API: rule.Status.API, Token: token, Client: hosts}
		},
		Log: slog.New(slog.NewTextHandler(h.log, nil)),
		Now: h.now,
	}
	h.share = dir
	h.restart()
	if err := h.store.CreateTables(t.Context()); err != nil {
		t.Fatal(err)
	}
	client, err := azservicebus.NewClientFromConnectionString(sb.ConnectionString("all"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(context.WithoutCancel(t.Context())) })
	h.client = client
	if h.receiver, err = client.NewReceiverForQueue("jobs", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete}); err != nil {
		t.Fatal(err)
	}
	w := h.call("POST", "/api/rules", nil, []byte(strings.ReplaceAll(rules, "HOSTAPI", git.URL)))
	if w.Code != http.StatusOK {
		t.Fatalf("the rules: %d %s", w.Code, w.Body)
	}
	return h
}

func (h *hook) now() time.Time { return h.clock() }

// restart stands for another process of the app.
func (h *hook) restart() {
	h.service = service.New(h.config)
	h.Functions = handlers.New(handlers.Config{Service: h.service, Bus: h.config.Bus, Log: h.config.Log, Now: h.now})
	h.http = h.API(h.share)
}

// change starts the app again with other settings.
func (h *hook) change(change func(c *service.Config)) {
	change(&h.config)
	h.restart()
}

// reviveAfter is the default of DSVM_REVIVE_AFTER.
var reviveAfter = []time.Duration{time.Minute, 10 * time.Minute, time.Hour}

func (h *hook) call(method, path string, header map[string]string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.http.ServeHTTP(w, r)
	return w
}

// payload is a push of GitHub from one commit to another.
func payload(ref, before, after string) []byte {
	before, after = strings.Repeat(before, 40), strings.Repeat(after, 40)
	return fmt.Appendf(
		nil,
		`{"ref":%q,"before":%q,"after":%q,"commits":[{"id":%[3]q,"message":"m","modified":["a.py"]}],"head_commit":{"id":%[3]q,"message":"m","author":{"username":"ann"}},"repository":{"full_name":"octo/model","clone_url":"https://github.com/octo/model.git"},"pusher":{"name":"ann"}}`,
		ref,
		before,
		after,
	)
}

// push delivers a payload and returns the jobs that it starts, and why or why
// not.
func (h *hook) push(delivery string, body []byte) (jobs []string, reason string) {
	h.t.Helper()
	m := hmac.New(sha256.New, []byte(hookSecret))
	m.Write(body)
	w := h.call(
		"POST",
		"/api/push/github",
		map[string]string{
			"X-GitHub-Event":      "push",
			"X-GitHub-Delivery":   delivery,
			"X-Hub-Signature-256": "sha256=" + hex.EncodeToString(m.Sum(nil)),
		},
		body,
	)
	var answer wire.PushAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusAccepted || len(answer.Rules) != 1 {
		h.t.Errorf("got %d %s", w.Code, w.Body)
		return nil, ""
	}
	return answer.Rules[0].Jobs, answer.Rules[0].Reason
}

// queued takes so many jobs off the queue, and looks that no more are there.
func (h *hook) queued(want int) []*azservicebus.ReceivedMessage {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	var all []*azservicebus.ReceivedMessage
	for len(all) < want {
		got, err := h.receiver.ReceiveMessages(ctx, want-len(all), nil)
		if err != nil {
			h.t.Fatalf("%d of %d jobs came: %v", len(all), want, err)
		}
		all = append(all, got...)
	}
	if more, err := h.receiver.PeekMessages(ctx, 1, nil); err != nil || len(more) > 0 {
		h.t.Errorf("%d more jobs are on the queue, %v", len(more), err)
	}
	return all
}

const aRule = `{"name":"r","provider":"github","repository":"octo/model","secret":"GITHUB_PUSH_SECRET","job":{"pool":"cpu","command":["train","{{.Commit}}"]}`

// The address of a push may be written in any case, and end in a slash.
func TestAddressOfAPush(t *testing.T) {
	t.Parallel()
	h := newHook(t, aRule+`}`)
	for path, want := range map[string]int{"/api/push/github": 401, "/api/Push/GitHub/": 401, "/api/push/GITHUB": 401, "/api/push/github/x": 404, "/api/push/nobody": 404} {
		if w := h.call("POST", path, map[string]string{"X-GitHub-Event": "push"}, []byte("{}")); w.Code != want {
			t.Errorf("%s: got %d, want %d", path, w.Code, want)
		}
	}
}

func TestPushStartsJobs(t *testing.T) {
	t.Parallel()
	h := newHook(t, aRule+`}`)
	body := payload("refs/heads/main", "1", "2")
	jobs, reason := h.push("d1", body)
	if len(jobs) != 1 || !strings.Contains(reason, "fits the rule") {
		t.Fatalf("got %v: %s", jobs, reason)
	}
	m := h.queued(1)[0]
	spec, err := job.Parse(m.Body, *m.ContentType)
	if err != nil || spec.ID != jobs[0] || m.MessageID != jobs[0] || spec.Command[1] != strings.Repeat("2", 40) ||
		spec.Source.Repository != "https://github.com/octo/model.git" || spec.Source.Commit != strings.Repeat("2", 40) {
		t.Errorf("got %+v, %v", spec, err)
	}
	// The same again, under any id, also after a restart, does nothing.
	for _, delivery := range []string{"d1", "d2"} {
		if jobs, reason = h.push(delivery, body); len(jobs) > 0 || !strings.Contains(reason, "before") {
			t.Errorf("%s: got %v: %s", delivery, jobs, reason)
		}
	}
	h.restart()
	h.http = h.API(t.TempDir())
	if jobs, _ = h.push("d1", body); len(jobs) > 0 {
		t.Errorf("after a restart: got %v", jobs)
	}
	h.queued(0)
}

// A delivery that was cut short before it was done is done again, with the same
// ids.
func TestPushCutShort(t *testing.T) {
	t.Parallel()
	h := newHook(t, aRule+`}`)
	body := payload("refs/heads/main", "1", "2")
	first, _ := h.push("d1", body)
	row, err := h.store.PushesOfRef(t.Context(), "r", "octo/model", "refs/heads/main")
	if err != nil || len(row) != 1 {
		t.Fatal(row, err)
	}
	unsend := func(st *store.PushRecord) bool { st.Sent = false; return true }
	if _, err := h.store.ChangePush(t.Context(), "r", row[0].Key, unsend); err != nil {
		t.Fatal(err)
	}
	again, _ := h.push("d1", body)
	if len(again) != 1 || again[0] != first[0] {
		t.Errorf("got %v, want %v", again, first)
	}
	if m := h.queued(2); m[0].MessageID != m[1].MessageID {
		t.Error("the two messages are of two jobs")
	}
}

func TestPushRefused(t *testing.T) {
	t.Parallel()
	h := newHook(t, aRule+`}`)
	body := payload("refs/heads/main", "1", "2")
	for name, signature := range map[string]string{"forged": "sha256=" + strings.Repeat("0", 64), "missing": ""} {
		if w := h.call("POST", "/api/push/github", map[string]string{"X-GitHub-Event": "push", "X-Hub-Signature-256": signature}, body); w.Code != http.StatusUnauthorized {
			t.Errorf("%s: got %d %s", name, w.Code, w.Body)
		}
	}
	m := hmac.New(sha256.New, []byte(hookSecret))
	m.Write(body)
	good := "sha256=" + hex.EncodeToString(m.Sum(nil))
	if w := h.call("POST", "/api/push/github", map[string]string{"X-GitHub-Event": "push", "X-Hub-Signature-256": good}, body[:len(body)-9]); w.Code != http.StatusUnauthorized {
		t.Errorf("cut off: got %d", w.Code)
	}
	if w := h.call("POST", "/api/push/gitlab", map[string]string{"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": hookSecret}, body); w.Code != http.StatusUnauthorized {
		t.Errorf("a secret of another provider's rule: got %d", w.Code)
	}
	h.queued(0)
	if strings.Contains(h.log.String(), hookSecret) {
		t.Error("the log has the secret")
	}
}

func TestPushesPerHour(t *testing.T) {
	t.Parallel()
	h := newHook(t, aRule+`,"limits":{"pushesPerHour":2}}`)
	for i, want := range []int{1, 1, 0} {
		if jobs, reason := h.push("d", payload("refs/heads/b"+fmt.Sprint(i), "1", "2")); len(jobs) != want {
			t.Errorf("push %d: got %v: %s", i, jobs, reason)
		}
	}
}

// TestPushOfHostileBranch: a branch whose name would mean something as an argument
// starts nothing where it would be one, and the outcome says why.
func TestPushOfHostileBranch(t *testing.T) {
	t.Parallel()
	h := newHook(t, strings.Replace(aRule, `"{{.Commit}}"`, `"{{.Branch}}"`, 1)+`}`)
	jobs, reason := h.push("d1", payload("refs/heads/--upload-pack=reboot", "1", "2"))
	if len(jobs) > 0 || !strings.Contains(reason, "branch --upload-pack=reboot is not passed in `command[1]`") ||
		!strings.Contains(reason, "$PUSH_BRANCH") {
		t.Errorf("got %v: %s", jobs, reason)
	}
	h.queued(0)
	if jobs, reason = h.push("d2", payload("refs/heads/fix/a-1", "1", "2")); len(jobs) != 1 {
		t.Errorf("got %v: %s", jobs, reason)
	}
	h.queued(1)
}
