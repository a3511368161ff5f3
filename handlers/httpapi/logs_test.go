package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

// oneJob is Jobs that only knows one job; tests change it through a lock of
// one place.
type oneJob struct {
	Jobs
	job chan pool.Job
}

func newOneJob(j pool.Job) oneJob {
	b := oneJob{job: make(chan pool.Job, 1)}
	b.job <- j
	return b
}

func (b oneJob) Job(context.Context, string) (*pool.Job, error) {
	j := <-b.job
	b.job <- j
	if j.ID == "" {
		return nil, fault.New(fault.Internal, "", "gone")
	}
	return &j, nil
}

func (b oneJob) set(j pool.Job) {
	<-b.job
	b.job <- j
}

var (
	begin   = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	waiting = pool.Job{ID: "j", Spec: job.Spec{Pool: "cpu"}, State: job.Queued}
	running = pool.Job{ID: "j", Spec: job.Spec{Pool: "cpu"}, State: job.Running,
		Attempts: []job.Attempt{{Number: 1, State: job.AttemptRunning, StartedAt: begin}}}
	ended = pool.Job{ID: "j", Spec: job.Spec{Pool: "cpu"}, State: job.Succeeded,
		Attempts: []job.Attempt{{Number: 1, State: job.AttemptSucceeded, StartedAt: begin, EndedAt: begin}}}
)

// writeLog appends to a log of attempt 1.
func writeLog(t *testing.T, share, stream, text string) {
	t.Helper()
	dir := filepath.Join(share, "jobs", "cpu", "j", "1")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, stream+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestReadLog(t *testing.T) {
	t.Parallel()
	const text = "one\x00\xff\ntwo\n"
	for name, test := range map[string]struct {
		job             pool.Job
		query, want     string
		nextOffset, end string
	}{
		"all of it":           {ended, "", text, "10", "true"},
		"of the attempt":      {ended, "?attempt=1", text, "10", "true"},
		"from an offset":      {ended, "?offset=6", "two\n", "10", "true"},
		"from the end":        {ended, "?offset=10", "", "10", "true"},
		"from behind the end": {ended, "?offset=99", "", "99", "true"},
		"while it runs":       {running, "?offset=6", "two\n", "10", "false"},
		"followed when ended": {ended, "?follow=true&offset=3", text[3:], "10", "true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			share := t.TempDir()
			writeLog(t, share, "stdout", text)
			w := httptest.NewRecorder()
			New(
				Services{Jobs: newOneJob(test.job)},
				share,
				slog.New(slog.DiscardHandler),
			).ServeHTTP(w, httptest.NewRequest("GET", "/api/jobs/j/logs/stdout"+test.query, nil))
			if got := w.Body.String(); w.Code != 200 || got != test.want {
				t.Errorf("got %d %q, want %q", w.Code, got, test.want)
			}
			if got := w.Header().Get(wire.NextOffsetHeader); got != test.nextOffset {
				t.Errorf("next offset: got %s, want %s", got, test.nextOffset)
			}
			if got := w.Header().Get(wire.LogEndHeader); got != test.end {
				t.Errorf("end: got %s, want %s", got, test.end)
			}
			if got := w.Header().Get("Content-Type"); got != "text/plain; charset=utf-8" {
				t.Errorf("type: got %s", got)
			}
		})
	}
}

// TestMissingLog: an attempt that has written nothing has an empty log. One that has not
// begun has none, and neither has one whose files may have been removed.
func TestMissingLog(t *testing.T) {
	t.Parallel()
	assigned, archived, second := running, ended, running
	assigned.Attempts = []job.Attempt{{Number: 1, State: job.AttemptAssigned}}
	archived.Attempts, archived.Archived = nil, &pool.Archived{Attempts: 1}
	second.Attempts = append(ended.Attempts[:1:1], job.Attempt{Number: 2, State: job.AttemptAssigned})
	for name, test := range map[string]struct {
		job   pool.Job
		query string
		code  int
		end   string
	}{
		"it runs":                 {running, "", 200, "false"},
		"it has ended":            {ended, "", 200, "true"},
		"its last lines":          {ended, "?tail=3", 200, "true"},
		"since a time":            {ended, "?since=2026-01-01", 200, "true"},
		"followed when ended":     {ended, "?follow=true", 200, "true"},
		"an earlier attempt":      {second, "?attempt=1", 200, "true"},
		"the attempt after it":    {second, "?attempt=2", 404, ""},
		"it has not begun":        {assigned, "", 404, ""},
		"its files may have gone": {archived, "", 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			New(
				Services{Jobs: newOneJob(test.job)},
				t.TempDir(),
				slog.New(slog.DiscardHandler),
			).ServeHTTP(w, httptest.NewRequest("GET", "/api/jobs/j/logs/stderr"+test.query, nil))
			if w.Code != test.code || test.code == 200 && w.Body.Len() != 0 {
				t.Errorf("got %d %q, want %d", w.Code, w.Body, test.code)
			}
			if got := w.Header().Get(wire.LogEndHeader); got != test.end {
				t.Errorf("end: got %q, want %q", got, test.end)
			}
		})
	}
}

// A long log takes several answers, none of which says it is the end but the
// last.
func TestReadLogInParts(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	writeLog(t, share, "stderr", "0123456789")
	s := &server{
		Services: Services{Jobs: newOneJob(ended)},
		log:      slog.New(slog.DiscardHandler),
		share:    share,
		now:      time.Now,
		pace:     pace{most: 4},
	}
	var got, ends string
	for _, offset := range []int{0, 4, 8} {
		w := httptest.NewRecorder()
		s.handler().ServeHTTP(w, httptest.NewRequest("GET", fmt.Sprint("/api/jobs/j/logs/stderr?offset=", offset), nil))
		got += w.Body.String()
		ends += w.Header().Get(wire.LogEndHeader) + " "
	}
	if got != "0123456789" || ends != "false false true " {
		t.Errorf("got %q, ends %q", got, ends)
	}
}

// What a job puts in the place of its log does not lead anywhere else.
func TestLogEscape(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(dir string) error{
		"a link outside the share": func(dir string) error { return os.Symlink(secret, filepath.Join(dir, "stdout.log")) },
		"a link to another job": func(dir string) error {
			return os.Symlink("../../other/1/stdout.log", filepath.Join(dir, "stdout.log"))
		},
		"a directory": func(dir string) error { return os.Mkdir(filepath.Join(dir, "stdout.log"), 0o755) },
		"another name of another job's file": func(dir string) error {
			return os.Link(filepath.Join(dir, "../../other/1/stdout.log"), filepath.Join(dir, "stdout.log"))
		},
		"the folder is a link to another job's": func(dir string) error {
			if err := os.Remove(dir); err != nil {
				return err
			}
			return os.Symlink("../other/1", dir)
		},
		"the job's folder is a link to another job's": func(dir string) error {
			if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
				return err
			}
			return os.Symlink("other", filepath.Dir(dir))
		},
		"a socket": func(dir string) error {
			short, err := os.MkdirTemp("", "")
			if err != nil {
				return err
			}
			defer os.RemoveAll(short)
			l, err := net.Listen("unix", filepath.Join(short, "s"))
			if err != nil {
				return err
			}
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			l.Close()
			return os.Rename(filepath.Join(short, "s"), filepath.Join(dir, "stdout.log"))
		},
		"the folder is a link": func(dir string) error {
			if err := os.Remove(dir); err != nil {
				return err
			}
			return os.Symlink(filepath.Dir(secret), dir)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			share := t.TempDir()
			dir := filepath.Join(share, "jobs", "cpu", "j", "1")
			other := filepath.Join(share, "jobs", "cpu", "other", "1")
			for _, d := range []string{dir, other} {
				if err := os.MkdirAll(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(other, "stdout.log"), []byte("hunter2"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := make(dir); err != nil {
				t.Skip("this system cannot make it:", err)
			}
			w := httptest.NewRecorder()
			New(
				Services{Jobs: newOneJob(ended)},
				share,
				slog.New(slog.DiscardHandler),
			).ServeHTTP(w, httptest.NewRequest("GET", "/api/jobs/j/logs/stdout", nil))
			if w.Code < 400 || bytes.Contains(w.Body.Bytes(), []byte("hunter2")) {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
}

// A log is followed from before it exists until its attempt is over.
func TestFollowLog(t *testing.T) {
	t.Parallel()
	share, backend := t.TempDir(), newOneJob(waiting)
	s := &server{Services: Services{Jobs: backend}, log: slog.New(slog.DiscardHandler), share: share, now: time.Now,
		pace: pace{file: time.Millisecond, job: 2 * time.Millisecond, follow: time.Minute, most: 1 << 20}}
	web := httptest.NewServer(s.handler())
	t.Cleanup(web.Close)
	response, err := http.Get(web.URL + "/api/jobs/j/logs/stdout?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	expect := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	}
	backend.set(running)
	writeLog(t, share, "stdout", "one\n")
	expect("one\n")
	writeLog(t, share, "stdout", "tw")
	expect("tw")
	writeLog(t, share, "stdout", "o\n")
	backend.set(ended)
	expect("o\n")
	if rest, err := io.ReadAll(response.Body); len(rest) != 0 || err != nil {
		t.Errorf("got %q, %v after the end", rest, err)
	}
}

// One answer does not follow longer than the platform allows.
func TestFollowEndsInTime(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	writeLog(t, share, "stdout", "so far\n")
	synctest.Test(t, func(t *testing.T) {
		w := httptest.NewRecorder()
		start := time.Now()
		s := &server{
			Services: Services{Jobs: newOneJob(running)},
			log:      slog.New(slog.DiscardHandler),
			share:    share,
			now:      time.Now,
			pace:     defaultPace,
		}
		s.handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/jobs/j/logs/stdout?follow=true", nil))
		if took := time.Since(start); took < 100*time.Second || took >= 200*time.Second {
			t.Errorf("followed for %s", took)
		}
		if got := w.Body.String(); got != "so far\n" {
			t.Errorf("got %q", got)
		}
		if got := w.Header().Get(wire.LogEndHeader); got != "false" {
			t.Errorf("end: got %q", got)
		}
	})
}

// A reader that leaves is not followed for.
func TestFollowEndsWithItsReader(t *testing.T) {
	t.Parallel()
	ctx, leave := context.WithCancel(t.Context())
	leave()
	w := httptest.NewRecorder()
	New(
		Services{Jobs: newOneJob(running)},
		t.TempDir(),
		slog.New(slog.DiscardHandler),
	).ServeHTTP(w, httptest.NewRequest("GET", "/api/jobs/j/logs/stdout?follow=true", nil).WithContext(ctx))
	if w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
}
