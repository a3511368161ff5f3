package relay

import (
	"context"
	"time"
)

// SetPings has a listener ping more often than it does otherwise.
func SetPings(l *Listener, every time.Duration) { l.pingEvery, l.pingTime = every, 10*every }

// ComeFor is for tests of what comes at an address.
func (l *Listener) ComeFor(ctx context.Context, address string) { l.comeFor(ctx, address) }
