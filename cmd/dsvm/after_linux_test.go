package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// Jobs that come after others run when those have succeeded, and are cancelled
// when one has not. The first three are docs/examples/pipeline.json.
func TestJobsAfterJobs(t *testing.T) {
	t.Parallel()
	i := startInstance(t, map[string]string{"DSVM_UNKNOWN_POOL_AGAIN": "1s"})
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":2}}`)
	text, err := os.ReadFile("../../docs/examples/pipeline.json")
	if err != nil {
		t.Fatal(err)
	}
	var pipeline []json.RawMessage
	if err := json.Unmarshal(text, &pipeline); err != nil {
		t.Fatal(err)
	}
	for _, doc := range pipeline {
		i.send("jobs", body("%s", doc))
	}
	i.send("jobs",
		// The one it comes after is not known yet; its message is behind.
		body(`{"id":"early","pool":"cpu","after":["late"],"command":["true"]}`),
		body(`{"id":"late","pool":"cpu","command":["true"]}`),
		body(`{"id":"bad","pool":"cpu","command":["false"]}`),
		body(`{"id":"never","pool":"cpu","after":["bad","late"],"command":["true"]}`),
		body(`{"id":"nor","pool":"cpu","after":["never"],"command":["true"]}`),
		body(`{"id":"lost","pool":"cpu","after":["nobody"],"command":["true"]}`))
	for id, want := range map[string]job.State{"prepare": job.Succeeded, "train": job.Succeeded, "report": job.Succeeded, "early": job.Succeeded, "late": job.Succeeded,
		"bad": job.Failed, "never": job.Cancelled, "nor": job.Cancelled} {
		if j := i.job(id); j.State != want {
			t.Errorf("job %s: got %s: %s, want %s", id, j.State, j.Reason, want)
		}
	}
	if j := i.job("lost"); j.State != job.Rejected || !strings.Contains(j.Reason, `names job "nobody", which is not known`) {
		t.Errorf("job lost: got %s: %s", j.State, j.Reason)
	}
	begin := func(id string) wire.Attempt {
		j := i.job(id)
		return j.Attempts[len(j.Attempts)-1]
	}
	if prepared, trained := begin("prepare"), begin("train"); trained.StartedAt.Before(*prepared.EndedAt) {
		t.Errorf("train began at %s, before the end of prepare at %s", trained.StartedAt, prepared.EndedAt)
	}
	// Of a job that has ended long ago, the row tells.
	i.send(
		"jobs",
		body(`{"id":"again","pool":"cpu","after":["prepare"],"command":["true"]}`),
		body(`{"id":"not","pool":"cpu","after":["bad"],"command":["true"]}`),
	)
	if j := i.job("again"); j.State != job.Succeeded {
		t.Errorf("job again: got %s: %s", j.State, j.Reason)
	}
	if j := i.job("not"); j.State != job.Cancelled || j.Reason != "it comes after job bad, which ended as failed" {
		t.Errorf("job not: got %s: %s", j.State, j.Reason)
	}
}
