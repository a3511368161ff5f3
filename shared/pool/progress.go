package pool

import (
	"time"
)

// Progress is how far a sweep has come.
type Progress struct {
	Next      int       `json:"next"` // index of the next member to come into being
	StartedAt time.Time `json:"startedAt,omitzero"`
	Running   int       `json:"running"` // members on nodes
	Live      int       `json:"live"`    // members that have come into being and not ended
	Succeeded int       `json:"succeeded"`
	Failed    int       `json:"failed"`
	TimedOut  int       `json:"timedOut"`
	Cancelled int       `json:"cancelled"`
	// Since it began, or was released last, as far as it is to be stopped:
	Bad  int `json:"bad,omitempty"`  // members that failed or timed out
	Good int `json:"good,omitempty"` // that succeeded
	// The member that failed first, for the sentence of the sweep's end.
	FirstFailed string `json:"firstFailed,omitempty"`
	FirstReason string `json:"firstReason,omitempty"` // shortened to mostReason
	ExitCode    int    `json:"exitCode,omitempty"`
	// Skip has a bit for each member that was cancelled before it came into being.
	Skip    []byte `json:"skip,omitempty"`
	Skipped int    `json:"skipped,omitempty"` // those of them that Next has not passed
}

// Ended is the number of members that have ended.
func (p *Progress) Ended() int { return p.Succeeded + p.Failed + p.TimedOut + p.Cancelled }

func (p *Progress) IsSkipped(index int) bool {
	return index/8 < len(p.Skip) && p.Skip[index/8]&(1<<(index%8)) != 0
}

func (p *Progress) MarkSkipped(index int) {
	if grow := index/8 + 1 - len(p.Skip); grow > 0 {
		p.Skip = append(p.Skip, make([]byte, grow)...)
	}
	p.Skip[index/8] |= 1 << (index % 8)
	p.Skipped++
}

// PassSkipped moves Next past the members that were cancelled before.
func (p *Progress) PassSkipped() {
	for p.IsSkipped(p.Next) {
		p.Next++
		p.Skipped--
	}
}

// Unstarted is the number of members that have not come into being.
func (j *Job) Unstarted() int {
	if j.Cancel != "" {
		return 0
	}
	return j.Spec.Sweep.Members() - j.Progress.Next - j.Progress.Skipped
}
