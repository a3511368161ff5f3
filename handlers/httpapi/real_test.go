package httpapi_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/service"
)

// The real use cases, over real tables, answer every route as docs/openapi.yaml
// describes it: a pool and its jobs are followed from their beginning to their end.
func TestRealAnswersAreAsDescribed(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	h := serve(app)
	answer := func(method, url, body string, header ...string) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequest(method, url, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		check(t, r, w.Result())
		return w
	}
	ask := func(method, url, body string, status int, has string) {
		t.Helper()
		if w := answer(method, url, body); w.Code != status || !strings.Contains(w.Body.String(), has) {
			t.Errorf("%s %s: got %d %s; want %d and %s", method, url, w.Code, w.Body, status, has)
		}
	}
	report := func(item protocol.ReportItem) {
		t.Helper()
		r := protocol.Report{V: protocol.Version, Pool: "cpu", VMID: "vm-1", Items: []protocol.ReportItem{item}}
		if err := app.Nodes.Report(t.Context(), "cpu", []service.Report{{Report: r, At: app.Clock.Now()}}); err != nil {
			t.Fatal(err)
		}
	}
	const cpu, gpu = `{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":4}}`, `{"name":"gpu","sizes":["Standard_NC4as_T4_v3"],"nodes":{"max":1}}`
	const work = `{"pool":"cpu","team":"vision","command":["true"],"resources":{"cpus":2}`

	ask("GET", "/api/pools", "", 200, `{"items":[]}`)
	ask("POST", "/api/jobs", work+`}`, 404, `there is no pool \"cpu\"`)
	ask("POST", "/api/pools", cpu, 200, `"name":"cpu"`)
	ask("PUT", "/api/pools/gpu", gpu, 200, `"name":"gpu"`)
	ask("PUT", "/api/pools/gpu?dryRun=true", strings.Replace(gpu, `"max":1`, `"max":2`, 1), 200, `{"field":"nodes.max","from":1,"to":2}`)
	ask("POST", "/api/pools?dryRun=true", gpu, 200, `"action":"nothing"`)
	ask("POST", "/api/pools?dryRun=true", `{"name":"new","sizes":["Standard_D2s_v5"],"nodes":{"max":2}}`, 200, `"action":"create"`)
	ask("POST", "/api/pools?dryRun=true&check=true", gpu, 400, "one at a time")
	for _, id := range []string{"first", "second", "third"} {
		ask("POST", "/api/jobs", work+`,"id":"`+id+`"}`, 202, `"id":"`+id+`","pool":"cpu"`)
	}
	ask("POST", "/api/jobs", work+`,"id":"first"}`, 202, `"id":"first"`) // the same job
	ask("POST", "/api/jobs", work+`,"id":"first","name":"x"}`, 409, "belongs to another job")
	ask("POST", "/api/jobs", work+`,"id":"late","after":["first"]}`, 202, `"state":"held"`)
	ask("GET", "/api/jobs/third/explain", "", 200, `"state":"queued"`)
	ask("POST", "/api/jobs?dryRun=true", work+`,"id":"dry"}`, 200, `"state":"queued"`)
	ask("POST", "/api/jobs?dryRun=true", work+`,"id":"first"}`, 200, `"exists":true`)
	ask("POST", "/api/jobs?dryRun=true", work+`,"after":["none"]}`, 400, "not known")
	ask("POST", "/api/jobs?dryRun=true", `[`+work+`}]`, 400, "a dry run takes one document")
	ask("POST", "/api/jobs?dryRun=yes", work+`}`, 400, "it takes true or false")
	ask("GET", "/api/jobs/dry", "", 404, "there is no job")
	ask("GET", "/api/pools/cpu/explain", "", 200, `"name":"cpu"`)

	report(protocol.ReportItem{Ready: &protocol.Ready{Name: "cpu-1", Size: "Standard_D2s_v5", CPUs: 2, Boot: "1"}})
	ask("GET", "/api/nodes?pool=cpu", "", 200, `"name":"cpu-1"`)
	j, err := app.Jobs.Job(t.Context(), "first")
	if err != nil || j.State != job.Assigned {
		t.Fatalf("the first job is %+v, %v", j, err)
	}
	ask("GET", "/api/jobs/first/logs/stdout", "", 404, "has no stdout log (yet)")
	report(protocol.ReportItem{Started: &protocol.Started{N: j.N, At: app.Clock.Now()}})
	ask("GET", "/api/jobs/first", "", 200, `"state":"running"`)
	ask("GET", "/api/jobs/first/logs/stdout", "", 200, "") // it has written nothing yet
	logs := filepath.Join(app.Share, "jobs", "cpu", "first", "1")
	if err := errors.Join(os.MkdirAll(logs, 0o755), os.WriteFile(filepath.Join(logs, "stdout.log"), []byte("epoch 1\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	ask("GET", "/api/jobs/first/logs/stdout?offset=6", "", 200, "1\n")
	ask("GET", "/api/jobs/third/logs/stdout", "", 404, "not started")
	app.Clock.Set(apptest.Noon.Add(time.Minute))
	report(protocol.ReportItem{Finished: &protocol.Finished{
		N: j.N, State: string(job.AttemptFailed), ExitCode: 3, StartedAt: apptest.Noon, EndedAt: apptest.Noon.Add(time.Minute),
	}})
	ask("GET", "/api/jobs/first", "", 200, `"exitCode":3`)
	ask("GET", "/api/jobs/first/logs/stdout?follow=true", "", 200, "epoch 1\n")
	ask("GET", "/api/jobs/first/logs/stderr", "", 200, "") // it has written nothing at all
	ask("GET", "/api/jobs/none/logs/stderr", "", 404, "there is no job")
	ask("GET", "/api/jobs/first/logs/stderr?attempt=2", "", 404, "attempt")
	ask("GET", "/api/jobs/first/explain", "", 200, "exit code 3")
	ask("GET", "/api/jobs/late", "", 200, `"state":"cancelled"`)
	ask("GET", "/api/jobs?limit=2", "", 200, `"continue":"`)
	ask("GET", "/api/jobs?limit=2&count=true&state=failed&state=cancelled&since=2026-03-01&sort=took&reverse=true", "", 200, `"total":2`)
	ask("GET", "/api/jobs?name=x&label=a=b&until=2026-03-03", "", 200, `{"items":[]}`)
	ask("GET", "/api/jobs?label=a", "", 400, "NAME=VALUE")
	ask("GET", "/api/jobs?sort=size", "", 400, "not sorted by")
	ask("GET", "/api/jobs?pool=cpus", "", 404, `did you mean \"cpu\"?`)
	ask("GET", "/api/jobs?continue=x", "", 400, "continue")
	ask("GET", "/api/jobs?pool=none", "", 404, "there is no pool")
	ask("POST", "/api/jobs/third/cancel", "", 202, `"state":"cancelled"`)
	ask("POST", "/api/jobs/third/release", "", 202, `"state":"cancelled"`)
	ask("POST", "/api/jobs", work+`,"id":"fourth"}`, 202, `"id":"fourth"`)
	ask("POST", "/api/jobs/fourth/hold", "", 202, `"state":"held","reason":"somebody holds it`)
	ask("POST", "/api/jobs/fourth/priority", `{"priority":"high"}`, 202, `"priority":"high"`)
	ask("POST", "/api/jobs/fourth/priority", `{"priority":"urgent"}`, 400, "write low, normal or high")
	ask("POST", "/api/jobs/fourth/priority", `{}`, 400, "priority")
	ask("POST", "/api/jobs/fourth/release", "", 202, `"state":"queued"`)
	ask("POST", "/api/jobs/fourth/cancel", "", 202, `"state":"cancelled"`)
	ask("POST", "/api/jobs/second/hold", "", 409, "is assigned; only a job that waits can be held")
	ask("POST", "/api/jobs/first/hold", "", 409, "has ended as failed")
	ask("POST", "/api/jobs/first/priority", `{"priority":"low"}`, 409, "dsvm job rerun first")
	ask("POST", "/api/jobs/first/rerun", "", 400, "send {} as its body")
	ask("POST", "/api/jobs/first/rerun", `{"id":"x"}`, 400, "there is no field")
	ask("POST", "/api/jobs/first/rerun", "{}", 202, `"rerunOf":"first"`)
	ask("POST", "/api/jobs/first-r2/rerun", "{}", 202, `"id":"first-r3"`)
	ask("POST", "/api/jobs/none/rerun", "{}", 404, "there is no job")
	ask("POST", "/api/jobs/first-r2/cancel", "", 202, `"id":"first-r2"`)
	ask("POST", "/api/jobs/first-r3/cancel", "", 202, `"id":"first-r3"`)
	ask("GET", "/api/jobs?id=first&id=none&id=third&id=first", "", 200, `{"items":[{"id":"first"`)
	if w := answer("GET", "/api/jobs?id=first&id=none&id=third&id=first", ""); strings.Count(w.Body.String(), `"id":`) != 2 {
		t.Errorf("by their ids: %s", w.Body)
	}
	ask("GET", "/api/jobs?id=first&pool=cpu", "", 400, "leave out the other parameters")
	ask("GET", "/api/jobs?id=x%20y", "", 400, "is no id of a job")
	ask("GET", "/api/jobs?"+strings.Repeat("id=a&", 101), "", 400, "at most 100")
	ask("POST", "/api/jobs/none/cancel", "", 404, "there is no job")
	ask("POST", "/api/jobs/cancel?team=vision", "", 202, `"jobs":1`)
	if err := app.Ledger.RecordAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	ask("GET", "/api/usage?by=team&from=2026-03-01&to=2026-03-03", "", 200, `"team":"vision"`)

	const rule = `{"name":"train","provider":"github","repository":"octo/model","secret":"GITHUB_PUSH_SECRET","source":false,"job":{"pool":"cpu","command":["make"]}}`
	ask("POST", "/api/rules", rule, 200, `"name":"train"`)
	ask("GET", "/api/rules", "", 200, `"name":"train"`)
	ask("GET", "/api/rules/train", "", 200, `"jobs":1`)
	push := `{"ref":"refs/heads/main","before":"` + strings.Repeat("1", 40) + `","after":"` + strings.Repeat("2", 40) +
		`","commits":[],"repository":{"full_name":"octo/model","clone_url":"https://github.com/octo/model.git"},"pusher":{"name":"ann"}}`
	sum := hmac.New(sha256.New, []byte(apptest.PushSecret))
	_, _ = io.WriteString(sum, push)
	for _, signature := range []struct {
		text   string
		status int
	}{{hex.EncodeToString(sum.Sum(nil)), http.StatusAccepted}, {strings.Repeat("0", 64), http.StatusUnauthorized}} {
		w := answer(
			"POST",
			"/api/push/github",
			push,
			"X-GitHub-Event",
			"push",
			"X-GitHub-Delivery",
			"d",
			"X-Hub-Signature-256",
			"sha256="+signature.text,
		)
		if w.Code != signature.status {
			t.Errorf("a push: got %d %s, want %d", w.Code, w.Body, signature.status)
		}
	}
	if sent := app.Bus.Take("jobs"); len(sent) != 1 {
		t.Errorf("the push put %d jobs on the queue, want one", len(sent))
	}
	ask("DELETE", "/api/rules/train", "", 204, "")
	ask("DELETE", "/api/rules/train", "", 404, "there is no rule")

	ask("POST", "/api/nodes/vm-1/drain", "", 202, `"name":"cpu-1"`)
	ask("POST", "/api/nodes/none/release", "", 404, "there is no node")
	ask("POST", "/api/pools/gpu/resume", "", 200, `"name":"gpu"`)
	ask("GET", "/api/pools/cpu", "", 200, `"name":"cpu"`)
	ask("DELETE", "/api/pools/gpu", "", 204, "")
	ask("DELETE", "/api/pools/cpu", "", 202, `"state":"deleting"`)
	ask("POST", "/api/pools", cpu, 409, "is being deleted")
	ask("GET", "/api/pools/none", "", 404, "there is no pool")
}
