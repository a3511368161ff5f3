package cli

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dsvmpools/handlers/httpapi"
	"dsvmpools/local/apptest"
	"dsvmpools/shared/caller"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// bench is an instance with the example and a command line that talks to it.
type bench struct {
	t       *testing.T
	app     *apptest.Instance
	program *Program
	out     lockedBuffer
	err     lockedBuffer

	// Submitted and cancelled, when set, are called after a job was submitted or
	// cancelled, before the command line has the answer.
	submitted, cancelled func(id string)

	denies atomic.Bool // the instance takes no key
	turns  sync.Mutex  // of what the test sets and what the instance calls, where dsvm is another process

	// Before, when set, is called with each request; true: it has answered.
	before func(w http.ResponseWriter, r *http.Request) bool
	// Answered, when set, is called when the instance has answered a request.
	answered func(r *http.Request)
}

// lockedBuffer may be written by several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newBench(t *testing.T, options ...apptest.Option) *bench {
	t.Helper()
	b := &bench{t: t, app: apptest.Example(t, options...)}
	inner := httpapi.New(httpapi.Services{
		Jobs:   b.app.Jobs,
		Pools:  b.app.Pools,
		Nodes:  b.app.Nodes,
		Usage:  b.app.Ledger,
		Pushes: b.app.Pushes,
		Doctor: b.app.Doctor,
		Trees:  b.app.Trees,

		Rejected: b.app.Rejected,
		Sessions: b.app.Sessions,
		Overview: b.app.Overview,

		Access: httpapi.Access{Tokens: passes{}, Roles: caller.Rules{{Subject: "a-1", Role: caller.User, Team: "vision"}}},
		Users:  b.app.Users,
	}, b.app.Share, b.app.Log)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("x-functions-key") != "secret" || b.denies.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if b.before != nil && b.before(w, r) {
			return
		}
		inner.ServeHTTP(w, r)
		if b.answered != nil {
			b.answered(r)
		}
		b.takeTurn()
		defer b.takeTurn()
		id, cancel := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/api/jobs/"), "/cancel")
		switch {
		case r.Method != http.MethodPost:
		case cancel && b.cancelled != nil:
			b.cancelled(id)
		case r.URL.Path == "/api/jobs" && b.submitted != nil:
			b.submitted(path.Base(w.Header().Get("Location")))
		}
	}))
	t.Cleanup(web.Close)
	env := map[string]string{"DSVM_URL": web.URL, "DSVM_KEY": "secret"}
	b.program = &Program{
		In:     strings.NewReader(""),
		Out:    &b.out,
		Err:    &b.err,
		Dir:    t.TempDir(),
		Zone:   time.UTC,
		Getenv: func(name string) string { return env[name] },
		Now:    func() time.Time { return apptest.Noon },
	}
	return b
}

// takeTurn lets what was written before the last turn be read after this one.
func (b *bench) takeTurn() {
	b.turns.Lock()
	defer b.turns.Unlock()
}

// run runs the command line and returns what this run has written.
func (b *bench) run(args ...string) (code int, out, errs string) {
	b.t.Helper()
	before, beforeErrs := b.out.String(), b.err.String()
	code = b.program.Main(b.t.Context(), args)
	return code, strings.TrimPrefix(b.out.String(), before), strings.TrimPrefix(b.err.String(), beforeErrs)
}

// writeLog puts a log on the share.
func (b *bench) writeLog(id, attempt, stream, text string) {
	dir := filepath.Join(b.app.Share, "jobs", "cpu", id, attempt)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, stream+".log"), []byte(text), 0o644)); err != nil {
		b.t.Error(err)
	}
}

// assigned returns the number of a job's assignment. Nodes come up until there is one
// for the job.
func (b *bench) assigned(id string) int64 {
	for n := 2; n < 10; n++ {
		j, err := b.app.Jobs.Job(b.t.Context(), id)
		if err != nil {
			b.t.Error(err)
		}
		if j.State == job.Assigned {
			return j.N
		}
		ready := &protocol.Ready{Name: fmt.Sprintf("dsvm-cpu-d2s-v5_%d", n), Size: "Standard_D2s_v5", CPUs: 2, Boot: "1"}
		b.report(fmt.Sprintf("cpu-%d", n), protocol.ReportItem{Ready: ready})
	}
	b.t.Errorf("job %s gets no node", id)
	return 0
}

// report brings what a node of pool cpu reports.
func (b *bench) report(vmid string, items ...protocol.ReportItem) {
	if err := b.app.Report(b.t.Context(), "cpu", vmid, items...); err != nil {
		b.t.Error(err)
	}
}

// start has a job start on its node, and returns the node and the number of the assignment.
func (b *bench) start(id string) (vmid string, n int64) {
	n = b.assigned(id)
	j, err := b.app.Jobs.Job(b.t.Context(), id)
	if err != nil {
		b.t.Error(err)
		return "", n
	}
	b.report(j.VMID, protocol.ReportItem{Started: &protocol.Started{N: n, At: b.app.Clock.Now()}})
	return j.VMID, n
}

// end has an attempt end on its node.
func (b *bench) end(vmid string, n int64, state job.AttemptState, code int, reason string) {
	now := b.app.Clock.Now()
	b.report(vmid, protocol.ReportItem{Finished: &protocol.Finished{
		N: n, State: string(state), ExitCode: code, Reason: reason, StartedAt: now, EndedAt: now,
	}})
}
