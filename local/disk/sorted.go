package disk

import (
	"bytes"
	"slices"
	"sort"
)

// sorted is a map in the order of its keys, a B-tree. Who has an owner of its own
// changes it without a change to any copy that others have: a node of another owner
// is copied first. So a copy of a sorted costs nothing, and may be read at the same
// time without a lock. Keys and values are never changed in place.
type sorted[V any] struct{ root *node[V] }

// owner is who may change nodes in place: one group of updates. It is not empty, so
// that no two have the same address.
type owner struct{ _ byte }

type node[V any] struct {
	owner    *owner
	entries  []entry[V]
	children []*node[V] // none in a leaf, otherwise one more than entries
}

type entry[V any] struct {
	key   []byte
	value V
}

// maxEntries is how many entries a node has at most.
const maxEntries = 31

// find returns the place of the first entry whose key is not less.
func (n *node[V]) find(key []byte) (at int, found bool) {
	at = sort.Search(len(n.entries), func(i int) bool { return bytes.Compare(n.entries[i].key, key) >= 0 })
	return at, at < len(n.entries) && bytes.Equal(n.entries[at].key, key)
}

func (s *sorted[V]) get(key []byte) (value V, found bool) {
	for n := s.root; n != nil; {
		at, here := n.find(key)
		if here {
			return n.entries[at].value, true
		}
		if n.children == nil {
			break
		}
		n = n.children[at]
	}
	return value, false
}

// set keeps key and value; the caller must not change them any more.
func (s *sorted[V]) set(o *owner, key []byte, value V) {
	if s.root == nil {
		s.root = &node[V]{owner: o}
	}
	s.root = s.root.writable(o)
	if len(s.root.entries) == maxEntries {
		s.root = &node[V]{owner: o, children: []*node[V]{s.root}}
		s.root.split(o, 0)
	}
	s.root.set(o, entry[V]{key, value})
}

// set changes a node that is writable and not full.
func (n *node[V]) set(o *owner, e entry[V]) {
	at, found := n.find(e.key)
	switch {
	case found:
		n.entries[at] = e
		return
	case n.children == nil:
		n.entries = slices.Insert(n.entries, at, e)
		return
	}
	n.children[at] = n.children[at].writable(o)
	if len(n.children[at].entries) == maxEntries {
		n.split(o, at)
		n.set(o, e)
		return
	}
	n.children[at].set(o, e)
}

// writable returns the node, or a copy of it, in which the owner may change things.
func (n *node[V]) writable(o *owner) *node[V] {
	if n.owner == o {
		return n
	}
	return &node[V]{owner: o, entries: slices.Clone(n.entries), children: slices.Clone(n.children)}
}

// split divides the full, writable child at a place; its middle entry moves up.
func (n *node[V]) split(o *owner, at int) {
	const middle = maxEntries / 2
	left := n.children[at]
	right := &node[V]{owner: o, entries: slices.Clone(left.entries[middle+1:])}
	up := left.entries[middle]
	clear(left.entries[middle:])
	left.entries = left.entries[:middle]
	if left.children != nil {
		right.children = slices.Clone(left.children[middle+1:])
		clear(left.children[middle+1:])
		left.children = left.children[:middle+1]
	}
	n.entries = slices.Insert(n.entries, at, up)
	n.children = slices.Insert(n.children, at+1, right)
}

// walk is a place in a sorted, which must not change meanwhile.
type walk[V any] struct{ path []step[V] }

type step[V any] struct {
	in *node[V]
	at int // an entry; above the last step, the child before that entry is the next step
}

// seek goes to the first entry whose key is not less.
func (w *walk[V]) seek(s *sorted[V], key []byte) {
	w.path = w.path[:0]
	for n := s.root; n != nil; {
		at, found := n.find(key)
		w.path = append(w.path, step[V]{n, at})
		if found || n.children == nil {
			break
		}
		n = n.children[at]
	}
	w.leaveEnds()
}

// entry is where the walk is, nil at the end.
func (w *walk[V]) entry() *entry[V] {
	if len(w.path) == 0 {
		return nil
	}
	last := w.path[len(w.path)-1]
	return &last.in.entries[last.at]
}

// next must not be called at the end.
func (w *walk[V]) next() {
	last := &w.path[len(w.path)-1]
	last.at++
	for n := last.in; n.children != nil; {
		n = n.children[w.path[len(w.path)-1].at]
		w.path = append(w.path, step[V]{n, 0})
	}
	w.leaveEnds()
}

// leaveEnds goes up from nodes of which everything was visited.
func (w *walk[V]) leaveEnds() {
	for n := len(w.path); n > 0 && w.path[n-1].at >= len(w.path[n-1].in.entries); n = len(w.path) {
		w.path = w.path[:n-1]
	}
}
