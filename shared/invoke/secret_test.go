//go:build unix

package invoke

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsvmpools/shared/intake"
)

// guarded serves an app, and says which functions were reached.
func guarded(t *testing.T, secret string, cloud bool) (server *httptest.Server, reached chan string) {
	t.Helper()
	reached = make(chan string, 10)
	app := newApp(io.Discard, Guard(secret, cloud))
	app.Batch("Jobs", func(context.Context, []Message) error { reached <- "Jobs"; return nil })
	app.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		reached <- "API" + r.Header.Get(HeaderSecret)
	}))
	server = httptest.NewServer(app)
	t.Cleanup(server.Close)
	return server, reached
}

func TestGuard(t *testing.T) {
	t.Parallel()
	const secret = "the-secret"
	with, withReached := guarded(t, secret, false)
	without, withoutReached := guarded(t, "", false)
	cloud, cloudReached := guarded(t, "", true)
	batch := string(invocation("F", "m").Batch([]Delivery{delivery(plainMessage, 1)}, true))
	own := func(s *httptest.Server) string { return s.Listener.Addr().String() }
	for _, tt := range []struct {
		name    string
		server  *httptest.Server
		reached chan string
		path    string
		host    string // "" = the server's own
		header  string // name: value, parted by |
		want    string // what is reached; "" = refused
	}{
		{"the host, an invocation", with, withReached, "/Jobs", "", HeaderSecret + ": " + secret, "Jobs"},
		{"the host, a request", with, withReached, "/api/x", "", HeaderSecret + ": " + secret, "API"}, // the secret goes no further
		{"the host, for a client from elsewhere", with, withReached, "/api/x", "tunnel.example", HeaderSecret + ": " + secret, "API"},
		{"nobody, an invocation", with, withReached, "/Jobs", "", "", ""},
		{"nobody, a request", with, withReached, "/api/x", "", "", ""},
		{"nobody, what is not there", with, withReached, "/other", "", "", ""},
		{"an empty secret", with, withReached, "/api/x", "", HeaderSecret + ": ", ""},
		{"the beginning of the secret", with, withReached, "/api/x", "", HeaderSecret + ": the-", ""},
		{"more than the secret", with, withReached, "/api/x", "", HeaderSecret + ": " + secret + "x", ""},
		{"a question is no secret", with, withReached, "/Jobs", "", HeaderQuestion + ": x", ""},

		{"no secret, the real host", without, withoutReached, "/Jobs", "", "Content-Type: application/json; charset=utf-8", "Jobs"},
		{"no secret, the real host for a page", without, withoutReached, "/api/x", "", "X-Forwarded-Host: app.example|Origin: https://app.example", "API"},
		{"no secret, the real host for another page", without, withoutReached, "/api/x", "", "X-Forwarded-Host: app.example|Origin: https://evil.example", ""},
		{"no secret, the real host for a hook", without, withoutReached, "/api/push/github", "", "X-Forwarded-Host: app.example|Content-Type: application/x-www-form-urlencoded", "API"},
		{"no secret, a page's invocation", without, withoutReached, "/Jobs", "", "Origin: http://evil.example|Content-Type: text/plain", ""},
		{"no secret, plain text", without, withoutReached, "/Jobs", "", "Content-Type: text/plain", ""},
		{"no secret, a form", without, withoutReached, "/api/x", "", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", ""},
		{"no secret, a renamed site", without, withoutReached, "/Jobs", "evil.example", "", ""},
		{"in the cloud, a host that passes Host on", cloud, cloudReached, "/api/x", "app.azurewebsites.net", "", "API"},
		{"in the cloud, another page", cloud, cloudReached, "/api/x", "app.azurewebsites.net", "Origin: https://evil.example", ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+own(tt.server)+tt.path, strings.NewReader(batch))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = tt.host
		for h := range strings.SplitSeq(tt.header, "|") {
			if name, value, ok := strings.Cut(h, ": "); ok {
				r.Header.Set(name, value)
			}
		}
		reply, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(reply.Body)
		reply.Body.Close()
		got := ""
		select {
		case got = <-tt.reached:
		default:
		}
		if got != tt.want || tt.want == "" && (reply.StatusCode != 403 && reply.StatusCode != 415 || len(text) < 20) {
			t.Errorf("%s: got %d %q, reached %q, want %q", tt.name, reply.StatusCode, text, got, tt.want)
		}
		if reply.Header.Get(HeaderProof) != "" {
			t.Errorf("%s: the handler proves itself to everybody", tt.name)
		}
	}
}

// The host asks before it says the secret.
func TestProof(t *testing.T) {
	t.Parallel()
	server, reached := guarded(t, "s", false)
	r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(HeaderQuestion, "why")
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	reply.Body.Close()
	if got := reply.Header.Get(HeaderProof); got != Prove("s", "why") || got == Prove("t", "why") || got == Prove("s", "who") {
		t.Errorf("got %q", got)
	}
	if len(reached) > 0 {
		t.Error("a question has reached a function")
	}
}

// It does not run beside others, which open files under the numbers that it closes.
func TestReadSecret(t *testing.T) {
	if secret, err := ReadSecret(func(string) string { return "" }); secret != "" || err != nil {
		t.Errorf("without the setting: got %q, %v", secret, err)
	}
	for _, wrong := range []string{"x", "0", "2", "-1", "1000000"} {
		if _, err := ReadSecret(func(string) string { return wrong }); err == nil {
			t.Errorf("%s: a handler that cannot know its host must not start", wrong)
		}
	}
	for text, good := range map[string]bool{"the secret": true, "": false} {
		out, in, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(in, text)
		in.Close()
		// A number of its own, as a child has: the reader closes it.
		fd, err := syscall.Dup(int(out.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		out.Close()
		secret, err := ReadSecret(func(string) string { return fmt.Sprint(fd) })
		if secret != text || (err == nil) != good {
			t.Errorf("got %q, %v, want %q", secret, err, text)
		}
		if _, err := syscall.Dup(fd); err != syscall.EBADF {
			t.Errorf("the file is still there (%v): what the handler starts would have it", err)
		}
	}
}

// A body that nobody has a right to send holds the connection for a moment only, and
// one that trickles in is let go.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	app := newApp(io.Discard, Pace(intake.Pace{Bytes: 1 << 10, Within: 50 * time.Millisecond}))
	app.Batch("Jobs", func(context.Context, []Message) error { return nil })
	strict := newApp(io.Discard, Guard("s", false))
	for name, h := range map[string]http.Handler{"trickling": app, "without the secret": strict} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(h)
			defer server.Close()
			c, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			io.WriteString(c, "POST /Jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{")
			if answer, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 ")) {
				t.Errorf("got %q, %v; want an answer and the end of the connection", answer, err)
			}
		})
	}
}
