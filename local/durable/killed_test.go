package durable

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	kills = flag.Int("kills", 20, "how often the servers are killed")
	seed  = flag.Uint64("seed", 1, "of everything that is drawn")
)

// An epoch is what lies between two kills.
const (
	mostCalls = 120              // calls of all clients in an epoch
	patience  = 20 * time.Second // for one call: far more than it takes
	mostPause = 2000             // microseconds between the last call and the kill
)

// client does random things to the servers, one after the other, and knows what
// must be there afterwards.
type client interface {
	// audit compares what is there with what has been acknowledged, settles what
	// was left open, and returns what is wrong.
	audit(ctx context.Context, e endpoints) []string
	// work does one thing. An error means that its outcome is not known.
	work(ctx context.Context) error
	close(ctx context.Context)
}

// run kills the servers n times under work and returns what was lost. spoil may
// do harm to the store while the servers are dead.
func run(t *testing.T, n int, seed uint64, spoil func(p place, kill int)) (calls int64, lost []string) {
	rng := rand.New(rand.NewPCG(seed, 0))
	draw := func() *rand.Rand { return rand.New(rand.NewPCG(rng.Uint64(), 0)) }
	clients := []client{newTable(draw(), "a"), newTable(draw(), "b"), newQueue(draw(), queueName(0)), newQueue(draw(), queueName(1)), newSession(draw(), "s1"), newSession(draw(), "s2")}
	p := place{Dir: t.TempDir(), Bus: "127.0.0.1:0", Tables: "127.0.0.1:0"}
	var done atomic.Int64
	for kill := 0; ; kill++ {
		c := start(t, p)
		p = c.Place
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		var mu sync.Mutex
		each(clients, func(k client) {
			wrong := k.audit(ctx, c.endpoints)
			mu.Lock()
			defer mu.Unlock()
			lost = append(lost, wrong...)
		})
		if kill == n || len(lost) > 0 {
			cancel()
			each(clients, func(k client) { k.close(context.Background()) })
			c.kill()
			return done.Load(), lost
		}
		// The clients work until the kill. It comes at a number of calls and some
		// microseconds, so that it hits commits as well as pauses.
		target := done.Load() + rng.Int64N(mostCalls)
		enough := make(chan struct{})
		var once sync.Once
		pause := time.Duration(rng.IntN(mostPause)) * time.Microsecond
		go func() {
			select {
			case <-enough:
			case <-ctx.Done():
			}
			for begin := time.Now(); time.Since(begin) < pause; {
			}
			c.kill()
			cancel()
		}()
		each(clients, func(k client) {
			for ctx.Err() == nil {
				if k.work(ctx) != nil {
					break
				}
				if done.Add(1) >= target {
					once.Do(func() { close(enough) })
				}
			}
			if ctx.Err() == nil {
				once.Do(func() { close(enough) }) // a call failed before the kill
				<-ctx.Done()
			}
			k.close(ctx)
		})
		c.cmd.Wait() // the killer may still be at it
		if spoil != nil {
			spoil(p, kill)
		}
	}
}

func each(clients []client, do func(client)) {
	var wg sync.WaitGroup
	for _, k := range clients {
		wg.Go(func() { do(k) })
	}
	wg.Wait()
}

// Whatever was acknowledged is there after a kill at any instant, and nothing is
// there by half. `go test ./local/durable -run TestKilled -kills 2000 -timeout 1h`
// is the long form.
func TestKilled(t *testing.T) {
	begin := time.Now()
	calls, lost := run(t, *kills, *seed, nil)
	for _, l := range lost {
		t.Error(l)
	}
	if calls < int64(*kills) {
		t.Errorf("only %d calls were acknowledged in %d epochs; the test shows little", calls, *kills)
	}
	t.Logf("%d kills, %d acknowledged calls, %d losses, %s", *kills, calls, len(lost), time.Since(begin).Round(time.Second))
}

// The test notices when the servers lose what they have acknowledged: here, the
// store goes back to what it was an epoch before.
func TestKilledBites(t *testing.T) {
	for _, file := range []string{"servicebus.db", "tables.db"} {
		t.Run(file, func(t *testing.T) {
			var before []byte
			_, lost := run(t, 10, *seed, func(p place, kill int) {
				path := filepath.Join(p.Dir, file)
				now, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if kill == 4 {
					if err := os.WriteFile(path, before, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				before = now
			})
			if len(lost) == 0 {
				t.Fatal("the loss of an epoch was not noticed")
			}
			t.Log(strings.Join(lost, "\n"))
		})
	}
}
