//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"dsvmpools/shared/protocol"
)

// silenced is a switch that pulls after an hour, in a time of its own; it counts how
// often it has.
func silenced(t *testing.T, isIdle func() bool) (*deadMan, *atomic.Int64) {
	t.Helper()
	d := newDeadMan(Config{AloneAfter: time.Hour}, isIdle, slog.New(slog.DiscardHandler))
	var pulled atomic.Int64
	d.powerOff = func(context.Context) error {
		pulled.Add(1)
		return errors.New("it cannot")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { d.watch(ctx) })
	t.Cleanup(watching.Wait)
	t.Cleanup(cancel)
	return d, &pulled
}

// TestDeadMan: a word from the pool keeps the node, and so does work; silence does not,
// and what a machine cannot do is tried again.
func TestDeadMan(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		idle bool
		word bool
		want int64 // in the next ten hours
	}{
		{"silence", true, false, 9}, // the first hour begins a moment after the ten
		{"a word each half hour", true, true, 0},
		{"work", false, false, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d, pulled := silenced(t, func() bool { return test.idle })
				<-time.After(time.Millisecond)
				for range 20 {
					<-time.After(30*time.Minute - time.Millisecond)
					if test.word {
						d.noteWord()
					}
				}
				if got := pulled.Load(); got != test.want {
					t.Errorf("pulled %d times, want %d", got, test.want)
				}
			})
		})
	}
}

// TestDeadManAfterWork: a node whose work ends while its pool is silent is powered off
// soon after.
func TestDeadManAfterWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var idle atomic.Bool
		_, pulled := silenced(t, idle.Load)
		<-time.After(5*time.Hour + time.Minute)
		idle.Store(true)
		if pulled.Load() > 0 {
			t.Error("pulled while the node works")
		}
		<-time.After(time.Hour / 10)
		if got := pulled.Load(); got != 1 {
			t.Errorf("pulled %d times after the work, want once", got)
		}
	})
}

// TestWordIsNoted: every message of the pool is a word, and work that waits or runs is
// work.
func TestWordIsNoted(t *testing.T) {
	t.Parallel()
	a := &agent{cfg: config(t), log: slog.New(slog.DiscardHandler)}
	if err := a.resume(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.journal.close()
		a.launcher.slots.close()
	})
	a.makeParts(newBus(t))
	s, err := a.listener.bus.accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		item protocol.WorkItem
		idle bool
	}{
		{"a word", protocol.WorkItem{Here: true}, true},
		{"work", assign(1, "true"), false},
	} {
		a.deadMan.heardAt.Store(0)
		bodies, err := protocol.EncodeWork([]protocol.WorkItem{test.item})
		if err != nil {
			t.Fatal(err)
		}
		var side sync.WaitGroup
		if !a.listener.handleMessage(t.Context(), t.Context(), s, &message{body: bodies[0]}, &side) {
			t.Fatalf("%s: the message ends the session", test.name)
		}
		side.Wait()
		if a.deadMan.heardAt.Load() == 0 {
			t.Errorf("%s: the word is not noted", test.name)
		}
		if got := a.isIdle(); got != test.idle {
			t.Errorf("%s: idle: got %v, want %v", test.name, got, test.idle)
		}
	}
}

// poweredOff is an agent that would be powered off by making a file, and says whether
// it was.
func poweredOff(t *testing.T) (Config, func() bool) {
	cfg := config(t)
	file := filepath.Join(t.TempDir(), "off")
	cfg.AloneAfter, cfg.PowerOff = 50*time.Millisecond, []string{"touch", file}
	return cfg, func() bool {
		_, err := os.Stat(file)
		return err == nil
	}
}

// TestAloneIsPoweredOff: a node that hears nothing from its pool is powered off, whether
// Service Bus is there or not.
func TestAloneIsPoweredOff(t *testing.T) {
	t.Parallel()
	for _, away := range []bool{false, true} {
		cfg, isOff := poweredOff(t)
		b := newBus(t)
		b.away = away
		launched(t, cfg, b)
		eventually(t, "the node to be powered off", isOff)
	}
}

// TestGivenUpIsPoweredOff: a node that was given up is powered off as well when nobody
// deletes it.
func TestGivenUpIsPoweredOff(t *testing.T) {
	t.Parallel()
	cfg, isOff := poweredOff(t)
	b := newBus(t)
	launched(t, cfg, b)
	b.work(protocol.WorkItem{Stop: "the pool has given this node up"})
	b.settled()
	os.Remove(cfg.PowerOff[1]) // it may have been powered off before it was given up
	eventually(t, "the node to be powered off", isOff)
}

// TestPowerOffThatFails: what a machine cannot do is said, and nothing else happens.
func TestPowerOffThatFails(t *testing.T) {
	t.Parallel()
	cfg, _ := poweredOff(t)
	cfg.AloneAfter, cfg.PowerOff = time.Millisecond, []string{"sh", "-c", "echo why; exit 3"}
	if err := runCommand(t.Context(), cfg.PowerOff); err == nil || err.Error() != "exit status 3: why" {
		t.Errorf("got %v", err)
	}
	b := newBus(t)
	launched(t, cfg, b)
	b.work(assign(1, "true"))
	if f := b.finished(1); f.State != "succeeded" {
		t.Errorf("got %+v", f)
	}
}

// TestDeadManDeletes: a machine that can delete itself does; it is powered off only when
// that is refused, or has had no effect.
func TestDeadManDeletes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		answer error
		within time.Duration // after the silence
		want   string
	}{
		{"accepted", nil, time.Minute, "delete"},
		{"accepted, and the machine is still there", nil, deletedWithin + time.Minute, "delete off"},
		{"refused", errors.New("no right"), time.Minute, "delete off"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var did []string
				do := func(what string, answer error) func(context.Context) error {
					return func(context.Context) error {
						mu.Lock()
						defer mu.Unlock()
						did = append(did, what)
						return answer
					}
				}
				cfg := Config{AloneAfter: time.Hour, deleteSelf: do("delete", test.answer)}
				d := newDeadMan(cfg, func() bool { return true }, slog.New(slog.DiscardHandler))
				d.powerOff = do("off", nil)
				ctx, cancel := context.WithCancel(t.Context())
				var watching sync.WaitGroup
				watching.Go(func() { d.watch(ctx) })
				<-time.After(time.Hour + test.within)
				mu.Lock()
				got := strings.Join(did, " ")
				mu.Unlock()
				if got != test.want {
					t.Errorf("did %q, want %q", got, test.want)
				}
				cancel()
				watching.Wait()
			})
		})
	}
}

// TestDeleteSelf: the machine that is deleted is the one that the metadata endpoint names,
// and a node without an identity of its own is refused the setting.
func TestDeleteSelf(t *testing.T) {
	t.Parallel()
	const id = "/subscriptions/s/resourceGroups/nodes/providers/Microsoft.Compute/virtualMachineScaleSets/cpu/virtualMachines/7"
	deleted := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metadata/instance/compute" {
			fmt.Fprintf(w, `{"resourceId":%q}`, id)
			return
		}
		deleted <- r.Method + " " + r.URL.Path + " " + r.Header.Get("Authorization")
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(server.Close)
	cfg := config(t)
	cfg.DeleteSelf, cfg.Metadata, cfg.ResourceManager, cfg.AloneAfter = true, server.URL, server.URL, time.Hour
	if err := cfg.setDeleteSelf(); err == nil || cfg.deleteSelf != nil {
		t.Errorf("without an identity: got %v, want a refusal", err)
	}
	cfg.identity = staticToken("t")
	if err := cfg.setDeleteSelf(); err != nil {
		t.Fatal(err)
	}
	if err := newDeadMan(cfg, func() bool { return true }, slog.New(slog.DiscardHandler)).deleteSelf(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := <-deleted, "DELETE "+id+" Bearer t"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	cfg.Metadata = ""
	if err := cfg.check(); err == nil {
		t.Error("a node without a metadata endpoint may be set to delete itself; want a refusal")
	}
}

// staticToken is the token of a node's identity in tests.
type staticToken string

func (s staticToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(s), ExpiresOn: time.Now().Add(time.Hour)}, nil
}
