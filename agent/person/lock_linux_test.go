package person

import (
	"sync"
	"testing"
)

// Whoever asks whether a session has a keeper does not keep one from coming up.
func TestLockWhileAsked(t *testing.T) {
	t.Parallel()
	run := t.TempDir()
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				Lives(run)
			}
		}
	})
	defer asking.Wait()
	defer close(stop)
	for range 200 {
		f, err := takeLock(run)
		if err != nil || f == nil {
			t.Fatalf("got %v, %v; want the lock", f, err)
		}
		f.Close()
	}
}

func TestLockIsTaken(t *testing.T) {
	t.Parallel()
	run := t.TempDir()
	f, err := takeLock(run)
	if err != nil || f == nil {
		t.Fatalf("got %v, %v; want the lock", f, err)
	}
	defer f.Close()
	if other, err := takeLock(run); err != nil || other != nil {
		t.Errorf("got %v, %v; want nobody to have it twice", other, err)
	}
	if !Lives(run) {
		t.Error("the session has a keeper, and Lives says no")
	}
}
