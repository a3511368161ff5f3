//go:build unix

package fleet_test

import (
	"strings"
	"testing"
	"time"

	"dsvmpools/local/chaos"
	"dsvmpools/local/compute"
	"dsvmpools/shared/fault"
)

func TestOperationIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	s := azure(t, func(cfg *compute.Config) { cfg.BootDelay = time.Hour })
	c := client(t, s.URL())
	created, err := c.Grow(t.Context(), "set", model, 1)
	must(t, err)
	raised, err := c.Grow(t.Context(), "set", model, 2)
	must(t, err)
	// The other's endpoint is written differently, and means the same.
	other := client(t, strings.Replace(s.URL(), "127.0.0.1", "localhost", 1))
	if done, _, err := other.Poll(t.Context(), created.Token); !done || fault.CodeOf(err) != fault.Preempted {
		t.Errorf("create, which the other took the place of: got done %v, %v, want a preempted one", done, err)
	}
	if done, after, err := other.Poll(t.Context(), raised.Token); done || err != nil || after != time.Millisecond {
		t.Errorf("raise: got done %v after %s, %v", done, after, err)
	}
	removed, err := c.Remove(t.Context(), "set", []string{"0", "1"})
	must(t, finish(t, other, removed, err))
	dropped, err := c.Drop(t.Context(), "set")
	must(t, finish(t, other, dropped, err))
	if err := finish(t, other, raised, nil); err != nil {
		t.Errorf("raise of a set that is gone since: got %v", err)
	}
}

func TestOperationsThatAreNotKnown(t *testing.T) {
	t.Parallel()
	c := client(t, azure(t, nil).URL())
	op, err := client(t, azure(t, nil).URL()).Grow(t.Context(), "set", model, 1)
	must(t, err)
	for name, token := range map[string]string{"nothing": "", "no token": "%%%", "no JSON": "AAAA", "of another server": op.Token,
		"of no kind": "eyJraW5kIjoieCIsInNldCI6InMiLCJyZXN1bWUiOiJ7fSJ9", "too long": strings.Repeat("AAAA", 10000)} {
		if done, _, err := c.Poll(t.Context(), token); !done || fault.CodeOf(err) != fault.Gone {
			t.Errorf("%s: got done %v, %v, want gone", name, done, err)
		}
	}
}

// An outage while an operation is asked for is not the operation's failure.
func TestPollOutlivesOutages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		with  chaos.Injection
		done  bool
		want  fault.Code
		after time.Duration
	}{
		{"throttled", chaos.Injection{Do: chaos.Throttle, RetryAfter: 3 * time.Second}, false, "", 3 * time.Second},
		{"unavailable", chaos.Injection{Do: chaos.Refuse, Code: "ServiceUnavailable"}, false, "", 10 * time.Second},
		{"no connection", chaos.Injection{Do: chaos.Disconnect}, false, "", 10 * time.Second},
		{"forgotten", chaos.Injection{Do: chaos.Refuse, Code: "NotFound"}, true, fault.Gone, 0},
		{"forbidden", chaos.Injection{Do: chaos.Refuse, Code: "AuthorizationFailed"}, true, fault.Invalid, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.with.Target = "compute/operation/set"
			cl := client(t, broken(t, c.with).URL())
			op, err := cl.Grow(t.Context(), "set", model, 1)
			must(t, err)
			done, after, err := cl.Poll(t.Context(), op.Token)
			if done != c.done || fault.CodeOf(err) != c.want || after != c.after {
				t.Errorf("got done %v after %s, %v, want done %v after %s with %q", done, after, err, c.done, c.after, c.want)
			}
		})
	}
}
