package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// A pipeline over two pools, sent in one batch and a step at a time: what is prepared in one
// pool is used in the other a message later, and not with the timer.
func TestJobsAfterJobsOfAnotherPool(t *testing.T) {
	t.Parallel()
	i := startInstance(t, map[string]string{"RECONCILE_SCHEDULE": "0 0 0 1 1 *"}) // nothing but messages
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1}}`)
	i.apply(`{"name":"gpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1}}`)
	gate := filepath.Join(t.TempDir(), "gate")
	wait := fmt.Sprintf(`["/bin/sh","-c","until [ -e %s ]; do sleep 0.1; done"]`, gate)
	i.send("jobs",
		body(`{"id":"prepare","pool":"cpu","command":%s}`, wait),
		body(`{"id":"train","pool":"gpu","after":["prepare"],"command":["false"]}`),
		body(`{"id":"report","pool":"cpu","after":["train:any"],"command":["true"]}`),
		body(`{"id":"publish","pool":"cpu","after":["train"],"command":["true"]}`),
		body(`{"id":"points","pool":"cpu","sweep":{"count":2},"command":["true"]}`),
		body(`{"id":"join","pool":"gpu","after":["points","points.1"],"command":["true"]}`))
	is := func(id string, state job.State) {
		i.until(fmt.Sprintf("job %s to be %s", id, state), func() bool {
			j, err := i.client.Job(i.ctx, id)
			return err == nil && j.State == state
		})
	}
	is("prepare", job.Running)
	is("train", job.Held)
	j, err := i.client.Job(i.ctx, "train")
	if err != nil || j.State != job.Held || j.Reason != "it comes after job prepare, which has not ended" {
		t.Errorf("train: got %s: %s (%v)", j.State, j.Reason, err)
	}
	e, err := i.client.Explain(i.ctx, "train")
	if want := []wire.AfterJob{{ID: "prepare", Pool: "cpu", State: job.Running}}; err != nil || !slices.Equal(e.After, want) {
		t.Errorf("train waits for %v (%v), want %v", e.After, err, want)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]job.State{"prepare": job.Succeeded, "train": job.Failed, "report": job.Succeeded, "publish": job.Cancelled, "join": job.Succeeded} {
		if j := i.job(id); j.State != want {
			t.Errorf("job %s: got %s: %s, want %s", id, j.State, j.Reason, want)
		}
	}
	// The pool of what it waits for is deleted.
	i.send("jobs",
		body(`{"id":"long","pool":"cpu","command":["sleep","1000"]}`),
		body(`{"id":"orphan","pool":"gpu","after":["long"],"command":["true"]}`))
	is("orphan", job.Held)
	if _, err := i.client.Delete(i.ctx, "cpu"); err != nil {
		t.Fatal(err)
	}
	if j := i.job("orphan"); j.State != job.Cancelled || j.Reason != "it comes after job long, which ended as cancelled" {
		t.Errorf("orphan: got %s: %s", j.State, j.Reason)
	}
}

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
