package pool

import (
	"fmt"
	"time"
)

// Breaker says how a rung's nodes have come up lately.
type Breaker struct {
	Bad      int       `json:"bad,omitempty"`     // nodes in a row that did not come up
	Why      string    `json:"why,omitempty"`     // what became of the last of them, and where to look
	OpenedAt time.Time `json:"openedAt,omitzero"` // since when no more are bought; zero = they are
	ProbeAt  time.Time `json:"probeAt,omitzero"`  // when the next one is bought, to see
	Probes   int       `json:"probes,omitempty"`  // how many were bought since and did not come up
}

// Open reports whether no more nodes are bought.
func (b *Breaker) Open() bool { return !b.OpenedAt.IsZero() }

// Message is the sentence that people of a pool see.
func (b *Breaker) Message(pool string) string {
	return fmt.Sprintf("%d nodes in a row did not come up, the last of them because %s; "+
		"when that is mended, `dsvm pool resume %s` goes on at once", b.Bad, b.Why, pool)
}
