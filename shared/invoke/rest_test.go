package invoke

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

	"dsvmpools/shared/intake"
)

// An answer that comes before the body has ended reaches a caller that sends the whole
// body first, as the host does, and the connection takes the next request.
func TestAnswerBeforeTheEndOfTheBody(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	for name, tt := range map[string]struct {
		path, head string
		want       int
	}{
		"refused unread":    {"/api/refuse", "", 413},
		"refused in part":   {"/api/part", "", 413},
		"panic":             {"/api/panic", "", 500},
		"read whole":        {"/api/whole", "", 200},
		"waiting for leave": {"/api/part", "Expect: 100-continue\r\n", 413},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := newApp(io.Discard)
			app.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/api/panic":
					panic("early")
				case "/api/part":
					_, _ = io.ReadFull(r.Body, make([]byte, 100))
				case "/api/whole":
					_, _ = io.Copy(io.Discard, r.Body)
					return
				}
				w.WriteHeader(http.StatusRequestEntityTooLarge)
			}))
			server := httptest.NewServer(app)
			defer server.Close()
			c, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			in := bufio.NewReader(c)
			for range 2 {
				fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: h\r\n%sContent-Length: %d\r\n\r\n", tt.path, tt.head, size)
				if tt.head != "" {
					if line, err := in.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
						t.Fatalf("got %q, %v; want leave to send the body", line, err)
					}
					_, _ = in.ReadString('\n')
				}
				if _, err := io.WriteString(c, strings.Repeat("x", size)); err != nil {
					t.Fatal(err)
				}
				reply, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, reply.Body)
				reply.Body.Close()
				if reply.StatusCode != tt.want || reply.Close {
					t.Errorf("got %d, connection closed %v; want %d and the connection to go on", reply.StatusCode, reply.Close, tt.want)
				}
			}
		})
	}
}

// A client that waits for leave to send a body that nobody wants gets the answer alone.
func TestAnswerInPlaceOfLeave(t *testing.T) {
	t.Parallel()
	app := newApp(io.Discard)
	app.HTTP(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) }))
	server := httptest.NewServer(app)
	defer server.Close()
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "POST /api/x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
	if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 413") {
		t.Errorf("got %q, %v; want 413 and the end of the connection", answer, err)
	}
}

// A rest that does not come holds the connection no longer than its pace allows.
func TestSlowRest(t *testing.T) {
	t.Parallel()
	app := newApp(io.Discard, Pace(intake.Pace{Bytes: 1 << 10, Within: 50 * time.Millisecond}))
	for path, h := range map[string]http.HandlerFunc{
		"unread": func(http.ResponseWriter, *http.Request) {},
		"read": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
		},
	} {
		t.Run(path, func(t *testing.T) {
			app.HTTP(h)
			server := httptest.NewServer(app)
			defer server.Close()
			c, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			io.WriteString(c, "POST /api/x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nx")
			if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
				t.Errorf("got %q, %v; want an answer and the end of the connection", answer, err)
			}
		})
	}
}
