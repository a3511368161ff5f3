package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"dsvmpools/shared/client"
	"dsvmpools/shared/job"
)

// A job on three nodes: its ranks find each other at the address and the port they
// are told, and have logs of their own; when one fails, all end.
func TestGang(t *testing.T) {
	t.Parallel()
	i := startInstance(t, nil)
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":3}}`)
	// Rank 0 is known by the port it takes a lock under; the others wait for it.
	const script = `echo rank $RANK of $WORLD_SIZE as $NODE_RANK at $MASTER_ADDR
cat $DSVM_HOSTFILE
echo $DSVM_HOSTS
if [ $RANK = 0 ]; then mkdir $DSVM_SHARE/$MASTER_PORT; else until [ -d $DSVM_SHARE/$MASTER_PORT ]; do sleep 0.05; done; fi`
	i.send("jobs", body(`{"id":"train","pool":"cpu","nodes":3,"resources":{"cpus":2},"script":%q}`, script),
		body(`{"id":"bad","pool":"cpu","nodes":2,"script":"[ $RANK = 1 ] && exit 5; sleep 600"}`))
	j := i.job("train")
	if j.State != job.Succeeded || len(j.Attempts) != 1 || len(j.Attempts[0].Ranks) != 3 {
		t.Fatalf("got %s: %s, %+v", j.State, j.Reason, j.Attempts)
	}
	var on []string
	for rank, r := range j.Attempts[0].Ranks {
		on = append(on, r.Node)
		var out strings.Builder
		if err := i.client.ReadLog(i.ctx, client.Log{Job: "train", Stream: "stdout", Rank: rank}, false, &out); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(
			"rank %d of 3 as %d at 127.0.0.1\n%s127.0.0.1,127.0.0.1,127.0.0.1\n",
			rank,
			rank,
			strings.Repeat("127.0.0.1 slots=2\n", 3),
		)
		if out.String() != want {
			t.Errorf("rank %d wrote\n%swant\n%s", rank, out.String(), want)
		}
	}
	if slices.Sort(on); len(slices.Compact(on)) != 3 {
		t.Errorf("it ran on %v", on)
	}
	j = i.job("bad")
	if j.State != job.Failed || *j.ExitCode != 5 || !strings.Contains(j.Attempts[0].Reason, "rank 1 on node") {
		t.Errorf("bad: got %s, %s", j.State, j.Attempts[0].Reason)
	}
	if r := j.Attempts[0].Ranks[0]; r.State != job.AttemptCancelled {
		t.Errorf("rank 0 of bad is %s, want cancelled", r.State)
	}
}
