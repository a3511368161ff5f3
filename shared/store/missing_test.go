package store

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"dsvmpools/shared/fault"
)

// refusingLine is a connection to the table server on which requests are refused: all
// of them while refuseAll is set, those to create a table while refuseCreation is.
type refusingLine struct {
	refuseAll, refuseCreation atomic.Bool
	creations                 atomic.Int32 // requests to create a table
}

// newRefusingLine opens a store without tables over such a line.
func newRefusingLine(t *testing.T) (*refusingLine, *Store) {
	t.Helper()
	connection := serve(t)
	target, forward := proxyTo(t, connection)
	l := &refusingLine{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		creates := strings.HasSuffix(r.URL.Path, "/Tables")
		if creates {
			l.creations.Add(1)
		}
		switch {
		case l.refuseAll.Load():
			refuse(w, r, http.StatusForbidden, "AuthorizationPermissionMismatch") // as while a role is on its way
		case creates && l.refuseCreation.Load():
			refuse(w, r, http.StatusConflict, "TableBeingDeleted")
		default:
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	s, err := Open(Config{ConnectionString: strings.Replace(connection, target, strings.TrimPrefix(server.URL, "http://"), 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return l, s
}

func refuse(w http.ResponseWriter, r *http.Request, status int, code string) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("x-ms-error-code", code)
	w.WriteHeader(status)
}

// The request that finds a table missing creates it, whatever the request is.
func TestMissingTableIsCreated(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]func(s *Store) error{
		"transaction": func(s *Store) error { return newWriter(t, s, "cpu").try(insert(newJob(1))) },
		"query": func(s *Store) error {
			_, err := s.PoolNames(deadline(t))
			return err
		},
		"get": func(s *Store) error {
			if _, err := s.Head(deadline(t), "cpu"); fault.CodeOf(err) != fault.NotFound {
				t.Errorf("got %v, want that there is no such pool", err)
			}
			return nil
		},
		"insert": func(s *Store) error {
			_, _, err := s.Register(deadline(t), newIDs(1, "h"))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			line, s := newRefusingLine(t)
			if err := request(s); err != nil {
				t.Error(err)
			}
			if n := line.creations.Load(); n != 1 {
				t.Errorf("%d requests to create a table, want 1", n)
			}
		})
	}
}

// While a role has not arrived, every request fails with a sentence that names the role
// and a code with which callers come again. From then on everything works.
func TestRefusedUntilTheRoleArrives(t *testing.T) {
	t.Parallel()
	line, s := newRefusingLine(t)
	line.refuseAll.Store(true)
	w := newWriter(t, s, "cpu")
	_, _, loading := s.Load(deadline(t), "cpu")
	for name, err := range map[string]error{"transaction": w.try(insert(newJob(1))), "load": loading} {
		if fault.CodeOf(err) != fault.Internal || !strings.Contains(err.Error(), "Storage Table Data Contributor") {
			t.Errorf("%s: got %v, want an internal error that names the role", name, err)
		}
	}
	line.refuseAll.Store(false)
	if err := w.try(insert(newJob(1))); err != nil {
		t.Fatal(err)
	}
	if p, _, err := s.Load(deadline(t), "cpu"); err != nil || len(p.Jobs) != 1 {
		t.Errorf("the pool reads as %+v (%v), want one job", p, err)
	}
}

// A request asks once for a table that cannot be created. Its error does not look like a
// lost race for a row, on which callers act.
func TestTableCannotBeCreated(t *testing.T) {
	t.Parallel()
	line, s := newRefusingLine(t)
	line.refuseCreation.Store(true)
	_, listing := s.PoolNames(deadline(t))
	if n := line.creations.Load(); n != 1 {
		t.Errorf("%d requests to create a table for one query, want 1", n)
	}
	for name, err := range map[string]error{"transaction": newWriter(t, s, "cpu").try(insert(newJob(1))), "query": listing} {
		if fault.CodeOf(err) != fault.Internal || !strings.Contains(err.Error(), "cannot be created") {
			t.Errorf("%s: got %v, want that the table cannot be created", name, err)
		}
	}
}
