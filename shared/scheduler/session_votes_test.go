package scheduler

import (
	"fmt"
	"maps"
	"testing"
)

// A report that comes again means the same: what is left out of a long one does not change.
func TestClippedReportsAreAlike(t *testing.T) {
	t.Parallel()
	votes, links := map[string]string{}, map[string]int{}
	for i := range 2 * maxVotes {
		votes[fmt.Sprintf("voter-%02d", i)] = "idle"
		links[fmt.Sprintf("link-%02d", i)] = i // the first is none
	}
	firstVotes, firstLinks := clipVotes(votes), clipLinks(links)
	if len(firstVotes) != maxVotes || len(firstLinks) != maxVotes {
		t.Fatalf("got %d votes and %d links, want %d of each", len(firstVotes), len(firstLinks), maxVotes)
	}
	for range 20 {
		if got := clipVotes(votes); !maps.Equal(got, firstVotes) {
			t.Errorf("votes: got %v, want %v", got, firstVotes)
		}
		if got := clipLinks(links); !maps.Equal(got, firstLinks) {
			t.Errorf("links: got %v, want %v", got, firstLinks)
		}
	}
}
