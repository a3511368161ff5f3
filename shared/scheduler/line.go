package scheduler

import (
	"container/heap"
	"math/bits"
	"strings"
	"time"

	"dsvmpools/shared/job"
)

// line holds the jobs that wait for a place: those in line by priority class, team and
// shape; beside it those that may not start yet, by time, and those that wait for other
// jobs. It is derived from the jobs' rows.
type line struct {
	classes [classes]map[string]*teamLine // by team
	later   jobHeap                       // jobs that may not start before NotBefore
	inLine  int                           // how many jobs are in line

	after    map[string][]*Job // jobs that wait for another job, by its id
	awaiting int               // how many jobs wait for others

	budgets []budgetRule // what keeps jobs from starting as usual; see budgets.go

	entered []*Job // jobs that came into line, or were opened in it, since jobs were packed last
}

// classes is the number of classes: those of priority, best first, then those of jobs that a
// budget keeps from starting as usual.
const (
	classes = 5
	spared  = 3 // jobs that take what room the others leave, and for which no node is asked
	stopped = 4 // jobs that are not placed
)

// teamLine holds the waiting jobs of one team in one class. They are grouped by shape:
// if one job of a shape finds no place, no other job of that shape does. So a teamLine of
// a hundred thousand jobs takes no longer to go through than one of ten.
type teamLine struct {
	team   string
	class  int
	shapes map[shape]*jobHeap
	n      int // how many jobs it stands for
}

// shape is what decides where and when a job may run.
type shape struct {
	nodes      int // 1, or those of a gang
	cpus, gpus int // of each
	memory     job.Bytes
	regular    bool          // it must not go on Spot nodes if the pool has others
	avoid      string        // VMIDs of nodes that could not start it, each between commas; see isShunned
	needs      string        // features that its node's agent must have, in order, each after a blank
	within     time.Duration // it ends within this time after its start; 0 = not known
}

// shapeOf is the shape of a job that is not packed; jobHeap.of has that of one in line.
func shapeOf(j *Job) shape {
	s := &j.Spec
	return shape{max(s.Nodes, 1), s.Resources.CPUs, s.Resources.GPUs, s.Resources.Memory, j.wantsRegular(), j.avoidedNodes(), j.features(),
		roundUpTimeout(time.Duration(s.Timeout))}
}

func (s shape) resources() job.Resources {
	return job.Resources{CPUs: s.cpus, GPUs: s.gpus, Memory: s.memory}
}

// roundUpTimeout rounds a timeout up to a power of two of seconds, so that there are
// few shapes.
func roundUpTimeout(timeout time.Duration) time.Duration {
	if timeout <= 0 {
		return 0
	}
	seconds := uint64((timeout + time.Second - 1) / time.Second)
	if seconds > 1<<32 { // more than a century: the same as none
		return 0
	}
	return time.Second << bits.Len64(seconds-1)
}

func newLine() line {
	ln := line{later: jobHeap{less: startsEarlier}, after: map[string][]*Job{}}
	for i := range ln.classes {
		ln.classes[i] = map[string]*teamLine{}
	}
	return ln
}

// inLine is the team line in which a job waits; nil: it is not in line.
func (j *Job) inLine() *teamLine {
	if j.heap == nil {
		return nil
	}
	return j.heap.line
}

// add puts a queued or held job into the line, or beside it if it may not start yet.
func (ln *line) add(j *Job, now time.Time) {
	if len(j.Waits) > 0 {
		ln.holdForOthers(j)
		return
	}
	if j.NotBefore.After(now) {
		heap.Push(&ln.later, j)
		return
	}
	ln.push(j)
}

// push puts a job in line.
func (ln *line) push(j *Job) {
	of, class := shapeOf(j), ln.classOf(j)
	l := ln.classes[class][j.Spec.Team]
	if l == nil {
		l = &teamLine{team: j.Spec.Team, class: class, shapes: map[shape]*jobHeap{}}
		ln.classes[class][l.team] = l
	}
	h := l.shapes[of]
	if h == nil {
		h = &jobHeap{line: l, of: of, less: isOlder}
		l.shapes[of] = h
	}
	heap.Push(h, j)
	ln.reweigh(j)
	ln.entered = append(ln.entered, j)
}

// reweigh updates the counts with the number of jobs that a job in line stands for.
func (ln *line) reweigh(j *Job) { ln.count(j, j.weigh()) }

func (ln *line) count(j *Job, weight int) {
	more := weight - int(j.weight)
	j.weight = int32(weight)
	j.heap.n += more
	j.heap.line.n += more
	ln.inLine += more
}

// remove takes a job out, wherever it waits; a job that does not wait stays.
func (ln *line) remove(j *Job) {
	if j.awaits() {
		ln.stopHolding(j)
		return
	}
	if j.heap == nil {
		return
	}
	h, l := j.heap, j.inLine()
	if l != nil {
		ln.count(j, 0)
	}
	heap.Remove(h, int(j.index))
	j.unpack()
	if l == nil {
		return
	}
	if len(h.jobs) == 0 {
		delete(l.shapes, h.of)
	}
	if len(l.shapes) == 0 {
		delete(ln.classes[l.class], l.team)
	}
}

// first is the oldest job of a team line, without those in the heaps to skip; nil: there
// is none.
func (l *teamLine) first(skip map[*jobHeap]bool) *Job {
	var first *Job
	for _, h := range l.shapes {
		if j := h.jobs[0]; (first == nil || isOlder(j, first)) && !skip[h] {
			first = j
		}
	}
	if first != nil {
		first.unpack()
	}
	return first
}

// nextDue is a job that may start since now or earlier; nil: there is none.
func (ln *line) nextDue(now time.Time) *Job {
	if len(ln.later.jobs) == 0 || ln.later.jobs[0].NotBefore.After(now) {
		return nil
	}
	return ln.later.jobs[0]
}

// each calls fn for the jobs in line, in no order, until it returns false.
func (ln *line) each(fn func(*Job) bool) {
	for _, class := range ln.classes {
		for _, l := range class {
			for _, h := range l.shapes {
				for _, j := range h.jobs {
					if !fn(j) {
						return
					}
				}
			}
		}
	}
}

// waiting is the number of jobs in line.
func (ln *line) waiting() int { return ln.inLine }

// wanting is the number of jobs in line for which nodes are asked for.
func (ln *line) wanting() int { return ln.inLine - ln.countClass(spared) - ln.countClass(stopped) }

// countClass is the number of jobs in line of a class.
func (ln *line) countClass(class int) (n int) {
	for _, l := range ln.classes[class] {
		n += l.n
	}
	return n
}

// isOlder orders the jobs of a line: by their age, and a sweep after its members that wait
// for another attempt.
func isOlder(a, b *Job) bool {
	switch x, y := len(a.Order), len(b.Order); {
	case x < y && b.Order[x] == '.' && b.Order[:x] == a.Order:
		return false
	case x > y && a.Order[y] == '.' && a.Order[:y] == b.Order:
		return true
	}
	return a.Order < b.Order
}

func byAge(a, b *Job) int {
	switch {
	case a == b:
		return 0
	case isOlder(a, b):
		return -1
	}
	return 1
}

func byOrder(a, b *Job) int { return strings.Compare(a.Order, b.Order) }

// startsEarlier orders jobs by the time at which they may start.
func startsEarlier(a, b *Job) bool {
	if !a.NotBefore.Equal(b.NotBefore) {
		return a.NotBefore.Before(b.NotBefore)
	}
	return a.Order < b.Order
}

// rank orders the priority classes, best first.
func rank(p job.Priority) int {
	switch p {
	case job.High:
		return 0
	case job.Low:
		return 2
	default:
		return 1
	}
}
