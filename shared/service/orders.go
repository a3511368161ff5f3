package service

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// orders makes the orders of new jobs: ULIDs, whose time is that of the submission. Of one
// process and one millisecond, they rise. Jobs that come together have orders that differ in their last bits, so
// that they may share a row while they are live; see pool.BundleKey.
type orders struct {
	mu   sync.Mutex
	last ulid.ULID
}

// runAlign is a multiple of what one bundle holds: a run begins with a bundle of its own.
const runAlign = 16

// run makes the orders of n jobs that come together.
func (o *orders) run(now time.Time, n int) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var next ulid.ULID
	if err := next.SetTime(ulid.Timestamp(now)); err != nil {
		panic(err) // the year 10889
	}
	if next.Time() == o.last.Time() {
		next = o.last
	} else {
		rand.Read(next[6:])
		next[8] &= 0x7F // so that counting up from here never reaches the end
	}
	low := (binary.BigEndian.Uint64(next[8:])/runAlign + 1) * runAlign
	all := make([]string, n)
	for i := range all {
		binary.BigEndian.PutUint64(next[8:], low+uint64(i))
		all[i] = next.String()
	}
	o.last = next
	return all
}
