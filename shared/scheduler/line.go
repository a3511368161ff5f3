package scheduler

import (
	"container/heap"
	"math/bits"
	"strings"
	"time"

	"dsvmpools/shared/job"
)

// line is the jobs that wait for a place: in line by priority class, team and
// shape, and those that may not start yet beside it, by time. It is derived
// from the jobs' rows.
type line struct {
	classes [classes]map[string]*teamLine // by team
	later   jobHeap                       // may start at NotBefore
	inLine  int

	after    map[string][]*Job // those that wait for another job, by its id
	awaiting int
}

// classes is the number of priority classes.
const classes = 3

// teamLine is the waiting jobs of one team in one class. They are kept by shape,
// since what keeps one job of a shape from its place keeps all of them: a teamLine
// of a hundred thousand jobs is looked at as fast as one of ten.
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
	regular    bool          // it is not to be put on Spot nodes, where there are others
	avoid      string        // VMIDs of nodes that could not start it, each between commas; see shuns
	within     time.Duration // it ends within this time once it runs; 0 = nobody knows
}

func shapeOf(j *Job) shape {
	s := &j.Spec
	return shape{max(s.Nodes, 1), s.Resources.CPUs, s.Resources.GPUs, s.Resources.Memory, j.wantsRegular(), j.avoidedNodes(),
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
	if seconds > 1<<32 { // more than a century: as good as none
		return 0
	}
	return time.Second << bits.Len64(seconds-1)
}

func newQueue() line {
	q := line{later: jobHeap{less: sooner}, after: map[string][]*Job{}}
	for i := range q.classes {
		q.classes[i] = map[string]*teamLine{}
	}
	return q
}

// inLine is the line in which a job waits, or nil.
func (j *Job) inLine() *teamLine {
	if j.heap == nil {
		return nil
	}
	return j.heap.line
}

// add puts a queued or held job where it belongs.
func (q *line) add(j *Job, now time.Time) {
	if len(j.Waits) > 0 {
		q.holdForOthers(j)
		return
	}
	if j.NotBefore.After(now) {
		heap.Push(&q.later, j)
		return
	}
	q.push(j)
}

// push puts a job in line.
func (q *line) push(j *Job) {
	class := q.classes[rank(j.Spec.Priority)]
	l := class[j.Spec.Team]
	if l == nil {
		l = &teamLine{team: j.Spec.Team, class: rank(j.Spec.Priority), shapes: map[shape]*jobHeap{}}
		class[l.team] = l
	}
	of := shapeOf(j)
	h := l.shapes[of]
	if h == nil {
		h = &jobHeap{line: l, less: isOlder}
		l.shapes[of] = h
	}
	heap.Push(h, j)
	q.reweigh(j)
}

// reweigh brings the counts up to date with how many jobs one in line stands for.
func (q *line) reweigh(j *Job) { q.count(j, j.weigh()) }

func (q *line) count(j *Job, weight int) {
	more := weight - int(j.weight)
	j.weight = int32(weight)
	j.heap.n += more
	j.heap.line.n += more
	q.inLine += more
}

// remove takes a job out, wherever it waits; a job that does not wait stays.
func (q *line) remove(j *Job) {
	if j.awaits {
		q.stopHolding(j)
		return
	}
	if j.heap == nil {
		return
	}
	h, l := j.heap, j.inLine()
	if l != nil {
		q.count(j, 0)
	}
	heap.Remove(h, j.index)
	if l == nil {
		return
	}
	if len(h.jobs) == 0 {
		delete(l.shapes, shapeOf(j))
	}
	if len(l.shapes) == 0 {
		delete(q.classes[l.class], l.team)
	}
}

// first is the oldest job of a line among the shapes that are not left out.
func (l *teamLine) first(out map[*jobHeap]bool) *Job {
	var first *Job
	for _, h := range l.shapes {
		if j := h.jobs[0]; (first == nil || isOlder(j, first)) && !out[h] {
			first = j
		}
	}
	return first
}

// nextDue is the next job whose time has come, or nil.
func (q *line) nextDue(now time.Time) *Job {
	if len(q.later.jobs) == 0 || q.later.jobs[0].NotBefore.After(now) {
		return nil
	}
	return q.later.jobs[0]
}

// each calls fn for the jobs in line, in no order, until it returns false.
func (q *line) each(fn func(*Job) bool) {
	for _, class := range q.classes {
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
func (q *line) waiting() int { return q.inLine }

// isOlder orders a line: the jobs by their age, and a sweep after those of its
// members that wait for another attempt.
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

func sooner(a, b *Job) bool {
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
