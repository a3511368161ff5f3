package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dsvmpools/handlers/httpapi"
	"dsvmpools/local/apptest"
	"dsvmpools/shared/caller"
	"dsvmpools/shared/protocol"
)

// A session is followed from its beginning to its end by the real use cases, and every answer
// is as docs/openapi.yaml describes it.
func TestAnswersAboutSessionsAreAsDescribed(t *testing.T) {
	t.Parallel()
	app := apptest.New(t, apptest.WithDoors(t))
	rules, err := caller.ParseRules("g-vision=user:vision; " + opsID + "=operator")
	if err != nil {
		t.Fatal(err)
	}
	h := httpapi.New(httpapi.Services{Sessions: app.Sessions, Pools: app.Pools, Users: app.Users, Access: httpapi.Access{Roles: rules, Tokens: passes{
		"ann": {ID: annID, Login: "ann@contoso.com", Groups: []string{"g-vision"}},
		"bob": {ID: bobID, Login: "bob@contoso.com", Groups: []string{"g-vision"}},
		"ops": {ID: opsID, Login: "ops@contoso.com"},
	}}}, app.Share, app.Log)
	var last *httptest.ResponseRecorder
	ask := func(who, method, url, body string, status int, has string) {
		t.Helper()
		r := httptest.NewRequest(method, url, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		if who != "" {
			r.Header.Set("Authorization", "Bearer "+who)
		}
		if strings.HasSuffix(url, "/jupyter") && method == http.MethodGet {
			r.Header.Set("Accept", "text/html,application/xhtml+xml")
		}
		last = httptest.NewRecorder()
		h.ServeHTTP(last, r)
		check(t, r, last.Result())
		if last.Code != status || !strings.Contains(last.Body.String(), has) {
			t.Errorf("%s %s: got %d %s; want %d and %s", method, url, last.Code, last.Body, status, has)
		}
	}
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIICmaMSfDrKa2dIhTp4JydV6fFRvwxNdTNSaFLFk300O"
	const sealTo = "5/wAk7xQVpc5XJ2NvfCoTFpAMq4Uub1UmWf0hVDNKyc="
	ask("ops", "POST", "/api/pools", `{"name":"lab","kind":"interactive","sizes":["Standard_D2s_v5"],"nodes":{"max":2},"sessions":{"desktop":"rdp"}}`, 200, `"name":"lab"`)
	ask("ops", "POST", "/api/pools", `{"name":"win","kind":"interactive","os":"windows","sizes":["Standard_D2s_v5"],"nodes":{"max":2}}`, 400,
		"the agent for Windows runs jobs and has no sessions")
	ask("", "GET", "/api/sessions", "", 200, `{"items":[]}`)
	ask("", "GET", "/api/sessions?pool=none", "", 404, "there is no pool")
	ask("", "POST", "/api/sessions", `{"pool":"lab"}`, 403, "sign in with `dsvm login`")
	ask("ann", "POST", "/api/sessions", `{"pool":"lab","intent":"rejoin"}`, 409, `"type":"urn:dsvm:problem:sessionEnded"`)
	ask("ann", "POST", "/api/sessions", `{"pool":"lab","intent":"look"}`, 400, "write open or rejoin")
	ask("ann", "POST", "/api/sessions", `{"pool":"lab","user":"bob"}`, 400, "there is no field")
	ask("ann", "POST", "/api/sessions", `{"pool":"lab","team":"audio"}`, 403, "in team")
	ask("ann", "POST", "/api/sessions", `{"pool":"lab"}`, 202, `"state":"waiting"`)
	at := last.Header().Get("Location")
	ask("ann", "POST", "/api/sessions", `{"pool":"lab","intent":"open"}`, 200, `"position":1`)
	ask("ann", "POST", "/api/sessions", `{"pool":"lab","intent":"rejoin"}`, 200, `"user":"ann"`)
	ask("", "GET", at, "", 200, `"uid":20000`)
	ask("", "GET", at+"/explain", "", 200, `"state":"waiting"`)
	ask("", "GET", "/api/sessions/none", "", 404, "there is no session")
	ask("ann", "POST", at+"/certificate", `{"publicKey":"`+key+`"}`, 409, "not ready")

	report := func(item protocol.ReportItem) {
		t.Helper()
		if err := app.Report(t.Context(), "lab", "lab-0", item); err != nil {
			t.Fatal(err)
		}
	}
	report(protocol.ReportItem{Ready: &protocol.Ready{Name: "dsvm-lab-d2s-v5_0", Size: "Standard_D2s_v5", CPUs: 2, Boot: "1",
		HostKeys: []string{key}, Features: append(protocol.Features(), protocol.FeatureDesktop, protocol.FeatureSession)}})
	ask("", "GET", at, "", 200, `"state":"starting"`)
	n := app.Bus.TakeWork(protocol.SessionID("lab", "lab-0"))[0].N
	report(protocol.ReportItem{Started: &protocol.Started{N: n, At: app.Clock.Now()}})
	report(protocol.ReportItem{Session: &protocol.SessionState{N: n, Votes: map[string]string{"input": "busy"}, Connections: map[string]int{"ssh": 1}}})
	ask("", "GET", at, "", 200, `"state":"ready"`)
	ask("", "GET", at, "", 200, `"votes":{"input":"busy"}`)
	ask("", "GET", "/api/sessions?pool=lab&user=ann&limit=1", "", 200, `"node":"dsvm-lab-d2s-v5_0"`)

	ask("ann", "POST", at+"/certificate", `{"publicKey":"`+key+`"}`, 200, `"knownHosts":["lab.dsvm ssh-ed25519 AAAA`)
	ask("ann", "POST", at+"/certificate", `{"publicKey":"no key"}`, 400, `"field":"publicKey"`)
	ask("bob", "POST", at+"/certificate", `{"publicKey":"`+key+`"}`, 403, "nobody else may use it")
	ask("", "POST", at+"/certificate", `{"publicKey":"`+key+`"}`, 403, "dsvm login")
	ask("ann", "POST", at+"/jupyter", "", 200, `{"url":"https://lab.servicebus.windows.net/lab-1-web/dsvm/login?session=`)
	ask("ann", "GET", at+"/jupyter", "", 303, "")
	if to := last.Header().Get("Location"); !strings.HasPrefix(to, "https://lab.servicebus.windows.net/lab-1-web/dsvm/login?session=") {
		t.Errorf("the browser is sent to %q", to)
	}
	ask("bob", "GET", at+"/jupyter", "", 403, "nobody else may use it")
	ask("ann", "POST", at+"/desktop", `{"publicKey":"`+sealTo+`"}`, 202, `"sealed":""`)
	report(protocol.ReportItem{Session: &protocol.SessionState{N: n, Desktop: &protocol.Sealed{To: sealTo, Secret: "c2VhbGVk"}}})
	ask("ann", "POST", at+"/desktop", `{"publicKey":"`+sealTo+`"}`, 200, `"sealed":"c2VhbGVk"`)
	ask("ann", "POST", at+"/desktop", `{"publicKey":"AAAA"}`, 400, `"field":"publicKey"`)
	ask("bob", "POST", at+"/desktop", `{"publicKey":"`+sealTo+`"}`, 403, "nobody else may use it")
	ask("", "POST", at+"/desktop", `{"publicKey":"`+sealTo+`"}`, 403, "dsvm login")
	ask("ann", "POST", at+"/extend", `{"for":"8h"}`, 202, `"keepUntil":"2026-03-02T20:00:00Z"`)
	ask("ann", "POST", at+"/extend", `{"for":"soon"}`, 400, "is not a duration")
	ask("ann", "POST", at+"/extend", `{"for":"1s"}`, 400, "write a time from 1m to 30d")
	ask("bob", "POST", at+"/extend", `{"for":"8h"}`, 403, "nobody else may use it")
	ask("bob", "POST", at+"/stop", "", 403, "this needs the role operator")
	ask("ops", "POST", at+"/stop", "", 202, `"state":"ending"`)
	report(protocol.ReportItem{Finished: &protocol.Finished{N: n, State: "cancelled", StartedAt: apptest.Noon, EndedAt: apptest.Noon}})
	ask("", "GET", at, "", 200, `"by":"admin"`)
	ask("", "GET", at+"/explain", "", 200, `"state":"ended"`)
	ask("ops", "POST", at+"/stop", "", 202, `"state":"ended"`)
	ask("ann", "POST", at+"/jupyter", "", 409, "has ended")
}

// The trail has who opened, entered and ended a session. Who only looks is not in it, and no
// ticket is.
func TestAuditTrailOfSessions(t *testing.T) {
	t.Parallel()
	app := apptest.New(t, apptest.WithDoors(t))
	h := httpapi.New(httpapi.Services{Sessions: app.Sessions, Pools: app.Pools, Users: app.Users, Audit: app.Audit,
		Access: accessOfPeople(t)}, app.Share, app.Log)
	if err := app.Apply(t.Context(), `{"name":"lab","kind":"interactive","sizes":["Standard_D2s_v5"],"nodes":{"max":2}}`); err != nil {
		t.Fatal(err)
	}
	post := func(who, body string) int {
		app.Clock.Set(app.Clock.Now().Add(time.Second))
		status, _ := call{method: "POST", url: "/web/api/sessions", body: body, token: who}.do(h)
		return status
	}
	for _, c := range []struct {
		who, body string
		status    int
	}{
		{"ann", `{"pool":"lab","intent":"rejoin"}`, 409}, {"eve", `{"pool":"lab","intent":"rejoin"}`, 403},
		{"ann", `{"pool":"lab"}`, 202}, {"ann", `{"pool":"lab","intent":"rejoin"}`, 200}, {"ann", `{"pool":"lab","intent":"none"}`, 400},
	} {
		if got := post(c.who, c.body); got != c.status {
			t.Errorf("%s %s: got %d, want %d", c.who, c.body, got, c.status)
		}
	}
	ready := &protocol.Ready{Name: "dsvm-lab-d2s-v5_0", Size: "Standard_D2s_v5", CPUs: 2, Boot: "1",
		Features: append(protocol.Features(), protocol.FeatureSession)}
	if err := app.Report(t.Context(), "lab", "lab-0", protocol.ReportItem{Ready: ready}); err != nil {
		t.Fatal(err)
	}
	n := app.Bus.TakeWork(protocol.SessionID("lab", "lab-0"))[0].N
	if err := app.Report(t.Context(), "lab", "lab-0", protocol.ReportItem{Started: &protocol.Started{N: n, At: app.Clock.Now()}}); err != nil {
		t.Fatal(err)
	}
	opened := trail(t, h, "").Items
	if len(opened) != 2 || opened[0].Status != 202 || opened[0].User != "ann" || opened[1].Status != 403 || opened[1].Login != "eve@contoso.com" {
		t.Fatalf("after the opening: got %+v", opened)
	}
	app.Clock.Set(app.Clock.Now().Add(time.Second))
	page := opened[0].Made + "/jupyter"
	if status, body := (call{method: "GET", url: page, token: "ann", header: map[string]string{"Accept": "text/html"}}).do(h); status != 303 {
		t.Fatalf("the page: got %d %s", status, body)
	}
	got := trail(t, h, "").Items
	if len(got) != 3 || got[0].Method != "GET" || "/web"+got[0].Target != page || got[0].Status != 303 || got[0].Made != "" || got[0].User != "ann" {
		t.Errorf("after the page: got %+v", got)
	}
}
