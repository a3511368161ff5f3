package scheduler_test

import (
	"strings"

	"dsvmpools/shared/job"
	"dsvmpools/shared/size"
	"dsvmpools/shared/usage"
)

// figures checks what an entry is paid by: what the node has, and what the job
// asked for of it, or all of it where jobs do not share nodes.
func (c *checker) figures(pack bool, e usage.Entry) {
	of, _ := size.Lookup(e.Size)
	want := usage.Entry{NodeCPUs: of.CPUs, NodeGPUs: of.GPUs, NodeMem: int64(of.MemoryGiB) * int64(job.Gi)}
	if e.Kind == usage.KindAttempt {
		order, _, _ := strings.Cut(e.Key, "!")
		held := c.w.jobs[order[:26]].spec.Resources // a member's order begins with that of its sweep
		want.CPUs, want.GPUs, want.Memory = held.CPUs, held.GPUs, int64(held.Memory)
		if !pack {
			want.CPUs = of.CPUs
		}
	}
	for _, f := range []struct {
		name      string
		got, want int64
	}{
		{"cpus", int64(e.CPUs), int64(want.CPUs)}, {"cpus of the node", int64(e.NodeCPUs), int64(want.NodeCPUs)},
		{"GPUs", int64(e.GPUs), int64(want.GPUs)}, {"GPUs of the node", int64(e.NodeGPUs), int64(want.NodeGPUs)},
		{"memory", e.Memory, want.Memory}, {"memory of the node", e.NodeMem, want.NodeMem},
	} {
		if f.got != f.want {
			c.fail("ledger", "%s: %s is %d, want %d", ledgerKey(e), f.name, f.got, f.want)
		}
	}
	if share := usage.NewRow(e).Share; share <= 0 || share > 1 {
		c.fail("ledger", "%s is for %v of a node", ledgerKey(e), share)
	}
}
