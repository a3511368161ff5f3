package agent

import (
	"context"
	"time"
)

// A pool may assign a node more short jobs than run there at once, so that the next one
// begins as soon as one ends, without a message in between. Such an assignment says in Room
// how many cpus of the node those that run may take together with it. It waits for its turn,
// in the order of the numbers, and can be given back until then.

// turn is where an assignment is between its coming and its end. It is of this life of the
// agent only.
type turn int

const (
	noTurn  turn = iota // it is not to be started: it is new, or has ended
	inLine              // it waits until the node has room
	itsTurn             // it may start, or has: it takes cpus
)

// turns lets assignments start in their order, as the node has room. It is guarded by
// notebook.mu.
type turns struct {
	line    []int64 // those that wait, oldest first; some may have ended meanwhile
	waiting int     // how many of those have not
	cpus    int     // what those take whose turn it is
}

// lineUp lets an assignment wait for its turn. The caller holds mu.
func (b *notebook) lineUp(n int64) {
	if h := b.st.held[n]; h != nil && h.turn == noTurn && h.phase == waiting {
		h.turn = inLine
		b.turns.line = append(b.turns.line, n)
		b.turns.waiting++
	}
}

// leaveTurn takes an assignment that has ended out of the line, or gives back its cpus. The
// caller holds mu.
func (b *notebook) leaveTurn(h *held) {
	switch h.turn {
	case inLine:
		b.turns.waiting--
	case itsTurn:
		b.turns.cpus -= h.work.CPUs
	case noTurn:
	}
	h.turn = noTurn
}

// giveTurn gives a waiting assignment its turn, if the node has room for it. The caller
// holds mu.
func (b *notebook) giveTurn(h *held) bool {
	if h.work.Room > 0 && b.turns.cpus > 0 && b.turns.cpus+h.work.CPUs > h.work.Room {
		return false
	}
	h.turn = itsTurn
	b.turns.waiting--
	b.turns.cpus += h.work.CPUs
	return true
}

// giveTurns lists the assignments that may start now, in their order. The caller holds mu.
func (b *notebook) giveTurns() (next []*held) {
	line := b.turns.line
	for ; len(line) > 0 && !b.closing && b.leaveReason == ""; line = line[1:] {
		h := b.st.held[line[0]]
		if h == nil || h.turn != inLine {
			continue // it has ended
		}
		if !b.giveTurn(h) {
			break
		}
		next = append(next, h)
	}
	b.turns.line = line
	return next
}

// enqueue lets assignments wait for their turn, and gives those whose turn it is to the
// starters.
func (s *starter) enqueue(ctx context.Context, numbers []int64) {
	s.mu.Lock()
	var next []*held
	for _, n := range numbers {
		s.lineUp(n)
		if h := s.st.held[n]; h != nil && h.turn == inLine && h.work.Room == 0 && s.giveTurn(h) {
			next = append(next, h) // it waits for nobody
		}
	}
	next = append(next, s.giveTurns()...)
	for _, h := range next {
		s.armStartDeadline(h)
	}
	s.mu.Unlock()
	for _, h := range next {
		select {
		case s.queue <- h.n:
		case <-ctx.Done():
			return // they are in the journal
		}
	}
}

// startNext starts what has its turn now, after something has ended.
func (s *starter) startNext() { s.enqueue(context.Background(), nil) }

// Bounds of the gathering of ends while work waits on the node. Nothing stands still then:
// what has ended is followed at once by what waits.
const (
	gatherEnds = 20 * time.Millisecond
	manyEnds   = 64 // so many ends are reported at once
)

// addFinished has an end reported. The caller holds mu.
func (b *notebook) addFinished(n int64) {
	if len(b.out.finished) == 0 {
		b.out.endedAt = time.Now()
	}
	b.out.finished = append(b.out.finished, n)
}

// gathersFor is how long the ends that are to be reported wait for more; 0 = not at all. The
// caller holds mu.
func (b *notebook) gathersFor(now time.Time) time.Duration {
	if b.turns.waiting == 0 || len(b.out.finished) >= manyEnds {
		return 0
	}
	return max(b.out.endedAt.Add(gatherEnds).Sub(now), 0)
}
