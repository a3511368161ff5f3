package scheduler

import (
	"slices"
	"testing"
	"time"

	"dsvmpools/shared/pool"
)

// TestSortedNodes: the list of the nodes is sorted, follows what comes and goes, and is
// neither made again for each look at it nor changed under one who goes through it.
func TestSortedNodes(t *testing.T) {
	s := NewState(pool.Head{}, []*pool.Node{{VMID: "d"}, {VMID: "b"}}, nil, time.Unix(0, 0))
	list := func(nodes []*Node) (names []string) {
		for _, n := range nodes {
			names = append(names, n.VMID)
		}
		return names
	}
	before := s.sortedNodes()
	for _, vmid := range []string{"c", "a", "e"} {
		s.addNode(newNode(&pool.Node{VMID: vmid}))
	}
	all := s.sortedNodes()
	if got, want := list(all), []string{"a", "b", "c", "d", "e"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	s.dropNode("c")
	s.dropNode("not there")
	if got, want := list(s.sortedNodes()), []string{"a", "b", "d", "e"}; !slices.Equal(got, want) || len(s.Nodes) != len(want) {
		t.Errorf("got %v with %d nodes, want %v", got, len(s.Nodes), want)
	}
	if got, want := list(before), []string{"b", "d"}; !slices.Equal(got, want) {
		t.Errorf("the first list has become %v", got)
	}
	if got, want := list(all), []string{"a", "b", "c", "d", "e"}; !slices.Equal(got, want) {
		t.Errorf("the second list has become %v", got)
	}
	if n := testing.AllocsPerRun(10, func() { s.sortedNodes() }); n > 0 {
		t.Errorf("a look at the list allocates %v times", n)
	}
}
