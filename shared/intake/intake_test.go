package intake

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// server reads bodies at a pace and says how it ended.
func server(t *testing.T, pace Pace, read bool) (address string, ended chan error) {
	t.Helper()
	ended = make(chan error, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = Keep(w, r, pace)
		if !read {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		ended <- err
		fmt.Fprint(w, n)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), ended
}

func TestPace(t *testing.T) {
	t.Parallel()
	const soon, never = 60 * time.Millisecond, time.Hour
	for name, tt := range map[string]struct {
		pace  Pace
		head  string
		parts int // of 1 KiB, all at once
		want  error
	}{
		"a trickle":                 {Pace{Bytes: 2 << 10, Within: soon}, "Content-Length: 100000", 1, ErrSlow},
		"a trickle in chunks":       {Pace{Bytes: 2 << 10, Within: soon}, "Transfer-Encoding: chunked", 1, ErrSlow},
		"nothing at all":            {Pace{Bytes: 2 << 10, Within: soon}, "Content-Length: 100000", 0, ErrSlow},
		"fast and then no more":     {Pace{Bytes: 2 << 10, Within: soon}, "Content-Length: 100000", 50, ErrSlow},
		"fast enough, but too long": {Pace{Bytes: 1, Within: never, Total: soon}, "Content-Length: 100000", 3, ErrSlow},
		"whole":                     {Pace{Bytes: 2 << 10, Within: never, Total: never}, "Content-Length: 51200", 50, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, ended := server(t, tt.pace, true)
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", tt.head)
			part := strings.Repeat("x", 1024)
			if strings.HasPrefix(tt.head, "Transfer") {
				part = "400\r\n" + part + "\r\n"
			}
			io.WriteString(c, strings.Repeat(part, tt.parts))
			if err := <-ended; !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// Who brings enough in each window may take longer than one in all.
func TestPaceIsOfEachWindow(t *testing.T) {
	t.Parallel()
	const within = 300 * time.Millisecond
	address, ended := server(t, Pace{Bytes: 1 << 10, Within: within}, true)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 20<<10)
	begin := time.Now()
	tick := time.NewTicker(within / 10)
	defer tick.Stop()
	for range 20 {
		<-tick.C
		if _, err := c.Write(make([]byte, 1<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-ended; err != nil || time.Since(begin) < within {
		t.Errorf("got %v after %s; want a whole body after more than a window", err, time.Since(begin))
	}
}

// A body that is not read does not keep the connection, and a connection whose body
// was read goes on.
func TestConnectionAfterwards(t *testing.T) {
	t.Parallel()
	address, _ := server(t, Pace{Bytes: 1 << 10, Within: 50 * time.Millisecond}, false)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
	if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 401") {
		t.Errorf("got %q, %v; want 401 and the end of the connection", answer, err)
	}

	address, ended := server(t, Pace{Bytes: 1 << 10, Within: 50 * time.Millisecond}, true)
	if c, err = net.Dial("tcp", address); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(c)
	for i := range 3 {
		time.AfterFunc(
			time.Duration(i)*60*time.Millisecond,
			func() { io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody") },
		)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("request %d on one connection: %v", i, err)
		}
		answer.Body.Close()
	}
}

func TestRoom(t *testing.T) {
	t.Parallel()
	r := NewRoom(50*time.Millisecond, Size{8, 2}, Size{64, 1})
	ctx := context.Background()
	for _, tt := range []struct {
		body  string
		limit int
		err   error
	}{
		{"", 100, nil}, {"12345678", 100, nil}, {"123456789", 100, nil}, {strings.Repeat("x", 64), 100, nil},
		{strings.Repeat("x", 65), 100, ErrTooLarge}, {"12345", 4, ErrTooLarge}, {"1234", 4, nil}, {strings.Repeat("x", 1<<20), 1 << 20, ErrTooLarge},
	} {
		b, err := r.Read(ctx, strings.NewReader(tt.body), tt.limit)
		if !errors.Is(err, tt.err) {
			t.Errorf("%.20q: got %v, want %v", tt.body, err, tt.err)
		}
		if err == nil {
			if string(b.Bytes) != tt.body {
				t.Errorf("got %q, want %q", b.Bytes, tt.body)
			}
			b.Release()
			b.Release() // twice is once
		}
	}
	broken := errors.New("broken")
	if _, err := r.Read(ctx, io.MultiReader(strings.NewReader("123456789"), failing{broken}), 100); !errors.Is(err, broken) {
		t.Errorf("got %v, want the body's own error", err)
	}

	large, err := r.Read(ctx, bytes.NewReader(make([]byte, 20)), 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(ctx, bytes.NewReader(make([]byte, 20)), 100); !errors.Is(err, ErrFull) {
		t.Errorf("with the one large buffer taken: got %v, want %v", err, ErrFull)
	}
	small, err := r.Read(ctx, strings.NewReader("small"), 100)
	if err != nil {
		t.Errorf("a small body beside a large one: %v", err)
	}
	large.Release()
	if large, err = r.Read(ctx, bytes.NewReader(make([]byte, 20)), 100); err != nil {
		t.Fatalf("after the release: %v", err)
	}
	defer large.Release()
	if string(small.Bytes) != "small" {
		t.Errorf("got %q; another body was read into this one's memory", small.Bytes)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := r.Read(gone, bytes.NewReader(make([]byte, 20)), 100); !errors.Is(err, context.Canceled) {
		t.Errorf("a sender that has gone: got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Everything that is taken comes back, and no two bodies share memory.
func TestRoomUnderLoad(t *testing.T) {
	t.Parallel()
	r := NewRoom(time.Minute, Size{16, 3}, Size{64, 2}, Size{256, 1})
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			for k := range 30 {
				want := bytes.Repeat([]byte{byte(i + 1)}, (i*31+k*17)%300)
				b, err := r.Read(context.Background(), bytes.NewReader(want), 256)
				if len(want) > 256 {
					if !errors.Is(err, ErrTooLarge) {
						t.Errorf("%d bytes: got %v", len(want), err)
					}
					continue
				}
				if err != nil || !bytes.Equal(b.Bytes, want) {
					t.Errorf("%d bytes: got %v", len(want), err)
					continue
				}
				b.Release()
			}
		})
	}
	wg.Wait()
	for i, c := range r.buffers {
		if len(c) != r.sizes[i].Count {
			t.Errorf("%d of %d buffers of %d bytes came back", len(c), r.sizes[i].Count, r.sizes[i].Bytes)
		}
	}
}
