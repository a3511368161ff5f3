package pool

import (
	"fmt"
	"time"
)

// Breaker counts how many of a rung's last nodes did not come up. When it is open, the
// pool buys no more of them, except one at a time as a probe.
type Breaker struct {
	Bad      int       `json:"bad,omitempty"`     // nodes in a row that did not come up
	Why      string    `json:"why,omitempty"`     // what happened to the last of them, and where to look
	OpenedAt time.Time `json:"openedAt,omitzero"` // since when no more are bought; zero = nodes are bought
	ProbeAt  time.Time `json:"probeAt,omitzero"`  // when one is bought as a probe
	Probes   int       `json:"probes,omitempty"`  // probes since then that did not come up
}

// Open reports whether no more nodes are bought.
func (b *Breaker) Open() bool { return !b.OpenedAt.IsZero() }

// Message is the sentence that people of a pool see.
func (b *Breaker) Message(pool string) string {
	return fmt.Sprintf("%d nodes in a row did not come up, the last of them because %s; "+
		"when that is mended, `dsvm pool resume %s` goes on at once", b.Bad, b.Why, pool)
}
