package invoke

import (
	"context"
	"errors"
	"os"
	"runtime"
	"time"
)

// parentEvery is how often the handler looks whether its host is there. The
// handler does not end with a killed host: it would go on, hold memory and locks,
// and do work that nobody sees.
const parentEvery = 500 * time.Millisecond

// errOrphan ends a handler whose host is gone.
var errOrphan = errors.New("the Functions host is gone, and its handler ends too; messages under way come again")

// whileParent is a context that ends when the process that started this one does.
// The system hands an orphan to another parent, so looking at its number is enough,
// and works wherever there are such numbers.
func whileParent(ctx context.Context) (context.Context, context.CancelFunc) {
	return while(ctx, parentEvery, os.Getppid)
}

func while(ctx context.Context, every time.Duration, parent func() int) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if runtime.GOOS != "windows" { // the number stays there, and functions do not run there
		first := parent()
		go func() {
			t := time.NewTicker(every)
			defer t.Stop()
			for {
				select {
				case <-t.C:
					if parent() != first {
						cancel(errOrphan)
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	return ctx, func() { cancel(context.Canceled) }
}
