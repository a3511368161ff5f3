//go:build unix

package door

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// pageOfLab is how a page of JupyterLab begins, with a head that is not at its begin.
const pageOfLab = "<!-- ~ -->\n<!doctype html><html lang=\"en\">\n<HEAD data-x=\"1\"><meta charset=\"utf-8\"><title>JupyterLab</title></head><body>"

const policyOfLab = "frame-ancestors 'self'; report-uri /lab-0-web/api/security/csp-report"

// servePage answers as a JupyterLab that compresses where it may, and knows what a browser has.
func servePage(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("If-None-Match") != "" {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	w.Header().Set("Content-Security-Policy", policyOfLab)
	w.Header().Set("Etag", `"1"`)
	w.Header().Set("Service-Worker-Allowed", "/")
	w.Header().Set("Clear-Site-Data", `"cookies"`)
	switch how := r.URL.Query().Get("as"); {
	case how == "stream":
		for piece := range strings.SplitSeq(pageOfLab, "l") { // "html" and more are cut
			fmt.Fprint(w, piece)
			w.(http.Flusher).Flush()
			fmt.Fprint(w, "l")
		}
	case how == "json":
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, "%q", pageOfLab)
	case how == "headless":
		fmt.Fprint(w, strings.Repeat("no tag of a head ", 10_000))
	case how == "stubborn", strings.Contains(r.Header.Get("Accept-Encoding"), "gzip"):
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		fmt.Fprint(z, pageOfLab)
		z.Close()
	default:
		fmt.Fprint(w, pageOfLab)
	}
}

// TestPagesGetTheScript has pages of JupyterLab get the script, however they come, and leaves all
// else as it is.
func TestPagesGetTheScript(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.open()
	b := &browser{n: n}
	if status := b.login("lab-0-web", n.ticket("session-ann", "ann", time.Minute)); status != http.StatusNoContent {
		t.Fatalf("the ticket is answered with %d", status)
	}
	const tag = `<script async src="/lab-0-web/dsvm/notice.js"></script>`
	with := strings.Replace(pageOfLab, `data-x="1">`, `data-x="1">`+tag, 1)
	for name, c := range map[string]struct {
		path, dest, want string
	}{
		"a page":             {"lab/page", "document", with},
		"a page of old":      {"lab/page", "", with},
		"in pieces":          {"lab/page?as=stream", "document", with + "l"},
		"without a head":     {"lab/page?as=headless", "document", strings.Repeat("no tag of a head ", 10_000)},
		"data":               {"lab/page?as=json", "document", fmt.Sprintf("%q", pageOfLab)},
		"a part of a page":   {"lab/page", "iframe", pageOfLab},
		"read by a program":  {"lab/page", "empty", pageOfLab},
		"no page of the Lab": {"files/lab/page", "document", pageOfLab},
	} {
		header := []string{"Sec-Fetch-Dest", c.dest, "Accept", "text/html"}
		if c.dest == "" {
			header = header[2:]
		}
		if c.dest == "document" || c.dest == "" {
			header = append(header, "If-None-Match", `"1"`)
		}
		if name == "no page of the Lab" {
			header = header[:4]
		}
		status, text, got := b.do("GET", "/lab-0-web/"+c.path, "", header...)
		if status != 200 || strings.TrimSuffix(text, "l") != strings.TrimSuffix(c.want, "l") {
			t.Errorf("%s: got %d %.300q", name, status, text)
		}
		if got.Get("Content-Security-Policy") != policyOfLab || strings.Contains(text, tag) != (got.Get("Etag") == "") {
			t.Errorf("%s: the headers are %v", name, got)
		}
		for _, name := range ofOrigin {
			if got.Get(name) != "" {
				t.Errorf("a session acts on the pages of others by %s: %s", name, got.Get(name))
			}
		}
	}
	// One that is compressed though it was not asked for is left alone.
	r, err := http.NewRequest("GET", "http://"+n.Addr()+"/lab-0-web/lab/page?as=stubborn", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Cookie": {b.cookies}, "Sec-Fetch-Dest": {"document"}, "Accept-Encoding": {"gzip"}}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	z, err := gzip.NewReader(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(z); err != nil || string(text) != pageOfLab {
		t.Errorf("got %s, %v", text, err)
	}
	if status, text, header := b.do("GET", "/lab-0-web/dsvm/notice.js", ""); status != 200 || text != string(noticeScript) ||
		!strings.HasPrefix(header.Get("Content-Type"), "text/javascript") {
		t.Errorf("the script: got %d %v %.100s", status, header, text)
	}
}

func FuzzReadHead(f *testing.F) {
	f.Add([]byte(pageOfLab))
	f.Add([]byte("<head"))
	f.Add(bytes.Repeat([]byte("<head"), maxHead/4))
	f.Fuzz(func(t *testing.T, page []byte) {
		for _, in := range []io.Reader{bytes.NewReader(page), iotest.HalfReader(bytes.NewReader(page)), iotest.DataErrReader(bytes.NewReader(page))} {
			seen, at, err := readHead(in)
			rest, wrong := io.ReadAll(in)
			if err != nil || wrong != nil || !bytes.Equal(append(bytes.Clone(seen), rest...), page) {
				t.Fatalf("%q is not whole any more: %q and %q, %v, %v", page, seen, rest, err, wrong)
			}
			if at > len(seen) || at >= 0 && seen[at-1] != '>' {
				t.Fatalf("%q: the place is %d", page, at)
			}
		}
	})
}

// tells writes what the keeper of ann's session would.
func (n node) tells(text string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, "notice"), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// TestNotices has a browser that is in read what is told, and nobody else.
func TestNotices(t *testing.T) {
	t.Parallel()
	n := start(t)
	f, err := readFile(n.file(0))
	if err != nil {
		t.Fatal(err)
	}
	f.Notice = filepath.Join(n.dir, "notice")
	n.write(0, f)
	n.open()
	b := &browser{n: n}
	b.login("lab-0-web", n.ticket("session-ann", "ann", time.Minute))
	state := func() (s State) {
		text, err := os.ReadFile(strings.TrimSuffix(n.file(0), ".json") + stateSuffix)
		if err == nil {
			err = json.Unmarshal(text, &s)
		}
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return s
	}
	await(t, "the input of coming in", func() bool { return !state().LastInput.IsZero() })
	before := state()
	type told struct {
		Text   string
		EndsIn int
		Ended  bool
	}
	ask := func(method, path string) (out told) {
		t.Helper()
		status, text, header := b.do(method, "/lab-0-web/"+path, "", "Origin", "http://"+n.Addr())
		if err := json.Unmarshal([]byte(text), &out); err != nil || status != 200 || header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%s %s: got %d %q", method, path, status, text)
		}
		return out
	}
	if got := ask("GET", noticePath); got != (told{}) {
		t.Errorf("without a notice: got %+v", got)
	}
	n.tells(`{"text":"<b>it ends</b>","endsAt":"` + time.Now().Add(15*time.Minute).UTC().Format(time.RFC3339) + `"}`)
	if got := ask("GET", noticePath); got.Text != "<b>it ends</b>" || got.EndsIn < 600 || got.EndsIn > 900 || got.Ended {
		t.Errorf("a warning: got %+v", got)
	}
	n.tells(`{"text":"late","endsAt":"2001-01-01T00:00:00Z"}`)
	if got := ask("GET", noticePath); got != (told{Text: "late"}) {
		t.Errorf("one whose time has passed: got %+v", got)
	}
	n.tells(`{"text":"` + strings.Repeat("x", 2*maxNotice) + `"}`)
	if got := ask("GET", noticePath); got != (told{}) {
		t.Errorf("a large one: got %+v", got)
	}
	// A page that asks is no input; somebody who is there is some.
	count := state().Relayed
	b.do("GET", "/lab-0-web/lab", "")
	await(t, "that the page is counted", func() bool { return state().Relayed > count })
	if got := state().LastInput; !got.Equal(before.LastInput) {
		t.Errorf("an asking page has moved the input to %s", got)
	}
	ask("POST", herePath)
	await(t, "input", func() bool { return state().LastInput.After(before.LastInput) })
	for _, path := range []string{noticePath, scriptPath} {
		stranger := &browser{n: n}
		if status, text, _ := stranger.do("GET", "/lab-0-web/"+path, ""); status != http.StatusForbidden {
			t.Errorf("a stranger gets %s: %d %q", path, status, text)
		}
	}

	// The end: a browser that watches learns why, nobody comes in, and then the place closes.
	n.tells(`{"text":"nobody had used it","ended":true}`)
	if err := os.Remove(n.file(0)); err != nil {
		t.Fatal(err)
	}
	n.awaitListeners(0, "lab-0")
	if got := ask("GET", noticePath); got != (told{Text: "nobody had used it", Ended: true}) {
		t.Errorf("after the end: got %+v", got)
	}
	for _, path := range []string{"lab", scriptPath, "dsvm/login"} {
		if status, text, _ := b.do("GET", "/lab-0-web/"+path, ""); status != http.StatusServiceUnavailable {
			t.Errorf("%s after the end: %d %q", path, status, text)
		}
	}
	stranger := &browser{n: n}
	if status, text, _ := stranger.do("GET", "/lab-0-web/"+noticePath, ""); status != http.StatusServiceUnavailable {
		t.Errorf("a stranger after the end: %d %q", status, text)
	}
}

// TestStrangersHaveARate has strangers use up what there is for them: who has a ticket comes in.
func TestStrangersHaveARate(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.open()
	stranger := &browser{n: n}
	for i, method := range []string{"GET", "POST"} {
		last := 0
		for range pageRate + 1 {
			last, _, _ = stranger.do(method, fmt.Sprintf("/lab-%d-web/dsvm/login", i), `{"ticket":"x.y"}`)
		}
		if last != http.StatusTooManyRequests {
			t.Errorf("%s: got %d after %d tries", method, last, pageRate+1)
		}
	}
	b := &browser{n: n}
	if status, text, _ := b.do("GET", "/lab-0-web/dsvm/login?session=session-ann", ""); status != 200 || text != loginPage {
		t.Errorf("ann's page is answered with %d", status)
	}
	if status := b.login("lab-0-web", n.ticket("session-ann", "ann", time.Minute)); status != http.StatusNoContent {
		t.Errorf("ann's ticket is answered with %d", status)
	}
	if status, text, _ := stranger.do("GET", "/lab-0-web/lab?session=session-ann", ""); status != http.StatusTooManyRequests {
		t.Errorf("who names a session gets more than the page for tickets: %d %q", status, text)
	}
}
