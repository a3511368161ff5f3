package pool

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
)

// A small job need not have a row of its own while it is live: jobs that come together may
// share a row, a bundle. Such a row is written once where sixteen would be, when they come,
// when they are placed and when they have ended. Which jobs may share one follows from
// their orders, so that a job is found without an index; whether a job does is in
// Job.Bundled. Finished jobs always have rows of their own.

const (
	orderLength = 26 // of a ULID; the orders of sweeps' members are longer
	bundleMark  = "~"
	// maxBundle is how many jobs one bundle may hold: those whose orders differ in the last
	// four bits alone.
	maxBundle = 16
)

// Bundle is the row that some live jobs share.
type Bundle struct {
	Key  string
	Jobs []*Job // all that are in it from now on, by their orders; none: the row goes
}

// BundleKey is the key of the bundle that a job may be in; "": it can be in none.
func BundleKey(order string) string {
	if len(order) != orderLength {
		return ""
	}
	last := strings.IndexByte(crockford, order[orderLength-1])
	if last < 0 {
		return ""
	}
	return jobPrefix + order[:orderLength-1] + bundleMark + string(crockford[last/maxBundle])
}

// LastKeyBelow is not below the key of any row that holds a live job whose order is below
// this one, and below those of all rows whose jobs are not.
func LastKeyBelow(order string) string {
	if len(order) == orderLength {
		if last := strings.IndexByte(crockford, order[orderLength-1]); last > 0 {
			return BundleKey(order[:orderLength-1] + crockford[last-1:last])
		}
	}
	return JobKey(order)
}

// IsBundleKey reports whether a key of a live job's row is that of a bundle.
func IsBundleKey(key string) bool { return strings.Contains(key, bundleMark) }

// LeastOrder is an order that is not above that of any job in a row of live jobs.
func LeastOrder(key string) string {
	order, _ := OrderOf(key)
	if before, _, isBundle := strings.Cut(order, bundleMark); isBundle {
		return before + crockford[:1]
	}
	return order
}

// Limits of a job in a bundle, of what it takes in the row: sixteen such jobs always fit into
// one row, and as many such rows as a transaction has, 98, into the 4 MB of a transaction.
const (
	bundledSpec     = 1_100 // bytes of its document
	bundledSentence = 200   // bytes of each sentence about it
)

// fitsBundle reports whether a job is small enough to share a row.
func (j *Job) fitsBundle() bool {
	s := &j.Spec
	if BundleKey(j.Order) == "" || j.Session != nil || s.Sweep != nil || s.Index != nil || s.Nodes > 0 || s.Source != nil ||
		len(j.Waits)+len(s.After)+len(j.Subscribers) > 0 || len(j.Attempts) > 1 ||
		bytesInRow(j.Reason) > bundledSentence || bytesInRow(j.Cancel) > bundledSentence {
		return false
	}
	for i := range j.Attempts {
		if a := &j.Attempts[i]; bytesInRow(a.Reason) > bundledSentence || len(a.Ranks) > 0 {
			return false
		}
	}
	return len(s.Script)+len(s.Workdir) <= bundledSpec && bytesInRow(s) <= bundledSpec
}

// bytesInRow is as how many bytes a value stands in the request that writes its row: it is JSON
// in a text of the row, which is JSON, so that each quote and each backslash is escaped again.
func bytesInRow(value any) int {
	text, err := json.Marshal(value)
	if err != nil {
		return math.MaxInt
	}
	return len(text) + bytes.Count(text, []byte{'"'}) + bytes.Count(text, []byte{'\\'})
}

// AddBundles notes in the changes of jobs which bundles they concern, and decides which new
// jobs share a row; live finds a live job by its order, after the changes. A job that is not
// small any more, since it is tried again or somebody waits for it, gets a row of its own if
// there is room for one more row in the transaction. It reports whether a bundle is written.
func AddBundles(changes []Change, maxRows int, live func(order string) *Job) bool {
	ended := map[string]*Job{} // by key of their live row
	fits := map[string]bool{}  // new jobs that are small, by key
	together := map[string]int{}
	for i := range changes {
		j, isJob := changes[i].Value.(*Job)
		switch {
		case !isJob:
		case strings.HasPrefix(changes[i].Key, donePrefix):
			ended[JobKey(j.Order)] = j
		case changes[i].Insert && j.fitsBundle():
			fits[changes[i].Key] = true
			together[BundleKey(j.Order)]++
		}
	}
	bundles := map[string]*Bundle{}
	room := maxRows - len(changes)
	for i := range changes {
		c := &changes[i]
		if !strings.HasPrefix(c.Key, jobPrefix) {
			continue
		}
		j, isLive := c.Value.(*Job)
		if !isLive {
			j = ended[c.Key]
		}
		if j == nil {
			continue
		}
		key := BundleKey(j.Order)
		switch {
		case c.Insert:
			j.Bundled = together[key] > 1 && fits[c.Key]
			if !j.Bundled {
				continue
			}
		case !j.Bundled:
			continue
		case isLive && room > 0 && !j.fitsBundle():
			j.Bundled = false
			room--
		}
		if bundles[key] == nil {
			bundles[key] = &Bundle{Key: key}
		}
		c.Bundle = bundles[key]
	}
	written := false
	for _, b := range bundles {
		b.collect(live)
		written = written || len(b.Jobs) > 0
	}
	return written
}

// collect finds the jobs that are in the bundle.
func (b *Bundle) collect(live func(order string) *Job) {
	before, half, _ := strings.Cut(strings.TrimPrefix(b.Key, jobPrefix), bundleMark)
	first := strings.Index(crockford, half) * maxBundle
	for _, last := range crockford[first : first+maxBundle] {
		if j := live(before + string(last)); j != nil && j.Bundled {
			b.Jobs = append(b.Jobs, j)
		}
	}
}
