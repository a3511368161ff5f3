package queue

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"dsvmpools/local/disk"
)

type bboltTx = disk.Tx

func TestSessionIsHeldByOne(t *testing.T) {
	t.Parallel()
	c := newClock()
	q := fresh(t, c, Options{Sessions: true})
	if _, err := q.Send(say("x")); err != ErrSessionNeeded {
		t.Errorf("without a session: got %v, want %v", err, ErrSessionNeeded)
	}
	if _, err := q.Receiver(false); err != ErrSessionNeeded {
		t.Errorf("a plain receiver: got %v, want %v", err, ErrSessionNeeded)
	}
	send(t, q, in("a", "1"), in("a", "2"), in("a", "3"))
	first, _ := q.Accept("a", false)
	if _, err := q.Accept("a", false); err != ErrSessionHeld {
		t.Errorf("accepted twice: got %v, want %v", err, ErrSessionHeld)
	}
	if _, err := q.AcceptNext(false, time.Millisecond, nil); err != ErrTimeout {
		t.Errorf("next, with none free: got %v, want %v", err, ErrTimeout)
	}
	m := take(t, first, 2, "1", "2")
	c.advance(lockTime / 2)
	if _, err := first.RenewSession(); err != nil {
		t.Error(err)
	}
	c.advance(lockTime/2 + 1)
	q.runTimer()
	settled(t, q, settle(m[0].Token, Complete)) // the renewal covers what was taken before it
	c.advance(lockTime)
	if second, err := q.Accept("a", false); err != nil {
		t.Error(err)
	} else if got := take(t, second, 10, "2", "3"); got[0].DeliveryCount != 1 || got[1].DeliveryCount != 0 {
		t.Errorf("counts: got %d and %d, want 1 and 0", got[0].DeliveryCount, got[1].DeliveryCount)
	} else {
		second.Close()
	}
	if _, err := first.Take(1); err != ErrLockLost {
		t.Errorf("the first receiver: got %v, want %v", err, ErrLockLost)
	}
	if err := q.Settle([]Settlement{settle(m[1].Token, Complete)})[0]; err != ErrLockLost {
		t.Errorf("its lock: got %v, want %v", err, ErrLockLost)
	}
	if err := first.SetState([]byte("x")); err != ErrLockLost {
		t.Errorf("its state: got %v, want %v", err, ErrLockLost)
	}
	third, _ := q.Accept("a", false)
	if got := take(t, third, 10, "2", "3"); got[0].DeliveryCount != 1 {
		t.Errorf("count after the session was given back: got %d, want 1 still", got[0].DeliveryCount)
	}
}

func TestNextSessionIsWaitedFor(t *testing.T) {
	t.Parallel()
	q := fresh(t, nil, Options{Sessions: true})
	got := make(chan string)
	for range 2 {
		go func() {
			r, err := q.AcceptNext(false, 10*time.Second, nil)
			if err != nil {
				got <- err.Error()
				return
			}
			got <- r.Session()
		}()
	}
	cancel := make(chan struct{})
	gone := make(chan error)
	go func() {
		_, err := q.AcceptNext(false, time.Minute, cancel)
		gone <- err
	}()
	close(cancel)
	if err := <-gone; err != ErrCancelled {
		t.Errorf("cancelled: got %v, want %v", err, ErrCancelled)
	}
	send(t, q, in("x", "1"), in("x", "2"), in("y", "1"))
	if a, b := <-got, <-got; a+b != "xy" && a+b != "yx" {
		t.Errorf("got %q and %q, want x and y", a, b)
	}
}

// The holder of a session sees its messages in order, whatever became of the
// holders before.
func TestSessionsStayInOrder(t *testing.T) {
	t.Parallel()
	q := fresh(t, nil, Options{Sessions: true, MaxDeliveryCount: 1000, LockDuration: 40 * time.Millisecond})
	const sessions, each = 5, 40
	var mu sync.Mutex
	next := map[string]int{}
	left := sessions * each
	done := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(w)))
			for {
				r, err := q.AcceptNext(false, 10*time.Second, done)
				if err == ErrCancelled {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				ms, err := r.Take(1 + rnd.IntN(5))
				for i, m := range ms {
					var n int
					fmt.Sscan(string(m.Raw), &n)
					mu.Lock()
					if want := next[r.Session()] + i; n != want && r.Holds(r.Session()) { // else the next holder has gone on already
						t.Errorf("session %s: got %d, want %d", r.Session(), n, want)
					}
					mu.Unlock()
				}
				switch rnd.IntN(4) {
				case 0: // the lock runs out
					if err == nil {
						<-r.C
					}
				case 1: // given back unsettled
				default:
					for _, m := range ms {
						mu.Lock()
						if q.Settle([]Settlement{settle(m.Token, Complete)})[0] != nil {
							mu.Unlock()
							break
						}
						next[r.Session()]++
						if left--; left == 0 {
							close(done)
						}
						mu.Unlock()
					}
				}
				r.Close()
			}
		})
	}
	for i := range each {
		for s := range sessions {
			send(t, q, in(fmt.Sprint("s", s), fmt.Sprint(i)))
		}
	}
	wg.Wait()
	if left != 0 {
		t.Errorf("%d messages were not completed", left)
	}
}
