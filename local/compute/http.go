//go:build unix

package compute

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"dsvmpools/local/chaos"
	"dsvmpools/shared/door"
)

// answer is kept until it is complete, so that nobody who reads slowly holds
// the lock under which it is written.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &answer{header: w.Header(), status: http.StatusOK}
	h := a.header
	h.Set("x-ms-request-id", uuid.NewString())
	h.Set("x-ms-correlation-request-id", uuid.NewString())
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Type", "application/json; charset=utf-8")
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := s.serve(a, r); err != nil {
		var f interface{ write(http.ResponseWriter) }
		if !errors.As(err, &f) {
			s.cfg.Log.Error("a call failed", "method", r.Method, "path", r.URL.Path, "error", err)
			f = refuse(http.StatusInternalServerError, "InternalServerError", "The call could not be carried out.")
		}
		a.body.Reset()
		f.write(a)
	}
	w.WriteHeader(a.status)
	w.Write(a.body.Bytes())
}

// guarded is the wall against web pages. What is posted to a metadata endpoint may
// have any type, as in the cloud: the header that it asks for is one that a page
// cannot set.
func (s *Server) guarded() http.Handler {
	calls, metadata := door.Door{}.Guard(s, true), door.Door{}.Guard(s, false)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := node(r.URL.Path); ok {
			metadata.ServeHTTP(w, r)
			return
		}
		calls.ServeHTTP(w, r)
	})
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	if key, path, ok := node(r.URL.Path); ok {
		return s.metadata(w, r, key, path)
	}
	given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if s.cfg.NodeToken != "" && subtle.ConstantTimeCompare([]byte(given), []byte(s.cfg.NodeToken)) == 1 {
		return failure("AuthorizationFailed")
	}
	if subtle.ConstantTimeCompare([]byte(given), []byte(s.cfg.Token)) != 1 {
		return refuse(http.StatusUnauthorized, "InvalidAuthenticationToken", "The access token is invalid.")
	}
	if r.URL.Query().Get("api-version") == "" {
		return refuse(http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return refuse(http.StatusRequestEntityTooLarge, "RequestContentTooLarge", "The request content is too large.")
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	at := func(i int, want string) bool { return i < len(parts) && strings.EqualFold(parts[i], want) }
	if !at(0, "subscriptions") || !at(1, s.cfg.SubscriptionID) {
		return refuse(http.StatusNotFound, "SubscriptionNotFound", "The subscription could not be found.")
	}
	if at(2, "providers") && at(6, "operations") && len(parts) == 8 {
		if err := s.limitManager(w, r.Method); err != nil {
			return err
		}
		o, err := s.disturb(r, "operation", s.setOf(parts[7]))
		if err == nil {
			err = s.operation(w, r, parts[7])
		}
		lose(o)
		return err
	}
	if at(2, "providers") && at(3, "Microsoft.Compute") && at(4, "locations") && at(6, "usages") && len(parts) == 7 && r.Method == http.MethodGet {
		if err := s.limitManager(w, r.Method); err != nil {
			return err
		}
		o, err := s.disturb(r, "usages", "")
		if err == nil {
			err = s.usages(w, parts[5])
		}
		lose(o)
		return err
	}
	if at(2, "providers") && at(3, "Microsoft.Compute") && at(4, "locations") && at(6, "vmSizes") && len(parts) == 7 && r.Method == http.MethodGet {
		if err := s.limitManager(w, r.Method); err != nil {
			return err
		}
		o, err := s.disturb(r, "vmSizes", "")
		if err == nil {
			err = s.vmSizes(w, parts[5])
		}
		lose(o)
		return err
	}
	if !at(2, "resourceGroups") || !at(3, s.cfg.ResourceGroup) {
		return refuse(http.StatusNotFound, "ResourceGroupNotFound", "Resource group could not be found.")
	}
	if !at(4, "providers") || !at(5, "Microsoft.Compute") || !at(6, "virtualMachineScaleSets") || len(parts) < 8 {
		return refuse(http.StatusNotFound, "InvalidResourceType", "The resource type could not be found.")
	}
	name := parts[7]
	action := ""
	switch {
	case len(parts) == 8:
		action = map[string]string{http.MethodGet: "get", http.MethodPut: "put", http.MethodPatch: "patch", http.MethodDelete: "delete"}[r.Method]
	case len(parts) == 9 && at(8, "delete") && r.Method == http.MethodPost:
		action = "deleteInstances"
	case len(parts) == 9 && at(8, "virtualMachines") && r.Method == http.MethodGet:
		action = "list"
	}
	if err := s.limitManager(w, r.Method); err != nil {
		return err
	}
	o, err := s.disturb(r, action, name)
	if err != nil {
		return err
	}
	switch action {
	case "get":
		err = s.get(w, name)
	case "put":
		err = s.put(w, r, name, body)
	case "patch":
		err = s.patch(w, r, name, body)
	case "delete":
		err = s.drop(w, r, name)
	case "deleteInstances":
		err = s.deleteInstances(w, r, name, body)
	case "list":
		err = s.list(w, r, name, o)
	default:
		err = refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "The requested operation is not served by the local compute.")
	}
	lose(o)
	return err
}

// lose ends the connection after the work and before the answer, when that is
// what is to happen.
func lose(o chaos.Outcome) {
	if o.Do == chaos.Lose {
		panic(http.ErrAbortHandler)
	}
}
