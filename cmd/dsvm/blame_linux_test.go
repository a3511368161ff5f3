package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// Jobs of a program that does not exist end, the nodes stay sound, and the job of
// another team runs; a sweep of such a program stops early, and somebody decides.
func TestMisspeltProgram(t *testing.T) {
	t.Parallel()
	i := startInstance(t, nil)
	i.apply(`{"name":"cpu","sizes":["Standard_D4s_v5"],"nodes":{"max":3}}`)
	var messages []*azservicebus.Message
	for n := range 40 {
		messages = append(messages, body(`{"id":"bad-%d","pool":"cpu","team":"a","command":["pyhton3","train.py"]}`, n))
	}
	i.send("jobs", append(messages, body(`{"id":"good","pool":"cpu","team":"b","resources":{"cpus":4},"command":["true"]}`))...)
	if j := i.job("good"); j.State != job.Succeeded {
		t.Errorf("good: got %s: %s", j.State, j.Reason)
	}
	for n := range 40 {
		if j := i.job(fmt.Sprint("bad-", n)); j.State != job.Failed || j.ExitCode == nil || *j.ExitCode != job.ExitStartFailed ||
			len(j.Attempts) != 1 {
			t.Errorf("bad-%d: got %s after %d attempts: %s", n, j.State, len(j.Attempts), j.Reason)
		}
	}
	nodes, err := i.client.Nodes(i.ctx, "cpu")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.State == pool.NodeQuarantined {
			t.Errorf("node %s is %s: %s", n.Name, n.State, n.Reason)
		}
	}

	i.send("jobs", body(`{"id":"tune","pool":"cpu","sweep":{"count":1000,"parallel":4},"command":["pyhton3","train.py"]}`))
	held := func(failed int) {
		t.Helper()
		i.until(fmt.Sprintf("the sweep to be held after %d failures", failed), func() bool {
			j, err := i.client.Job(i.ctx, "tune")
			return err == nil && j.State == job.Held && j.Sweep.Running == 0 && j.Sweep.Failed >= failed
		})
	}
	held(10)
	e, err := i.client.Explain(i.ctx, "tune")
	if err != nil || !strings.Contains(e.Reason, "10 members failed and none succeeded") ||
		!strings.Contains(e.Reason, "dsvm job release tune") {
		t.Errorf("explain: %+v, %v", e, err)
	}
	before, err := i.client.Job(i.ctx, "tune")
	if err != nil || before.Sweep.Failed > 20 {
		t.Errorf("%d members have failed: %v", before.Sweep.Failed, err)
	}
	if _, err := i.client.Release(i.ctx, "tune"); err != nil {
		t.Fatal(err)
	}
	held(before.Sweep.Failed + 10)
	if _, err := i.client.Cancel(i.ctx, "tune"); err != nil {
		t.Fatal(err)
	}
	if j := i.job("tune"); j.State != job.Cancelled || j.Sweep.Failed+j.Sweep.Cancelled != 1000 {
		t.Errorf("tune: got %s, %+v", j.State, j.Sweep)
	}
}

// What runs on a node that is deleted begins again elsewhere; a drained node leaves
// when its work has ended.
func TestWordsToANode(t *testing.T) {
	t.Parallel()
	i := startInstance(t, nil)
	i.apply(`{"name":"cpu","sizes":["Standard_D4s_v5"],"nodes":{"max":2}}`)
	i.send("jobs", body(`{"id":"long","pool":"cpu","script":"test $DSVM_ATTEMPT = 2 || sleep 600"}`))
	i.until("the job to run", func() bool {
		j, err := i.client.Job(i.ctx, "long")
		return err == nil && j.State == job.Running
	})
	nodes, err := i.client.Nodes(i.ctx, "cpu")
	if err != nil || len(nodes) != 1 {
		t.Fatalf("got %d nodes: %v", len(nodes), err)
	}
	wrong := nodes[0].Name + "0"
	if _, err := i.client.DeleteNode(i.ctx, "", wrong); fault.CodeOf(err) != fault.NotFound ||
		!strings.Contains(err.Error(), "did you mean "+nodes[0].Name) {
		t.Errorf("a wrong name: %v", err)
	}
	for range 2 {
		if n, err := i.client.DeleteNode(i.ctx, "cpu", nodes[0].Name); err != nil ||
			n.State != pool.NodeDeleting && n.State != pool.NodeGone {
			t.Fatalf("got %s: %v", n.State, err)
		}
	}
	j := i.job("long")
	if j.State != job.Succeeded || len(j.Attempts) != 2 || j.Attempts[0].Node == j.Attempts[1].Node {
		t.Errorf("got %s after the attempts %+v", j.State, j.Attempts)
	}
	n, err := i.client.DrainNode(i.ctx, "", j.Attempts[1].Node)
	if err != nil || n.State != pool.NodeDeleting && n.State != pool.NodeGone && n.State != pool.NodeDraining {
		t.Errorf("drained: %s: %v", n.State, err)
	}
	i.until("all nodes to leave", func() bool {
		nodes, err := i.client.Nodes(i.ctx, "cpu")
		return err == nil && len(nodes) == 0
	})
}
