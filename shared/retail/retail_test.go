package retail

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
)

// serve answers the n-th request, from 1, with what answer writes.
func serve(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, n int)) (c *Client, waits *[]time.Duration) {
	t.Helper()
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		answer(w, r, n)
	}))
	t.Cleanup(s.Close)
	c, err := New(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	waits = new([]time.Duration)
	c.pause = func(_ context.Context, d time.Duration) error { *waits = append(*waits, d); return nil }
	return c, waits
}

// Pages are followed on the same host alone, and not for ever; answers are bounded, and must
// be lists of prices.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		answer     func(w http.ResponseWriter, r *http.Request, n int)
	}{
		{"another host", "another host", func(w http.ResponseWriter, _ *http.Request, _ int) {
			fmt.Fprint(w, `{"Items":[],"NextPageLink":"http://169.254.169.254/metadata"}`)
		}},
		{"another scheme", "another host", func(w http.ResponseWriter, r *http.Request, _ int) {
			fmt.Fprintf(w, `{"Items":[],"NextPageLink":"https://%s/"}`, r.Host)
		}},
		{"pages without end", "more than 20 pages", func(w http.ResponseWriter, r *http.Request, _ int) {
			fmt.Fprintf(w, `{"Items":[],"NextPageLink":"http://%s%s"}`, r.Host, r.URL.Path)
		}},
		{"too large", "more than", func(w http.ResponseWriter, _ *http.Request, _ int) {
			fmt.Fprint(w, `{"Items":[],"x":"`, strings.Repeat("x", maxPage), `"}`)
		}},
		{"a page of a proxy", "no list of prices", func(w http.ResponseWriter, _ *http.Request, _ int) { fmt.Fprint(w, "<html>") }},
		{"no items", "no list of prices", func(w http.ResponseWriter, _ *http.Request, _ int) { fmt.Fprint(w, "{}") }},
		{"a redirect", "refuses with 302", func(w http.ResponseWriter, r *http.Request, _ int) { http.Redirect(w, r, "/", http.StatusFound) }},
		{"refused", "refuses with 400", func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusBadRequest) }},
	} {
		client, _ := serve(t, c.answer)
		if got, err := client.Items(t.Context(), "x"); fault.CodeOf(err) != fault.Internal || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, %v, want an error with %q", c.name, got, err, c.want)
		}
	}
}

// The client comes again when it is asked to, after the time that it is told.
func TestTriesAgain(t *testing.T) {
	t.Parallel()
	client, waits := serve(t, func(w http.ResponseWriter, r *http.Request, n int) {
		switch {
		case n == 1:
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		case n == 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Query().Get("$skip") == "":
			fmt.Fprintf(w, `{"Items":[{"meterId":"a"}],"NextPageLink":"http://%s%s?$skip=1"}`, r.Host, r.URL.Path)
		default:
			fmt.Fprint(w, `{"Items":[{"meterId":"b"}],"NextPageLink":null}`)
		}
	})
	got, err := client.Items(t.Context(), "x")
	if err != nil || len(got) != 2 || got[0].MeterID != "a" || got[1].MeterID != "b" {
		t.Errorf("got %+v, %v, want the rows of both pages", got, err)
	}
	if len(*waits) != 2 || (*waits)[0] != 7*time.Second {
		t.Errorf("waited %v, want 7 s first", *waits)
	}
	busy, waits := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusServiceUnavailable) })
	if _, err := busy.Items(t.Context(), "x"); fault.CodeOf(err) != fault.Throttled || len(*waits) != tries-1 {
		t.Errorf("got %v after %d waits, want throttled after %d", err, len(*waits), tries-1)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"prices.azure.com", "ftp://a.example.com", "https://", "https://ann:secret@a.example.com", "https://a.example.com/?x=1", "https://a b", "::"} {
		if _, err := New(address); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%q: got %v, want invalid", address, err)
		}
	}
	if c, err := New(""); err != nil || c.base.String() != Endpoint+path {
		t.Errorf("no setting: got %v, %v", c, err)
	}
	// A name that leads inside is not reached unless the setting names it.
	c, err := New("")
	if err != nil {
		t.Fatal(err)
	}
	c.base.Scheme, c.base.Host = "http", "127.0.0.1:1"
	if _, err := c.Items(t.Context(), "x"); fault.CodeOf(err) != fault.Internal || !strings.Contains(err.Error(), "not asked") {
		t.Errorf("got %v, want it not asked", err)
	}
}
