package store

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// mishap is what happens to a request on its way.
type mishap func(w http.ResponseWriter, r *http.Request, forward http.Handler)

// faultyLine is a connection to the table server on which things go wrong: the next
// transactions meet the mishaps, one each.
type faultyLine struct {
	mishaps chan mishap
	batches atomic.Int32
}

// newFaultyLine puts a line in front of a server.
func newFaultyLine(t *testing.T, connection string) (*faultyLine, string) {
	t.Helper()
	target, forward := proxyTo(t, connection)
	l := &faultyLine{mishaps: make(chan mishap, 10)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/$batch") {
			l.batches.Add(1)
			select {
			case m := <-l.mishaps:
				m(w, r, forward)
				return
			default:
			}
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return l, strings.Replace(connection, target, strings.TrimPrefix(server.URL, "http://"), 1)
}

// proxyTo is the host of a connection's server, and a way to it.
func proxyTo(t testing.TB, connection string) (host string, forward http.Handler) {
	t.Helper()
	endpoint := ""
	for field := range strings.SplitSeq(connection, ";") {
		if value, ok := strings.CutPrefix(field, "TableEndpoint="); ok {
			endpoint = value
		}
	}
	target, err := url.Parse(endpoint)
	if err != nil || target.Host == "" {
		t.Fatalf("no endpoint in the connection string: %v", err)
	}
	return target.Host, httputil.NewSingleHostReverseProxy(&url.URL{Scheme: target.Scheme, Host: target.Host})
}

// The mishaps.
func replyLost(_ http.ResponseWriter, r *http.Request, forward http.Handler) {
	forward.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

func requestLost(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.Copy(io.Discard, r.Body)
	panic(http.ErrAbortHandler)
}

func busy(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("x-ms-error-code", "ServerBusy")
	w.WriteHeader(http.StatusServiceUnavailable)
}

// emptyReply replies without any operation, over which the client panics.
func emptyReply(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	forward.ServeHTTP(httptest.NewRecorder(), r)
	w.Header().Set("Content-Type", "multipart/mixed; boundary=batchresponse_1")
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(
		w,
		"--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n\r\n--batchresponse_1--\r\n",
	)
}

// overtaken loses the reply, and somebody else commits before the writer looks.
func overtaken(other *writer) mishap {
	return func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		forward.ServeHTTP(httptest.NewRecorder(), r)
		p, version, err := other.s.Load(r.Context(), other.name)
		if err != nil {
			other.t.Error(err)
		} else {
			other.head, other.version = p.Head, version
			if err := other.try(); err != nil {
				other.t.Error(err)
			}
		}
		panic(http.ErrAbortHandler)
	}
}

func TestCommitSurvivesMishaps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		mishaps []mishap
		batches int32 // requests it takes
	}{
		{"reply lost", []mishap{replyLost}, 1},
		{"request lost", []mishap{requestLost}, 2},
		{"empty reply", []mishap{emptyReply}, 1},
		{"busy, then lost both ways", []mishap{busy, requestLost, replyLost}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l, connection := newFaultyLine(t, serve(t))
			w := newWriter(t, open(t, connection), "cpu")
			for n := range 2 { // once it creates the pool, once it changes it
				before := l.batches.Load()
				for _, m := range c.mishaps {
					l.mishaps <- m
				}
				w.commit(insert(newJob(n)))
				if got := l.batches.Load() - before; got != c.batches {
					t.Errorf("it took %d requests, want %d", got, c.batches)
				}
			}
			w.commit(insert(newJob(2))) // and the version it came to is good
			p, version, err := w.s.Load(deadline(t), "cpu")
			if err != nil || len(p.Jobs) != 3 || version != w.version {
				t.Errorf("%d jobs at %+v (%v), want 3 at %+v", len(p.Jobs), version, err, w.version)
			}
		})
	}
}

func TestCommitThatIsOvertakenIsAConflict(t *testing.T) {
	t.Parallel()
	direct := serve(t)
	l, connection := newFaultyLine(t, direct)
	w := newWriter(t, open(t, connection), "cpu")
	w.commit()
	l.mishaps <- overtaken(newWriter(t, open(t, direct), "cpu"))
	wantCode(t, "the overtaken writer", w.try(insert(newJob(1))), fault.Conflict)
}

func TestCommitGivesUpWhenTheServiceStaysBusy(t *testing.T) {
	t.Parallel()
	l, connection := newFaultyLine(t, serve(t))
	w := newWriter(t, open(t, connection), "cpu")
	w.commit()
	for range table.Tries {
		l.mishaps <- busy
	}
	wantCode(t, "a busy service", w.try(), fault.Throttled)
	w.commit()
}

func TestRegisterKnowsItsOwnRows(t *testing.T) {
	t.Parallel()
	l, connection := newFaultyLine(t, serve(t))
	s := open(t, connection)
	l.mishaps <- replyLost
	_, fresh, err := s.Register(deadline(t), newIDs(1, "one"))
	if err != nil || !fresh[0] {
		t.Errorf("an id whose reply was lost is fresh: %v (%v), want it to be", fresh, err)
	}
}

func TestTooLargeSaysSo(t *testing.T) {
	t.Parallel()
	s := open(t, serve(t))
	w := newWriter(t, s, "cpu")
	var changes []pool.Change
	for n := range 99 {
		j := newJob(n)
		j.Spec.Script = strings.Repeat("é", 30<<10)
		changes = append(changes, insert(j))
	}
	err := w.try(changes...)
	if fault.CodeOf(err) != fault.Invalid || !errors.Is(err, table.ErrTooLarge) {
		t.Errorf("got %v, want table.ErrTooLarge", err)
	}
	w.commit(changes[:60]...)
}
