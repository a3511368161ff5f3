package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"dsvmpools/handlers"
	"dsvmpools/local/apptest"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/job"
	"dsvmpools/shared/service"
	"dsvmpools/shared/wire"
)

// reject has a message rejected, as the app does it.
func (b *bench) reject(queue, id, body, field, reason string) {
	b.t.Helper()
	m := bus.Message{ID: id, Body: []byte(body), ContentType: "application/json",
		Labels: bus.Labels{CorrelationID: "order-7"}, Properties: map[string]any{"team": "vision", "n": int64(3)}}
	spec, _ := job.Parse(m.Body, m.ContentType)
	err := b.app.Rejections.Reject(b.t.Context(), queue, m, service.NewRefusedJob(spec, id), fault.New(fault.Invalid, field, "%s", reason))
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestRejectedMessages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if code, out, errs := b.run("rejected", "list"); code != 0 || out != "" || errs != "dsvm: no rejected messages\n" {
		t.Errorf("none: exit %d, %q, %q", code, out, errs)
	}
	b.app.Bus.Take("rejected")
	b.reject("jobs", "typo", `{"id":"typo","pool":"cpu","comand":["true"]}`, "comand", "there is no field `comand`")
	b.reject("jobs", "soon", `{"id":"soon","pool":"cpu","command":["true"]}`, "", "the message could not be processed")
	b.reject("pools", "m-3", `{"name":"cp u"}`, "name", "it is no name")

	code, out, _ := b.run("rejected", "list")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 4 {
		t.Fatalf("list: exit %d\n%s", code, out)
	}
	for i, want := range []string{"KEY SOURCE JOB POOL REJECTED FIELD REASON", "jobs typo cpu", "jobs soon cpu", "pools m-3"} {
		if got := strings.Join(strings.Fields(lines[i]), " "); !strings.Contains(got, want) {
			t.Errorf("line %d: got %q, want %q", i, got, want)
		}
	}
	var all []wire.Rejected
	_, out, _ = b.run("rejected", "list", "-o", "json", "--job", "typo")
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 || all[0].Field != "comand" || all[0].RejectedAt == nil || !all[0].RejectedAt.Equal(apptest.Noon) {
		t.Fatalf("list by job: %v\n%s", err, out)
	}
	key := all[0].Key
	if _, _, errs := b.run("rejected", "list", "--limit", "1"); !strings.Contains(errs, "there are more") {
		t.Errorf("a list that is cut says %q", errs)
	}
	code, out, errs := b.run("rejected", "delete", "7001", "7002", "-o", "json")
	if lines := strings.Split(strings.TrimSpace(errs), "\n"); code != codeFailure || out != "[]\n" || len(lines) != 2 {
		t.Errorf("keys that there are not: exit %d, %q, %q", code, out, errs)
	} else {
		for i, line := range lines {
			var problem Problem
			if err := json.Unmarshal([]byte(line), &problem); err != nil || problem.Status != 404 {
				t.Errorf("line %d is no problem document: %q", i, line)
			}
		}
	}
	if got := b.complete("rejected delete " + key + " "); strings.HasPrefix(got, key) || !strings.Contains(got, "\tsoon\n") {
		t.Errorf("after a key the shell is offered %q", got)
	}
	if _, out, _ = b.run("rejected", "list", "--pool", "gpu", "-o", "json"); out != "[]\n" {
		t.Errorf("of another pool: %q", out)
	}

	code, out, _ = b.run("rejected", "show", key)
	for _, want := range []string{"reason", "there is no field `comand`", "order-7", "team  vision", `{"id":"typo","pool":"cpu","comand":["true"]}`, "44 bytes"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("show: exit %d, without %q:\n%s", code, want, out)
		}
	}
	var one wire.Rejected
	_, out, _ = b.run("rejected", "show", key, "-o", "json")
	if err := json.Unmarshal([]byte(out), &one); err != nil || one.Properties["n"] != 3.0 || one.Properties["reason"] != nil || one.Encoding != "text" {
		t.Errorf("show as JSON: %v\n%s", err, out)
	}

	// As it is, it is refused once more and stays.
	if code, _, errs := b.run("rejected", "resubmit", key); code != 2 || !strings.Contains(errs, "comand") {
		t.Errorf("resubmit as it is: exit %d, %q", code, errs)
	}
	if code, _, _ := b.run("rejected", "show", key); code != 0 {
		t.Error("a message that was refused again is gone")
	}
	// Corrected, it becomes the job, and goes.
	b.program.In = strings.NewReader("id: typo\npool: cpu\ncommand: ['true']\n")
	if code, out, errs := b.run("rejected", "resubmit", key, "-f", "-"); code != 0 || out != "typo\n" {
		t.Errorf("resubmit corrected: exit %d, %q, %q", code, out, errs)
	}
	if j, err := b.app.Jobs.Job(t.Context(), "typo"); err != nil || j.State == job.Rejected {
		t.Errorf("the corrected job: %+v, %v", j, err)
	}
	if code, _, errs := b.run("rejected", "show", key); code != 1 || !strings.Contains(errs, "there is no rejected message") {
		t.Errorf("after it was resubmitted: exit %d, %q", code, errs)
	}

	_, out, _ = b.run("rejected", "list", "-o", "json")
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 2 {
		t.Fatalf("two are left: %v\n%s", err, out)
	}
	code, out, errs = b.run("rejected", "delete", all[0].Key, "999", "x", all[1].Key)
	if want := all[0].Key + "\n" + all[1].Key + "\n"; code != 1 || out != want || strings.Count(errs, "there is no rejected message") != 2 {
		t.Errorf("delete: exit %d, %q, %q", code, out, errs)
	}
	if left := b.app.Bus.Take("rejected"); len(left) != 0 {
		t.Errorf("%d messages are left", len(left))
	}
	if code, _, _ := b.run("rejected", "delete"); code != 2 {
		t.Errorf("delete of nothing: exit %d, want 2", code)
	}
}

// A message is of a stranger: nothing in it reaches the terminal as it is.
func TestRejectedMessageOfAStranger(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.app.Bus.Take("rejected")
	b.reject("jobs", "a\x1b[2Jb", "one\x1b]0;title\a\r\ntwo\tx\xff", "", "the \x1b[31mdocument")
	_, out, _ := b.run("rejected", "list", "-o", "json")
	var all []wire.Rejected
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	_, out, _ = b.run("rejected", "show", all[0].Key)
	if strings.ContainsAny(out, "\x1b\a\r") || !strings.Contains(out, "body (no text; in base64)") {
		t.Errorf("shown as %q", out)
	}
	_, out, _ = b.run("rejected", "list")
	if strings.ContainsAny(out, "\x1b\a\r") {
		t.Errorf("listed as %q", out)
	}
}

// A document that comes to the queue under the id of another job is on `rejected`, and the
// job says that there was one.
func TestConflictOfIDs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.app.Bus.Take("rejected")
	app := handlers.New(handlers.Config{Service: b.app.Service, Bus: b.app.Bus, UnknownAgain: time.Minute, Log: b.app.Log, Now: b.app.Clock.Now})
	send := func(document string) {
		t.Helper()
		if err := app.SubmitJob(t.Context(), []invoke.Message{{ID: "m", Body: []byte(document)}}); err != nil {
			t.Fatal(err)
		}
	}
	send(`{"id":"nightly","pool":"cpu","command":["true"]}`)
	send(`{"id":"nightly","pool":"cpu","command":["true"]}`) // the same job
	if _, out, _ := b.run("job", "show", "nightly"); strings.Contains(out, "conflict") {
		t.Errorf("the same document is no conflict:\n%s", out)
	}
	send(`{"id":"nightly","pool":"cpu","command":["false"]}`)
	_, out, _ := b.run("job", "show", "nightly")
	if !strings.Contains(out, "another document came under this id and was rejected") || !strings.Contains(out, "dsvm rejected list --job nightly") {
		t.Errorf("the job says nothing of it:\n%s", out)
	}
	var j wire.Job
	_, out, _ = b.run("job", "show", "nightly", "-o", "json")
	if err := json.Unmarshal([]byte(out), &j); err != nil || j.Conflict == nil || !j.Conflict.At.Equal(b.app.Clock.Now()) || j.State == job.Rejected {
		t.Errorf("as JSON: %v\n%s", err, out)
	}
	_, out, _ = b.run("rejected", "list", "--job", "nightly", "-o", "json")
	var all []wire.Rejected
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 || !strings.Contains(all[0].Reason, "belongs to another job") {
		t.Errorf("on the queue: %v\n%s", err, out)
	}
	b.run("job", "cancel", "nightly")
	if _, out, _ = b.run("job", "show", "nightly"); !strings.Contains(out, "another document") {
		t.Errorf("after its end the job says nothing of it:\n%s", out)
	}
}
