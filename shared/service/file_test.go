package service_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/shared/invoke"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/service"
)

const fileRule = `{"name":"r","provider":"github","repository":"octo/model","secret":"GITHUB_PUSH_SECRET","team":"vision","fromFile":true,"cancelPrevious":true,
"status":{"token":"GITHUB_PUSH_TOKEN","api":"HOSTAPI"},"pools":["gpu"],"job":{"pool":"cpu","source":{"credential":"octo","path":"ml"}}}`

const goodFile = "jobs:\n- {id: prep, pool: gpu, command: [make, '{{.Branch}}']}\n- {pool: gpu, script: train, after: [prep]}\n- {command: [lint]}\n"

// newFileHook is an app with a rule whose jobs stand in a file, and a pool with a
// node that could read it.
func newFileHook(t *testing.T) *hook {
	t.Helper()
	h := newHook(t, fileRule)
	for _, name := range []string{"cpu", "gpu"} {
		spec, err := pool.Parse(fmt.Appendf(nil, `{"name":%q,"sizes":["Standard_D4s_v5"],"nodes":{"max":2}}`, name), "application/json")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.service.Pools.Apply(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	h.report(protocol.ReportItem{Ready: &protocol.Ready{Name: "cpu-1", Size: "Standard_D4s_v5", CPUs: 4, Boot: "1"}})
	return h
}

// report brings what the node says, as it comes from its queue.
func (h *hook) report(items ...protocol.ReportItem) {
	h.t.Helper()
	body, err := json.Marshal(protocol.Report{V: protocol.Version, Pool: "cpu", VMID: "vm-1", Seen: 1000, Items: items})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.NodeReport(h.t.Context(), []invoke.Message{{Body: body, EnqueuedAt: h.now()}}); err != nil {
		h.t.Fatal(err)
	}
}

// take has the app take jobs off their queue.
func (h *hook) take(messages []*azservicebus.ReceivedMessage) {
	h.t.Helper()
	var in []invoke.Message
	for _, m := range messages {
		in = append(in, invoke.Message{ID: m.MessageID, Body: m.Body, ContentType: *m.ContentType, Properties: m.ApplicationProperties})
	}
	if err := h.SubmitJob(h.t.Context(), in); err != nil {
		h.t.Fatal(err)
	}
}

// read pushes, and has the node be given the reader. It returns the reader, and
// how the node tells of the file.
func (h *hook) read(ref, before, after, text string) (reader string, done protocol.ReportItem) {
	h.t.Helper()
	jobs, reason := h.push("d", payload(ref, before, after))
	if len(jobs) != 1 || !strings.Contains(reason, "from the file ml/.dsvm.yaml") {
		h.t.Fatalf("got %v: %s", jobs, reason)
	}
	h.take(h.queued(1))
	j := h.job(jobs[0])
	if j.State != job.Assigned || j.Spec.Source.Path != "ml" || j.Spec.Source.Credential != "octo" ||
		j.Spec.Source.Commit != strings.Repeat(after, 40) ||
		j.Spec.Team != "vision" {
		h.t.Fatalf("the reader is %+v", j)
	}
	return j.ID, protocol.ReportItem{
		Finished: &protocol.Finished{N: j.N, State: "succeeded", StartedAt: h.now(), EndedAt: h.now(), File: text},
	}
}

func (h *hook) job(id string) *pool.Job {
	h.t.Helper()
	j, err := h.service.Jobs.Job(h.t.Context(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	return j
}

// sent are the jobs on the queue, by id.
func (h *hook) sent(want int) map[string]job.Spec {
	h.t.Helper()
	all := map[string]job.Spec{}
	for _, m := range h.queued(want) {
		spec, err := job.Parse(m.Body, *m.ContentType)
		if err != nil || spec.ID != m.MessageID {
			h.t.Errorf("%v: %s", err, m.Body)
		}
		all[spec.ID] = spec
	}
	return all
}

func (h *hook) statusNow() string {
	h.t.Helper()
	if err := h.CommitStatus(h.t.Context(), invoke.Tick{}); err != nil {
		h.t.Fatal(err)
	}
	return h.statuses.told()
}

func TestFileStartsJobs(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	reader, done := h.read("refs/heads/main", "1", "2", goodFile)
	h.report(done)
	jobs := h.sent(3)
	prep, train, lint := jobs[reader+"-prep"], jobs[reader+"-2"], jobs[reader+"-3"]
	if prep.Pool != "gpu" || lint.Pool != "cpu" || train.Pool != "gpu" || prep.Team != "vision" || prep.Command[1] != "main" ||
		prep.Env["PUSH_BRANCH"] != "main" ||
		train.After[0] != prep.ID {
		t.Errorf("got %+v\n%+v", prep, train)
	}
	if s := train.Source; s == nil || s.Commit != strings.Repeat("2", 40) || s.Credential != "octo" || s.Path != "ml" ||
		s.Repository != "https://github.com/octo/model.git" {
		t.Errorf("the source is %+v", s)
	}
	if j := h.job(reader); j.State != job.Succeeded {
		t.Errorf("the reader is %s: %s", j.State, j.Reason)
	}
	told := h.statusNow()
	for _, want := range []string{"2222 success dsvm/r", "2222 pending dsvm/r/prep", "2222 pending dsvm/r/2"} {
		if !slices.Contains(strings.Split(told, ", "), want) {
			t.Errorf("told %q, want %q in it", told, want)
		}
	}
	// What the node says again, and the host delivers again, changes nothing.
	h.report(done)
	if jobs, _ := h.push("d", payload("refs/heads/main", "1", "2")); len(jobs) > 0 {
		t.Errorf("delivered again: %v", jobs)
	}
	h.queued(0)
	// A newer push cancels what the file has started.
	h.push("d", payload("refs/heads/main", "2", "3"))
	var owed []string
	rows, err := h.store.StatusWatches(t.Context())
	for _, row := range rows {
		if row.Cancel {
			owed = append(owed, row.Job)
		}
	}
	if err != nil || len(owed) != 3 || !slices.Contains(owed, prep.ID) || !slices.Contains(owed, train.ID) {
		t.Errorf("to be cancelled: %v, %v", owed, err)
	}
}

func TestFileRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ file, want string }{
		"a slip":        {"jobs:\n- command: [make]\n  labls: {}\n", "ml/.dsvm.yaml, line 3: there is no field `labls`; did you mean `labels`?"},
		"another pool":  {"job:\n  command: [make]\n  pool: h100\n", "ml/.dsvm.yaml, line 3: `pool` is \"h100\", and the rule r lets this file use cpu, gpu; name one of these, or have"},
		"another team":  {"job: {command: [make], team: other}\n", "ml/.dsvm.yaml, line 1: `team` is \"other\""},
		"a bomb":        {"a: &a [x, x]\nb: &b [*a, *a]\njob: *b\n", "ml/.dsvm.yaml, line 2: YAML anchors and aliases are not read"},
		"injection":     {"job:\n  script: echo {{.Message}}\n", "ml/.dsvm.yaml, line 2: {{.Message}} is written by strangers"},
		"nothing in it": {"# later\n", "ml/.dsvm.yaml: the document is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newFileHook(t)
			reader, done := h.read("refs/heads/main", "1", "2", test.file)
			h.report(done)
			h.queued(0)
			if j := h.job(reader); j.State != job.Failed || !strings.HasPrefix(j.Reason, test.want) || len(j.Attempts) != 1 {
				t.Errorf("the reader is %s: %s", j.State, j.Reason)
			}
			if told := h.statusNow(); told != "2222 failure dsvm/r" || !strings.HasPrefix(h.statuses.words, test.want) {
				t.Errorf("told %q: %q", told, h.statuses.words)
			}
		})
	}
}

// Only a push starts a job that reads a file.
func TestReaderOfNobody(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	const source = `"source":{"repository":"https://github.com/octo/model","commit":"2222222222222222222222222222222222222222"}`
	if w := h.call("POST", "/api/jobs", map[string]string{"Content-Type": "application/json"}, []byte(`{"pool":"cpu",`+source+`}`)); w.Code != http.StatusBadRequest &&
		w.Code != http.StatusUnprocessableEntity ||
		!strings.Contains(w.Body.String(), "`command` is missing") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	reader, _ := h.read("refs/heads/main", "1", "2", goodFile)
	other := strings.Replace(reader, "-r-", "-s-", 1)
	for name, test := range map[string]struct{ id, want string }{
		"without the mark":   {"a", "`command` is missing; give"},
		"an id of one's own": {"b", "no push has started this one"},
		"another rule's":     {other, "no push has started this one"},
	} {
		m := invoke.Message{
			ID:          test.id,
			Body:        fmt.Appendf(nil, `{"id":%q,"pool":"cpu",%s}`, test.id, source),
			ContentType: "application/json",
			Properties:  map[string]any{},
		}
		if test.id != "a" {
			m.Properties[service.PropJobFile] = "true"
		}
		if err := h.SubmitJob(t.Context(), []invoke.Message{m}); err != nil {
			t.Fatal(err)
		}
		if j := h.job(test.id); j.State != job.Rejected || !strings.Contains(j.Reason, test.want) {
			t.Errorf("%s: got %s: %s", name, j.State, j.Reason)
		}
	}
	// The text of a job that has something to run is no file.
	jobs, _ := h.push("d", payload("refs/heads/other", "1", "2"))
	h.queued(1)
	w := h.call(
		"POST",
		"/api/jobs",
		map[string]string{"Content-Type": "application/json"},
		fmt.Appendf(nil, `{"id":%q,"pool":"cpu","command":["x"]}`, jobs[0]),
	)
	if w.Code >= 300 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	j := h.job(jobs[0])
	h.report(
		protocol.ReportItem{
			Finished: &protocol.Finished{N: j.N, State: "succeeded", StartedAt: time.Now(), EndedAt: time.Now(), File: goodFile},
		},
	)
	h.queued(0)
	if j = h.job(jobs[0]); j.State != job.Succeeded {
		t.Errorf("got %s: %s", j.State, j.Reason)
	}
}
