//go:build unix

package functions

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/chaos"
)

// rules returns a set with these injections.
func rules(t *testing.T, all ...chaos.Injection) *chaos.Set {
	t.Helper()
	s := chaos.New(1)
	for _, r := range all {
		if _, err := s.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// Each injection fails an invocation in its own way, kills no handler, and ends with its
// rule.
func TestFaultsOfInvocations(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		rule  chaos.Injection
		want  error // nil = it succeeds
		heard bool  // the function ran
	}{
		{"refuse", chaos.Injection{Do: chaos.Refuse}, errRefused, false},
		{"disconnect", chaos.Injection{Do: chaos.Disconnect}, errCut, false},
		{"lose", chaos.Injection{Do: chaos.Lose}, errLost, true},
		{"delay", chaos.Injection{Do: chaos.Delay, Delay: 50 * time.Millisecond}, nil, true},
		{"another function's", chaos.Injection{Do: chaos.Refuse, Target: "functions/invoke/Other"}, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.rule.Count = 1; tt.rule.Target == "" {
				tt.rule.Target = "functions/invoke/Sweep"
			}
			c := newControl(t)
			h, _ := start(t, script(hostJSON, sweepOnly), roleApp, c, func(cfg *Config) { cfg.Chaos = rules(t, tt.rule) })
			ready(t, h)
			pid, f, began := h.HandlerPID(), h.functions[0], time.Now()
			call := func() error {
				inv := h.invocation(f)
				_, err := h.call(t.Context(), f, inv, []byte(`{"Data":{"timer":{"IsPastDue":false}},"Metadata":{}}`))
				return err
			}
			if err := call(); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if took := time.Since(began); took < tt.rule.Delay {
				t.Errorf("it took %s, want at least %s", took, tt.rule.Delay)
			}
			if heard := len(c.heard) == 1; heard != tt.heard {
				t.Errorf("the function ran: %v, want %v", heard, tt.heard)
			}
			if err := call(); err != nil {
				t.Errorf("after the rule: %v", err)
			}
			if h.HandlerPID() != pid {
				t.Error("the handler was started anew")
			}
		})
	}
}

// Injections act on requests that are passed on too. A request with a body is not sent
// again. One without a body is, and its client sees no failure.
func TestFaultsOfForwardedRequests(t *testing.T) {
	t.Parallel()
	set := rules(t, chaos.Injection{Do: chaos.Refuse, Target: "functions/invoke/Web", Count: 1},
		chaos.Injection{Do: chaos.Disconnect, Target: "functions/invoke/Web", Count: 1},
		chaos.Injection{Do: chaos.Lose, Target: "functions/invoke/Web", Count: 1})
	h, _ := start(t, script(hostJSON, map[string]string{"Web": httpAny}), roleApp, newControl(t), func(cfg *Config) { cfg.Chaos = set })
	ready(t, h)
	for _, want := range []int{http.StatusInternalServerError, http.StatusInternalServerError, http.StatusInternalServerError, http.StatusTeapot} {
		if got, body := request(t, http.MethodPost, "http://"+h.Addr()+"/api/x", "fn-key", "body"); got.StatusCode != want ||
			want == 500 && body != "" {
			t.Errorf("got status %d and %q, want %d", got.StatusCode, body, want)
		}
	}
	for _, r := range []chaos.Injection{{Do: chaos.Disconnect, Target: "functions/invoke/Web", Count: 3}, {Do: chaos.Lose, Target: "functions/invoke/Web", Count: 3}} {
		if _, err := set.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := request(t, http.MethodDelete, "http://"+h.Addr()+"/api/x", "fn-key", ""); got.StatusCode != http.StatusTeapot {
		t.Errorf("without a body: got status %d", got.StatusCode)
	}
}

// A refused start counts as an error of the handler; a delayed one does not.
func TestFaultsOfStarts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		rule    chaos.Injection
		wantErr string
	}{
		{"refused twice", chaos.Injection{Do: chaos.Refuse, Count: 2}, ""},
		{"refused for good", chaos.Injection{Do: chaos.Refuse}, "a fault refuses it"},
		{"delayed", chaos.Injection{Do: chaos.Delay, Delay: 20 * time.Millisecond, Count: 1}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.rule.Target = "functions/start/handler"
			c := newControl(t)
			h, _ := start(t, script(hostJSON, sweepOnly), roleApp, c,
				func(cfg *Config) { cfg.Chaos, cfg.RestartPause = rules(t, tt.rule), -1 })
			err := h.Ready(t.Context())
			if tt.wantErr == "" {
				if err != nil || c.started() != 1 {
					t.Errorf("got %v after %d starts", err, c.started())
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("got %v, want %q", err, tt.wantErr)
			}
		})
	}
}
