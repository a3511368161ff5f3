package usage

import (
	"strconv"
	"strings"
	"time"
)

// Phases say in which order a node spent an interval: pairs of a letter and of where the phase
// ends, in whole seconds from the begin of the interval, such as b180w600i640. The first phase
// begins at 0, and each one where the one before it ends. "" = nothing is known.
type Phases string

// Letters of phases.
const (
	PhaseNone    = '-' // no node: only in timelines
	PhaseBoot    = 'b'
	PhaseBusy    = 'w'
	PhaseIdle    = 'i'
	PhaseDrain   = 'd' // draining or deleting
	PhaseBad     = 'x' // lost, failed or quarantined
	PhaseUnknown = '?' // counted by a release that knew no phases
)

// mostPhases bounds the pairs of an interval. Of a node that changes more often the shortest
// phases are taken into those before them.
const mostPhases = 24

// Phase is one part of an interval, from the end of the one before it.
type Phase struct {
	Letter byte
	End    int64 // seconds from the begin of the interval
}

// Add adds that a node was in a phase from begin to end, both counted from the begin of the
// interval. What is missing before it is unknown; what is shorter than a second may vanish.
func (p Phases) Add(letter byte, begin, end time.Duration) Phases {
	from, to := int64(begin/time.Second), int64(end/time.Second)
	all := p.Parse()
	last := int64(0)
	if len(all) > 0 {
		last = all[len(all)-1].End
	}
	if from > last {
		all = append(all, Phase{PhaseUnknown, from})
		last = from
	}
	if to > last {
		all = append(all, Phase{letter, to})
	}
	return encodePhases(shortenPhases(all))
}

// Parse reads the pairs, in their order. It stops at what it cannot read: what comes after that
// is not known.
func (p Phases) Parse() (all []Phase) {
	text, last := string(p), int64(0)
	for len(text) > 0 && len(all) <= mostPhases {
		letter, digits := text[0], text[1:]
		n := 0
		for n < len(digits) && digits[n] >= '0' && digits[n] <= '9' {
			n++
		}
		end, err := strconv.ParseInt(digits[:n], 10, 64)
		if err != nil || end <= last || letter >= '0' && letter <= '9' {
			return all
		}
		all, last, text = append(all, Phase{letter, end}), end, digits[n:]
	}
	return all
}

// shortenPhases joins neighbours with the same letter, and takes the shortest ones into others
// until there are few enough.
func shortenPhases(all []Phase) []Phase {
	for {
		all = joinPhases(all)
		if len(all) <= mostPhases {
			return all
		}
		shortest, least := 1, all[1].End-all[0].End
		for i := 2; i < len(all); i++ {
			if length := all[i].End - all[i-1].End; length < least {
				shortest, least = i, length
			}
		}
		all[shortest].Letter = all[shortest-1].Letter
	}
}

func joinPhases(all []Phase) []Phase {
	kept := all[:0]
	for _, one := range all {
		if n := len(kept); n > 0 && kept[n-1].Letter == one.Letter {
			kept[n-1].End = one.End
			continue
		}
		kept = append(kept, one)
	}
	return kept
}

func encodePhases(all []Phase) Phases {
	var b strings.Builder
	for _, one := range all {
		b.WriteByte(one.Letter)
		b.WriteString(strconv.FormatInt(one.End, 10))
	}
	return Phases(b.String())
}

// phasesOf are the phases of a node's interval, also of one of which only sums are known: then
// boot comes first, and draining last.
func (e *Entry) phasesOf() []Phase {
	all := e.Phases.Parse()
	length, last := int64(e.To.Sub(e.From)/time.Second), int64(0)
	if len(all) > 0 {
		last = all[len(all)-1].End
	}
	usual := byte(PhaseIdle)
	if e.Busy >= e.Idle && e.Busy > 0 {
		usual = PhaseBusy
	}
	for i := range all {
		if all[i].Letter == PhaseUnknown {
			all[i].Letter = usual
		}
	}
	if last == 0 {
		for _, sum := range []struct {
			letter byte
			length time.Duration
		}{{PhaseBoot, e.Boot}, {PhaseBusy, e.Busy}, {PhaseIdle, e.Idle}, {PhaseDrain, e.Draining}} {
			if seconds := int64(sum.length / time.Second); seconds > 0 {
				last += seconds
				all = append(all, Phase{sum.letter, last})
			}
		}
		return all
	}
	if length > last {
		all = append(all, Phase{usual, length})
	}
	return all
}
