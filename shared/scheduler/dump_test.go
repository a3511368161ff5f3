package scheduler

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"
)

// Dump writes down everything a state decides on, rows and what is derived from
// them, in one order. What is a hint only is left out. A job whose time has come
// is put in line before, as the next step would.
func Dump(s *State, now time.Time) string {
	for j := s.line.nextDue(now); j != nil; j = s.line.nextDue(now) {
		s.line.remove(j)
		s.startWaiting(j, now)
	}
	var lines []string
	if len(s.byVMID) != len(s.Nodes) || !slices.IsSortedFunc(s.byVMID, func(a, b *Node) int { return strings.Compare(a.VMID, b.VMID) }) {
		lines = append(lines, "the sorted list is not that of the nodes")
	}
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for j := range s.Jobs.All() {
		row, _ := json.Marshal(j.row())
		if s.Jobs.WithID(j.ID) != j {
			add("job %s is not found by its id", j.Order)
		}
		where := "on a node"
		switch w := s.sweepOf(j); {
		case j.awaits():
			where = "awaits"
		case j.inLine() != nil:
			where = fmt.Sprintf("in line of %s, class %d, shape %v, for %d", j.inLine().team, j.inLine().class, shapeOf(&Job{Job: j.row()}), j.weight)
			if s.isMismarked(j) && !s.marking {
				where += ", never to be marked"
			}
		case j.heap != nil:
			where = "later"
		case j.VMID == "" && w != nil:
			where = "beside the line"
		}
		if j.heap != nil && !j.awaits() && j.heap.jobs[j.index] != j {
			where += ", lost"
		}
		part := 0.0
		if j.VMID != "" {
			part = j.part
		}
		add("job %s: %s, part %.6f, %s", j.Order, where, part, row)
	}
	for _, n := range s.Nodes {
		seen := n.Seen
		n.Seen = 0 // a hint until something else is written about the node
		row, _ := json.Marshal(n)
		n.Seen = seen
		var jobs []string
		for number, j := range n.jobs {
			jobs = append(jobs, fmt.Sprintf("%d:%s:%v", number, j.Order, s.Jobs.Get(j.Order) == j))
		}
		sort.Strings(jobs)
		offered := n.freeSlot == notIndexed
		if !offered {
			for _, other := range s.index[n.freeSlot] {
				offered = offered || other == n
			}
		}
		i, listed := s.placeOf(n.VMID)
		listed = listed && s.byVMID[i] == n
		add("node %s: %v used %v gpus %b space %d %v listed %v, %s", n.VMID, jobs, n.used, n.gpus, n.freeSlot, offered, listed, row)
	}
	for name, t := range s.teams {
		if t.jobs != 0 {
			add(
				"team %s: %d jobs, %d cpus, %d gpus, held %.4f since %d", name, t.jobs, t.cpus, t.gpus, t.held,
				int64(math.Round(t.since/1000)),
			)
		}
	}
	for owner, j := range s.sessions {
		add("session of %s: %s %v", owner, j.Order, s.Jobs.Get(j.Order) == j)
	}
	for order, w := range s.sweeps {
		live, waiting := []string{}, []string{}
		ending := w.job.Cancel != "" && len(w.live) == 0 && slices.Contains(s.ending, order)
		for j := range w.live {
			ending = ending || w.job.Cancel != "" && j.Cancel == "" && slices.Contains(s.ending, order)
			live = append(live, fmt.Sprint(j.Order, s.Jobs.Get(j.Order) == j))
		}
		for j := range w.waiting {
			waiting = append(waiting, fmt.Sprint(j.Order, s.Jobs.Get(j.Order) == j))
		}
		sort.Strings(live)
		sort.Strings(waiting)
		add("sweep %s: live %v waiting %v ending %v", order, live, waiting, ending)
	}
	for id, waiting := range s.line.after {
		var orders []string
		for _, j := range waiting {
			orders = append(orders, fmt.Sprint(j.Order, s.Jobs.Get(j.Order) == j))
		}
		sort.Strings(orders)
		add("after %s: %v", id, orders)
	}
	for i, class := range s.line.classes {
		for name, l := range class {
			for of, h := range l.shapes {
				add("class %d, %s, %v: %d jobs for %d of %d", i, name, of, len(h.jobs), h.n, l.n)
			}
		}
	}
	for i, at := range s.index {
		if len(at) > 0 {
			add("space %d: %d nodes", i, len(at))
		}
	}
	sort.Strings(lines)
	head, _ := json.Marshal(s.Head)
	waiting, running := s.counts()
	return fmt.Sprintf(
		"head %s\ncounts %d %d unstarted %d awaiting %d ids %d\n%s", head, waiting, running, s.unstarted, s.line.awaiting, s.Jobs.ids.used,
		strings.Join(lines, "\n"),
	)
}
