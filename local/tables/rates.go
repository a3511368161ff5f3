package tables

import (
	"cmp"
	"hash/fnv"
	"maps"
	"strings"
	"sync"
	"time"
)

// The service's targets, in entities of 1 KiB a second.
const (
	PartitionRate = 2_000
	AccountRate   = 20_000
)

// maxCounted bounds the partitions whose entities RateStats lists.
const maxCounted = 1_000

// RateStats are counts since the start, of an account with rates. Without rates all are 0.
type RateStats struct {
	Writes RequestCount // of single entities, and transactions
	Reads  RequestCount // of single entities
	Pages  RequestCount // of queries

	Entities    int64            // of all requests that were not refused
	Partitions  map[string]int64 // the same by "table/partition", without queries; at most maxCounted of them
	FullSeconds int64            // seconds in which a request was refused
}

// RequestCount counts requests, and those of them that were refused because of a partition
// and because of the account.
type RequestCount struct{ Requests, RefusedByPartition, RefusedByAccount int64 }

// rates counts the entities of the current second, for Config.CloudRates. A nil
// *rates counts nothing.
type rates struct {
	now                      func() time.Time
	perPartition, perAccount int // entities a second

	mu         sync.Mutex
	second     int64
	account    int
	partitions map[string]int // at most perAccount of them, as each has one entity at least
	full       int64          // the last second that counts as full
	stats      RateStats
}

func newRates(now func() time.Time, perPartition, perAccount int) *rates {
	return &rates{now: now, perPartition: cmp.Or(perPartition, PartitionRate), perAccount: cmp.Or(perAccount, AccountRate)}
}

// Kinds of requests for take.
func ofWrites(s *RateStats) *RequestCount { return &s.Writes }
func ofReads(s *RateStats) *RequestCount  { return &s.Reads }

// take counts entities before they are read or written, and refuses them when
// the second has no room left. Refused entities do not count.
func (c *rates) take(kind func(*RateStats) *RequestCount, table, partition string, entities int) *failure {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn()
	count := kind(&c.stats)
	count.Requests++
	k := strings.ToLower(table) + "/" + partition
	switch {
	case c.partitions[k]+entities > c.perPartition:
		count.RefusedByPartition++
		return c.refuse()
	case c.account+entities > c.perAccount:
		count.RefusedByAccount++
		return c.refuse()
	}
	c.account += entities
	c.partitions[k] += entities
	c.stats.Entities += int64(entities)
	if _, counted := c.stats.Partitions[k]; counted || len(c.stats.Partitions) < maxCounted {
		if c.stats.Partitions == nil {
			c.stats.Partitions = map[string]int64{}
		}
		c.stats.Partitions[k] += int64(entities)
	}
	return nil
}

// page counts a page of a query: one entity before it is read, and the entities in it afterwards.
func (c *rates) page(entities int) *failure {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn()
	if entities == 0 {
		entities = 1
		c.stats.Pages.Requests++
		if c.account >= c.perAccount {
			c.stats.Pages.RefusedByAccount++
			return c.refuse()
		}
	}
	c.account += entities
	c.stats.Entities += int64(entities)
	return nil
}

func (c *rates) refuse() *failure {
	if c.full != c.second {
		c.full = c.second
		c.stats.FullSeconds++
	}
	return errBusy
}

func (c *rates) turn() {
	if second := c.now().Unix(); second != c.second {
		c.second, c.account, c.partitions = second, 0, map[string]int{}
	}
}

// RateStats returns the counts of the rates so far.
func (s *Server) RateStats() RateStats {
	if s.rates == nil {
		return RateStats{}
	}
	s.rates.mu.Lock()
	defer s.rates.mu.Unlock()
	stats := s.rates.stats
	stats.Partitions = maps.Clone(stats.Partitions)
	return stats
}

// The service's pages end where its ranges of partitions do, and are empty now
// and then. Here one partition in rangeShare begins a range, and one
// continuation in emptyShare first gets an empty page.
const (
	rangeShare = 4
	emptyShare = 3
)

// isDrawn picks one key in n, always the same keys.
func isDrawn(key string, n uint32) bool {
	h := fnv.New32a()
	h.Write([]byte(key))
	return h.Sum32()%n == 0
}

// deletions are the tables whose names are still blocked. A restart forgets them.
type deletions struct {
	hold time.Duration

	mu    sync.Mutex
	until map[string]time.Time
}

func (d *deletions) add(table string) {
	if d.hold <= 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, until := range d.until {
		if time.Now().After(until) {
			delete(d.until, name)
		}
	}
	if d.until == nil {
		d.until = map[string]time.Time{}
	}
	d.until[string(bucketOf(table))] = time.Now().Add(d.hold)
}

// check refuses a request to a table that is being deleted.
func (d *deletions) check(table string) *failure {
	if d.hold <= 0 || table == "" {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Now().Before(d.until[string(bucketOf(table))]) {
		return errBeingDeleted
	}
	return nil
}
