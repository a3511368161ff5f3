package store

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// Lists of finished jobs by state, team, user, name or label would read all finished rows if
// few of them match. An index says where to look, in rows of the pool's partition: `seen!`, the
// kind of trait, a hash of its value, and
//
//	the mirrored order of a job                 this job has the trait: written for rare ones
//	the first characters of mirrored orders     jobs of this span may have it: for common ones
//
// It is never short of a job: what it says of one is written with its finished row or before it.
// It may say too much, and lists look at the rows in any case. So nobody has to read it to write
// it, and a process that remembers what it has written of common traits writes hardly anything:
// one row in sixteen jobs at most for spans, and one in eight for single jobs. docs/decisions/0034
// has the reasons.
//
// A process of an earlier release keeps no index. The head says with which transaction the index
// was kept last; if others came since, it begins anew, and what ended before is not in it.

const (
	seenPrefix = "seen!"
	seenEnd    = `seen"` // after all keys that begin so
	anyValue   = "any"   // of a span: jobs in it may have any value of that kind

	// Kinds of traits; a label's kind is kindLabel and a hash of its name.
	kindState, kindTeam, kindUser, kindName, kindLabel = "s", "t", "u", "n", "l"
	// manyLabels is the kind that stands for all labels.
	manyLabels = "lmany"
	maxLabels  = 8 // of a job by which it is found; jobs with more are in spans of manyLabels

	// A process looks at so many finished jobs to tell rare traits from common ones: these are
	// those of at least one job in commonPart.
	recentJobs = 256
	commonPart = 64
	// A kind has too many values, such as names that all differ, if more than one job in
	// scatteredPart is noted for it, and all kinds together if more than one in mostPoints is.
	scatteredPart = 32
	mostPoints    = 8

	// rowsOfSpan: a span is so long that its rows are one in so many of its jobs at most.
	rowsOfSpan = 16
	// Lengths of spans, as characters of an order: 9.3 hours, 17 minutes, 34 seconds.
	longestSpan, shortestSpan = 5, 7
	// A process relies for so long on a row of a span that it has written; DropSeen drops none
	// that was written in twice this time.
	noteLasts = 12 * time.Hour
	maxNoted  = 20_000 // rows of spans that a process remembers of a pool
	// indexSlack is more than the clocks of two processes differ: a job that ended before an index
	// began was submitted, by any clock, before the time from which on it is used.
	indexSlack = 10 * time.Minute
)

// spanLength is how long a span of so many characters of an order is: an order begins with 48
// bits of milliseconds in ten characters of 5 bits.
func spanLength(characters int) time.Duration {
	return time.Duration(1<<(5*(10-characters))) * time.Millisecond
}

// trait is something by which jobs are listed.
type trait struct {
	kind string
	text string // of a name: the name, in lower case
	key  string // beginning of the keys of its rows
}

func newTrait(kind, value string) trait {
	return trait{kind: kind, key: traitKey(kind, hashOf(value))}
}

func traitKey(kind, value string) string { return seenPrefix + kind + "!" + value + "!" }

// hashOf names a text of any length and characters in a key. That two have the same hash makes
// lists read rows in vain, and nothing else.
func hashOf(text string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text)) // never fails
	return strconv.FormatUint(h.Sum64(), 16)
}

func labelKind(name string) string { return kindLabel + hashOf(name) }

// traitsOf lists the traits of a finished job. Members of sweeps have none: they are listed with
// their sweep alone.
func traitsOf(j *pool.Job) []trait {
	if j.Spec.Index != nil {
		return nil
	}
	all := make([]trait, 0, 4+len(j.Spec.Labels))
	for _, t := range []struct{ kind, value string }{{kindState, string(j.State)}, {kindTeam, j.Spec.Team}, {kindUser, j.Spec.User}} {
		if t.value != "" {
			all = append(all, newTrait(t.kind, t.value))
		}
	}
	if j.Spec.Name != "" {
		name := newTrait(kindName, strings.ToLower(j.Spec.Name))
		name.text = strings.ToLower(j.Spec.Name)
		all = append(all, name)
	}
	if len(j.Spec.Labels) > maxLabels {
		return append(all, trait{kind: manyLabels, key: traitKey(manyLabels, anyValue)})
	}
	for _, name := range slices.Sorted(maps.Keys(j.Spec.Labels)) {
		all = append(all, newTrait(labelKind(name), j.Spec.Labels[name]))
	}
	return all
}

// mirrored is an order as the keys of finished rows have it.
func mirrored(order string) string { return strings.TrimPrefix(pool.DoneKey(order), pool.DoneFrom) }

// seenIndex is what this process remembers of the indexes of pools.
type seenIndex struct {
	mu    sync.Mutex
	pools map[string]*seenPool
}

// seenPool is what is remembered of one pool.
type seenPool struct {
	index  string               // see pool.Version
	noted  map[string]time.Time // keys of spans, and when they were written
	recent []recentJob          // the last ones, in a ring
	next   int
	count  map[string]int // recent jobs by trait
	points map[string]int // rows for single jobs by kind, of recent jobs; "" = in all
	span   int            // length of new spans, in characters
}

// recentJob is a job that has ended a short while ago.
type recentJob struct {
	at     int64 // when it was submitted, in milliseconds
	traits []string
	points []string // kinds of the rows that it has for itself
}

// rowsFor are the rows of the index for the jobs that a transaction ends. They have to be written
// with it or before it. The caller calls written after that.
func (x *seenIndex) rowsFor(name, index string, changes []pool.Change, now time.Time) (rows []table.Operation, written func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var p *seenPool
	asked := map[string]bool{}
	var spans []string
	for i := range changes {
		j, isJob := changes[i].Value.(*pool.Job)
		if !isJob || !strings.HasPrefix(changes[i].Key, pool.DoneFrom) {
			continue
		}
		if p == nil {
			p = x.of(name, index)
		}
		for _, row := range p.note(j, now) {
			if asked[row.key] {
				continue
			}
			asked[row.key] = true
			rows = append(rows, table.Operation{Kind: table.Put, Row: row.encode(name)})
			if row.isSpan {
				spans = append(spans, row.key)
			}
		}
	}
	return rows, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, key := range spans {
			p.noted[key] = now
		}
	}
}

func (x *seenIndex) of(name, index string) *seenPool {
	if x.pools == nil {
		x.pools = map[string]*seenPool{}
	}
	p := x.pools[name]
	if p == nil || p.index != index {
		p = &seenPool{index: index, noted: map[string]time.Time{}, count: map[string]int{}, points: map[string]int{}, span: longestSpan}
		x.pools[name] = p
	}
	if len(p.noted) > maxNoted {
		clear(p.noted)
	}
	return p
}

// seenRow is a row of the index.
type seenRow struct {
	key    string
	text   string // of a name
	at     time.Time
	isSpan bool
}

func (r *seenRow) encode(partition string) []byte {
	row := table.NewRow(partition, r.key)
	row.Sentence("Name", r.text)
	row.Time("At", r.at)
	return row.JSON()
}

// note returns the rows that say where a job is found and are not there yet.
func (p *seenPool) note(j *pool.Job, now time.Time) (rows []seenRow) {
	traits := traitsOf(j)
	id, err := ulid.Parse(j.Order)
	if len(traits) == 0 || err != nil { // an order that is none has no place in a list by time
		return nil
	}
	at := ulid.Time(id.Time())
	place := mirrored(j.Order)
	var points []string
	for _, t := range traits {
		n, recent := p.count[t.key], max(len(p.recent), 1)
		isMany := t.kind == manyLabels
		isCommon := isMany || n > 0 && n*commonPart >= recent
		if !isCommon && len(p.recent) == recentJobs {
			switch {
			case p.points[""]*mostPoints > recent && strings.HasPrefix(t.kind, kindLabel):
				t.kind, t.key, isCommon = manyLabels, traitKey(manyLabels, anyValue), true
			case p.points[t.kind]*scatteredPart > recent || p.points[""]*mostPoints > recent:
				t.key, t.text, isCommon = traitKey(t.kind, anyValue), "", true
			}
		}
		if !isCommon {
			points = append(points, t.kind)
			rows = append(rows, seenRow{key: t.key + place, text: t.text, at: at})
			continue
		}
		key := t.key + place[:p.span]
		if written, ok := p.noted[key]; !ok || now.Sub(written) > noteLasts {
			rows = append(rows, seenRow{key: key, text: t.text, at: at.Add(spanLength(p.span)), isSpan: true})
		}
	}
	p.remember(recentJob{at: at.UnixMilli(), traits: keysOf(traits), points: points})
	return rows
}

func keysOf(traits []trait) []string {
	keys := make([]string, len(traits))
	for i := range traits {
		keys[i] = traits[i].key
	}
	return keys
}

// remember puts a job in the place of the oldest recent one.
func (p *seenPool) remember(j recentJob) {
	if len(p.recent) < recentJobs {
		p.recent = append(p.recent, j)
	} else {
		old := &p.recent[p.next]
		for _, key := range old.traits {
			if p.count[key]--; p.count[key] == 0 {
				delete(p.count, key)
			}
		}
		for _, kind := range old.points {
			p.points[kind]--
			p.points[""]--
		}
		*old = j
	}
	for _, key := range j.traits {
		p.count[key]++
	}
	for _, kind := range j.points {
		p.points[kind]++
		p.points[""]++
	}
	if p.next = (p.next + 1) % recentJobs; p.next%(recentJobs/8) == 0 {
		p.span = p.spanFor()
	}
}

// spanFor is the shortest span that has enough jobs, at the rate of the recent ones.
func (p *seenPool) spanFor() int {
	times := make([]int64, len(p.recent))
	for i := range p.recent {
		times[i] = p.recent[i].at
	}
	slices.Sort(times)
	first, last := len(times)/10, len(times)-1-len(times)/10 // a few old jobs say nothing of the rate
	common := 0
	for _, n := range p.count {
		if n*commonPart >= len(times) {
			common++
		}
	}
	for span := shortestSpan; span > longestSpan; span-- {
		jobs := float64(last-first) / float64(max(times[last]-times[first], 1)) * float64(spanLength(span).Milliseconds())
		if jobs >= float64(rowsOfSpan*common) {
			return span
		}
	}
	return longestSpan
}

// newIndex names an index that begins with the jobs that are submitted from a time on. A pool that
// is made now has no finished job: its index has all of them.
func newIndex(v pool.Version, now time.Time) string {
	from := int64(0)
	if !v.IsZero() {
		from = now.Add(indexSlack).UnixMilli()
	}
	return fmt.Sprintf("%s %d", rand.Text()[:10], from)
}

// indexFrom is the time from which on submitted jobs are in an index; false: there is none.
func indexFrom(index string) (time.Time, bool) {
	_, text, _ := strings.Cut(index, " ")
	ms, err := strconv.ParseInt(text, 10, 64)
	return time.UnixMilli(ms), err == nil
}

// storedIndex is an index in the head: with the last transaction that kept it.
func storedIndex(seq int64, index string) string { return fmt.Sprintf("%d %s", seq, index) }

// keptIndex is the index of a head if its last transaction has kept it; "" = there is none.
func keptIndex(seq int64, stored string) string {
	at, index, _ := strings.Cut(stored, " ")
	if n, err := strconv.ParseInt(at, 10, 64); err != nil || n != seq {
		return ""
	}
	if _, ok := indexFrom(index); !ok {
		return ""
	}
	return index
}

// finalStates are the states of a filter that finished jobs may have.
func (f *JobFilter) finalStates() (states []job.State) {
	for _, state := range f.States {
		if state.Final() {
			states = append(states, state)
		}
	}
	slices.SortFunc(states, cmp.Compare[job.State])
	return states
}
