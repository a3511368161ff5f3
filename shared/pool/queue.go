package pool

import (
	"container/heap"
	"time"

	"dsvmpools/shared/job"
)

// queue is the line of jobs that wait for a place: first by priority class,
// then by order of arrival. Jobs that may not start yet wait beside it, by
// time. It is derived from the jobs' rows.
type queue struct {
	line  jobHeap     // may start now
	later jobHeap     // may start at NotBefore
	cpus  map[int]int // number of jobs in line by the cpus they ask for
}

func newQueue() queue {
	return queue{
		line:  jobHeap{less: before},
		later: jobHeap{less: sooner},
		cpus:  map[int]int{},
	}
}

// add puts a queued or held job where it belongs.
func (q *queue) add(j *Job, now time.Time) {
	if j.NotBefore.After(now) {
		heap.Push(&q.later, j)
		return
	}
	q.cpus[j.Spec.Resources.CPUs]++
	heap.Push(&q.line, j)
}

// remove takes a job out, wherever it waits; a job that does not wait stays.
func (q *queue) remove(j *Job) {
	if j.heap == nil {
		return
	}
	if j.heap == &q.line {
		cpus := j.Spec.Resources.CPUs
		if q.cpus[cpus]--; q.cpus[cpus] == 0 {
			delete(q.cpus, cpus)
		}
	}
	heap.Remove(j.heap, j.index)
}

// first is the next job in line, or nil.
func (q *queue) first() *Job {
	if len(q.line.jobs) == 0 {
		return nil
	}
	return q.line.jobs[0]
}

// due is the next job whose time has come, or nil.
func (q *queue) due(now time.Time) *Job {
	if len(q.later.jobs) == 0 || q.later.jobs[0].NotBefore.After(now) {
		return nil
	}
	return q.later.jobs[0]
}

// waiting is the number of jobs in line.
func (q *queue) waiting() int { return len(q.line.jobs) }

func before(a, b *Job) bool {
	if ra, rb := rank(a.Spec.Priority), rank(b.Spec.Priority); ra != rb {
		return ra < rb
	}
	return a.Order < b.Order
}

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

// jobHeap is a heap in which every job knows its place, so that a cancelled
// one can be taken out.
type jobHeap struct {
	jobs []*Job
	less func(a, b *Job) bool
}

func (h *jobHeap) Len() int           { return len(h.jobs) }
func (h *jobHeap) Less(i, j int) bool { return h.less(h.jobs[i], h.jobs[j]) }

func (h *jobHeap) Swap(i, j int) {
	h.jobs[i], h.jobs[j] = h.jobs[j], h.jobs[i]
	h.jobs[i].index, h.jobs[j].index = i, j
}

func (h *jobHeap) Push(x any) {
	j := x.(*Job)
	j.heap, j.index = h, len(h.jobs)
	h.jobs = append(h.jobs, j)
}

func (h *jobHeap) Pop() any {
	last := len(h.jobs) - 1
	j := h.jobs[last]
	h.jobs[last] = nil
	h.jobs = h.jobs[:last]
	j.heap, j.index = nil, 0
	return j
}
