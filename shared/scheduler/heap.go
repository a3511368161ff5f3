package scheduler

// jobHeap is a heap in which every job has its index, so that a cancelled job can be
// taken out.
type jobHeap struct {
	line *teamLine // that it belongs to; nil: it holds the jobs that may not start yet
	of   shape     // of its jobs, if it belongs to a line
	jobs []*Job
	n    int // how many jobs these stand for
	less func(a, b *Job) bool
}

func (h *jobHeap) Len() int           { return len(h.jobs) }
func (h *jobHeap) Less(i, j int) bool { return h.less(h.jobs[i], h.jobs[j]) }

func (h *jobHeap) Swap(i, j int) {
	h.jobs[i], h.jobs[j] = h.jobs[j], h.jobs[i]
	h.jobs[i].index, h.jobs[j].index = int32(i), int32(j)
}

func (h *jobHeap) Push(x any) {
	j := x.(*Job)
	j.heap, j.index = h, int32(len(h.jobs))
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
