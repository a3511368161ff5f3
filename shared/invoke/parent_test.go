package invoke

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// A handler ends when its parent is another one than at first, and not before.
func TestWhileParent(t *testing.T) {
	t.Parallel()
	var parent, asked atomic.Int64
	parent.Store(7)
	ctx, cancel := while(t.Context(), time.Millisecond, func() int { asked.Add(1); return int(parent.Load()) })
	defer cancel()
	for asked.Load() < 10 {
		if ctx.Err() != nil {
			t.Fatal("it ended although its parent is there")
		}
	}
	parent.Store(1)
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), errOrphan) {
		t.Errorf("it ended with %v", context.Cause(ctx))
	}
}
