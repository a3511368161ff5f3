package agent

import (
	"slices"
	"time"

	"dsvmpools/agent/person"
	"dsvmpools/agent/process"
	"dsvmpools/shared/protocol"
)

// phase is how far an assignment has come on this node.
type phase int

const (
	waiting  phase = iota // nothing has been started
	starting              // a process may exist
	running               // a process was started
	ended                 // there is a result
)

// held is an assignment that the node has, until its end is acknowledged.
type held struct {
	n      int64
	work   protocol.Assignment // empty for one that was cancelled before it came
	phase  phase
	proc   process.Process
	result *protocol.Finished

	// Of a session.
	ending  string          // why it is to end; "" = it is not
	warning *person.Warning // the last one; nil = none has come

	// Not in the journal: of this life of the agent only.
	run     *run        // from its beginning to its end
	cancel  string      // asked to end while its process was being started
	late    *time.Timer // ends it when it has not begun in time; nil = it has none
	tooLate bool        // it was not begun in time, while its process was being started
	turn    turn        // whether it waits for room on the node
	link    *link       // of a session: to its keeper; nil = there is none
}

// state is what the journal remembers. It changes only through apply, so that
// reading the journal again gives the same.
type state struct {
	node    string // pool and VMID that the journal belongs to
	machine string // boot of the machine in which processes were started
	over    string // why this node is to do nothing any more; "" = it works
	seen    int64  // highest number seen
	held    map[int64]*held
	drops   map[int64]string // cancelled before they came, and why
	doubt   bool             // there may have been more: the pool's counter has to be asked for
	damaged bool             // of this life: the journal was found damaged
	door    *protocol.Door   // tokens that came last, for all sessions; nil = none
	lost    int64            // the counter it gave last: up to there something may have been forgotten
}

func newState() *state {
	return &state{held: map[int64]*held{}, drops: map[int64]string{}, doubt: true}
}

// record is one line of the journal: a change of the state.
type record struct {
	Node     string               `json:"node,omitempty"`
	Machine  string               `json:"machine,omitempty"`
	Over     string               `json:"over,omitempty"`
	Seen     int64                `json:"seen,omitempty"`
	N        int64                `json:"n,omitempty"` // of Assign, Starting, Started and Drop
	Assign   *protocol.Assignment `json:"assign,omitempty"`
	Starting bool                 `json:"starting,omitempty"`
	Started  *process.Process     `json:"started,omitempty"`
	Ending   string               `json:"ending,omitempty"`  // N, a session, is to end, and why
	Warning  *person.Warning      `json:"warning,omitempty"` // of N, a session
	Door     *protocol.Door       `json:"door,omitempty"`
	Drop     string               `json:"drop,omitempty"`
	Finished *protocol.Finished   `json:"finished,omitempty"`
	Acked    []int64              `json:"acked,omitempty"`
	Doubt    bool                 `json:"doubt,omitempty"`   // the journal was found damaged
	Counter  *int64               `json:"counter,omitempty"` // the pool's, which ends the doubt
}

// apply changes the state. A record that does not fit is without effect.
func (s *state) apply(r record) {
	if r.Node != "" {
		s.node = r.Node
	}
	if r.Machine != "" {
		s.machine = r.Machine
	}
	if r.Over != "" {
		s.over = r.Over
	}
	s.seen = max(s.seen, r.Seen)
	s.doubt = s.doubt || r.Doubt
	if r.Counter != nil {
		s.doubt, s.lost, s.seen = false, max(s.lost, *r.Counter), max(s.seen, *r.Counter)
	}
	if r.Door != nil {
		s.door = r.Door
	}
	h := s.held[r.N]
	switch {
	case r.Assign != nil && h == nil:
		if r.Assign.Session != nil && r.Assign.Session.Door != nil {
			s.door = r.Assign.Session.Door
		}
		s.held[r.N] = &held{n: r.N, work: *r.Assign}
		delete(s.drops, r.N)
	case r.Starting && h != nil && h.phase == waiting:
		h.phase = starting
	case r.Started != nil && h != nil && h.phase <= running: // a second time when its source was fetched before
		h.phase, h.proc = running, *r.Started
	case r.Ending != "" && h != nil && h.phase != ended:
		h.ending = r.Ending
	case r.Warning != nil && h != nil && h.phase != ended:
		h.warning = r.Warning
	case r.Drop != "" && h == nil:
		s.drops[r.N] = r.Drop
	}
	if f := r.Finished; f != nil {
		h := s.held[f.N]
		if h == nil {
			h = &held{n: f.N}
			s.held[f.N] = h
		}
		if h.phase != ended {
			h.phase, h.result = ended, f
		}
		delete(s.drops, f.N)
	}
	for _, n := range r.Acked {
		if h := s.held[n]; h != nil && h.phase == ended {
			delete(s.held, n)
		}
	}
}

// records describe the whole state: applied to an empty state, they give it.
func (s *state) records() []record {
	lost := s.lost // s goes on
	list := []record{{Node: s.node, Machine: s.machine, Over: s.over, Seen: s.seen, Counter: &lost}}
	if s.doubt {
		list = append(list, record{Doubt: true})
	}
	for _, n := range s.numbers() {
		h := s.held[n]
		if h.phase != ended {
			list = append(list, record{N: n, Assign: &h.work})
		}
		switch h.phase {
		case starting:
			list = append(list, record{N: n, Starting: true})
		case running:
			list = append(list, record{N: n, Started: &h.proc})
		case ended:
			list = append(list, record{Finished: h.result})
		}
		if h.phase != ended && h.ending != "" {
			list = append(list, record{N: n, Ending: h.ending})
		}
		if h.phase != ended && h.warning != nil {
			list = append(list, record{N: n, Warning: h.warning})
		}
	}
	if s.door != nil && len(s.held) > 0 {
		list = append(list, record{Door: s.door}) // after the assignments, whose tokens may be older
	}
	for n, why := range s.drops {
		list = append(list, record{N: n, Drop: why})
	}
	return list
}

// newestDoor returns the tokens that came last for where a session listens; given are those
// that came with it.
func (s *state) newestDoor(given *protocol.Door) *protocol.Door {
	if given != nil && s.door != nil && s.door.URL == given.URL {
		return s.door
	}
	return given
}

// numbers lists what is held, oldest first.
func (s *state) numbers() []int64 {
	list := make([]int64, 0, len(s.held))
	for n := range s.held {
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}
