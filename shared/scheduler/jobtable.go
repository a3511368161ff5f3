package scheduler

import (
	"hash/maphash"
	"iter"
)

// Jobs are live jobs, found by their order and by their id. There are many of them, and the
// collector follows every pointer to them several times a second: two maps took a quarter of
// a pool's memory and most of the collector's time. So the only pointers are those of one list,
// in the order in which jobs came, and what finds a job there has none.
type Jobs struct {
	list   []*Job // nil = a free place
	free   []uint32
	orders placeIndex
	ids    placeIndex
}

// Get is the job with an order, or nil.
func (js *Jobs) Get(order string) *Job { return js.at(js.orders.find(order, js.hasOrder)) }

// WithID is the job with an id, or nil.
func (js *Jobs) WithID(id string) *Job { return js.at(js.ids.find(id, js.hasID)) }

// Len is how many jobs there are.
func (js *Jobs) Len() int { return len(js.list) - len(js.free) }

// All lists the jobs, in no order. Jobs may be removed while it runs.
func (js *Jobs) All() iter.Seq[*Job] {
	return func(yield func(*Job) bool) {
		for _, j := range js.list {
			if j != nil && !yield(j) {
				return
			}
		}
	}
}

// put adds a job, in the place of one with the same order.
func (js *Jobs) put(j *Job) {
	if old := js.orders.find(j.Order, js.hasOrder); old != noPlace {
		if was := js.list[old]; was.ID != j.ID {
			js.ids.remove(was.ID, old, js.hashOfID)
			js.ids.add(j.ID, old, js.hashOfID)
		}
		js.list[old] = j
		return
	}
	var at uint32
	if last := len(js.free) - 1; last >= 0 {
		at, js.free = js.free[last], js.free[:last]
		js.list[at] = j
	} else {
		at = uint32(len(js.list))
		js.list = append(js.list, j)
	}
	js.orders.add(j.Order, at, js.hashOfOrder)
	js.ids.add(j.ID, at, js.hashOfID)
}

// Remove removes the job with an order, if it is there.
func (js *Jobs) Remove(order string) {
	at := js.orders.find(order, js.hasOrder)
	if at == noPlace {
		return
	}
	j := js.list[at]
	js.orders.remove(order, at, js.hashOfOrder)
	js.ids.remove(j.ID, at, js.hashOfID)
	js.list[at] = nil
	js.free = append(js.free, at)
	if js.Len() == 0 {
		*js = Jobs{}
	}
}

func (js *Jobs) at(place uint32) *Job {
	if place == noPlace {
		return nil
	}
	return js.list[place]
}

func (js *Jobs) hasOrder(at uint32, order string) bool { return js.list[at].Order == order }
func (js *Jobs) hasID(at uint32, id string) bool       { return js.list[at].ID == id }
func (js *Jobs) hashOfOrder(at uint32) uint64          { return hashKey(js.list[at].Order) }
func (js *Jobs) hashOfID(at uint32) uint64             { return hashKey(js.list[at].ID) }

var hashSeed = maphash.MakeSeed()

// hashKey differs in each process, so that nobody can choose keys that come together.
func hashKey(key string) uint64 { return maphash.String(hashSeed, key) }

// placeIndex finds the place of a key in a list that knows the keys: a table with open
// addressing, in which a key stands in the first free cell from that of its hash on.
type placeIndex struct {
	cells []uint32 // place + 1; 0 = free; a power of two of them
	used  int
}

const (
	noPlace    = ^uint32(0)
	leastCells = 16
)

// find is the place of a key, or noPlace.
func (x *placeIndex) find(key string, has func(at uint32, key string) bool) uint32 {
	if len(x.cells) == 0 {
		return noPlace
	}
	for i := x.cell(hashKey(key)); x.cells[i] != 0; i = x.after(i) {
		if at := x.cells[i] - 1; has(at, key) {
			return at
		}
	}
	return noPlace
}

// add adds a key that is not there.
func (x *placeIndex) add(key string, at uint32, hashOf func(at uint32) uint64) {
	if (x.used+1)*4 > len(x.cells)*3 {
		old := x.cells
		x.cells = make([]uint32, max(leastCells, 2*len(old)))
		for _, c := range old {
			if c != 0 {
				x.fill(hashOf(c-1), c)
			}
		}
	}
	x.fill(hashKey(key), at+1)
	x.used++
}

func (x *placeIndex) fill(hash uint64, cell uint32) {
	i := x.cell(hash)
	for x.cells[i] != 0 {
		i = x.after(i)
	}
	x.cells[i] = cell
}

// remove removes a key that is there, and moves those behind it up.
func (x *placeIndex) remove(key string, at uint32, hashOf func(at uint32) uint64) {
	i := x.cell(hashKey(key))
	for x.cells[i] != at+1 {
		i = x.after(i)
	}
	for k := x.after(i); x.cells[k] != 0; k = x.after(k) {
		// It may move to i if that is not before the cell of its hash.
		if home := x.cell(hashOf(x.cells[k] - 1)); x.distance(home, k) >= x.distance(i, k) {
			x.cells[i] = x.cells[k]
			i = k
		}
	}
	x.cells[i] = 0
	x.used--
}

func (x *placeIndex) cell(hash uint64) int      { return int(hash & uint64(len(x.cells)-1)) }
func (x *placeIndex) after(i int) int           { return (i + 1) & (len(x.cells) - 1) }
func (x *placeIndex) distance(from, to int) int { return (to - from) & (len(x.cells) - 1) }
