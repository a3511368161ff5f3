package httpapi_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/service"
	"dsvmpools/shared/wire"
)

func TestRejected(t *testing.T) {
	t.Parallel()
	app := apptest.Example(t)
	app.Bus.Take("rejected")
	h := serve(app)
	ask := func(method, url, body string, status int, has string) string {
		t.Helper()
		r := httptest.NewRequest(method, url, strings.NewReader(body))
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		check(t, r, w.Result())
		if w.Code != status || !strings.Contains(w.Body.String(), has) {
			t.Errorf("%s %s: got %d %s; want %d and %s", method, url, w.Code, w.Body, status, has)
		}
		return w.Body.String()
	}
	keys := map[string]string{}
	reject := func(queue, id, body string, properties map[string]any) {
		t.Helper()
		m := bus.Message{ID: id, Body: []byte(body), Properties: properties}
		if err := app.Rejections.Reject(t.Context(), queue, m, service.RefusedJob{}, fault.New(fault.Invalid, "", "it is wrong")); err != nil {
			t.Fatal(err)
		}
		all, _, err := app.Rejected.List(t.Context(), wire.RejectedFilter{}, 1000, "")
		if err != nil {
			t.Fatal(err)
		}
		keys[id] = all[len(all)-1].Key
	}
	ask("GET", "/api/rejected", "", 200, `{"items":[]}`)
	reject("jobs", "by-message-id", `{"pool":"cpu","command":["true"]}`, map[string]any{"team": "vision", "price": 1.5})
	reject("jobs", "no id!", `{"pool":"cpu","command":["true"]}`, nil)
	reject("pools", "a-pool", `{"name":"fresh","sizes":["Standard_D2s_v5"],"nodes":{"max":1}}`, nil)
	reject("pool-events", "an-event", `{}`, nil)
	reject("jobs", "bytes", "\xff\xfe", nil)
	reject("jobs", "long", strings.Repeat("é", 40_000), nil)
	if err := app.Bus.Send(t.Context(), "rejected", bus.Message{ID: "foreign", Body: []byte("{}")}); err != nil {
		t.Fatal(err)
	}

	var page wire.List[wire.Rejected]
	var listed []string
	for cont := ""; ; {
		if err := json.Unmarshal([]byte(ask("GET", "/api/rejected?limit=3"+cont, "", 200, `"items"`)), &page); err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Items {
			listed = append(listed, m.MessageID)
		}
		if page.Continue == "" {
			break
		}
		cont, page = "&continue="+page.Continue, wire.List[wire.Rejected]{}
	}
	if got, want := strings.Join(listed, ","), "by-message-id,no id!,a-pool,an-event,bytes,long,foreign"; got != want {
		t.Errorf("listed %s, want %s", got, want)
	}
	foreign := page.Items[len(page.Items)-1].Key
	ask("GET", "/api/rejected?source=pools", "", 200, `"messageId":"a-pool"`)
	ask("GET", "/api/rejected?job=by-message-id&pool=cpu", "", 200, `"job":"by-message-id"`)
	ask("GET", "/api/rejected?continue=x", "", 400, "continue")
	ask("GET", "/api/rejected?job=a%20b", "", 400, "cannot be the id")
	ask("GET", "/api/rejected?pool=A%20B", "", 400, "a pool's name has")
	ask("GET", "/api/rejected?other=x", "", 400, "unknown")
	path := func(id string) string { return "/api/rejected/" + keys[id] }
	ask("GET", path("by-message-id"), "", 200, `"properties":{"price":1.5,"team":"vision"},"encoding":"text","body":"{\"pool\"`)
	ask("GET", path("bytes"), "", 200, `"encoding":"base64","body":"//4="`)
	var long wire.Rejected
	if err := json.Unmarshal([]byte(ask("GET", path("long"), "", 200, `"size":80000`)), &long); err != nil || !long.Cut ||
		*long.Body != strings.Repeat("é", 32<<10) || long.Encoding != "text" {
		t.Errorf("a long body: %v, cut %t, %d bytes", err, long.Cut, len(*long.Body))
	}
	for _, key := range []string{"0", "-1", "007", "x", "99999", "99999999999999999999"} {
		ask("GET", "/api/rejected/"+key, "", 404, "there is no rejected message")
		ask("DELETE", "/api/rejected/"+key, "", 404, "there is no rejected message")
		ask("POST", "/api/rejected/"+key+"/resubmit", "", 404, "there is no rejected message")
	}

	resubmit := func(id, document string, status int, has string) {
		t.Helper()
		ask("POST", path(id)+"/resubmit", document, status, has)
	}
	resubmit("by-message-id", "", 202, `"source":"jobs","job":"by-message-id","pool":"cpu"`)
	ask("GET", "/api/jobs/by-message-id", "", 200, `"pool":"cpu"`)
	ask("GET", path("by-message-id"), "", 404, "")
	resubmit("no id!", "", 400, "MessageId cannot stand for one")
	resubmit("no id!", `{"id":"x","pool":"none","command":["true"]}`, 404, "there is no pool")
	resubmit("no id!", `{"id":"by-message-id","pool":"cpu","command":["false"]}`, 409, "belongs to another job")
	ask("GET", path("no id!"), "", 200, "it is wrong")
	resubmit("no id!", `{"id":"x","pool":"cpu","command":["true"]}`, 202, `"job":"x"`)
	resubmit("a-pool", "", 202, `"source":"pools","pool":"fresh"`)
	ask("GET", "/api/pools/fresh", "", 200, `"name":"fresh"`)
	resubmit("an-event", `{}`, 400, "no other document")
	resubmit("an-event", "", 202, `"source":"pool-events"`)
	if sent := app.Bus.Take("pool-events"); sent[len(sent)-1].ID != "an-event" || len(sent[len(sent)-1].Properties) != 0 {
		t.Errorf("the event came back as %+v", sent)
	}
	ask("POST", "/api/rejected/"+foreign+"/resubmit", "", 400, "does not say which queue")
	ask("DELETE", "/api/rejected/"+foreign, "", 204, "")
	ask("DELETE", "/api/rejected/"+foreign, "", 404, "there is no rejected message")
	ask("DELETE", path("bytes"), "", 204, "")
	ask("GET", "/api/rejected", "", 200, `"messageId":"long"`)
}
