package httpapi

import (
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/client"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

func TestTail(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 3*chunk)
	for name, test := range map[string]struct {
		text, query, want string
		offset            int
	}{
		"one line":         {"one\ntwo\nthree\n", "?tail=1", "three\n", 8},
		"without an end":   {"one\ntwo\nthree", "?tail=2", "two\nthree", 4},
		"more than all":    {"one\ntwo\n", "?tail=9", "one\ntwo\n", 0},
		"none":             {"one\ntwo\n", "?tail=0", "", 8},
		"of nothing":       {"", "?tail=2", "", 0},
		"empty lines":      {"one\n\n\n", "?tail=2", "\n\n", 4},
		"long lines":       {"one\n" + long + "\nlast\n", "?tail=2", long + "\nlast\n", 4},
		"of one long line": {long, "?tail=1", long, 0},
		"followed":         {"one\ntwo\n", "?tail=1&follow=true", "two\n", 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			share := t.TempDir()
			writeLog(t, share, "stdout", test.text)
			w := httptest.NewRecorder()
			New(Services{Jobs: newOneJob(ended)}, share, slog.New(slog.DiscardHandler)).
				ServeHTTP(w, httptest.NewRequest("GET", "/api/jobs/j/logs/stdout"+test.query, nil))
			if got := w.Body.String(); w.Code != 200 || got != test.want {
				t.Errorf("got %d %.60q, want %.60q", w.Code, got, test.want)
			}
			if got := w.Header().Get(wire.LogOffsetHeader); got != strconv.Itoa(test.offset) {
				t.Errorf("offset: got %s, want %d", got, test.offset)
			}
		})
	}
}

// numbered is text whose bytes say where they stand.
func numbered(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i += 8 {
		fmt.Fprintf(&b, "%07d\n", i)
	}
	return b.String()
}

// writeCutLog writes a log of whose n bytes only the first head and those from the first
// part on are left.
func writeCutLog(t *testing.T, share string, head, n int, parts ...int) {
	t.Helper()
	writeLog(t, share, "stdout", numbered(0, head)+"\n[dsvm: the rest is elsewhere]\n")
	dir := filepath.Join(share, "jobs", "cpu", "j", "1")
	list := []string{}
	for i, from := range parts {
		to := n
		if i+1 < len(parts) {
			to = parts[i+1]
		}
		list = append(list, strconv.Itoa(from))
		if err := os.WriteFile(filepath.Join(dir, job.PartFile("stdout", 0, int64(from))), []byte(numbered(from, to)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cut := fmt.Sprintf(`{"head":%d,"parts":[%s]}`, head, strings.Join(list, ","))
	if err := os.WriteFile(filepath.Join(dir, job.CutFile("stdout", 0)+".new"), []byte(cut), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, job.CutFile("stdout", 0)+".new"), filepath.Join(dir, job.CutFile("stdout", 0))); err != nil {
		t.Fatal(err)
	}
}

// A log whose middle was cut out is read to its end, and says what is missing at its place.
func TestCutLog(t *testing.T) {
	t.Parallel()
	const head, n = job.LeastLogHead, 1 << 20
	for name, test := range map[string]struct {
		parts   []int
		follow  bool
		tail    int
		missing int
		want    string
	}{
		"nothing is missing yet": {[]int{head, 2 * head}, false, 0, 0, numbered(0, n)},
		"the middle is missing":  {[]int{3 * head, 4 * head}, false, 0, 2 * head, numbered(0, head) + cutNote(2*head) + numbered(3*head, n)},
		"followed":               {[]int{3 * head, 4 * head}, true, 0, 2 * head, numbered(0, head) + cutNote(2*head) + numbered(3*head, n)},
		"the last lines":         {[]int{3 * head, n - 16}, false, 4, 2 * head, numbered(n-32, n)},
		"more than is left":      {[]int{3 * head}, false, 99_999, 2 * head, numbered(3*head, n)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			share := t.TempDir()
			writeCutLog(t, share, head, n, test.parts...)
			web := httptest.NewServer(New(Services{Jobs: newOneJob(ended)}, share, slog.New(slog.DiscardHandler)))
			t.Cleanup(web.Close)
			c, err := client.New(web.URL, "")
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			l := client.Log{Job: "j", Stream: "stdout", Attempt: 1, Tail: test.tail}
			if err := c.ReadLog(t.Context(), l, test.follow, &got); err != nil {
				t.Fatal(err)
			}
			if got.String() != test.want {
				t.Errorf("got %d bytes, want %d", got.Len(), len(test.want))
			}
		})
	}
}

// A log that is cut while somebody follows it is followed on, without a byte twice.
func TestFollowCutLog(t *testing.T) {
	t.Parallel()
	const head = job.LeastLogHead
	share, backend := t.TempDir(), newOneJob(running)
	s := &server{Services: Services{Jobs: backend}, log: slog.New(slog.DiscardHandler), share: share, now: time.Now,
		pace: pace{file: time.Millisecond, job: 2 * time.Millisecond, follow: time.Minute, most: 1 << 20}}
	web := httptest.NewServer(s.handler())
	t.Cleanup(web.Close)
	c, err := client.New(web.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- c.ReadLog(t.Context(), client.Log{Job: "j", Stream: "stdout", Attempt: 1}, true, w)
		w.Close()
	}()
	expect := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
			t.Fatalf("got %.40q..., %v; want %.40q...", got, err, want)
		}
	}
	writeLog(t, share, "stdout", numbered(0, head))
	expect(numbered(0, head))
	os.Remove(filepath.Join(share, "jobs", "cpu", "j", "1", "stdout.log"))
	writeCutLog(t, share, head, head+800, head) // the same bytes, and a part
	expect(numbered(head, head+800))
	writeCutLog(t, share, head, 8*head, 4*head, 6*head)
	backend.set(ended)
	expect(cutNote(4*head-head-800) + numbered(4*head, 8*head))
	if rest, err := io.ReadAll(r); len(rest) != 0 || err != nil {
		t.Errorf("got %.40q, %v after the end", rest, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What a job puts in the place of the description of its log does no harm.
func TestForgedCut(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]string{
		"no description": "hello",
		"negative":       `{"head":-1,"parts":[0]}`,
		"not ordered":    `{"head":0,"parts":[9,3]}`,
		"beyond the end": `{"head":99999999,"parts":[99999999]}`,
		"a part missing": `{"head":131072,"parts":[140000]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			share := t.TempDir()
			text := numbered(0, 2*job.LeastLogHead)
			writeLog(t, share, "stdout", text)
			if err := os.WriteFile(filepath.Join(share, "jobs", "cpu", "j", "1", job.CutFile("stdout", 0)), []byte(cut), 0o644); err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			New(Services{Jobs: newOneJob(pool.Job(ended))}, share, slog.New(slog.DiscardHandler)).
				ServeHTTP(w, httptest.NewRequest("GET", "/api/jobs/j/logs/stdout", nil))
			if w.Code != 200 || !strings.HasPrefix(text, w.Body.String()) || w.Body.Len() < job.LeastLogHead {
				t.Errorf("got %d with %d bytes", w.Code, w.Body.Len())
			}
		})
	}
}

// writeMarks writes a file of marks beside standard output: minutes after the begin and offsets.
func writeMarks(t *testing.T, share string, marks ...int) {
	t.Helper()
	var text []byte
	for i := 0; i < len(marks); i += 2 {
		text = job.AppendLogMark(text, job.LogMark{At: begin.Add(time.Duration(marks[i]) * time.Minute), Offset: int64(marks[i+1])})
	}
	dir := filepath.Join(share, "jobs", "cpu", "j", "1")
	if err := os.WriteFile(filepath.Join(dir, job.MarksFile("stdout", 0)), text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// What was written since a time is found by the log's marks, or by the end of its attempt.
func TestLogSince(t *testing.T) {
	t.Parallel()
	const text = "0 min\n1 min\n2 min\n"
	marks := []int{0, 0, 1, 6, 2, 12}
	later := ended
	later.Attempts = []job.Attempt{{Number: 1, State: job.AttemptSucceeded, StartedAt: begin, EndedAt: begin.Add(time.Hour)}}
	again := later
	again.Attempts = append(again.Attempts[:1:1], job.Attempt{Number: 2, State: job.AttemptSucceeded, StartedAt: begin.Add(2 * time.Hour)})
	for name, test := range map[string]struct {
		job   pool.Job
		marks []int
		query string
		want  string
	}{
		"all":                             {later, marks, "since=2026-03-01", text},
		"a part":                          {later, marks, "since=2026-03-02T12:01:05Z", text[6:]},
		"in another zone":                 {later, marks, "since=2026-03-02T13:01:05%2B01:00", text[6:]},
		"what came after":                 {later, marks, "since=2026-03-02T12:01:30Z", text[12:]},
		"nothing":                         {later, marks, "since=2026-03-02T12:30:00Z", ""},
		"with fewer lines":                {later, marks, "since=2026-03-02T12:01:05Z&tail=1", text[12:]},
		"with more lines":                 {later, marks, "since=2026-03-02T12:01:05Z&tail=3", text[6:]},
		"followed":                        {later, marks, "since=2026-03-02T12:01:05Z&follow=true", text[6:]},
		"no marks, ended after":           {later, nil, "since=2026-03-02T12:30:00Z", text},
		"no marks, ended before":          {later, nil, "since=2026-03-02T13:30:00Z", ""},
		"no marks, it runs":               {running, nil, "since=2026-03-02T13:30:00Z", text},
		"no marks, an earlier attempt":    {again, nil, "since=2026-03-02T13:30:00Z&attempt=1", ""},
		"marks of more than there is yet": {running, []int{0, 0, 1, 6, 2, 5000}, "since=2026-03-02T12:02:00Z", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			share := t.TempDir()
			writeLog(t, share, "stdout", text)
			if test.marks != nil {
				writeMarks(t, share, test.marks...)
			}
			w := httptest.NewRecorder()
			New(Services{Jobs: newOneJob(test.job)}, share, slog.New(slog.DiscardHandler)).
				ServeHTTP(w, httptest.NewRequest("GET", "/api/jobs/j/logs/stdout?"+test.query, nil))
			if got := w.Body.String(); w.Code != 200 || got != test.want {
				t.Errorf("got %d %q, want %q", w.Code, got, test.want)
			}
			if got, want := w.Header().Get(wire.LogOffsetHeader), strconv.Itoa(len(text)-len(test.want)); got != want {
				t.Errorf("offset: got %s, want %s", got, want)
			}
		})
	}
}

// A time and an offset both say where a log begins, and a time has a form.
func TestLogSinceRefused(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{"since=soon": "since is", "since=2026-03-02&offset=1": "give either since or offset"} {
		w := httptest.NewRecorder()
		New(Services{Jobs: newOneJob(ended)}, t.TempDir(), slog.New(slog.DiscardHandler)).
			ServeHTTP(w, httptest.NewRequest("GET", "/api/jobs/j/logs/stdout?"+query, nil))
		if w.Code != 400 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: got %d %s", query, w.Code, w.Body)
		}
	}
}

// What was written since a time may begin before a part that was cut out, or in it.
func TestCutLogSince(t *testing.T) {
	t.Parallel()
	const head, n = job.LeastLogHead, 5 * job.LeastLogHead
	for name, test := range map[string]struct {
		minute int
		want   string
	}{
		"before it":          {1, numbered(head-8, head) + cutNote(3*head) + numbered(4*head, n)},
		"in it":              {2, cutNote(2*head) + numbered(4*head, n)},
		"after it":           {3, numbered(n-16, n)},
		"after all of it":    {9, ""},
		"from its begin, on": {0, numbered(0, head) + cutNote(3*head) + numbered(4*head, n)},
	} {
		for _, follow := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, follow %v", name, follow), func(t *testing.T) {
				t.Parallel()
				share := t.TempDir()
				writeCutLog(t, share, head, n, 4*head)
				writeMarks(t, share, 0, 0, 1, head-8, 2, 2*head, 3, n-16)
				web := httptest.NewServer(New(Services{Jobs: newOneJob(ended)}, share, slog.New(slog.DiscardHandler)))
				t.Cleanup(web.Close)
				c, err := client.New(web.URL, "")
				if err != nil {
					t.Fatal(err)
				}
				var got strings.Builder
				l := client.Log{Job: "j", Stream: "stdout", Attempt: 1, Since: begin.Add(time.Duration(test.minute) * time.Minute)}
				if err := c.ReadLog(t.Context(), l, follow, &got); err != nil {
					t.Fatal(err)
				}
				if got.String() != test.want {
					t.Errorf("got %d bytes %.90q, want %d", got.Len(), got.String(), len(test.want))
				}
			})
		}
	}
}

// A log is followed from a time on, without a byte twice.
func TestFollowLogSince(t *testing.T) {
	t.Parallel()
	share, backend := t.TempDir(), newOneJob(running)
	s := &server{Services: Services{Jobs: backend}, log: slog.New(slog.DiscardHandler), share: share, now: time.Now,
		pace: pace{file: time.Millisecond, job: 2 * time.Millisecond, follow: 20 * time.Millisecond, most: 1 << 20}}
	web := httptest.NewServer(s.handler())
	t.Cleanup(web.Close)
	c, err := client.New(web.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	writeLog(t, share, "stdout", "old\n")
	writeMarks(t, share, 0, 0)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- c.ReadLog(t.Context(), client.Log{Job: "j", Stream: "stdout", Attempt: 1, Since: begin.Add(time.Hour)}, true, w)
		w.Close()
	}()
	got := make([]byte, 4)
	writeMarks(t, share, 0, 0, 61, 4)
	for _, text := range []string{"one\n", "two\n"} {
		writeLog(t, share, "stdout", text)
		if _, err := io.ReadFull(r, got); err != nil || string(got) != text {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	backend.set(ended)
	if rest, err := io.ReadAll(r); len(rest) != 0 || err != nil {
		t.Errorf("got %q, %v after the end", rest, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
