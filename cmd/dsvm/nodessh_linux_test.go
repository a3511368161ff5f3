package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/wire"
)

// TestOperatorsComeToNodes has an operator come to a node with OpenSSH's own client, as root where the
// agent is: with a reason, which is in the audit trail. A user, the key, and who gives no reason do
// not get in.
func TestOperatorsComeToNodes(t *testing.T) {
	onlyLong(t)
	t.Parallel()
	i, all := startCrowd(t, `{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1},"idleTimeout":"1h"}`, []string{"ops", "ann"})
	ops, ann := all[0], all[1]
	ann.startJob("one", "sleep 600")
	nodes, err := i.client.Nodes(i.ctx, "cpu")
	if err != nil || len(nodes) != 1 {
		t.Fatalf("got %+v, %v", nodes, err)
	}
	dsvm, node := os.Args[0], nodes[0].Name
	out, err := ops.run(dsvm, "node", "ssh", node, "--reason", "the disk is full", "--", "sh", "-c", `echo "$(id -u) it's"; exit 7`)
	if want := fmt.Sprintf("%d it's\n", os.Geteuid()); exitCode(err) != 7 || !strings.HasSuffix(out, want) {
		t.Errorf("got %v and %q, want %q", err, out, want)
	}
	if os.Geteuid() != 0 && !strings.Contains(out, "is not root") {
		t.Errorf("it does not say as whom: %q", out)
	}
	if out, err := ops.run(dsvm, "node", "ssh", node, "--", "true"); exitCode(err) != 2 || !strings.Contains(out, "--reason") {
		t.Errorf("without a reason: %v\n%s", err, out)
	}
	if out, err := ann.run(dsvm, "node", "ssh", node, "--reason", "x", "--", "true"); err == nil || !strings.Contains(out, "operator in every team") {
		t.Errorf("a user: %v\n%s", err, out)
	}
	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3Lx2b3kHnVw8Sx0sIVSLFq1Q0Jq7BX7eB7dS0b8X1q"
	if _, err := i.client.CertifyNode(i.ctx, "", node, key, "x"); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("the function key gets a certificate: %v", err)
	}
	entries, err := i.client.Audit(i.ctx, wire.AuditQuery{Target: "reason=the+disk+is+full", Limit: 10})
	if err != nil || len(entries) != 1 || entries[0].User != "ops" || entries[0].From == "" || entries[0].Status != 200 {
		t.Errorf("the audit trail has %+v, %v", entries, err)
	}
}
