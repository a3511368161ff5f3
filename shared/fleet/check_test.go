//go:build unix

package fleet_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dsvmpools/local/chaos"
	"dsvmpools/local/compute"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/fleet"
)

// sets are the names of the scale sets that a resource manager was asked to make, and to
// delete.
type sets struct {
	sync.Mutex
	made, deleted []string
	capacities    []int
}

// watched is a resource manager whose calls for sets are noted.
func watched(t *testing.T, rules ...chaos.Injection) (*sets, *fleet.Client) {
	t.Helper()
	seen := &sets{}
	failures := chaos.New(1)
	for _, r := range rules {
		if _, err := failures.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	s := azure(t, func(cfg *compute.Config) {
		cfg.Chaos = failures
		cfg.OnCapacity = func(_ string, capacity int, _ time.Time) {
			seen.Lock()
			defer seen.Unlock()
			seen.capacities = append(seen.capacities, capacity)
		}
	})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Lock()
		name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		switch r.Method {
		case http.MethodPut:
			seen.made = append(seen.made, name)
		case http.MethodDelete:
			seen.deleted = append(seen.deleted, name)
		}
		seen.Unlock()
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return seen, client(t, front.URL)
}

// A check makes one set without instances and deletes it, whatever comes of it.
func TestCheck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rules []chaos.Injection
		want  fault.Code
		says  string
	}{
		"good":                     {},
		"refused":                  {[]chaos.Injection{{Do: chaos.Refuse, Target: "compute/put", Code: "InvalidParameter"}}, fault.Invalid, "InvalidParameter"},
		"instances cannot be read": {[]chaos.Injection{{Do: chaos.Refuse, Target: "compute/list", Code: "AuthorizationFailed"}}, fault.Invalid, "AuthorizationFailed"},
		"set cannot be deleted":    {[]chaos.Injection{{Do: chaos.Refuse, Target: "compute/delete", Code: "ScopeLocked"}}, fault.Invalid, "ScopeLocked"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen, client := watched(t, c.rules...)
			err := client.Check(t.Context(), model)
			if fault.CodeOf(err) != c.want || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q about %q", err, c.want, c.says)
			}
			seen.Lock()
			defer seen.Unlock()
			if len(seen.made) != 1 || !strings.HasPrefix(seen.made[0], "dsvm-check-") || len(seen.deleted) == 0 || seen.deleted[0] != seen.made[0] {
				t.Errorf("made %v and deleted %v, want one set that is deleted again", seen.made, seen.deleted)
			}
			for _, n := range seen.capacities {
				if n != 0 {
					t.Errorf("%d instances were asked for", n)
				}
			}
		})
	}
}

// slow is a resource manager that makes sets by operations, whose answers it gives one
// after the other; the last one stays. It counts deletions.
func slow(t *testing.T, answers ...string) (*fleet.Client, *atomic.Int32) {
	t.Helper()
	var polls, deletions atomic.Int32
	server := httptest.NewServer(nil)
	t.Cleanup(server.Close)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == http.MethodPut:
			w.Header().Set("Azure-AsyncOperation", server.URL+"/operation")
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write([]byte(`{"properties":{"provisioningState":"Creating"}}`))
		case r.Method == http.MethodDelete:
			deletions.Add(1)
			w.WriteHeader(http.StatusNoContent)
		case r.URL.Path == "/operation":
			w.Header().Set("Retry-After", "0")
			_, _ = w.Write([]byte(answers[min(int(polls.Add(1)), len(answers))-1]))
		default:
			_, _ = w.Write([]byte(`{"value":[]}`))
		}
	})
	return client(t, server.URL), &deletions
}

// Azure accepts a set first and judges its subnet and image later.
func TestCheckAwaitsTheOperation(t *testing.T) {
	t.Parallel()
	const running = `{"status":"InProgress"}`
	c, deletions := slow(t, running, running, `{"status":"Failed","error":{"code":"ImageNotFound","message":"no image"}}`)
	if err := c.Check(t.Context(), model); fault.CodeOf(err) != fault.Invalid || deletions.Load() != 1 {
		t.Errorf("got %v and %d deletions, want that there is no image, and one", err, deletions.Load())
	}
	c, deletions = slow(t, running, `{"status":"Succeeded"}`)
	if err := c.Check(t.Context(), model); err != nil || deletions.Load() != 1 {
		t.Errorf("got %v and %d deletions, want none and one", err, deletions.Load())
	}
	// A check whose time is over still deletes what it made.
	c, deletions = slow(t, running)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := c.Check(ctx, model); fault.CodeOf(err) != fault.Throttled || deletions.Load() != 1 {
		t.Errorf("got %v and %d deletions, want that the time is over, and one", err, deletions.Load())
	}
}

// The quota is told in a sentence, and one that has no room refuses before Azure does.
func TestQuotasAndRoom(t *testing.T) {
	t.Parallel()
	m := model
	m.CPUs = 2
	s := azure(t, func(cfg *compute.Config) {
		cfg.Quota, cfg.CPUs = map[string]int{"cores": 1}, func(string) int { return 2 }
	})
	c := client(t, s.URL())
	sentences, err := c.Quotas(t.Context(), m)
	if err != nil || len(sentences) == 0 || !strings.Contains(sentences[0], "0 of 1 cores in use") {
		t.Errorf("got %q (%v), want a core of one", sentences, err)
	}
	if err := c.Room(t.Context(), m); fault.CodeOf(err) != fault.NoQuota {
		t.Errorf("got %v, want that there is no room", err)
	}
	refused := broken(t, chaos.Injection{Do: chaos.Refuse, Target: "compute/usages", Code: "AuthorizationFailed"})
	if _, err := client(t, refused.URL()).Quotas(t.Context(), m); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("got %v, want that the right is missing", err)
	}
}

// writeOutput has the first instance of a set and what it has written so far.
func writeOutput(t *testing.T, text string) (c *fleet.Client, set, instance string) {
	t.Helper()
	logs := t.TempDir()
	s := azure(t, func(cfg *compute.Config) { cfg.LogDir = logs })
	c = client(t, s.URL())
	op, err := c.Grow(t.Context(), "dsvm-cpu-d2s", model, 1)
	if err := finish(t, c, op, err); err != nil {
		t.Fatal(err)
	}
	list, err := c.List(t.Context(), "dsvm-cpu-d2s")
	if err != nil || len(list.Instances) != 1 {
		t.Fatalf("%d instances (%v), want 1", len(list.Instances), err)
	}
	one := list.Instances[0]
	if err := os.WriteFile(filepath.Join(logs, one.Name+".log"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return c, "dsvm-cpu-d2s", one.ID
}

// The end of a long console is returned, and no more than that.
func TestConsole(t *testing.T) {
	t.Parallel()
	c, set, instance := writeOutput(t, strings.Repeat("x", fleet.MaxConsole)+"[  OK  ] Started dsvm-agent.\n")
	log, err := c.Console(t.Context(), set, instance)
	if err != nil || len(log) != fleet.MaxConsole || !strings.HasSuffix(string(log), "Started dsvm-agent.\n") {
		t.Errorf("got %d bytes (%v), want the last %d", len(log), err, fleet.MaxConsole)
	}
	if _, err := c.Console(t.Context(), set, "99"); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("an instance that is not there: got %v, want notFound", err)
	}
}

// The address of a console is followed to Azure's storage, or to the same server on this
// machine, and nowhere else. No error shows it.
func TestConsoleGoesNowhereElse(t *testing.T) {
	t.Parallel()
	asked := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer elsewhere.Close()
	for _, address := range []string{
		elsewhere.URL + "/log?sig=secret", "http://169.254.169.254/log?sig=secret", "file:///etc/passwd?sig=secret",
		"https://evil.example/.blob.core.windows.net?sig=secret", "https://x.blob.core.windows.net@evil.example/?sig=secret", "::sig=secret",
	} {
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"serialConsoleLogBlobUri":"` + address + `"}`))
		}))
		_, err := client(t, front.URL).Console(t.Context(), "set", "0")
		front.Close()
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want an error that does not show the address", address, err)
		}
	}
	if asked {
		t.Error("an address elsewhere was asked")
	}
}
