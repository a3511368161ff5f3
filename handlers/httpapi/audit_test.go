package httpapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dsvmpools/handlers/httpapi"
	"dsvmpools/local/apptest"
	"dsvmpools/local/chaos"
	"dsvmpools/shared/wire"
)

// traced is the API of an instance with accounts and an audit trail.
func traced(t *testing.T) (*apptest.Instance, http.Handler) {
	t.Helper()
	app := apptest.Example(t)
	return app, httpapi.New(httpapi.Services{
		Jobs: app.Jobs, Pools: app.Pools, Nodes: app.Nodes, Usage: app.Ledger, Pushes: app.Pushes, Doctor: app.Doctor, Trees: app.Trees,
		Rejected: app.Rejected, Users: app.Users, Audit: app.Audit, Access: accessOfPeople(t),
	}, app.Share, app.Log)
}

func trail(t *testing.T, h http.Handler, query string) (list wire.List[wire.AuditEntry]) {
	t.Helper()
	r := httptest.NewRequest("GET", "/api/audit"+query, nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	check(t, r, w.Result())
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || w.Code != 200 {
		t.Fatalf("%s: got %d %s", query, w.Code, w.Body)
	}
	return list
}

// The trail has every request that changes something, with who, from where and how it ended,
// and nothing that is secret.
func TestAuditTrail(t *testing.T) {
	t.Parallel()
	app, h := traced(t)
	from := map[string]string{"X-Forwarded-For": "10.0.0.1, 203.0.113.7:4711"}
	for _, c := range []call{
		{method: "POST", url: "/web/api/jobs", body: document(`"id":"own","env":{"PASSWORD":"hunter2"},`), token: "ann", header: from},
		{method: "GET", url: "/web/api/jobs/own", token: "ann"},
		{method: "DELETE", url: "/web/api/pools/gpu", token: "ann"},                               // refused
		{method: "DELETE", url: "/api/pools/none?code=TheKeyItself"},                              // not there
		{method: "POST", url: "/api/jobs/cancel?user=ann&code=TheKeyItself"},                      // by a program
		{method: "POST", url: "/web/api/jobs", body: document(""), token: "SomeExpiredTokenHere"}, // of nobody
		{method: "POST", url: "/api/files/missing", body: `{"blobs":[],"trees":[]}`},              // changes nothing
		{method: "POST", url: "/api/push/github", body: `{}`},                                     // proves itself, or not
	} {
		app.Clock.Set(app.Clock.Now().Add(time.Second))
		c.do(h)
	}
	got := trail(t, h, "")
	want := []wire.AuditEntry{
		{Kind: "program", Method: "POST", Target: "/api/jobs/cancel?user=ann", Status: 202},
		{Kind: "program", Method: "DELETE", Target: "/api/pools/none", Status: 404},
		{Kind: "person", ID: annID, Login: "ann@contoso.com", User: "ann", Method: "DELETE", Target: "/api/pools/gpu", Status: 403},
		{Kind: "person", ID: annID, Login: "ann@contoso.com", User: "ann", Method: "POST", Target: "/api/jobs", Made: "/web/api/jobs/own", Status: 202, From: "203.0.113.7"},
	}
	if len(got.Items) != len(want) || got.Continue != "" {
		t.Fatalf("got %+v", got)
	}
	for i, e := range got.Items {
		if e.At.IsZero() || i > 0 && !e.At.Before(got.Items[i-1].At) {
			t.Errorf("entry %d has the time %s", i, e.At)
		}
		if e.At = (time.Time{}); e.From != "203.0.113.7" {
			e.From = ""
		}
		if e != want[i] {
			t.Errorf("entry %d: got %+v, want %+v", i, e, want[i])
		}
	}
	text, _ := json.Marshal(got)
	for _, secret := range []string{"TheKeyItself", "hunter2", "SomeExpiredTokenHere"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("the trail has %q", secret)
		}
	}
	for query, n := range map[string]int{
		"?user=key": 2, "?user=ann": 2, "?user=ANN@contoso.com": 2, "?user=" + annID: 2, "?user=bob": 0, "?target=pools": 2,
		"?since=2026-03-02": 4, "?since=2026-03-01&until=2026-03-02": 0, "?limit=1&user=ann": 1,
	} {
		if list := trail(t, h, query); len(list.Items) != n {
			t.Errorf("%s: got %d entries, want %d", query, len(list.Items), n)
		}
	}
	if status, body := (call{method: "GET", url: "/web/api/audit", token: "ann"}).do(h); status != 403 {
		t.Errorf("a user reads the trail: got %d %s", status, body)
	}
}

// Page by page, over days, each entry comes once; the old ones go.
func TestAuditTrailPages(t *testing.T) {
	t.Parallel()
	app, h := traced(t)
	const days = 5
	for range days {
		for range 3 {
			app.Clock.Set(app.Clock.Now().Add(time.Minute))
			call{method: "POST", url: "/api/jobs/none/cancel"}.do(h)
		}
		app.Clock.Set(app.Clock.Now().Add(24 * time.Hour))
	}
	seen, last, next := 0, app.Clock.Now(), ""
	for range 100 {
		list := trail(t, h, "?limit=2"+next)
		for _, e := range list.Items {
			if seen++; !e.At.Before(last) {
				t.Errorf("%s comes after %s", e.At, last)
			}
			last = e.At
		}
		if list.Continue == "" {
			break
		}
		next = "&continue=" + list.Continue
	}
	if seen != days*3 {
		t.Errorf("got %d entries in pages, want %d", seen, days*3)
	}
	before := app.Clock.Now().Add(-48 * time.Hour)
	for n := 1; n > 0; {
		var err error
		if n, err = app.Store.DropAudit(t.Context(), before, 2); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range trail(t, h, "").Items {
		if e.At.Before(before.Truncate(24 * time.Hour)) {
			t.Errorf("%s is still there", e.At)
		}
		seen--
	}
	if seen != 9 { // three days are over, two are left
		t.Errorf("%d entries went", seen)
	}
	if status, _ := (call{method: "GET", url: "/api/audit?continue=x"}).do(h); status != 400 {
		t.Errorf("a foreign token: got %d", status)
	}
}

// What cannot be noted is not done.
func TestNothingChangesWithoutTheTrail(t *testing.T) {
	t.Parallel()
	app, h := traced(t)
	if _, err := app.Chaos.Add(chaos.Injection{Do: chaos.Refuse, Code: "OperationTimedOut", Target: "tables/insert/audit"}); err != nil {
		t.Fatal(err)
	}
	status, body := call{method: "POST", url: "/api/jobs", body: document(`"id":"lost",`)}.do(h)
	if status != 429 || !strings.Contains(body, "audit trail") {
		t.Errorf("got %d %s", status, body)
	}
	if status, body := (call{method: "GET", url: "/api/jobs/lost"}).do(h); status != 404 {
		t.Errorf("the job is there: %d %s", status, body)
	}
}
