package fleet

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Sizes of VMs come and go seldom: a list is good for an hour. One that could not be read
// is asked for again after a minute, so that somebody without the right does not wait.
const (
	sizesFor     = time.Hour
	sizesAgain   = time.Minute
	sizesTimeout = 5 * time.Second
)

// sizeLists are the lists that were read, by region in small letters.
type sizeLists struct {
	mu   sync.Mutex
	read map[string]sizeList
}

type sizeList struct {
	names []string
	err   error
	until time.Time
}

// Sizes returns the names of the sizes of a region, as Azure spells them. It takes 5 s at
// most. It needs Microsoft.Compute/locations/vmSizes/read; without it, and whenever the
// list cannot be read or is empty, the error says so and nothing is known.
func (c *Client) Sizes(ctx context.Context, region string) ([]string, error) {
	s := &c.known
	s.mu.Lock()
	defer s.mu.Unlock()
	key, now := strings.ToLower(region), time.Now()
	if known, ok := s.read[key]; ok && now.Before(known.until) {
		return known.names, known.err
	}
	bounded, cancel := context.WithTimeout(ctx, sizesTimeout)
	defer cancel()
	list := sizeList{until: now.Add(sizesFor)}
	for pager := c.sizes.NewListPager(region, nil); pager.More() && list.err == nil; {
		page, err := pager.NextPage(bounded)
		if list.err = err; err != nil {
			break
		}
		for _, size := range page.Value {
			if size != nil && value(size.Name) != "" {
				list.names = append(list.names, *size.Name)
			}
		}
	}
	if list.err == nil && len(list.names) == 0 {
		list.err = fmt.Errorf("the list of sizes is empty")
	}
	if list.err != nil {
		list = sizeList{err: fmt.Errorf("the sizes of %s cannot be read: %w", region, list.err), until: now.Add(sizesAgain)}
	}
	if ctx.Err() == nil { // else it is the caller who had no time
		if s.read == nil {
			s.read = map[string]sizeList{}
		}
		s.read[key] = list
	}
	return list.names, list.err
}
