package queue

import "slices"

// line holds the messages that wait for a receiver, by number. Nearly all arrive in
// order and cost a place in a slice; a message that comes back, or was committed
// out of order, goes through a heap.
type line struct {
	fifo []*item
	head int
	back heapOf[*item]
}

func bySeq(a, b *item) bool { return a.seq < b.seq }

// any reports whether there is a message to take. It drops messages that are gone
// from the front.
func (l *line) any() bool {
	for l.head < len(l.fifo) && l.fifo[l.head].gone || len(l.back.items) > 0 && l.back.items[0].gone {
		if len(l.back.items) > 0 && l.back.items[0].gone {
			l.back.pop()
			continue
		}
		l.skip()
	}
	return l.head < len(l.fifo) || len(l.back.items) > 0
}

func (l *line) push(it *item) {
	if n := len(l.fifo); n == l.head || l.fifo[n-1].seq < it.seq {
		l.fifo = append(l.fifo, it)
		return
	}
	l.back.less = bySeq
	l.back.push(it)
}

// trimAt is how many taken places may stay before their memory is freed.
const trimAt = 1024

// pop takes the message with the lowest number; nil when there is none.
func (l *line) pop() *item {
	inOrder := l.head < len(l.fifo)
	if len(l.back.items) > 0 && (!inOrder || l.back.items[0].seq < l.fifo[l.head].seq) {
		return l.back.pop()
	}
	if !inOrder {
		return nil
	}
	it := l.fifo[l.head]
	l.skip()
	return it
}

// skip drops the first place of the slice.
func (l *line) skip() {
	l.fifo[l.head] = nil
	l.head++
	switch {
	case l.head == len(l.fifo):
		l.fifo, l.head = l.fifo[:0], 0
		if cap(l.fifo) > trimAt {
			l.fifo = nil
		}
	case l.head >= trimAt && l.head > len(l.fifo)/2:
		l.fifo = slices.Clone(l.fifo[l.head:])
		l.head = 0
	}
}

// heapOf is a binary heap. moved, if set, is called with the place of each element,
// and with -1 when it leaves.
type heapOf[T any] struct {
	items []T
	less  func(a, b T) bool
	moved func(v T, place int)
}

func (h *heapOf[T]) set(i int, v T) {
	h.items[i] = v
	if h.moved != nil {
		h.moved(v, i)
	}
}

func (h *heapOf[T]) push(v T) {
	h.items = append(h.items, v)
	h.up(len(h.items)-1, v)
}

func (h *heapOf[T]) up(i int, v T) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(v, h.items[parent]) {
			break
		}
		h.set(i, h.items[parent])
		i = parent
	}
	h.set(i, v)
}

func (h *heapOf[T]) down(i int, v T) {
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			break
		}
		if child+1 < len(h.items) && h.less(h.items[child+1], h.items[child]) {
			child++
		}
		if !h.less(h.items[child], v) {
			break
		}
		h.set(i, h.items[child])
		i = child
	}
	h.set(i, v)
}

func (h *heapOf[T]) pop() T { return h.remove(0) }

func (h *heapOf[T]) remove(i int) T {
	var zero T
	out, last := h.items[i], len(h.items)-1
	v := h.items[last]
	h.items[last] = zero
	h.items = h.items[:last]
	if i < last {
		if i > 0 && h.less(v, h.items[(i-1)/2]) {
			h.up(i, v)
		} else {
			h.down(i, v)
		}
	}
	if h.moved != nil {
		h.moved(out, -1)
	}
	return out
}

// age is the time at which a message expires.
type age struct {
	at int64
	it *item
}

// trimAges drops the ages of messages that are gone if those are the majority. The mutex is held.
func (q *Queue) trimAges() {
	if len(q.ages.items) < 2*q.mortal+trimAt {
		return
	}
	old := q.ages.items
	q.ages.items = make([]age, 0, q.mortal)
	for _, a := range old {
		if !a.it.gone {
			q.ages.push(a)
		}
	}
}
