package service_test

import (
	"strings"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/service"
	"dsvmpools/shared/wire"
)

func TestFindNode(t *testing.T) {
	t.Parallel()
	node := func(name, vmid string, state pool.NodeState) *pool.Node {
		return &pool.Node{Name: name, VMID: vmid, State: state}
	}
	pools := []wire.PoolSummary{
		{
			Head: pool.Head{Spec: pool.Spec{Name: "cpu"}},
			Nodes: []*pool.Node{node("dsvm-cpu-d4s-v5_0", "aa-0", pool.NodeGone), node("dsvm-cpu-d4s-v5_0", "aa-1", pool.NodeBusy),
				node("dsvm-cpu-d4s-v5_1", "aa-2", pool.NodeGone), node("twin", "aa-3", pool.NodeReady)},
		},
		{Head: pool.Head{Spec: pool.Spec{Name: "gpu"}}, Nodes: []*pool.Node{node("twin", "bb-1", pool.NodeReady)}},
	}
	for name, want := range map[string]struct {
		vmid, pool string
		code       fault.Code
		says       string
	}{
		"dsvm-cpu-d4s-v5_0":  {vmid: "aa-1", pool: "cpu"},
		"AA-1":               {vmid: "aa-1", pool: "cpu"},
		"aa-0":               {vmid: "aa-0", pool: "cpu"}, // gone, and named by its id
		"dsvm-cpu-d4s-v5_1":  {vmid: "aa-2", pool: "cpu"}, // gone, and the only one
		"bb-1":               {vmid: "bb-1", pool: "gpu"},
		"twin":               {code: fault.Conflict, says: "aa-3, bb-1"},
		"dsvm-cpu-d4s-v5_00": {code: fault.NotFound, says: "did you mean dsvm-cpu-d4s-v5_0? `dsvm node list`"},
		"nothing like it":    {code: fault.NotFound, says: "`dsvm node list` shows the nodes"},
		"":                   {code: fault.NotFound, says: "`dsvm node list`"},
	} {
		p, n, err := service.FindNode(pools, name)
		if want.code != "" {
			if fault.CodeOf(err) != want.code || !strings.Contains(err.Error(), want.says) {
				t.Errorf("%q: got %v, want %s with %q", name, err, want.code, want.says)
			}
		} else if err != nil || n.VMID != want.vmid || p.Head.Spec.Name != want.pool {
			t.Errorf("%q: got %+v, %v", name, n, err)
		}
	}
}
