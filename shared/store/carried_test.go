package store

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
	"dsvmpools/shared/usage"
)

// carriedWorld is a pool whose nodes change and whose facts come and go at random, and what is
// right of it.
type carriedWorld struct {
	*writer
	r     *rand.Rand
	nodes map[string]pool.Node
	logs  map[int64]*pool.Log
	seen  map[string]bool
}

func (w *carriedWorld) vmid() string { return fmt.Sprintf("v%02d", w.r.IntN(mostUses+4)) }

// step changes nodes, notes facts and forgets recorded ones in one transaction.
func (w *carriedWorld) step() {
	var changes []pool.Change
	changed := map[string]bool{}
	for range w.r.IntN(4) {
		vmid := w.vmid()
		n, there := w.nodes[vmid]
		if changed[vmid] {
			continue
		}
		changed[vmid] = true
		c := pool.Change{Key: pool.NodeKey(vmid)}
		switch {
		case there && w.r.IntN(8) == 0:
			delete(w.nodes, vmid)
			changes = append(changes, c)
			continue
		case there && w.r.IntN(4) > 0:
			c.OnlyUse = true
		default:
			n = pool.Node{VMID: vmid, Name: "cpu_" + vmid, Set: "regular", HeardAt: dawn.Add(time.Duration(w.head.Seq) * time.Second), IdleFor: n.IdleFor}
		}
		n.State, n.Since, n.Seen = []pool.NodeState{pool.NodeReady, pool.NodeBusy}[w.r.IntN(2)], dawn.Add(time.Duration(w.head.Seq)*time.Second), w.head.Seq
		n.Reason = strings.Repeat("why", w.r.IntN(2))
		n.BusyFor += time.Duration(w.r.IntN(100))
		w.nodes[vmid] = n
		c.Value = &n
		changes = append(changes, c)
	}
	seq := w.head.Seq + 1
	if w.r.IntN(12) == 0 {
		changes = append(changes, w.forget(seq)...)
	}
	if w.r.IntN(3) > 0 {
		l := &pool.Log{Seq: seq, Entries: []usage.Entry{{Kind: usage.KindAttempt, Key: fmt.Sprint("key ", seq), From: dawn, To: dawn}}}
		if w.r.IntN(6) == 0 {
			l.Entries[0].Labels = map[string]string{"long": strings.Repeat("x", logBytes)}
		}
		w.logs[seq] = l
		changes = append(changes, pool.Change{Key: pool.LogKey(seq), Value: l, Insert: true})
	}
	w.head.Running, w.head.Bundled = w.r.IntN(3), w.r.IntN(2) == 0
	w.commit(changes...)
}

// forget reads facts as the recorder does, and deletes some of them.
func (w *carriedWorld) forget(before int64) (changes []pool.Change) {
	logs, err := w.s.Logs(deadline(w.t), "cpu", 0)
	if err != nil {
		w.t.Fatal(err)
	}
	pages := map[int64]bool{}
	for _, l := range logs {
		switch {
		case l.Seq >= before || l.Page == 0 && w.r.IntN(4) == 0:
			continue
		case l.Page == 0:
			changes = append(changes, pool.Change{Key: pool.LogKey(l.Seq)})
		case !pages[l.Page]:
			pages[l.Page] = true
			changes = append(changes, pool.Change{Key: pool.LogPageKey(l.Page)})
		}
		delete(w.logs, l.Seq)
		w.seen["page forgotten"] = w.seen["page forgotten"] || l.Page > 0
	}
	return changes
}

// check makes sure that a pool is read as it is: from its rows, and from an older version.
func (w *carriedWorld) check(old map[string]pool.Node, from pool.Version) {
	part, version, err := w.s.Load(deadline(w.t), "cpu")
	if err != nil || version != w.version || !reflect.DeepEqual(part.Head, w.head) {
		w.t.Fatalf("loaded %+v of %+v (%v), want %+v of %+v", part.Head, version, err, w.head, w.version)
	}
	nodes := map[string]pool.Node{}
	for _, n := range part.Nodes {
		nodes[n.VMID] = *n
	}
	if !reflect.DeepEqual(nodes, w.nodes) {
		w.t.Fatalf("loaded the nodes\n%+v\nwant\n%+v", nodes, w.nodes)
	}
	if seqs := slices.Sorted(maps.Keys(w.logs)); !slices.Equal(part.Logs, seqs) {
		w.t.Fatalf("loaded the facts %d, want %d", part.Logs, seqs)
	}
	d, _, ok, err := w.s.ChangesSince(deadline(w.t), "cpu", from, nil, 10_000)
	if err != nil || !ok {
		w.t.Fatalf("since %d: %t (%v)", from.Seq, ok, err)
	}
	caught := maps.Clone(old)
	for _, n := range d.Nodes {
		caught[n.VMID] = *n
	}
	for _, key := range d.Gone {
		vmid, _ := pool.VMIDOf(key)
		delete(caught, vmid)
	}
	if !reflect.DeepEqual(caught, w.nodes) {
		w.t.Fatalf("caught up from %d with\n%+v\nwant\n%+v", from.Seq, caught, w.nodes)
	}
	shown, err := w.s.Overview(deadline(w.t), "cpu")
	if err != nil || !reflect.DeepEqual(shown.Nodes, part.Nodes) {
		w.t.Fatalf("an overview has %+v (%v), want %+v", shown.Nodes, err, part.Nodes)
	}
	logs, err := w.s.Logs(deadline(w.t), "cpu", 0)
	if err != nil {
		w.t.Fatal(err)
	}
	got := map[int64]*pool.Log{}
	for i, l := range logs {
		if i > 0 && logs[i-1].Seq >= l.Seq {
			w.t.Errorf("facts %d come after %d", l.Seq, logs[i-1].Seq)
		}
		w.seen["page"] = w.seen["page"] || l.Page > 0
		l.Page = 0
		got[l.Seq] = l
	}
	if !reflect.DeepEqual(got, w.logs) {
		w.t.Fatalf("facts %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(w.logs)))
	}
}

// TestCarried makes sure that what the head carries is read as if it were in rows.
func TestCarried(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := &carriedWorld{
				writer: newWriter(t, open(t, serve(t)), "cpu"), r: rand.New(rand.NewPCG(seed, 2)),
				nodes: map[string]pool.Node{}, logs: map[int64]*pool.Log{}, seen: seen,
			}
			w.commit()
			versions, states := []pool.Version{w.version}, []map[string]pool.Node{{}}
			for range 120 {
				w.step()
				versions, states = append(versions, w.version), append(states, maps.Clone(w.nodes))
				seen[fmt.Sprint("format ", w.format())] = true
				if w.r.IntN(4) == 0 {
					at := w.r.IntN(len(versions))
					w.check(states[at], versions[at])
				}
			}
			w.head.Running, w.head.Bundled = 0, false
			w.commit(w.forget(w.head.Seq + 1)...)
			w.commit(w.forget(w.head.Seq + 1)...)
			for len(w.logs) > 0 { // forget leaves some
				w.commit(w.forget(w.head.Seq + 1)...)
			}
			if got := w.format(); got != formatOfRows {
				t.Errorf("a pool at rest whose use is recorded has format %d, want %d", got, formatOfRows)
			}
			w.check(states[0], versions[0])
			w.head.Deleting = true
			w.commit()
			if err := w.s.DeletePool(deadline(t), "cpu"); err != nil {
				t.Error(err)
			}
		})
	}
	want := map[string]bool{"format 1": true, "format 2": true, "format 3": true, "page": true, "page forgotten": true}
	if !reflect.DeepEqual(seen, want) {
		t.Errorf("seen %v, want %v", seen, want)
	}
}

// format is that of the rows. An earlier release refuses the pool in format 3: one that knows
// formats by the number, one that knows none since it cannot read the scale sets.
func (w *carriedWorld) format() int {
	raw, _, err := w.s.Pools.table.Get(deadline(w.t), "read", "cpu", pool.HeadKey)
	if err != nil {
		w.t.Fatal(err)
	}
	var row struct {
		Format table.Number
		Sets   string
	}
	if err := table.Decode(raw, &row); err != nil {
		w.t.Fatal(err)
	}
	var sets []pool.Set
	if err := table.DecodeOptional(raw, "its scale sets", row.Sets, &sets); (err != nil) != (row.Format == formatCarried) {
		w.t.Errorf("a head of format %d is read by a release that knows no formats with the error %v", row.Format, err)
	}
	return int(row.Format)
}

// TestFactsGoIntoARow makes sure that facts which go from the head into a row while they are
// recorded are neither lost nor forgotten early.
func TestFactsGoIntoARow(t *testing.T) {
	t.Parallel()
	w := newWriter(t, open(t, serve(t)), "cpu")
	note := func() {
		seq := w.head.Seq + 1
		w.commit(pool.Change{Key: pool.LogKey(seq), Value: &pool.Log{Seq: seq, Entries: []usage.Entry{{Key: fmt.Sprint(seq)}}}, Insert: true})
	}
	for range mostLogs {
		note()
	}
	logs, err := w.s.Logs(deadline(t), "cpu", 1)
	if err != nil || len(logs) != mostLogs {
		t.Fatalf("%d facts (%v), want %d", len(logs), err, mostLogs)
	}
	note() // all of them are in a row now
	var changes []pool.Change
	for _, l := range logs {
		changes = append(changes, pool.Change{Key: pool.LogKey(l.Seq)})
	}
	w.commit(changes...)
	logs, err = w.s.Logs(deadline(t), "cpu", 1)
	if err != nil || len(logs) != mostLogs+1 || logs[0].Page != logs[0].Seq || logs[mostLogs].Page != 0 {
		t.Fatalf("facts %d (%v), want those of the row, and the last", logSeqs(logs), err)
	}
	w.head.Deleting = true
	w.commit()
	wantCode(t, "deleting a pool with facts", w.s.DeletePool(deadline(t), "cpu"), fault.Conflict)
	w.commit(pool.Change{Key: pool.LogPageKey(logs[0].Page)}, pool.Change{Key: pool.LogKey(logs[mostLogs].Seq)})
	if err := w.s.DeletePool(deadline(t), "cpu"); err != nil {
		t.Error(err)
	}
}

// TestCarriedFits makes sure that the most that a head may carry fits into one property.
func TestCarriedFits(t *testing.T) {
	t.Parallel()
	c := &carried{}
	for n := range int64(2 * mostEdits) {
		row := logRow{Seq: n, Nonce: strings.Repeat("n", 36), Prev: strings.Repeat("p", 36), Keys: []string{strings.Repeat("\x01", 60)}}
		if _, added, err := c.addEdit("cpu", row, 1); err != nil || !added {
			t.Fatalf("edit %d: %t (%v)", n, added, err)
		}
		entries := []usage.Entry{{Key: strings.Repeat("\x01", 140)}}
		if _, added, err := c.addLog("cpu", &pool.Log{Seq: n, Entries: entries}); err != nil || added != (n < mostLogs) {
			t.Fatalf("facts %d: %t (%v)", n, added, err)
		}
		for len(c.Pages) < mostPages {
			c.Pages = append(c.Pages, 1<<60)
		}
		c.addUse(pool.NodeUse{VMID: fmt.Sprint(n, strings.Repeat("v", 100)), Reason: strings.Repeat("\x01", 30), Since: dawn, Mark: dawn, BusyFor: time.Hour})
	}
	text, err := c.text(true)
	if err != nil || table.Cut(text, table.ChunkUnits) != text {
		t.Errorf("%d bytes (%v), more than one property holds", len(text), err)
	}
	again, err := decodeCarried(nil, text)
	if err != nil {
		t.Fatal(err)
	}
	again.Bundled = false
	if !reflect.DeepEqual(again, c) {
		t.Errorf("it came back as %+v, want %+v", again, c)
	}
}
