package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

func (s *server) listSessions(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	all, err := s.Sessions.List(r.Context(), q.Get("pool"), q.Get("user"))
	if err != nil {
		return err
	}
	list, err := page(all, q, func(i int) string { return all[i].Pool + " " + all[i].User + " " + all[i].ID })
	if err != nil {
		return err
	}
	return writeOK(w, list)
}

// openSession returns the session that is there with 200, and a new one with 202.
func (s *server) openSession(w http.ResponseWriter, r *http.Request) error {
	in, done, err := readFields(w, r, "pool", "team", "intent")
	if err != nil {
		return err
	}
	name, team, intent := in.String("pool", "lab"), in.String("team", "vision"), in.String("intent", wire.IntentOpen)
	if err := done(); err != nil {
		return err
	}
	switch intent {
	case "", wire.IntentOpen:
		return s.traced(w, r, func(w http.ResponseWriter, r *http.Request) error {
			session, isNew, err := s.Sessions.Open(r.Context(), name, team)
			if err != nil {
				return err
			}
			if !isNew {
				return writeOK(w, session)
			}
			w.Header().Set("Location", locate(r, "/api/sessions/"+url.PathEscape(session.ID)))
			writeJSON(w, http.StatusAccepted, "application/json", session)
			return nil
		})
	case wire.IntentRejoin:
		session, err := s.Sessions.Rejoin(r.Context(), name)
		if err != nil {
			return err
		}
		return writeOK(w, session)
	}
	return fault.New(fault.Invalid, "intent", "`intent` is %.50q; write open or rejoin", intent)
}

func (s *server) showSession(w http.ResponseWriter, r *http.Request) error {
	session, err := s.Sessions.Session(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeOK(w, session)
}

func (s *server) explainSession(w http.ResponseWriter, r *http.Request) error {
	e, err := s.Sessions.Explain(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeOK(w, e)
}

func (s *server) stopSession(w http.ResponseWriter, r *http.Request) error {
	return changeSession(w, r, s.Sessions.Stop)
}

func (s *server) extendSession(w http.ResponseWriter, r *http.Request) error {
	in, done, err := readFields(w, r, "for")
	if err != nil {
		return err
	}
	var by job.Duration
	in.Text("for", "8h", &by)
	if err := done(); err != nil {
		return err
	}
	return changeSession(w, r, func(ctx context.Context, id string) (wire.Session, error) {
		return s.Sessions.Extend(ctx, id, time.Duration(by))
	})
}

func changeSession(w http.ResponseWriter, r *http.Request, change func(context.Context, string) (wire.Session, error)) error {
	session, err := change(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusAccepted, "application/json", session)
	return nil
}

func (s *server) certifySession(w http.ResponseWriter, r *http.Request) error {
	in, done, err := readFields(w, r, "publicKey")
	if err != nil {
		return err
	}
	key := in.String("publicKey", "ssh-ed25519 AAAA...")
	if err := done(); err != nil {
		return err
	}
	certificate, err := s.Sessions.Certificate(r.Context(), r.PathValue("id"), key)
	if err != nil {
		return err
	}
	return writeOK(w, certificate)
}

// openLab answers a program with the address of the JupyterLab, and leads a browser there.
func (s *server) openLab(w http.ResponseWriter, r *http.Request) error {
	lab, err := s.Sessions.Lab(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Location", lab.URL)
		w.WriteHeader(http.StatusSeeOther)
		return nil
	}
	return writeOK(w, lab)
}

// openDesktop answers with 202 until the node has made the password.
func (s *server) openDesktop(w http.ResponseWriter, r *http.Request) error {
	in, done, err := readFields(w, r, "publicKey")
	if err != nil {
		return err
	}
	key := in.String("publicKey", "aGVsbG8...")
	if err := done(); err != nil {
		return err
	}
	desktop, err := s.Sessions.Desktop(r.Context(), r.PathValue("id"), key)
	if err != nil {
		return err
	}
	if desktop.Sealed == "" {
		writeJSON(w, http.StatusAccepted, "application/json", desktop)
		return nil
	}
	return writeOK(w, desktop)
}

// readFields reads a small document of known fields. done returns what was wrong with them.
func readFields(w http.ResponseWriter, r *http.Request, known ...string) (in *document.Reader, done func() error, err error) {
	body, err := readBody(w, r)
	if err != nil {
		return nil, nil, err
	}
	n, err := document.Parse(body, r.Header.Get("Content-Type"))
	if err != nil {
		return nil, nil, err
	}
	in = document.Read(n, known...)
	return in, func() error {
		if err := in.Err(); err != nil {
			return n.Locate(err)
		}
		return nil
	}, nil
}
