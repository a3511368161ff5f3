package httpapi

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/push"
	"dsvmpools/shared/wire"
)

// counting is a backend that says how many deliveries got as far as it.
type counting struct {
	Pushes
	taken chan int
}

func (c counting) Push(_ context.Context, _ push.Provider, _ push.Header, proof push.Proof, body []byte) (wire.PushAnswer, error) {
	c.taken <- len(body)
	if !proof.Verify("secret", body) {
		return wire.PushAnswer{}, push.ErrProof
	}
	return wire.PushAnswer{Rules: []wire.PushOutcome{}}, nil
}

func (c counting) Expects(context.Context, push.Provider, push.Proof) (bool, error) { return true, nil }

// serve starts a server of pushes whose bodies have so much time.
func serve(t *testing.T, patience time.Duration) (address string, taken chan int) {
	t.Helper()
	taken = make(chan int, 10)
	s := &server{
		Services: Services{Pushes: counting{taken: taken}},
		log:      slog.New(slog.DiscardHandler),
		now:      time.Now,
		pace:     defaultPace,
		pushTime: patience,
		room:     deliveries(),
	}
	h := httptest.NewServer(s.handler())
	t.Cleanup(h.Close)
	return h.Listener.Addr().String(), taken
}

func signed(body []byte) string {
	m := hmac.New(sha256.New, []byte("secret"))
	m.Write(body)
	return "sha256=" + hex.EncodeToString(m.Sum(nil))
}

func TestPushLimits(t *testing.T) {
	t.Parallel()
	whole := bytes.Repeat([]byte(" "), push.MaxBody)
	for name, test := range map[string]struct {
		body      io.Reader
		length    int64
		signature string
		status    int
		reaches   bool // the backend
	}{
		"the most there may be": {bytes.NewReader(whole), int64(len(whole)), signed(whole), 202, true},
		"one byte more":         {bytes.NewReader(append(whole[:len(whole):len(whole)], ' ')), int64(len(whole)) + 1, signed(whole), 413, false},
		"100 MB, unannounced":   {io.LimitReader(zero{}, 100<<20), -1, signed(whole), 413, false},
		"forged":                {strings.NewReader("{}"), 2, signed([]byte("{ }")), 401, true},
		"no signature":          {strings.NewReader("{}"), 2, "", 401, false},
		"half a signature":      {strings.NewReader("{}"), 2, "sha256=12", 401, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, taken := serve(t, time.Minute)
			r, err := http.NewRequest("POST", "http://"+address+"/api/push/github", test.body)
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = test.length
			if test.signature != "" {
				r.Header.Set("X-Hub-Signature-256", test.signature)
			}
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != test.status || (len(taken) == 1) != test.reaches {
				t.Errorf("got %d, %d deliveries; want %d, %v", response.StatusCode, len(taken), test.status, test.reaches)
			}
		})
	}
}

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A sender that says much and sends little is answered, and let go.
func TestSlowAndTruncated(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		announced int
		close     bool
	}{
		"slow":                        {1000, false},
		"truncated":                   {1000, true},
		"100 MB announced, none sent": {100 << 20, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, taken := serve(t, 50*time.Millisecond)
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(
				c,
				"POST /api/push/github HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: %s\r\nContent-Length: %d\r\n\r\n{",
				signed(nil),
				test.announced,
			)
			if test.close {
				if err := c.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			answer, err := io.ReadAll(c) // until the server lets go
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Fatalf("the connection was kept; got %q", answer)
			}
			if !test.close && !strings.HasPrefix(string(answer), "HTTP/1.1 4") {
				t.Errorf("got %q, want a refusal", answer)
			}
			if len(taken) > 0 {
				t.Error("a part of a delivery was taken for a whole one")
			}
		})
	}
}
