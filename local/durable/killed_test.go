// Package durable tests that the local servers lose nothing that they have acknowledged,
// whenever they are killed. It runs them in another process, uses them as clients do, and
// kills the process again and again. After each restart it compares the content with the
// acknowledged operations.
//
// It does not test a loss of power: the system keeps everything that a killed process
// wrote.
package durable

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	kills = flag.Int("kills", 20, "how often TestKilled kills the servers")
	seed  = flag.Uint64("seed", 1, "what the clients do, and when the servers are killed")
)

func TestMain(m *testing.M) {
	text := os.Getenv(childEnv)
	if text == "" {
		os.Exit(m.Run())
	}
	var o order
	err := json.Unmarshal([]byte(text), &o)
	if err == nil {
		err = serve(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Bounds of one life of the servers.
const (
	maxOperations = 150                  // acknowledged in one life, roughly
	maxAfter      = 3 * time.Millisecond // from the last of them to the kill
	maxUntilCheck = 30 * time.Millisecond
	maxUntilReady = 30 * time.Millisecond
	readTime      = 20 * time.Millisecond // after the kill, to read the last acknowledgements
	lifeTime      = time.Minute           // of one life; it ends an operation that hangs
)

// client performs operations on the servers, and knows what they must contain.
type client interface {
	// check connects, and compares the content with the acknowledged operations.
	check(l *life) error
	// step performs one random operation.
	step(l *life) error
	close()
}

// trial is a sequence of lives on one folder.
type trial struct {
	order   order
	rng     *rand.Rand
	clients []client

	kills, early           int
	slowest                time.Duration
	acknowledged, compared atomic.Int64

	mu    sync.Mutex
	lost  []string // acknowledged and absent, or present and must not be
	wrong []string // errors of operations while no server was killed
}

// life is the time from a start of the servers to a kill.
type life struct {
	*trial
	child  *child
	ctx    context.Context
	killed atomic.Bool
	acked  chan struct{} // gets one for each operation, until it is full
}

// reportLoss records a difference to the acknowledged operations.
func (r *trial) reportLoss(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = append(r.lost, fmt.Sprintf(format, args...))
}

// acknowledge counts an operation.
func (l *life) acknowledge() {
	l.acknowledged.Add(1)
	select {
	case l.acked <- struct{}{}:
	default:
	}
}

func newTrial(t *testing.T, seed uint64, mutation string) *trial {
	r := &trial{order: order{Folder: t.TempDir(), Mutation: mutation}, rng: rand.New(rand.NewPCG(seed, 0))}
	const each = 3
	for i := range each {
		rng := func(kind uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(i+1)<<8|kind)) }
		plain, sessions := fmt.Sprintf("plain%d", i), fmt.Sprintf("work%d", i)
		r.order.Plain = append(r.order.Plain, plain)
		r.order.Sessions = append(r.order.Sessions, sessions)
		r.clients = append(r.clients, newQueue(plain, rng(1)), newQueue(sessions, rng(2), "a", "b"),
			newTable(fmt.Sprintf("rows%d", i), rng(3)))
	}
	return r
}

// runLife runs one life. The last one is killed only after the check.
func (r *trial) runLife(last bool) error {
	const oneIn = 10
	r.order.Often = r.rng.IntN(2) == 0
	if !last && r.rng.IntN(oneIn) == 0 {
		if _, err := launch(r.order, time.Duration(1+r.rng.Int64N(int64(maxUntilReady)))); err != nil {
			return err
		}
		r.kills, r.early = r.kills+1, r.early+1
	}
	c, err := launch(r.order, 0)
	if err != nil {
		return err
	}
	r.slowest = max(r.slowest, c.started)
	ctx, cancel := context.WithTimeout(context.Background(), lifeTime)
	defer cancel()
	wanted := 1 + r.rng.IntN(maxOperations)
	l := &life{trial: r, child: c, ctx: ctx, acked: make(chan struct{}, wanted)}
	checked, ended := make(chan struct{}), make(chan struct{})
	var checking sync.WaitGroup
	checking.Add(len(r.clients))
	go func() { checking.Wait(); close(checked) }()
	go func() {
		runAll(len(r.clients), func(i int) { l.runClient(r.clients[i], last, checking.Done) })
		close(ended)
	}()
	switch {
	case last:
		<-ended
	case r.rng.IntN(oneIn) == 0: // kill while the clients connect and check
		wait(checked, time.Duration(r.rng.Int64N(int64(maxUntilCheck))))
	default:
		<-checked
		for range wanted {
			select {
			case <-l.acked:
				continue
			case <-ended:
			}
			break
		}
		wait(ended, time.Duration(r.rng.Int64N(int64(maxAfter))))
	}
	l.killed.Store(true)
	c.kill()
	r.kills++
	wait(ended, readTime)
	cancel()
	<-ended
	return nil
}

// runClient lets a client perform operations until the life ends.
func (l *life) runClient(c client, last bool, checked func()) {
	defer c.close()
	err := c.check(l)
	checked()
	for err == nil && !last && l.ctx.Err() == nil {
		err = c.step(l)
	}
	if err != nil && !l.killed.Load() {
		l.mu.Lock()
		l.wrong = append(l.wrong, err.Error())
		l.mu.Unlock()
	}
}

// wait waits for c, but not longer than d.
func wait(c <-chan struct{}, d time.Duration) {
	select {
	case <-c:
	case <-time.After(d):
	}
}

func (r *trial) String() string {
	return fmt.Sprintf(
		"%d kills, %d of them during the start; %d operations acknowledged; %d times compared what is there; %d lost; slowest start %v",
		r.kills, r.early, r.acknowledged.Load(), r.compared.Load(), len(r.lost), r.slowest.Round(time.Millisecond))
}

// TestKilled: killed servers have everything that they acknowledged. A long run:
// go test ./local/durable -run 'TestKilled$' -v -timeout 1h -args -kills 2000 -seed 1
func TestKilled(t *testing.T) {
	t.Parallel()
	r := newTrial(t, *seed, "")
	const report = 100
	for next := report; r.kills < *kills; {
		if err := r.runLife(false); err != nil {
			t.Fatal(err)
		}
		if r.kills >= next {
			next += report
			t.Log(r)
		}
		if len(r.lost)+len(r.wrong) > 0 {
			break
		}
	}
	if err := r.runLife(true); err != nil {
		t.Fatal(err)
	}
	for _, text := range append(r.lost, r.wrong...) {
		t.Error(text)
	}
	if r.acknowledged.Load() == 0 {
		t.Error("nothing was acknowledged")
	}
	t.Log(r)
}

// TestKilledFindsLosses: the test finds a loss of each kind in servers that lose changes,
// in each of these ways.
func TestKilledFindsLosses(t *testing.T) {
	t.Parallel()
	for mutation := range mutations {
		t.Run(mutation, func(t *testing.T) {
			t.Parallel()
			if mutation == "acknowledge first" && os.Getenv("DSVM_LONG") == "" {
				t.Skip("takes some 200 kills; DSVM_LONG=1 runs it")
			}
			findLosses(t, mutation)
		})
	}
}

func findLosses(t *testing.T, mutation string) {
	r := newTrial(t, *seed, mutation)
	first := map[string]string{} // the first loss, by kind
	kinds := []string{"plain", "work", "rows"}
	const enough = 200
	for r.kills < enough && len(first) < len(kinds) {
		err := r.runLife(false)
		if errors.Is(err, errNoStart) && strings.Contains(err.Error(), "of its log is damaged or missing") {
			t.Logf("%v: %v", r, err) // the store has noticed it itself
			return
		} else if err != nil {
			t.Fatal(err)
		}
		for _, kind := range kinds {
			i := slices.IndexFunc(r.lost, func(text string) bool { return strings.HasPrefix(text, kind) })
			if i >= 0 && first[kind] == "" {
				first[kind] = r.lost[i]
			}
		}
	}
	for _, kind := range kinds {
		if first[kind] == "" {
			t.Errorf("of %s, nothing was found missing: %v", kind, r)
		}
	}
	t.Logf("%v: %q", r, first)
}
