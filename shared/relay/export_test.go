package relay

import "time"

// SetPings has a listener ping more often than it does otherwise.
func SetPings(l *Listener, every time.Duration) { l.pingEvery, l.pingTime = every, 10*every }
