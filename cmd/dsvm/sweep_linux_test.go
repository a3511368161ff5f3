package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"dsvmpools/shared/client"
	"dsvmpools/shared/job"
)

// A sweep is one job to look at, to wait for and to cancel; its members run with
// their parameters. The first one is docs/examples/sweep.json.
func TestSweeps(t *testing.T) {
	t.Parallel()
	i := startInstance(t, nil)
	i.apply(`{"name":"cpu","sizes":["Standard_D4s_v5"],"nodes":{"max":2}}`)
	text, err := os.ReadFile("../../docs/examples/sweep.json")
	if err != nil {
		t.Fatal(err)
	}
	i.send("jobs", body("%s", text), body(`{"id":"mixed","pool":"cpu","sweep":{"list":[{"CODE":"0"},{"CODE":"3"}]},"script":"exit $CODE"}`),
		body(`{"id":"report","pool":"cpu","after":["mixed:failure"],"command":["true"]}`))
	if j := i.job("tune"); j.State != job.Succeeded || j.Sweep.Members != 6 || j.Sweep.Succeeded != 6 || j.Sweep.Percent != 100 {
		t.Errorf("tune: got %s, %+v", j.State, j.Sweep)
	}
	for index, want := range []string{"0.1 1", "0.1 2", "0.1 3", "0.01 1", "0.01 2", "0.01 3"} {
		id := job.MemberID("tune", index)
		var out strings.Builder
		if err := i.client.ReadLog(i.ctx, client.Log{Job: id, Stream: "stdout"}, false, &out); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("member %d: %s\n", index, want); out.String() != want {
			t.Errorf("%s wrote %q, want %q", id, out.String(), want)
		}
	}
	if j := i.job("mixed"); j.State != job.Failed || *j.ExitCode != 3 ||
		j.Reason != "1 of its 2 members failed, the first of them mixed.1" {
		t.Errorf("mixed: got %s: %s", j.State, j.Reason)
	}
	if j := i.job("report"); j.State != job.Succeeded {
		t.Errorf("report: got %s: %s", j.State, j.Reason)
	}
	list := func(f client.JobFilter) []string {
		jobs, err := i.client.Jobs(i.ctx, f, 100)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, j := range jobs {
			ids = append(ids, j.ID)
		}
		slices.Sort(ids)
		return ids
	}
	if got, want := list(client.JobFilter{}), []string{"mixed", "report", "tune"}; !slices.Equal(got, want) {
		t.Errorf("the list has %v, want %v", got, want)
	}
	if got, want := list(client.JobFilter{Sweep: "mixed", States: []job.State{job.Failed}}), []string{"mixed.1"}; !slices.Equal(got, want) {
		t.Errorf("the failed members of mixed: %v, want %v", got, want)
	}

	i.send("jobs", body(`{"id":"tune.3","pool":"cpu","command":["true"]}`))
	i.until("the conflict on rejected", func() bool {
		active, _, _, _ := i.Bus.Counts("rejected")
		return active == 1
	})
	i.send("jobs", body(`{"id":"large","pool":"cpu","user":"ann","sweep":{"count":100000},"command":["sleep","600"]}`))
	i.until("eight members to run", func() bool {
		j, err := i.client.Job(i.ctx, "large")
		return err == nil && j.Sweep != nil && j.Sweep.Running == 8
	})
	if j, err := i.client.Job(i.ctx, "large.99999"); err != nil || j.State != job.Submitted {
		t.Errorf("a member that has not begun: got %s", j.State)
	}
	if n, err := i.client.CancelAll(i.ctx, client.JobFilter{User: "ann"}); err != nil || n.Jobs != 1 {
		t.Errorf("cancelled %d: %v", n.Jobs, err)
	}
	if j := i.job("large"); j.State != job.Cancelled || j.Sweep.Cancelled != 100_000 {
		t.Errorf("large: got %s, %+v", j.State, j.Sweep)
	}
	if j, err := i.client.Job(i.ctx, "large.99999"); err != nil || j.State != job.Cancelled || j.Reason == "" {
		t.Errorf("a member that will never begin: got %s, %q (%v), want it cancelled", j.State, j.Reason, err)
	}
}
