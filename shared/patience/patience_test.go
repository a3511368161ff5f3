package patience_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"dsvmpools/shared/patience"
)

func TestInTime(t *testing.T) {
	t.Parallel()
	c := patience.New(1)
	for range 3 { // a turn is given back
		got, err := patience.Do(c, time.Minute, func() (int, error) { return 7, os.ErrNotExist }, nil)
		if got != 7 || !errors.Is(err, os.ErrNotExist) || c.Left() != 0 {
			t.Errorf("got %d, %v, %d left", got, err, c.Left())
		}
	}
}

func TestTooLong(t *testing.T) {
	t.Parallel()
	c := patience.New(1)
	open, late := make(chan struct{}), make(chan int, 1)
	_, err := patience.Do(c, time.Millisecond, func() (int, error) { <-open; return 7, nil }, func(v int) { late <- v })
	if !errors.Is(err, patience.ErrTooLong) || c.Left() != 1 {
		t.Fatalf("got %v, %d left; want a call that is left", err, c.Left())
	}
	_, err = patience.Do(c, time.Millisecond, func() (int, error) { t.Error("a call too many was made"); return 0, nil }, nil)
	if !errors.Is(err, patience.ErrTooMany) {
		t.Errorf("got %v", err)
	}
	close(open)
	select {
	case v := <-late:
		if v != 7 {
			t.Errorf("got %d put away, want 7", v)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("what came late was not put away")
	}
	// The turn is free again.
	if _, err = patience.Do(c, 20*time.Second, func() (int, error) { return 1, nil }, nil); err != nil || c.Left() != 0 {
		t.Errorf("afterwards: got %v, %d left", err, c.Left())
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	if err := patience.Wait(t.Context(), time.Millisecond); err != nil {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := patience.Wait(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the error of the context", err)
	}
	if err := patience.Wait(ctx, 0); err != nil {
		t.Errorf("no time to wait: got %v", err)
	}
}
