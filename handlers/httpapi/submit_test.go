package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// sendList posts a list of jobs, and holds the answer against its description.
func sendList(t *testing.T, h http.Handler, body string, header ...string) (int, []wire.Submitted, string) {
	t.Helper()
	r := httptest.NewRequest("POST", "/api/jobs", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	check(t, r, w.Result())
	var list wire.List[wire.Submitted]
	if w.Code == http.StatusMultiStatus {
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
			t.Fatal(err)
		}
	}
	return w.Code, list.Items, w.Body.String()
}

// The example of a pipeline is one list, in which jobs come after others of it.
func TestSubmitPipeline(t *testing.T) {
	t.Parallel()
	app := apptest.Example(t)
	h := serve(app)
	body, err := os.ReadFile("../../docs/examples/pipeline.json")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the same list again is the same jobs
		status, items, answer := sendList(t, h, string(body))
		if status != http.StatusMultiStatus || len(items) != 3 {
			t.Fatalf("got %d %s", status, answer)
		}
		for i, id := range []string{"prepare", "train", "report"} {
			if items[i].ID != id || items[i].Status != http.StatusAccepted || items[i].Problem != nil {
				t.Errorf("%d: got %+v", i, items[i])
			}
		}
	}
	for id, state := range map[string]job.State{"prepare": job.Queued, "train": job.Held, "report": job.Held} {
		if j, err := app.Jobs.Job(t.Context(), id); err != nil || j.State != state {
			t.Errorf("%s is %+v, %v; want %s", id, j, err, state)
		}
	}
}

// Each document of a list is for itself: what is wrong with it stands at its place, and
// the others are taken.
func TestSubmitListWithRefusals(t *testing.T) {
	t.Parallel()
	app := apptest.Example(t)
	long := `{"pool":"cpu","script":"` + strings.Repeat("x", wire.MaxDocument) + `"}`
	const gpu = `"pool":"gpu","command":["a"],"resources":{"gpus":1}`
	documents := []struct {
		document, id string
		status       int
		field, says  string // of the problem
	}{
		{`{"id":"a","pool":"cpu","command":["a"]}`, "a", 202, "", ""},
		{`{"id":"b","pool":"cpu"}`, "b", 400, "command", "`command` is missing"},
		{`{"id":"c","pool":"cpu","command":["a"],"after":["a"]}`, "c", 202, "", ""},
		{`{"id":"d","pool":"cpu","command":["a"],"after":["b"]}`, "d", 400, "after[0]", "not known"},
		{`{"pool":"cpu","command":["a"],
			"name":null}`, "", 400, "name", "line 7: `name` is null"},
		{`5`, "", 400, "", "the document is a number"},
		{`{"id":"e","id":"f"}`, "", 400, "id", "a second time"},
		{long, "", 400, "", "at most 32768"},
		{`{"id":"a","pool":"cpu","command":["other"]}`, "a", 409, "id", "another job"},
		{`{"id":"first","pool":"cpu","command":["a"]}`, "first", 409, "id", "another job"},
		{`{"id":"g","pool":"none","command":["a"]}`, "g", 404, "pool", "there is no pool"},
		{`{"id":"h",` + gpu + `}`, "h", 202, "", ""},
		{`{"id":"i",` + gpu + `,"after":["h"]}`, "i", 202, "", ""},
		{`{"id":"s","pool":"cpu","command":["a"],"sweep":{"count":3}}`, "s", 202, "", ""},
		{`{"id":"s.1","pool":"cpu","command":["a"]}`, "s.1", 409, "id", "member of a sweep"},
		{`{"id":"l","pool":"cpu","command":["a"],"after":["m"]}`, "l", 400, "after[0]", "not known"},
		{`{"id":"m","pool":"cpu","command":["a"]}`, "m", 202, "", ""},
	}
	var texts []string
	for _, d := range documents {
		texts = append(texts, d.document)
	}
	status, items, answer := sendList(t, serve(app), "[\n"+strings.Join(texts, ",\n")+"]")
	if status != http.StatusMultiStatus || len(items) != len(documents) {
		t.Fatalf("got %d %s", status, answer)
	}
	for i, want := range documents {
		got, field, says := items[i], "", ""
		if got.Problem != nil {
			field, says = got.Problem.Field, got.Problem.Detail
		}
		if got.Status != want.status || (want.id != "" && got.ID != want.id) || field != want.field || !strings.Contains(says, want.says) {
			t.Errorf("%.60s: got %+v %+v, want %+v", want.document, got, got.Problem, want)
		}
		if _, err := app.Jobs.Job(t.Context(), got.ID); (err == nil) != (want.status == 202 || want.status == 409) {
			t.Errorf("%.60s: the job is there: %v, %v", want.document, err == nil, err)
		}
	}
}

// A document without an id is given one.
func TestSubmitListWithoutIDs(t *testing.T) {
	t.Parallel()
	app := apptest.Example(t)
	_, items, answer := sendList(t, serve(app), `[`+apptest.JobDocument+`,`+apptest.JobDocument+`]`)
	if len(items) != 2 || items[0].ID == items[1].ID {
		t.Fatalf("got %s", answer)
	}
	for _, item := range items {
		if j, err := app.Jobs.Job(t.Context(), item.ID); err != nil || j.Spec.Name != "train" {
			t.Errorf("%s: got %+v, %v", item.ID, j, err)
		}
	}
}

func TestSubmitListRefuses(t *testing.T) {
	t.Parallel()
	many := strings.TrimSuffix(strings.Repeat(apptest.JobDocument+",", wire.MaxJobs+1), ",")
	for name, test := range map[string]struct {
		body, kind, key string
		status          int
		says            string
	}{
		"an empty list":  {"[]", "application/json", "", 400, "the list is empty"},
		"too many":       {"[" + many + "]", "application/json", "", 400, "has 1001 documents, and at most 1000"},
		"too large":      {`["` + strings.Repeat("x", wire.MaxJobsBytes) + `"]`, "application/json", "", 413, "at most 4 MiB"},
		"broken":         {"[\n" + apptest.JobDocument + ",\n]", "application/json", "", 400, "line 3: the document is not valid JSON"},
		"a key":          {"[" + apptest.JobDocument + "]", "application/json", "x", 400, "give each document of a list its own `id`"},
		"no UTF-8":       {"[\"\xff\"]", "application/json", "", 400, "not UTF-8"},
		"a list in YAML": {"[{pool: cpu}]", "application/yaml", "", 400, "the document is a list"},
		"one too large":  {`{"script":"` + strings.Repeat("x", wire.MaxJobsBytes) + `"}`, "application/json", "", 413, "at most 32 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header := []string{"Content-Type", test.kind}
			if test.key != "" {
				header = append(header, wire.IdempotencyHeader, test.key)
			}
			if status, _, answer := sendList(t, serve(apptest.Example(t)), test.body, header...); status != test.status || !strings.Contains(answer, test.says) {
				t.Errorf("got %d %s, want %d and %q", status, answer, test.status, test.says)
			}
		})
	}
}

// A whole list costs requests by its pools, not by its jobs.
func TestSubmitListIsOneAdmission(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	h := serve(app)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/api/pools", strings.NewReader(apptest.PoolDocument)))
	if w.Code != http.StatusOK {
		t.Fatal(w.Body)
	}
	app.Clock.Set(apptest.Noon.Add(time.Second)) // the ids are registered after the pool was loaded
	before := app.Tables.Stats().Requests
	var documents []string
	for i := range wire.MaxJobs {
		documents = append(documents, fmt.Sprintf(`{"id":"job-%d","pool":"cpu","command":["a"]}`, i))
	}
	status, items, answer := sendList(t, h, "["+strings.Join(documents, ",")+"]")
	if status != http.StatusMultiStatus || len(items) != wire.MaxJobs {
		t.Fatalf("got %d %.300s", status, answer)
	}
	for _, item := range items {
		if item.Status != http.StatusAccepted {
			t.Fatalf("got %+v %+v", item, item.Problem)
		}
	}
	if n := app.Tables.Stats().Requests - before; n > 100 {
		t.Errorf("%d requests to the tables for %d jobs", n, wire.MaxJobs)
	}
}
