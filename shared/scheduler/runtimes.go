package scheduler

import (
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// How long a job is expected to run: as long as the longest of the last few of its kind. The
// members of a sweep are of one kind. So are the jobs of one user and team with the same name
// and the same script, or the same command: its program, with the arguments up to the first
// that is no option, such as `python train.py` or `sh -c "make all"`. Nothing is expected of
// a kind of which fewer have ended.
//
// The run times are a hint: they are not in the rows, and each process learns its own from
// the ends that it takes in. A process that knows none assigns nothing ahead.

const (
	runsKept  = 8   // of each kind
	runsAsked = 4   // before anything is expected
	kindsKept = 256 // the one that ended longest ago is forgotten for a new one
	// shortestRun is what a shorter run counts as: a start takes as long.
	shortestRun = 2 * time.Millisecond
)

// runTimes holds how long the jobs of each kind have run.
type runTimes struct {
	kinds map[string]*kindRuns
	ends  int // so many were learned
}

// kindRuns holds the last runs of one kind.
type kindRuns struct {
	last   [runsKept]time.Duration // in a ring
	count  int
	latest int // the number of the last end
}

// kindOf is what the jobs of one kind have in common.
func kindOf(j *Job) string {
	if j.Spec.Sweep != nil {
		return j.Order
	}
	if sweep, _, isMember := job.SweepOrder(j.Order); isMember {
		return sweep
	}
	s := &j.Spec
	what := []string{s.Team, s.User, s.Name, shortText(s.Script)}
	for i, word := range s.Command {
		what = append(what, shortText(word))
		if i > 0 && !strings.HasPrefix(word, "-") {
			break
		}
	}
	return strings.Join(what, "\x00")
}

// shortText is a text, or the sum of a long one.
func shortText(text string) string {
	const long = 200
	if len(text) <= long {
		return text
	}
	return fmt.Sprintf("%d %08x", len(text), crc32.ChecksumIEEE([]byte(text)))
}

// learn takes in how long an attempt has run that came to an end of its own.
func (rt *runTimes) learn(j *Job, f protocol.Finished) {
	switch job.AttemptState(f.State) {
	case job.AttemptSucceeded, job.AttemptFailed, job.AttemptTimedOut:
	default:
		return
	}
	if f.StartedAt.IsZero() || j.Session != nil {
		return
	}
	kind := kindOf(j)
	k := rt.kinds[kind]
	if k == nil {
		if rt.kinds == nil {
			rt.kinds = map[string]*kindRuns{}
		}
		if len(rt.kinds) >= kindsKept {
			rt.forgetOldest()
		}
		k = &kindRuns{}
		rt.kinds[kind] = k
	}
	rt.ends++
	k.last[k.count%runsKept] = max(f.EndedAt.Sub(f.StartedAt), shortestRun)
	k.count++
	k.latest = rt.ends
}

func (rt *runTimes) forgetOldest() {
	oldest := ""
	for kind, k := range rt.kinds {
		if oldest == "" || k.latest < rt.kinds[oldest].latest {
			oldest = kind
		}
	}
	delete(rt.kinds, oldest)
}

// expect is how long a job is expected to run; 0 = not known.
func (rt *runTimes) expect(j *Job) time.Duration {
	if len(rt.kinds) == 0 || j.Session != nil {
		return 0
	}
	k := rt.kinds[kindOf(j)]
	if k == nil || k.count < runsAsked {
		return 0
	}
	return slices.Max(k.last[:min(k.count, runsKept)])
}

// anyWithin reports whether the jobs of any kind are expected to run no longer than most.
func (rt *runTimes) anyWithin(most time.Duration) bool {
	for _, k := range rt.kinds {
		if k.count >= runsAsked && slices.Max(k.last[:min(k.count, runsKept)]) <= most {
			return true
		}
	}
	return false
}
