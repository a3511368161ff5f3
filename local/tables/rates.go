package tables

import (
	"hash/fnv"
	"sync"
	"time"
)

// The service's targets, in entities of 1 KiB a second.
const (
	partitionRate = 2_000
	accountRate   = 20_000
)

// rates counts the entities of the current second, for Config.CloudRates. A nil
// *rates counts nothing.
type rates struct {
	now func() time.Time

	mu         sync.Mutex
	second     int64
	account    int
	partitions map[string]int // at most accountRate of them, as each has one entity at least
}

// take counts entities before they are read or written, and refuses them when
// the second has no room left. Refused entities do not count.
func (c *rates) take(table, partition string, entities int) *failure {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn()
	k := string(bucketOf(table)) + "\x00" + partition
	if c.account+entities > accountRate || c.partitions[k]+entities > partitionRate {
		return errBusy
	}
	c.account += entities
	c.partitions[k] += entities
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
		if c.account >= accountRate {
			return errBusy
		}
	}
	c.account += entities
	return nil
}

func (c *rates) turn() {
	if second := c.now().Unix(); second != c.second {
		c.second, c.account, c.partitions = second, 0, map[string]int{}
	}
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
