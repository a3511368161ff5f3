package handlers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/invoke"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/store"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
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
		if err := h.apply(t.Context(), spec); err != nil {
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
	if j.State != job.Assigned || j.Spec.Source.Path != "ml" || j.Spec.Source.Credential != "octo" || j.Spec.Source.Commit != strings.Repeat(after, 40) || j.Spec.Team != "vision" {
		h.t.Fatalf("the reader is %+v", j)
	}
	return j.ID, protocol.ReportItem{Finished: &protocol.Finished{N: j.N, State: "succeeded", StartedAt: h.now(), EndedAt: h.now(), File: text}}
}

func (h *hook) job(id string) *pool.Job {
	h.t.Helper()
	j, err := backend{h.Functions}.Job(h.t.Context(), id)
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
	if prep.Pool != "gpu" || lint.Pool != "cpu" || train.Pool != "gpu" || prep.Team != "vision" || prep.Command[1] != "main" || prep.Env["PUSH_BRANCH"] != "main" || train.After[0] != prep.ID {
		t.Errorf("got %+v\n%+v", prep, train)
	}
	if s := train.Source; s == nil || s.Commit != strings.Repeat("2", 40) || s.Credential != "octo" || s.Path != "ml" || s.Repository != "https://github.com/octo/model.git" {
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
	rows, err := h.store.Followed(t.Context())
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
		"injection":     {"job:\n  script: echo {{.Message}}\n", "ml/.dsvm.yaml, line 2: {{.Message}} is written by whoever pushes"},
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

// The app is killed after it has sent the jobs and before the pool has heard of the
// reader's end; the node tells once more.
func TestFileCutShort(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	reader, done := h.read("refs/heads/main", "1", "2", goodFile)
	for range 2 {
		finished := *done.Finished
		r := protocol.Report{Pool: "cpu", VMID: "vm-1", Items: []protocol.ReportItem{{Finished: &finished}}}
		if err := h.readFiles(t.Context(), &r); err != nil || finished.File != "" || finished.State != "succeeded" {
			t.Fatalf("got %+v, %v", finished, err)
		}
	}
	first := h.sent(6)
	h.Functions = h.restart()
	h.report(done)
	again := h.queued(3)
	for _, m := range again {
		if spec, err := job.Parse(m.Body, *m.ContentType); err != nil || first[m.MessageID].Hash() != spec.Hash() {
			t.Errorf("%s is another job than before, %v", m.MessageID, err)
		}
	}
	// All of them once: the same jobs twice are taken once.
	h.take(again)
	h.take(again)
	if j := h.job(reader); j.State != job.Succeeded {
		t.Errorf("the reader is %s", j.State)
	}
	if j := h.job(reader + "-3"); j.State != job.Assigned || len(j.Attempts) != 1 {
		t.Errorf("the job of the file is %+v", j)
	}
}

// The reader runs again on another node, after its file was read and before the
// pool knew.
func TestFileReadTwice(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	reader, done := h.read("refs/heads/main", "1", "2", goodFile)
	finished := *done.Finished
	if err := h.readFiles(t.Context(), &protocol.Report{Pool: "cpu", VMID: "vm-1", Items: []protocol.ReportItem{{Finished: &finished}}}); err != nil {
		t.Fatal(err)
	}
	first := h.sent(3)
	h.report(protocol.ReportItem{Holds: &protocol.Holds{}}) // it has lost the assignment
	j := h.job(reader)
	if j.State != job.Assigned || j.N == done.Finished.N {
		t.Fatalf("the reader is %+v", j)
	}
	done.Finished.N = j.N
	h.report(done)
	for id, spec := range h.sent(3) {
		if first[id].Hash() != spec.Hash() {
			t.Errorf("%s is another job than before", id)
		}
	}
}

func TestFileSuperseded(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	reader, done := h.read("refs/heads/main", "1", "2", goodFile)
	h.push("d", payload("refs/heads/main", "2", "3"))
	h.queued(1) // the reader of the newer push
	h.report(done)
	h.queued(0)
	if j := h.job(reader); j.State != job.Cancelled {
		t.Errorf("the reader is %s: %s", j.State, j.Reason)
	}
	// Also when the newer push is only half done: the jobs are cancelled with it.
	h = newFileHook(t)
	reader, done = h.read("refs/heads/main", "1", "2", goodFile)
	row, err := h.startOf(t.Context(), reader)
	if err != nil {
		t.Fatal(err)
	}
	h.report(done)
	if err := (backend{h.Functions}).supersede(t.Context(), row); err != nil { // as it stood before the report
		t.Fatal(err)
	}
	if row, err = h.startOf(t.Context(), reader); err != nil || !row.Superseded || len(row.Jobs) != 4 {
		t.Errorf("got %+v, %v", row, err)
	}
	if rows, err := h.store.Followed(t.Context()); err != nil || len(slices.DeleteFunc(rows, func(f store.Follow) bool { return !f.Cancel })) != 3 {
		t.Errorf("got %+v, %v", rows, err)
	}
}

// A newer push counts as soon as its row says so, whether or not the reader could
// be cancelled.
func TestFileSupersededInRow(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	reader, done := h.read("refs/heads/main", "1", "2", goodFile)
	row, err := h.startOf(t.Context(), reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.ChangeStart(t.Context(), row.Rule, row.Key, func(st *store.Start) bool { st.Superseded = true; return true }); err != nil {
		t.Fatal(err)
	}
	h.report(done)
	h.queued(0)
	if j := h.job(reader); j.State != job.Cancelled || !strings.Contains(j.Reason, "a newer push to refs/heads/main") {
		t.Errorf("the reader is %s: %s", j.State, j.Reason)
	}
}

// The delivery was cut short after its reader was sent, and comes again when the
// file has been read: a newer push still finds all jobs.
func TestFileDeliveredAgain(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	reader, done := h.read("refs/heads/main", "1", "2", goodFile)
	row, err := h.startOf(t.Context(), reader)
	if err != nil {
		t.Fatal(err)
	}
	h.report(done)
	if _, err := h.store.ChangeStart(t.Context(), row.Rule, row.Key, func(st *store.Start) bool { st.Sent = false; return true }); err != nil {
		t.Fatal(err)
	}
	if jobs, reason := h.push("d", payload("refs/heads/main", "1", "2")); len(jobs) != 1 || jobs[0] != reader {
		t.Errorf("got %v: %s", jobs, reason)
	}
	h.take(h.queued(4))
	if row, err = h.startOf(t.Context(), reader); err != nil || len(row.Jobs) != 4 || !row.Sent || !row.Read {
		t.Errorf("got %+v, %v", row, err)
	}
	if j := h.job(reader); j.State != job.Succeeded || len(j.Attempts) != 1 {
		t.Errorf("the reader is %+v", j)
	}
}

// A reader that somebody cancels starts nothing; once its jobs are on the queue, the
// cancel has come too late.
func TestFileCancelled(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	reader, done := h.read("refs/heads/main", "1", "2", goodFile)
	if _, err := (backend{h.Functions}).Cancel(t.Context(), reader); err != nil {
		t.Fatal(err)
	}
	h.report(done)
	h.queued(0)
	if j := h.job(reader); j.State != job.Cancelled {
		t.Errorf("the reader is %s: %s", j.State, j.Reason)
	}
	reader, done = h.read("refs/heads/other", "1", "2", goodFile)
	finished := *done.Finished
	if err := h.readFiles(t.Context(), &protocol.Report{Pool: "cpu", VMID: "vm-1", Items: []protocol.ReportItem{{Finished: &finished}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := (backend{h.Functions}).Cancel(t.Context(), reader); err != nil {
		t.Fatal(err)
	}
	h.report(done)
	h.sent(6)
	if j := h.job(reader); j.State != job.Succeeded {
		t.Errorf("the reader is %s: %s", j.State, j.Reason)
	}
}

// Only a push starts a job that reads a file.
func TestReaderOfNobody(t *testing.T) {
	t.Parallel()
	h := newFileHook(t)
	const source = `"source":{"repository":"https://github.com/octo/model","commit":"2222222222222222222222222222222222222222"}`
	if w := h.call("POST", "/api/jobs", map[string]string{"Content-Type": "application/json"}, []byte(`{"pool":"cpu",`+source+`}`)); w.Code != http.StatusBadRequest && w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "`command` is missing") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	reader, _ := h.read("refs/heads/main", "1", "2", goodFile)
	other := strings.Replace(reader, "-r-", "-s-", 1)
	for name, test := range map[string]struct{ id, want string }{
		"without the mark":   {"a", "`command` is missing; give"},
		"an id of one's own": {"b", "no push has started this one"},
		"another rule's":     {other, "no push has started this one"},
	} {
		m := invoke.Message{ID: test.id, Body: fmt.Appendf(nil, `{"id":%q,"pool":"cpu",%s}`, test.id, source), ContentType: "application/json", Properties: map[string]any{}}
		if test.id != "a" {
			m.Properties[propReader] = "true"
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
	w := h.call("POST", "/api/jobs", map[string]string{"Content-Type": "application/json"}, fmt.Appendf(nil, `{"id":%q,"pool":"cpu","command":["x"]}`, jobs[0]))
	if w.Code >= 300 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	j := h.job(jobs[0])
	h.report(protocol.ReportItem{Finished: &protocol.Finished{N: j.N, State: "succeeded", StartedAt: time.Now(), EndedAt: time.Now(), File: goodFile}})
	h.queued(0)
	if j = h.job(jobs[0]); j.State != job.Succeeded {
		t.Errorf("got %s: %s", j.State, j.Reason)
	}
}
