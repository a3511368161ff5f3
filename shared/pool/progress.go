package pool

import (
	"time"
)

// Progress counts what has become of a sweep's members.
type Progress struct {
	Next      int       `json:"next"` // index of the next member to start
	StartedAt time.Time `json:"startedAt,omitzero"`
	Running   int       `json:"running"` // members on nodes
	Live      int       `json:"live"`    // members that have started and not ended
	Succeeded int       `json:"succeeded"`
	Failed    int       `json:"failed"`
	TimedOut  int       `json:"timedOut"`
	Cancelled int       `json:"cancelled"`
	// Counted since the sweep began or was released last, to decide whether to stop it:
	Bad  int `json:"bad,omitempty"`  // members that failed or timed out
	Good int `json:"good,omitempty"` // members that succeeded
	// The member that failed first, for the sentence of the sweep's end.
	FirstFailed string `json:"firstFailed,omitempty"`
	FirstReason string `json:"firstReason,omitempty"` // shortened by the scheduler
	ExitCode    int    `json:"exitCode,omitempty"`
	// Skip has a bit for each member that was cancelled before it started.
	Skip    []byte `json:"skip,omitempty"`
	Skipped int    `json:"skipped,omitempty"` // how many of them are at Next or after it
}

// Ended is the number of members that have ended.
func (p *Progress) Ended() int { return p.Succeeded + p.Failed + p.TimedOut + p.Cancelled }

// IsSkipped reports whether a member was cancelled before it started.
func (p *Progress) IsSkipped(index int) bool {
	return index/8 < len(p.Skip) && p.Skip[index/8]&(1<<(index%8)) != 0
}

// MarkSkipped notes that a member is cancelled before it starts.
func (p *Progress) MarkSkipped(index int) {
	if grow := index/8 + 1 - len(p.Skip); grow > 0 {
		p.Skip = append(p.Skip, make([]byte, grow)...)
	}
	p.Skip[index/8] |= 1 << (index % 8)
	p.Skipped++
}

// PassSkipped moves Next past the members that were cancelled before they started.
func (p *Progress) PassSkipped() {
	for p.IsSkipped(p.Next) {
		p.Next++
		p.Skipped--
	}
}

// Unstarted is the number of members that are still to start; 0 if it is cancelled.
func (j *Job) Unstarted() int {
	if j.Cancel != "" {
		return 0
	}
	return j.Spec.Sweep.Members() - j.Progress.Next - j.Progress.Skipped
}
