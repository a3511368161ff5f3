//go:build unix

package functions

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// zeros is a body of so many bytes.
func zeros(size int64) io.Reader { return io.LimitReader(endless{}, size) }

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// What a handler answers before it has read the body gets to the client.
func TestRefusedBeforeTheEndOfTheBody(t *testing.T) {
	t.Parallel()
	h, _ := start(t, script(hostJSON, map[string]string{"Api": httpAny}), roleApp, newControl(t), nil)
	ready(t, h)
	for _, read := range []int{0, 1, 40 << 10} {
		for _, size := range []int64{300 << 10, 16 << 20} {
			for _, length := range []int64{size, -1} {
				t.Run(fmt.Sprintf("%d of %d, Content-Length %d", read, size, length), func(t *testing.T) {
					for range 3 {
						r, err := http.NewRequestWithContext(t.Context(), "POST", fmt.Sprintf("http://%s/api/refuse/%d", h.Addr(), read), zeros(size))
						if err != nil {
							t.Fatal(err)
						}
						r.ContentLength = length
						r.Header.Set("x-functions-key", "fn-key")
						reply, err := http.DefaultClient.Do(r)
						if err != nil {
							t.Fatal(err)
						}
						text, err := io.ReadAll(reply.Body)
						reply.Body.Close()
						if err != nil || reply.StatusCode != http.StatusRequestEntityTooLarge || string(text) != "the body is too large\n" {
							t.Fatalf("got %d %q, %v; want the handler's answer", reply.StatusCode, text, err)
						}
					}
				})
			}
		}
	}
}

// What is left of a body is never taken for the next request, whatever the handler does.
func TestRestIsNoRequest(t *testing.T) {
	t.Parallel()
	f := &function{name: "Api", plain: true, trigger: binding{Type: httpTrigger, AuthLevel: "anonymous", Route: new("{*path}")}}
	var err error
	if f.route, err = parseRoute("{*path}"); err != nil {
		t.Fatal(err)
	}
	h, _ := goldenHost(t, f)
	h.file.CustomHandler.EnableProxyingHTTPRequest = true
	rude := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) }))
	defer rude.Close()
	h.worker.set(func(s *state) { s.port = rude.Listener.Addr().(*net.TCPAddr).Port })
	front := httptest.NewServer(h.routes())
	defer front.Close()
	for range 10 {
		c, err := net.Dial("tcp", front.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(testTime))
		const line = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
		const times = 40_000
		go func() {
			fmt.Fprintf(c, "POST /api/x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", len(line)*times)
			_, _ = io.WriteString(c, strings.Repeat(line, times))
			_ = c.(*net.TCPConn).CloseWrite() // ends a connection that goes on
		}()
		answers, _ := io.ReadAll(c) // the host may hang up before all is sent
		c.Close()
		if n := strings.Count(string(answers), "HTTP/1.1 "); n > 1 {
			t.Fatalf("got %d answers to one request: %.300q", n, answers)
		}
	}
}

// A client that waits for leave to send its body gets leave when the handler reads it, and
// an answer in its place when the handler does not.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	h, _ := start(t, script(hostJSON, map[string]string{"Api": httpAny}), roleApp, newControl(t), nil)
	ready(t, h)
	for path, want := range map[string]string{"refuse/0": "HTTP/1.1 413", "refuse/1": "HTTP/1.1 100", "x": "HTTP/1.1 100"} {
		c, err := net.Dial("tcp", h.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(testTime))
		const size = 1 << 20
		fmt.Fprintf(c, "POST /api/%s HTTP/1.1\r\nHost: a\r\nx-functions-key: fn-key\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", path, size)
		in := bufio.NewReader(c)
		line, err := in.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("%s: got %q, %v; want %s", path, line, err, want)
			continue
		}
		if want == "HTTP/1.1 413" {
			continue
		}
		_, _ = in.ReadString('\n')
		if _, err := io.Copy(c, zeros(size)); err != nil {
			t.Fatal(err)
		}
		reply, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		text, err := io.ReadAll(reply.Body)
		reply.Body.Close()
		if final := map[string]int{"refuse/1": 413, "x": 418}[path]; reply.StatusCode != final || err != nil ||
			final == 418 && !strings.HasSuffix(string(text), fmt.Sprint(" ", size)) {
			t.Errorf("%s: got %d %q, %v; want %d", path, reply.StatusCode, text, err, final)
		}
	}
}
