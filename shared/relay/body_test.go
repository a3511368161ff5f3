package relay_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"dsvmpools/shared/intake"
	"dsvmpools/shared/relay"
)

// atAddress has a listener come to an address at which somebody sends a request, and then what
// body sends. It returns what is answered there first, once body has ended.
func atAddress(t *testing.T, handler http.HandlerFunc, body func(io.Writer)) string {
	t.Helper()
	answered, sent := make(chan string, 1), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(sent)
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		go func() {
			_, text, _ := c.Read(t.Context())
			answered <- string(text)
			for { // what follows
				if _, _, err := c.Read(t.Context()); err != nil {
					return
				}
			}
		}()
		const request = `{"request":{"id":"1","requestTarget":"/lab-0-web/x","method":"POST","requestHeaders":{},"body":true}}`
		if err := c.Write(t.Context(), websocket.MessageText, []byte(request)); err != nil {
			t.Error(err)
			return
		}
		out, err := c.Writer(t.Context(), websocket.MessageBinary)
		if err != nil {
			t.Error(err)
			return
		}
		body(out)
	}))
	t.Cleanup(s.Close)
	l := &relay.Listener{Address: "ws://127.0.0.1/$hc/lab-0-web", Request: handler}
	l.ComeFor(t.Context(), strings.Replace(s.URL, "http", "ws", 1)+"/$hc/lab-0-web")
	<-sent
	return <-answered
}

// TestBodyWithoutEnd has a body sent that never ends, to a handler that does not want it: it is
// answered, and what comes is not taken in for ever.
func TestBodyWithoutEnd(t *testing.T) {
	t.Parallel()
	refuse := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }
	answer := atAddress(t, refuse, func(out io.Writer) {
		piece := make([]byte, 32<<10)
		for {
			if _, err := out.Write(piece); err != nil {
				return
			}
		}
	})
	if !strings.Contains(answer, `"statusCode":403`) {
		t.Errorf("got %q", answer)
	}
}

// TestBodyThatDoesNotCome has a request whose body does not come: reading it ends at its pace.
func TestBodyThatDoesNotCome(t *testing.T) {
	t.Parallel()
	got, over := make(chan error, 1), make(chan struct{})
	atAddress(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(over)
		r = intake.Keep(w, r, intake.Pace{Total: 50 * time.Millisecond})
		_, err := io.Copy(io.Discard, r.Body)
		got <- err
	}, func(io.Writer) { <-over })
	if err := <-got; !errors.Is(err, intake.ErrSlow) {
		t.Errorf("got %v", err)
	}
}
