//go:build unix

package functions

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var sweep = map[string]string{"Sweep": timerYearly}

// outcome is the state of a host after the exits of its handler.
type outcome int

const (
	serves outcome = iota
	stops
	stays // does not start the handler again
)

// TestReadySaysWhyNot: who waits for the first start hears at once of a handler that fails again
// and again, and not only when the time is up.
func TestReadySaysWhyNot(t *testing.T) {
	t.Parallel()
	h, _ := start(t, script(hostJSON, sweep), roleApp, newControl(t, 1, 1, 1), func(cfg *Config) { cfg.RestartPause = time.Hour })
	ctx, cancel := context.WithTimeout(t.Context(), testTime)
	defer cancel()
	if err := h.Ready(ctx); err == nil || !strings.Contains(err.Error(), "exit code 1") || ctx.Err() != nil {
		t.Errorf("got %v", err)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		exits  []int
		change func(*Config)
		want   outcome
		starts int
	}{
		{"serves", nil, nil, serves, 1},
		{"200 is not counted", []int{200, 200, 200, 200}, nil, serves, 5},
		{"two errors", []int{1, 2}, nil, serves, 3},
		{"three errors", []int{1, 2, 3}, nil, stops, 3},
		{"200 does not make up for errors", []int{1, 200, 1, 200, 1}, nil, stops, 5},
		{"another limit", []int{1, 1}, func(c *Config) { c.MaxErrors = 2 }, stops, 2},
		{"errors far apart", []int{1, 1, 1, 1}, func(c *Config) { c.ErrorWindow = time.Nanosecond }, serves, 5},
		{"a pause instead", []int{1, 1, 1, 1}, func(c *Config) { c.RestartPause = time.Millisecond }, serves, 5},
		{"0", []int{0}, nil, stays, 1},
		{"0 after an error", []int{1, 0}, nil, stays, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newControl(t, tt.exits...)
			h, _ := start(t, script(hostJSON, sweep), roleApp, c, func(cfg *Config) {
				cfg.RestartPause = -1
				if tt.change != nil {
					tt.change(cfg)
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), testTime)
			defer cancel()
			_, err := h.worker.await(ctx, true)
			if ctx.Err() != nil {
				t.Fatal("it neither serves nor fails")
			}
			got := serves
			switch {
			case errors.Is(err, errExited):
				got = stays
			case err != nil:
				got = stops
			}
			if got != tt.want {
				t.Fatalf("got outcome %d (%v), want %d", got, err, tt.want)
			}
			if n := c.started(); n != tt.starts {
				t.Errorf("the handler was started %d times, want %d", n, tt.starts)
			}
			if tt.want == stops {
				select {
				case err := <-h.Done():
					if err == nil || !strings.Contains(err.Error(), "told to exit") {
						t.Errorf("the host's end: got %v, want the handler's last words", err)
					}
				case <-ctx.Done():
					t.Fatal("the host gave up without saying so")
				}
			}
			if tt.want == stays {
				f := h.functions[0]
				inv := h.invocation(f)
				if _, err := h.call(ctx, f, inv, nil); !errors.Is(err, errExited) {
					t.Errorf("an invocation: got %v, want %v", err, errExited)
				}
			}
		})
	}
}

func TestHandlerThatCannotStart(t *testing.T) {
	t.Parallel()
	h, _ := start(t, script(hostJSON, sweep), roleApp, newControl(t), func(cfg *Config) {
		cfg.Handler, cfg.RestartPause = []string{"/nonexistent/handler"}, -1
	})
	if err := <-h.Done(); err == nil || !strings.Contains(err.Error(), "cannot be started") {
		t.Errorf("got %v, want that it cannot be started", err)
	}
}

func TestHandlerThatDoesNotListen(t *testing.T) {
	t.Parallel()
	host := strings.Replace(hostJSON, `"description"`, `"initializationTimeout":"00:00:00.1","description"`, 1)
	h, _ := start(t, script(host, sweep), roleDeaf, newControl(t), func(cfg *Config) { cfg.RestartPause, cfg.MaxErrors = -1, 2 })
	if err := <-h.Done(); err == nil || !strings.Contains(err.Error(), "did not answer GET /") {
		t.Errorf("got %v, want that it did not answer", err)
	}
}

// A handler that is killed is started again.
func TestKilledHandler(t *testing.T) {
	t.Parallel()
	h, _ := start(t, script(hostJSON, sweep), roleApp, newControl(t), nil)
	ready(t, h)
	first := h.HandlerPID()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another handler", func() bool { pid := h.HandlerPID(); return pid != 0 && pid != first })
	ready(t, h)
}

// At its end the host lets the handler finish, and kills it after a time.
func TestClose(t *testing.T) {
	t.Parallel()
	t.Run("finishes", func(t *testing.T) {
		t.Parallel()
		c := newControl(t)
		h, log := start(t, script(hostJSON, sweep), roleApp, c, func(cfg *Config) { cfg.TermGrace = testTime })
		ready(t, h)
		pid := h.HandlerPID()
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		if e := c.next(t); e.name != "stopped" {
			t.Errorf("got %q, want the handler's own end", e.name)
		}
		if alive(pid) {
			t.Error("the handler is still there")
		}
		if err, open := <-h.Done(); err != nil || !open {
			t.Errorf("the host's end: got %v, %v", err, open)
		}
		if !strings.Contains(log.String(), "the handler is up\n") || !strings.Contains(log.String(), "and says half a line\n") {
			t.Errorf("what the handler printed is missing: %q", log)
		}
	})
	t.Run("is killed", func(t *testing.T) {
		t.Parallel()
		c := newControl(t)
		h, _ := start(t, script(hostJSON, sweep), roleApp, c, func(cfg *Config) { cfg.TermGrace = -1 })
		ready(t, h)
		pid := h.HandlerPID()
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		if alive(pid) || len(c.heard) > 0 {
			t.Errorf("alive %v, heard %d", alive(pid), len(c.heard))
		}
	})
}

// A host that is killed leaves its handler alone, as in the cloud (row 5), and the
// handler ends by itself.
func TestHandlerDiesWithHost(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	host := exec.Command(os.Args[0])
	host.Env = append(os.Environ(), roleSetting+"="+roleHost, controlSetting+"="+c.URL)
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, convErr := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || convErr != nil {
		t.Fatalf("the host said %q: %v, %v", line, err, convErr)
	}
	if !alive(pid) {
		t.Fatal("there is no handler")
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait()
	eventually(t, "the handler's end", func() bool { return !alive(pid) || zombie(pid) })
}

// zombie reports whether a process has ended, but its (new) parent has not collected it yet.
func zombie(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(b), ") Z ")
}

// Row 4: a handler that cannot be started is tried once; the host goes on for long,
// requests wait and fail, and messages are taken and come again later.
func TestHandlerThatCannotStartForReal(t *testing.T) {
	t.Parallel()
	bus := startBus(t, "127.0.0.1:0", filepath.Join(t.TempDir(), "bus.db"))
	sender(t, bus)(0, 3)
	h, log := start(t, script(hostJSON, map[string]string{"Jobs": jobsBatch, "Api": httpAny}), roleApp, newControl(t), func(cfg *Config) {
		cfg.Handler, cfg.Real, cfg.Hang, cfg.Linger = []string{"/nonexistent/handler"}, true, 500*time.Millisecond, 200*time.Millisecond
		cfg.Settings = map[string]string{"JOBS": "jobs", "Bus": bus.ConnectionString("root")}
	})
	eventually(t, "messages that are taken", func() bool { _, _, locked, _ := bus.Counts("jobs"); return locked == 3 })
	if r, body := request(t, "POST", "http://"+h.Addr()+"/api/x", "fn-key", "body"); r.StatusCode != 500 || body != "" {
		t.Errorf("a request: got %d %q", r.StatusCode, body)
	}
	if err := <-h.Done(); err == nil || !strings.Contains(err.Error(), "cannot be started") {
		t.Errorf("the host's end: got %v", err)
	}
	if n := strings.Count(log.String(), "handler failed"); n != 1 {
		t.Errorf("it was tried %d times, want once", n)
	}
}

// Row 6: at the end a batch that runs completes, and the handler is killed without
// having been asked to end.
func TestEndForReal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		grace   time.Duration
		settled int64
	}{{"a batch that ends in time", testTime, 1}, {"one that takes too long", 50 * time.Millisecond, 0}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bus := startBus(t, "127.0.0.1:0", filepath.Join(t.TempDir(), "bus.db"))
			c := newControl(t)
			began, finish := make(chan struct{}, 10), make(chan struct{})
			c.reply = func(e event) int {
				if e.name == "Jobs" {
					began <- struct{}{}
					<-finish
				}
				return http.StatusOK
			}
			h, _ := start(t, script(hostJSON, map[string]string{"Jobs": jobsBatch}), roleApp, c, func(cfg *Config) {
				cfg.Real, cfg.EndGrace = true, tt.grace
				cfg.Settings = map[string]string{"JOBS": "jobs", "Bus": bus.ConnectionString("root")}
			})
			ready(t, h)
			pid := h.HandlerPID()
			sender(t, bus)(0, 1)
			<-began
			ended := make(chan struct{})
			go func() { defer close(ended); _ = h.Close() }()
			<-h.taking.Done()
			if tt.settled > 0 {
				close(finish)
			} else {
				defer close(finish)
			}
			<-ended
			for len(c.heard) > 0 {
				if e := <-c.heard; e.name == "stopped" {
					t.Error("the handler was asked to end")
				}
			}
			if _, _, locked, _ := bus.Counts("jobs"); alive(pid) || tt.settled > 0 && (locked > 0 || bus.Stats().Settled != 1) {
				t.Errorf("handler alive: %v, %d messages locked, %d settled", alive(pid), locked, bus.Stats().Settled)
			}
		})
	}
}

// Row 11: after the third error the host lingers, and then ends.
func TestThirdErrorForReal(t *testing.T) {
	t.Parallel()
	c := newControl(t, 1, 1, 1)
	h, log := start(t, script(hostJSON, sweep), roleApp, c, func(cfg *Config) { cfg.Real, cfg.Linger = true, 300*time.Millisecond })
	began := time.Now()
	if err := <-h.Done(); err == nil || time.Since(began) < 300*time.Millisecond || c.started() != 3 ||
		!strings.Contains(log.String(), "Exceeded http worker restart retry count") {
		t.Errorf("got %v after %s and %d starts", err, time.Since(began), c.started())
	}
}

func TestReplies(t *testing.T) {
	t.Parallel()
	functions := map[string]string{}
	for _, name := range []string{"Good", "Text", "Untyped", "Broken", "List", "Failing", "Redirect", "Endless", "Header", "Gone", "Empty", "NoContent", "Null", "Silent"} {
		functions[name] = timerYearly
	}
	c := newControl(t)
	h, log := start(t, script(hostJSON, functions), roleRaw, c,
		func(cfg *Config) { cfg.FunctionTimeout, cfg.RestartPause = 2*time.Second, -1 })
	ready(t, h)
	call := func(t *testing.T, name string) error {
		for _, f := range h.functions {
			if f.name == name {
				inv := h.invocation(f)
				_, err := h.call(t.Context(), f, inv, []byte("{}"))
				return err
			}
		}
		t.Fatalf("there is no function %s", name)
		return nil
	}
	for _, tt := range []struct{ rule, name, want string }{
		{"2xx with a JSON object is a success", "Good", ""},
		{"2xx of another type fails", "Text", "application/json only"},
		{"2xx without a type fails", "Untyped", "application/json only"},
		{"2xx with broken JSON fails", "Broken", "not a JSON object"},
		{"2xx with JSON that is no object fails", "List", "not a JSON object"},
		{"any other status fails, and its Logs are dropped", "Failing", "status 500"},
		{"a redirect is followed, and what it leads to counts", "Redirect", ""},
		{"a reply without end fails at a limit", "Endless", "larger than"},
		{"a header without end fails at a limit", "Header", "no reply"},
	} {
		pid := h.HandlerPID()
		err := call(t, tt.name)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.rule, err, tt.want)
		}
		if h.HandlerPID() != pid {
			t.Errorf("%s: it cost the handler its life", tt.rule)
		}
	}
	if said := log.String(); !strings.Contains(said, "a line of the handler") || strings.Contains(said, "dropped with the failure") {
		t.Error("Logs must be written after a success, and only then")
	}
	gone := h.HandlerPID()
	if err := call(t, "Gone"); err == nil || !strings.Contains(err.Error(), "no reply") {
		t.Errorf("a handler that dies: got %v", err)
	}
	eventually(t, "another handler after Gone", func() bool { now := h.HandlerPID(); return now != 0 && now != gone })
	h.timeout = 100 * time.Millisecond // of the functions below; nothing else runs now
	for _, tt := range []struct{ rule, name string }{
		{"2xx with an empty body hangs until functionTimeout", "Empty"},
		{"204 hangs until functionTimeout", "NoContent"},
		{"2xx with null hangs until functionTimeout", "Null"},
		{"no reply at all ends at functionTimeout", "Silent"},
	} {
		ready(t, h)
		pid := h.HandlerPID()
		if err := call(t, tt.name); !errors.Is(err, errTimedOut) {
			t.Errorf("%s: got %v, want a timeout", tt.rule, err)
		}
		eventually(t, "another handler after "+tt.name, func() bool { now := h.HandlerPID(); return now != 0 && now != pid })
	}
	ready(t, h) // none of these restarts was counted as an error
}

func TestLinesOfOutput(t *testing.T) {
	t.Parallel()
	var got lines
	o := &output{w: &got}
	out, errs := o.stream(false), o.stream(true)
	for _, s := range []string{"a", "b\nc\n\nd"} {
		_, _ = out.Write([]byte(s))
	}
	for _, s := range []string{"1\n2\n", "3\n4\n5"} {
		_, _ = errs.Write([]byte(s))
	}
	_, _ = out.Write([]byte(strings.Repeat("x", maxLine+1)))
	o.flush()
	want := "ab\nc\n\n1\n2\n3\n4\n" + "d" + strings.Repeat("x", maxLine-1) + "\nxx\n5\n"
	if got.String() != want {
		t.Errorf("got %.60q, want %.60q", got.String(), want)
	}
	if got, want := o.quote(), "; it said last: 3 | 4 | 5"; got != want {
		t.Errorf("quote: got %q, want %q", got, want)
	}
	if got := o.quote(); got != "" {
		t.Errorf("said twice: %q", got)
	}
}
