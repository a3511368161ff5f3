package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvmpools/handlers/httpapi"
	"dsvmpools/handlers/httpapi/openapitest"
	"dsvmpools/local/apptest"
	"dsvmpools/local/chaos"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/wire"
)

// specification is read once, and held against one answer at a time.
var specification = sync.OnceValues(func() (*openapitest.Specification, error) {
	return openapitest.ReadSpecification("../../docs/openapi.yaml")
})

// checking makes one answer at a time be checked: the compiler keeps state.
var checking sync.Mutex

// check validates an answer against the specification.
func check(t *testing.T, r *http.Request, response *http.Response) {
	t.Helper()
	s, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	checking.Lock()
	defer checking.Unlock()
	if err := s.Check(r, response.StatusCode, response.Header, body); err != nil {
		t.Errorf("%s %s: %v\nbody: %s", r.Method, r.URL, err, body)
	}
}

// serve is the API over an instance.
func serve(app *apptest.Instance) http.Handler {
	return httpapi.New(httpapi.Services{
		Jobs:   app.Jobs,
		Pools:  app.Pools,
		Nodes:  app.Nodes,
		Usage:  app.Ledger,
		Pushes: app.Pushes,
		Doctor: app.Doctor,
		Trees:  app.Trees,

		Rejected: app.Rejected,
		Sessions: app.Sessions,
		Overview: app.Overview,
	}, app.Share, app.Log)
}

// An answer that is not as described is noticed.
func TestSpecificationRefuses(t *testing.T) {
	t.Parallel()
	s, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/api/jobs", nil)
	kind := http.Header{"Content-Type": {"application/json"}}
	checking.Lock()
	defer checking.Unlock()
	for _, body := range []string{`{}`, `{"items":[{"id":1}]}`, `not json`} {
		if s.Check(r, http.StatusOK, kind, []byte(body)) == nil {
			t.Errorf("%s was taken for a list of jobs", body)
		}
	}
	if err := s.Check(r, http.StatusOK, kind, []byte(`{"items":[]}`)); err != nil {
		t.Errorf("an empty list: %v", err)
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	const big = wire.MaxDocument + 1
	other := strings.ReplaceAll(apptest.PoolDocument, `"cpu"`, `"other"`)
	for name, test := range map[string]struct {
		method, url, body string
		key               string // Idempotency-Key
		status            int
		problem, field    string // of an error
		has               string // in the body
	}{
		"jobs":                 {method: "GET", url: "/api/jobs", status: 200, has: `"id":"third"`},
		"me":                   {method: "GET", url: "/api/me", status: 200, has: `{"kind":"program","teams":{"*":"operator"}}`},
		"now":                  {method: "GET", url: "/api/now?user=ann", status: 200, has: `"mine":{"held":0,"queued":1,"assigned":0,"running":1}`},
		"now of a team":        {method: "GET", url: "/api/now?team=none&user=ann", status: 200, has: `"jobs":{"held":0,"queued":0,"assigned":0,"running":0}`},
		"troubles":             {method: "GET", url: "/api/troubles", status: 200, has: `{"kind":"quota","about":"pool \"gpu\"","pool":"gpu"`},
		"timeline":             {method: "GET", url: "/api/timeline?pool=cpu&buckets=24", status: 200, has: `{"node":"dsvm-cpu-d2s-v5_1","pool":"cpu","states":"----`},
		"timeline of no pool":  {method: "GET", url: "/api/timeline?pool=none", status: 404, problem: "notFound", field: "pool"},
		"a long timeline":      {method: "GET", url: "/api/timeline?from=8d", status: 400, problem: "invalid", field: "from"},
		"too many buckets":     {method: "GET", url: "/api/timeline?buckets=1441", status: 400, problem: "invalid", field: "buckets"},
		"doctor":               {method: "GET", url: "/api/doctor", status: 200, has: `{"check":"nodes","state":"ok"`},
		"check":                {method: "POST", url: "/api/pools?check=true", body: other, status: 200, has: `"check":"Standard_D2s_v5"`},
		"check perhaps":        {method: "POST", url: "/api/pools?check=perhaps", body: other, status: 400, problem: "invalid", field: "check"},
		"console":              {method: "GET", url: "/api/nodes/dsvm-cpu-d2s-v5_1/console", status: 200, has: "dsvm-cpu-d2s-v5_1 login:"},
		"console of no node":   {method: "GET", url: "/api/nodes/none/console", status: 404, problem: "notFound", field: "node"},
		"console in no pool":   {method: "GET", url: "/api/nodes/x/console?pool=A'B", status: 404, problem: "notFound", field: "pool"},
		"jobs of a pool":       {method: "GET", url: "/api/jobs?pool=gpu", status: 200, has: `{"items":[]}`},
		"jobs of no pool":      {method: "GET", url: "/api/jobs?pool=none", status: 404, problem: "notFound", field: "pool"},
		"explain no pool":      {method: "GET", url: "/api/pools/A'B/explain", status: 404, problem: "notFound", field: "pool"},
		"jobs in a state":      {method: "GET", url: "/api/jobs?state=failed", status: 200, has: `"id":"first"`},
		"a page of jobs":       {method: "GET", url: "/api/jobs?limit=2", status: 200, has: `"continue":"ey`},
		"with the key":         {method: "GET", url: "/api/jobs?code=abc", status: 200, has: `"items"`},
		"active jobs":          {method: "GET", url: "/api/jobs?state=active&state=running&limit=1", status: 200, has: `"id":"third"`},
		"why jobs wait":        {method: "GET", url: "/api/jobs?fields=list&state=queued", status: 200, has: `"attempts":[],"why":"no node has room`},
		"what jobs cost":       {method: "GET", url: "/api/jobs?fields=list&state=failed", status: 200, has: `"cost":{"amount":"0.`},
		"what a job costs yet": {method: "GET", url: "/api/jobs?fields=list&state=running", status: 200, has: `"cost":{"amount":"0.0`},
		"other fields":         {method: "GET", url: "/api/jobs?fields=all", status: 400, problem: "invalid", field: "fields"},
		"no such state":        {method: "GET", url: "/api/jobs?state=done", status: 400, problem: "invalid", field: "state"},
		"limit zero":           {method: "GET", url: "/api/jobs?limit=0", status: 400, problem: "invalid", field: "limit"},
		"limit too large":      {method: "GET", url: "/api/jobs?limit=1001", status: 400, problem: "invalid", field: "limit"},
		"a long user":          {method: "GET", url: "/api/jobs?user=" + strings.Repeat("u", 201), status: 400, problem: "invalid", field: "user"},
		"an empty parameter":   {method: "GET", url: "/api/jobs?team=", status: 400, problem: "invalid", field: "team"},
		"a long token":         {method: "GET", url: "/api/pools?continue=" + strings.Repeat("x", 1001), status: 400, problem: "invalid", field: "continue"},
		"no question":          {method: "POST", url: "/api/files/missing", body: "null", status: 400, problem: "invalid"},
		"a null list":          {method: "POST", url: "/api/files/missing", body: `{"blobs":null,"trees":[]}`, status: 400, problem: "invalid"},
		"a null hash":          {method: "POST", url: "/api/files/missing", body: `{"blobs":[null],"trees":[]}`, status: 400, problem: "invalid"},
		"unknown parameter":    {method: "GET", url: "/api/jobs?stat=failed", status: 400, problem: "invalid", field: "stat"},
		"parameter twice":      {method: "GET", url: "/api/jobs?pool=cpu&pool=gpu", status: 400, problem: "invalid", field: "pool"},
		"foreign token":        {method: "GET", url: "/api/jobs?continue=x", status: 400, problem: "invalid", field: "continue"},
		"broken query":         {method: "GET", url: "/api/jobs?pool=%zz", status: 400, problem: "invalid"},
		"submit":               {method: "POST", url: "/api/jobs", body: apptest.JobDocument, key: "new", status: 202, has: `"id":"new"`},
		"submit without id":    {method: "POST", url: "/api/jobs", body: apptest.JobDocument, status: 202, has: `"state":"queued"`},
		"key against id":       {method: "POST", url: "/api/jobs", body: strings.Replace(apptest.JobDocument, "{", `{"id":"a",`, 1), key: "b", status: 400, problem: "invalid", field: "id"},
		"key is no id":         {method: "POST", url: "/api/jobs", body: apptest.JobDocument, key: "a b", status: 400, problem: "invalid", field: "Idempotency-Key"},
		"conflict":             {method: "POST", url: "/api/jobs", body: apptest.JobDocument, key: "first", status: 409, problem: "conflict", field: "id"},
		"submit nonsense":      {method: "POST", url: "/api/jobs", body: `{"pool":`, status: 400, problem: "invalid"},
		"submit without pool":  {method: "POST", url: "/api/jobs", body: `{"command":["true"]}`, status: 400, problem: "invalid", field: "pool"},
		"submit to no pool":    {method: "POST", url: "/api/jobs", body: `{"pool":"none","command":["true"]}`, status: 404, problem: "notFound", field: "pool"},
		"submit too much":      {method: "POST", url: "/api/jobs", body: strings.Repeat("x", big), status: 413, problem: "tooLarge"},
		"wrong method":         {method: "DELETE", url: "/api/jobs", status: 405, problem: "methodNotAllowed"},
		"job":                  {method: "GET", url: "/api/jobs/first", status: 200, has: `"exitCode":1001`},
		"running job":          {method: "GET", url: "/api/jobs/second", status: 200, has: `"exitCode":null`},
		"rejected job":         {method: "GET", url: "/api/jobs/bad", status: 200, has: `"attempts":[]}`},
		"no such job":          {method: "GET", url: "/api/jobs/none", status: 404, problem: "notFound", field: "id"},
		"cannot be a job":      {method: "GET", url: "/api/jobs/bad%20id", status: 404, problem: "notFound", field: "id"},
		"job named cancel":     {method: "GET", url: "/api/jobs/cancel", status: 404, problem: "notFound", field: "id"},
		"cancel":               {method: "POST", url: "/api/jobs/third/cancel", status: 202, has: `"state":"cancelled"`},
		"cancel none":          {method: "POST", url: "/api/jobs/none/cancel", status: 404, problem: "notFound"},
		"cancel by get":        {method: "GET", url: "/api/jobs/third/cancel", status: 405, problem: "methodNotAllowed"},
		"explain":              {method: "GET", url: "/api/jobs/third/explain", status: 200, has: "1 node is on its way"},
		"cost":                 {method: "GET", url: "/api/jobs/first/cost", status: 200, has: `{"cost":{"amount":"0.1136","currency":"USD"},"asOf":"2026-03-02T12:00:00Z"}`},
		"cost so far":          {method: "GET", url: "/api/jobs/second/cost", status: 200, has: `"perHour":{"amount":"0.096","currency":"USD"}`},
		"cost of one in line":  {method: "GET", url: "/api/jobs/third/cost", status: 200, has: `{"cost":null,`},
		"cost of none":         {method: "GET", url: "/api/jobs/none/cost", status: 404, problem: "notFound", field: "id"},
		"check the sums":       {method: "GET", url: "/api/usage/check?from=2026-03-01", status: 200, has: `"differences":[]`},
		"explain an end":       {method: "GET", url: "/api/jobs/first/explain", status: 200, has: "exit code 3"},
		"explain a pool":       {method: "GET", url: "/api/pools/cpu/explain", status: 200, has: "it has 2 nodes: 1 starting"},
		"resume":               {method: "POST", url: "/api/pools/gpu/resume", status: 200, has: `"until":"2026-03-02T12:10:00Z"`},
		"resume none":          {method: "POST", url: "/api/pools/none/resume", status: 404, problem: "notFound", field: "pool"},
		"resume by get":        {method: "GET", url: "/api/pools/gpu/resume", status: 405, problem: "methodNotAllowed"},
		"explain none":         {method: "GET", url: "/api/jobs/none/explain", status: 404, problem: "notFound"},
		"pools":                {method: "GET", url: "/api/pools", status: 200, has: `"blocked"`},
		"a page of pools":      {method: "GET", url: "/api/pools?limit=1", status: 200, has: `"continue":"cpu"`},
		"the next page":        {method: "GET", url: "/api/pools?limit=1&continue=cpu", status: 200, has: `{"items":[{"name":"gpu"`},
		"apply":                {method: "POST", url: "/api/pools", body: apptest.PoolDocument, status: 200, has: `"name":"cpu"`},
		"apply nonsense":       {method: "POST", url: "/api/pools", body: `[]`, status: 400, problem: "invalid"},
		"pool":                 {method: "GET", url: "/api/pools/cpu", status: 200, has: `"total":2,"creating":0,"booting":1,"ready":0,"busy":1`},
		"no such pool":         {method: "GET", url: "/api/pools/none", status: 404, problem: "notFound", field: "pool"},
		"cannot be a pool":     {method: "GET", url: "/api/pools/A'B", status: 404, problem: "notFound", field: "pool"},
		"put":                  {method: "PUT", url: "/api/pools/other", body: other, status: 200, has: `"name":"other"`},
		"put elsewhere":        {method: "PUT", url: "/api/pools/cpu", body: other, status: 400, problem: "invalid", field: "name"},
		"delete with nodes":    {method: "DELETE", url: "/api/pools/cpu", status: 202, has: `"state":"deleting"`},
		"delete without nodes": {method: "DELETE", url: "/api/pools/gpu", status: 204},
		"delete none":          {method: "DELETE", url: "/api/pools/none", status: 404, problem: "notFound"},
		"nodes":                {method: "GET", url: "/api/nodes", status: 200, has: `"pricePerHour":"0.096","currency":"USD"`},
		"nodes of a pool":      {method: "GET", url: "/api/nodes?pool=gpu", status: 200, has: `{"items":[]}`},
		"nodes of none":        {method: "GET", url: "/api/nodes?pool=none", status: 404, problem: "notFound", field: "pool"},
		"release a node":       {method: "POST", url: "/api/nodes/dsvm-cpu-d2s-v5_1/release", status: 202, has: `"state":"busy"`},
		"drain a node":         {method: "POST", url: "/api/nodes/dsvm-cpu-d2s-v5_1/drain?pool=cpu", status: 202, has: `"state":"draining"`},
		"delete a node":        {method: "DELETE", url: "/api/nodes/dsvm-cpu-d2s-v5_1", status: 202, has: `"state":"deleting"`},
		"release no node":      {method: "POST", url: "/api/nodes/none/release", status: 404, problem: "notFound", field: "node"},
		"drain far too much":   {method: "POST", url: "/api/nodes/" + strings.Repeat("x", 5000) + "/drain", status: 404, problem: "notFound", field: "node"},
		"delete in no pool":    {method: "DELETE", url: "/api/nodes/dsvm-cpu-d2s-v5_1?pool=A'B", status: 404, problem: "notFound", field: "pool"},
		"release by get":       {method: "GET", url: "/api/nodes/dsvm-cpu-d2s-v5_1/release", status: 405, problem: "methodNotAllowed"},
		"usage":                {method: "GET", url: "/api/usage?by=team&from=2026-03-02&to=2026-03-03T00:00:00Z", status: 200, has: `"team":"vision","jobs":2`},
		"usage by nothing":     {method: "GET", url: "/api/usage?by=colour", status: 400, problem: "invalid", field: "by"},
		"usage backwards":      {method: "GET", url: "/api/usage?from=2026-02-01&to=2026-01-01", status: 400, problem: "invalid", field: "from"},
		"usage at no time":     {method: "GET", url: "/api/usage?to=tomorrow", status: 400, problem: "invalid", field: "to"},
		"push unsigned":        {method: "POST", url: "/api/push/github", status: 401, problem: "unauthorized"},
		"push from nobody":     {method: "POST", url: "/api/push/svn", status: 404, problem: "notFound", field: "provider"},
		"push by get":          {method: "GET", url: "/api/push/github", status: 405, problem: "methodNotAllowed"},
		"rules":                {method: "GET", url: "/api/rules", status: 200, has: `"name":"train"`},
		"rule":                 {method: "GET", url: "/api/rules/train", status: 200, has: `"jobs":1`},
		"no such rule":         {method: "GET", url: "/api/rules/none", status: 404, problem: "notFound", field: "name"},
		"cannot be a rule":     {method: "GET", url: "/api/rules/A'B", status: 404, problem: "notFound", field: "name"},
		"apply rules":          {method: "POST", url: "/api/rules", body: `{"rules":[` + apptest.RuleDocument + `]}`, status: 200, has: `"name":"train"`},
		"apply no rule":        {method: "POST", url: "/api/rules", body: `{"nme":"x"}`, status: 400, problem: "invalid", field: "nme"},
		"delete a rule":        {method: "DELETE", url: "/api/rules/train", status: 204},
		"delete no rule":       {method: "DELETE", url: "/api/rules/none", status: 404, problem: "notFound"},
		"no such log":          {method: "GET", url: "/api/jobs/first/logs/stdlog", status: 404, problem: "notFound", field: "stream"},
		"log not written":      {method: "GET", url: "/api/jobs/first/logs/stdout", status: 200},
		"log not started":      {method: "GET", url: "/api/jobs/third/logs/stdout", status: 404, problem: "notFound", field: "attempt"},
		"log never started":    {method: "GET", url: "/api/jobs/bad/logs/stdout?follow=true", status: 404, problem: "notFound", field: "attempt"},
		"log of no attempt":    {method: "GET", url: "/api/jobs/first/logs/stderr?attempt=3", status: 404, problem: "notFound", field: "attempt"},
		"log of attempt zero":  {method: "GET", url: "/api/jobs/first/logs/stderr?attempt=0", status: 400, problem: "invalid", field: "attempt"},
		"log before its begin": {method: "GET", url: "/api/jobs/first/logs/stderr?offset=-1", status: 400, problem: "invalid", field: "offset"},
		"log followed maybe":   {method: "GET", url: "/api/jobs/first/logs/stderr?follow=maybe", status: 400, problem: "invalid", field: "follow"},
		"empty log to its end": {method: "GET", url: "/api/jobs/first/logs/stdout?follow=true", status: 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := serve(apptest.Example(t))
			r := httptest.NewRequest(test.method, test.url, strings.NewReader(test.body))
			r.Header.Set("Content-Type", "application/json")
			if test.key != "" {
				r.Header.Set("Idempotency-Key", test.key)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			body := w.Body.String()
			if w.Code != test.status {
				t.Fatalf("status: got %d, want %d: %s", w.Code, test.status, body)
			}
			if test.problem != "" {
				var p wire.Problem
				if err := json.Unmarshal([]byte(body), &p); err != nil {
					t.Fatal(err)
				}
				if got, want := p.Type, "urn:dsvm:problem:"+test.problem; got != want || p.Status != test.status || p.Detail == "" {
					t.Errorf("problem: got %+v, want type %s", p, want)
				}
				if test.field != "" && p.Field != test.field {
					t.Errorf("field: got %q, want %q (%s)", p.Field, test.field, p.Detail)
				}
			}
			if !strings.Contains(body, test.has) {
				t.Errorf("got %s, want %s in it", body, test.has)
			}
			if w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Error("the answer may be sniffed")
			}
			if test.status != 405 { // its method is not in the specification, so that there is no answer to compare with
				check(t, r, w.Result())
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		method, url, header, want string
	}{
		"location":                      {method: "POST", url: "/api/jobs", header: "Location", want: "/api/jobs/x.1"},
		"allow":                         {method: "PATCH", url: "/api/pools/cpu", header: "Allow", want: "GET, PUT, DELETE"},
		"allow of a name that is taken": {method: "OPTIONS", url: "/api/jobs/cancel", header: "Allow", want: "POST"},
		"no path":                       {method: "GET", url: "/api/nothing", header: "Content-Type", want: "application/problem+json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(test.method, test.url, strings.NewReader(apptest.JobDocument))
			r.Header.Set("Idempotency-Key", "x.1")
			w := httptest.NewRecorder()
			serve(apptest.Example(t)).ServeHTTP(w, r)
			if got := w.Header().Get(test.header); got != test.want {
				t.Errorf("%s: got %q, want %q", test.header, got, test.want)
			}
		})
	}
}

// Tables that are busy make the API busy: it says when to come back.
func TestBusyTables(t *testing.T) {
	t.Parallel()
	app := apptest.Example(t)
	busy := chaos.Injection{Do: chaos.Throttle, Target: "tables/get/pools", RetryAfter: 3 * time.Second}
	if _, err := app.Chaos.Add(busy); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/api/jobs/third/cancel", nil)
	w := httptest.NewRecorder()
	serve(app).ServeHTTP(w, r)
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "3" {
		t.Errorf("got %d, Retry-After %q: %s", w.Code, w.Header().Get("Retry-After"), w.Body)
	}
	check(t, r, w.Result())
}

type anyPools = httpapi.Pools

// failing are pools of which nothing can be known.
type failing struct {
	anyPools
	err error
}

func (f failing) Pools(context.Context, string) ([]wire.PoolSummary, error) { return nil, f.err }

// Every kind of error becomes the problem document that is described for it.
func TestProblems(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err        error
		status     int
		problem    string
		retryAfter string
	}{
		"throttled":      {&fault.Error{Code: fault.Throttled, Message: "slow down", RetryAfter: 1500 * time.Millisecond}, 429, "throttled", "2"},
		"throttled once": {fault.New(fault.Throttled, "", "slow down"), 429, "throttled", "1"},
		"no capacity":    {fault.New(fault.NoCapacity, "", "none left"), 503, "noCapacity", ""},
		"gone":           {fault.New(fault.Gone, "", "was here"), 410, "gone", ""},
		"internal":       {errors.New("AccountKey=hunter2"), 500, "internal", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := httpapi.New(httpapi.Services{Pools: failing{err: test.err}}, t.TempDir(), slog.New(slog.DiscardHandler))
			r := httptest.NewRequest("GET", "/api/pools", nil)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			var p wire.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
				t.Fatal(err)
			}
			if w.Code != test.status || p.Type != "urn:dsvm:problem:"+test.problem || w.Header().Get("Retry-After") != test.retryAfter {
				t.Errorf("got %d, Retry-After %q, %+v", w.Code, w.Header().Get("Retry-After"), p)
			}
			if strings.Contains(w.Body.String(), "hunter2") {
				t.Errorf("the answer holds the inner error: %s", w.Body)
			}
			check(t, r, w.Result())
		})
	}
}

// The same job again is the same answer.
func TestSubmitTwice(t *testing.T) {
	t.Parallel()
	h := serve(apptest.Example(t))
	var answers []string
	for range 2 {
		r := httptest.NewRequest("POST", "/api/jobs", strings.NewReader(apptest.JobDocument))
		r.Header.Set("Idempotency-Key", "again")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		answers = append(answers, w.Body.String())
	}
	if answers[0] != answers[1] || !strings.Contains(answers[0], `"id":"again"`) {
		t.Errorf("got %q", answers)
	}
}
