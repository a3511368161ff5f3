package identity

import (
	"strconv"
	"testing"
	"time"
)

// Wrong logins of long ago close nothing.
func TestLimiterForgets(t *testing.T) {
	t.Parallel()
	var l limiter
	now := time.Unix(1_800_000_000, 0)
	for i := range maxLogins {
		l.failed(strconv.Itoa(i), now)
	}
	if l.enter("ann", now.Add(failsFor/2)) == nil {
		t.Error("with as many logins as are remembered, one more was taken")
	}
	if err := l.enter("ann", now.Add(failsFor)); err != nil {
		t.Errorf("after their time: %v", err)
	} else if l.leave(); len(l.fails) > 0 {
		t.Errorf("it remembers %d logins", len(l.fails))
	}
}
