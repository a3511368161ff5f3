package httpapi_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"dsvmpools/handlers/httpapi"
	"dsvmpools/local/apptest"
	"dsvmpools/shared/caller"
	"dsvmpools/shared/wire"
)

// passes are tokens that the test gives to people; package signin has the tests of real ones.
type passes map[string]caller.Person

func (p passes) Check(_ context.Context, token string) (caller.Person, error) {
	if person, ok := p[token]; ok {
		return person, nil
	}
	return caller.Person{}, &caller.Refused{Reason: "the sign-in has expired"}
}

const (
	annID, bobID, opsID = "a-1", "b-1", "o-1"
	tenantID            = "t-1"
)

// accessOfPeople lets in ann (user in vision), bob (user in vision and speech), pat (operator
// of vision), eve (reader), joe (without a role), and an operator.
func accessOfPeople(t *testing.T) httpapi.Access {
	t.Helper()
	rules, err := caller.ParseRules("g-vision=user:vision; g-speech=user:speech; g-lead=operator:vision; g-read=reader; " + opsID + "=operator")
	if err != nil {
		t.Fatal(err)
	}
	return httpapi.Access{Roles: rules, Tenant: tenantID, Tokens: passes{
		"ann": {ID: annID, Login: "ann@contoso.com", Groups: []string{"g-vision"}},
		"bob": {ID: bobID, Login: "bob@contoso.com", Groups: []string{"g-vision", "g-speech"}},
		"pat": {ID: "p-1", Login: "pat@contoso.com", Groups: []string{"g-lead"}},
		"eve": {ID: "e-1", Login: "eve@contoso.com", Groups: []string{"g-read"}},
		"joe": {ID: "j-1", Login: "joe@contoso.com"},
		"ops": {ID: opsID, Login: "ops@contoso.com"},
	}}
}

// signedIn is the API for them.
func signedIn(t *testing.T, change func(*httpapi.Access)) http.Handler {
	t.Helper()
	access := accessOfPeople(t)
	if change != nil {
		change(&access)
	}
	app := apptest.Example(t)
	return httpapi.New(httpapi.Services{
		Jobs: app.Jobs, Pools: app.Pools, Nodes: app.Nodes, Usage: app.Ledger, Pushes: app.Pushes, Doctor: app.Doctor, Trees: app.Trees,
		Rejected: app.Rejected, Overview: app.Overview, Access: access, Users: app.Users,
	}, app.Share, app.Log)
}

type call struct {
	method, url, body string
	token             string
	header            map[string]string
}

func (c call) do(h http.Handler) (int, string) {
	r := httptest.NewRequest(c.method, c.url, strings.NewReader(c.body))
	if c.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	for name, value := range c.header {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, _ := io.ReadAll(w.Body)
	return w.Code, string(body)
}

func document(fields string) string {
	return strings.Replace(`{"pool":"cpu","command":["true"]}`, "{", "{"+fields, 1)
}

// Who calls decides what a request may do.
func TestRightsOfCallers(t *testing.T) {
	t.Parallel()
	h := signedIn(t, nil)
	for _, c := range []struct {
		name   string
		call   call
		status int
		has    string
	}{
		{"a program with the key", call{method: "GET", url: "/api/pools"}, 200, "cpu"},
		{"nobody", call{method: "GET", url: "/web/api/pools"}, 401, "notSignedIn"},
		{"nobody, other case", call{method: "GET", url: "/WEB/api/pools"}, 401, "notSignedIn"},
		{"an expired token", call{method: "GET", url: "/web/api/pools", token: "old"}, 401, "expired"},
		{"an expired token beside the key", call{method: "GET", url: "/api/pools", token: "old"}, 401, "expired"},
		{"another scheme", call{method: "GET", url: "/web/api/pools", header: map[string]string{"Authorization": "Basic YTpi"}}, 401, "Bearer"},
		{"the key does not open /web", call{method: "GET", url: "/web/api/pools", header: map[string]string{"x-functions-key": "k"}}, 401, ""},
		{"a reader reads", call{method: "GET", url: "/web/api/pools", token: "eve"}, 200, "cpu"},
		{"a reader submits", call{method: "POST", url: "/web/api/jobs", body: document(""), token: "eve"}, 403, "role user"},
		{"no role", call{method: "GET", url: "/web/api/pools", token: "joe"}, 403, "role reader"},
		{"no role and oneself", call{method: "GET", url: "/web/api/me", token: "joe"}, 200, `"login":"joe@contoso.com","teams":{}`},
		{"a user and oneself", call{method: "GET", url: "/web/api/me", token: "ann"}, 200, `"name":"ann","uid":200000,"teams":{"vision":"user"}`},
		{"nobody and oneself", call{method: "GET", url: "/web/api/me"}, 401, "signed in"},
		{"no role and no such thing", call{method: "GET", url: "/web/api/jobs/none", token: "joe"}, 403, "role reader"},
		{"a person beside the key is no program", call{method: "DELETE", url: "/api/pools/gpu", token: "ann"}, 403, "operator in every team"},
		{"an operator of one team and a pool", call{method: "DELETE", url: "/web/api/pools/gpu", token: "pat"}, 403, "in every team"},
		{"a user and a pool", call{method: "POST", url: "/web/api/pools", body: apptest.PoolDocument, token: "ann"}, 403, "operator"},
		{"a user and a node", call{method: "POST", url: "/web/api/nodes/x/drain", token: "ann"}, 403, "operator"},
		{"a user and a rule", call{method: "DELETE", url: "/web/api/rules/x", token: "ann"}, 403, "operator"},
		{"an operator and a pool", call{method: "POST", url: "/web/api/pools", body: apptest.PoolDocument, token: "ops"}, 200, "cpu"},

		{"a job of one's own", call{method: "POST", url: "/web/api/jobs", body: document(`"id":"own",`), token: "ann"}, 202, `"team":"vision","user":"ann"`},
		{"for another user", call{method: "POST", url: "/web/api/jobs", body: document(`"user":"bob",`), token: "ann"}, 403, `"field":"user"`},
		{"for another team", call{method: "POST", url: "/web/api/jobs", body: document(`"team":"speech",`), token: "ann"}, 403, "speech"},
		{"in several teams", call{method: "POST", url: "/web/api/jobs", body: document(""), token: "bob"}, 400, "speech, vision"},
		{"in a list", call{method: "POST", url: "/web/api/jobs", body: "[" + document(`"user":"bob",`) + "," + document("") + "]", token: "ann"}, 207, `"status":403`},
		{"a dry run for another", call{method: "POST", url: "/web/api/jobs?dryRun=true", body: document(`"user":"bob",`), token: "ann"}, 403, "bob"},
		{"an operator for another", call{method: "POST", url: "/web/api/jobs", body: document(`"user":"bob","team":"speech",`), token: "ops"}, 202, `"user":"bob"`},
		{"the key says both itself", call{method: "POST", url: "/api/jobs", body: document(`"user":"zoe","team":"any",`)}, 202, `"user":"zoe"`},

		{"another's job", call{method: "POST", url: "/web/api/jobs/own/cancel", token: "bob"}, 403, "only an operator"},
		{"another's job, held", call{method: "POST", url: "/web/api/jobs/own/hold", token: "bob"}, 403, "only an operator"},
		{"another's job, first", call{method: "POST", url: "/web/api/jobs/own/priority", body: `{"priority":"high"}`, token: "bob"}, 403, "only an operator"},
		{"another's job again", call{method: "POST", url: "/web/api/jobs/own/rerun", body: `{}`, token: "bob"}, 403, "only an operator"},
		{"all of another", call{method: "POST", url: "/web/api/jobs/cancel?user=ann", token: "bob"}, 403, "only an operator"},
		{"all of a team", call{method: "POST", url: "/web/api/jobs/cancel?team=vision", token: "bob"}, 403, "only an operator"},
		{"all of one's own", call{method: "POST", url: "/web/api/jobs/cancel?user=bob", token: "bob"}, 202, `"jobs":1`},
		{"another's job, as the team's operator", call{method: "POST", url: "/web/api/jobs/own/hold", token: "pat"}, 202, "held"},
		{"one's own job", call{method: "POST", url: "/web/api/jobs/own/release", token: "ann"}, 202, `"id":"own"`},
		{"one's own job ends", call{method: "POST", url: "/web/api/jobs/own/cancel", token: "ann"}, 202, "cancelled"},
	} {
		status, body := c.call.do(h)
		if status != c.status || !strings.Contains(body, c.has) {
			t.Errorf("%s: got %d %s, want %d with %q", c.name, status, body, c.status, c.has)
		}
	}
}

// The role of the key is a setting.
func TestRoleOfTheKey(t *testing.T) {
	t.Parallel()
	h := signedIn(t, func(a *httpapi.Access) { a.Key = caller.User })
	for _, c := range []struct {
		call   call
		status int
	}{
		{call{method: "POST", url: "/api/jobs", body: document(`"id":"mine",`)}, 202},
		{call{method: "DELETE", url: "/api/pools/gpu"}, 403},
		{call{method: "POST", url: "/api/jobs/mine/cancel"}, 403}, // nothing tells whose it is
	} {
		if status, body := c.call.do(h); status != c.status {
			t.Errorf("%s %s: got %d %s, want %d", c.call.method, c.call.url, status, body, c.status)
		}
	}
}

// principal is the platform's header about a person.
func principal(provider, id, tenant string, groups ...string) map[string]string {
	type claim struct{ Typ, Val string }
	claims := []claim{{"http://schemas.microsoft.com/identity/claims/objectidentifier", id}, {"preferred_username", "ann@contoso.com"},
		{"http://schemas.microsoft.com/identity/claims/tenantid", tenant}}
	for _, g := range groups {
		claims = append(claims, claim{"groups", g})
	}
	list := []map[string]string{}
	for _, c := range claims {
		list = append(list, map[string]string{"typ": c.Typ, "val": c.Val})
	}
	body, _ := json.Marshal(map[string]any{"auth_typ": provider, "claims": list})
	return map[string]string{"X-MS-CLIENT-PRINCIPAL": base64.StdEncoding.EncodeToString(body)}
}

// The platform's header is believed only where the platform sets it, and of the right tenant.
func TestHeaderOfThePlatform(t *testing.T) {
	t.Parallel()
	on := signedIn(t, func(a *httpapi.Access) { a.Platform = true })
	off := signedIn(t, nil)
	own := principal("aad", opsID, tenantID)
	for _, c := range []struct {
		name   string
		h      http.Handler
		url    string
		header map[string]string
		status int
	}{
		{"switched off", off, "/web/api/pools", own, 401},
		{"switched on", on, "/web/api/pools", own, 200},
		{"another tenant", on, "/web/api/pools", principal("aad", opsID, "t-2"), 401},
		{"another provider", on, "/web/api/pools", principal("github", opsID, tenantID), 401},
		{"no id", on, "/web/api/pools", principal("aad", "", tenantID), 401},
		{"no JSON", on, "/web/api/pools", map[string]string{"X-MS-CLIENT-PRINCIPAL": "e30x"}, 401},
		{"the id alone", on, "/web/api/pools", map[string]string{"X-MS-CLIENT-PRINCIPAL-ID": opsID, "X-MS-CLIENT-PRINCIPAL-NAME": "ops"}, 401},
		{"without a role", on, "/web/api/pools", principal("aad", "x", tenantID), 403},
	} {
		if status, body := (call{method: "GET", url: c.url, header: c.header}).do(c.h); status != c.status {
			t.Errorf("%s: got %d %s, want %d", c.name, status, body, c.status)
		}
	}
}

// A page of another site cannot use the sign-in that a browser has.
func TestPagesOfOtherSites(t *testing.T) {
	t.Parallel()
	h := signedIn(t, func(a *httpapi.Access) { a.Platform = true })
	for name, header := range map[string]map[string]string{
		"cross-site": {"Sec-Fetch-Site": "cross-site"}, "same-site": {"Sec-Fetch-Site": "same-site"},
		"an origin": {"Origin": "https://evil.example"}, "a hidden origin": {"Origin": "null"},
	} {
		for k, v := range principal("aad", opsID, tenantID) {
			header[k] = v
		}
		for _, method := range []string{"GET", "POST"} {
			if status, body := (call{method: method, url: "/web/api/pools", header: header}).do(h); status != 403 || !strings.Contains(body, wire.ProblemPrefix) {
				t.Errorf("%s %s: got %d %s", method, name, status, body)
			}
		}
	}
	header := principal("aad", opsID, tenantID)
	header["Sec-Fetch-Site"], header["Origin"], header["X-Forwarded-Host"] = "same-origin", "https://app.example", "app.example"
	if status, body := (call{method: "GET", url: "/web/api/pools", header: header}).do(h); status != 200 {
		t.Errorf("a page of its own: got %d %s", status, body)
	}
}

// Answers name paths as the caller reaches them, and 401 says how.
func TestAnswersBelowWeb(t *testing.T) {
	t.Parallel()
	h := signedIn(t, nil)
	r := httptest.NewRequest("POST", "/web/api/jobs", strings.NewReader(document(`"id":"x.1",`)))
	r.Header.Set("Authorization", "bearer ann")
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Header().Get("Location") != "/web/api/jobs/x.1" {
		t.Errorf("got %d %v", w.Code, w.Header())
	}
	r = httptest.NewRequest("GET", "/web/api/jobs", nil)
	w = httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != 401 || w.Header().Get("WWW-Authenticate") != "Bearer" || w.Header().Get("Content-Type") != wire.ProblemType {
		t.Errorf("got %d %v", w.Code, w.Header())
	}
	r = httptest.NewRequest("GET", "/web/api/jobs", nil)
	r.Header["Authorization"] = []string{"Bearer ann", "Bearer ops"}
	w = httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != 401 {
		t.Errorf("two tokens: got %d", w.Code)
	}
}
