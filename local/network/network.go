// Package network is the part of Azure's network that interactive pools need, on one machine: the
// resource manager's calls for the rules of a security group, for public addresses and for Standard
// load balancers, with the conditions that Azure sets and its errors. A change takes a moment, as
// it does there. A balancer is real: it listens at its address on this machine, and leads each
// connection to one of its backends that answers.
//
// Nothing here filters: whether a rule lets a connection in is for its reader to see. Answers name
// no operation to ask for; who wants to know how far a change is reads the resource.
package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"dsvmpools/shared/wholefile"
)

// Limits of the service.
const (
	maxBody  = 1 << 20
	maxRules = 1000 // of a group, by the service's page of limits
)

// Config says what there is.
type Config struct {
	Path   string        // file that keeps the resources; "" = none: memory alone
	Guards []string      // names of the security groups that are there
	Delay  time.Duration // that a change takes
	Most   int           // public addresses that the subscription may have; 0 = 100
	Log    *slog.Logger  // nil = nothing is logged
}

// Server keeps the resources. It is an http.Handler behind the local resource manager, which has
// checked who calls.
type Server struct {
	cfg Config

	mu       sync.Mutex
	all      map[string]*resource // by kind/name, in small letters
	forwards map[string]*forward  // of balancers, by the key of their resource
}

// Kinds of resources, as in their paths.
const (
	kindGuard    = "networkSecurityGroups"
	kindRule     = "securityRules"
	kindAddress  = "publicIPAddresses"
	kindBalancer = "loadBalancers"
	kindBackends = "backendAddressPools"
)

// resource is a resource as its last caller wrote it.
type resource struct {
	ID         string                     `json:"id"`
	Name       string                     `json:"name"`
	Location   string                     `json:"location,omitempty"`
	Tags       map[string]string          `json:"tags,omitempty"`
	SKU        map[string]string          `json:"sku,omitempty"`
	Properties map[string]json.RawMessage `json:"properties"`

	ReadyAt time.Time `json:"readyAt,omitzero"` // when the last change has ended
	Leaves  bool      `json:"leaves,omitempty"` // that change is its deletion
}

// Start reads what an earlier run has kept, and has its balancers listen.
func Start(cfg Config) (*Server, error) {
	if cfg.Most == 0 {
		cfg.Most = 100
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, all: map[string]*resource{}, forwards: map[string]*forward{}}
	if cfg.Path != "" {
		text, err := os.ReadFile(cfg.Path)
		if err == nil {
			err = json.Unmarshal(text, &s.all)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the network in %s cannot be read (%w); restore the file, or move it away: pools make what they need again",
				cfg.Path, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forwardAll()
	return s, nil
}

// Close ends the balancers.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, f := range s.forwards {
		f.close()
		delete(s.forwards, key)
	}
	return nil
}

// Resources lists what is there, as type/name: what the list of a resource group shows. Rules
// are parts of their group, which costs nothing.
func (s *Server) Resources() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	var out []string
	for key, r := range s.all {
		if kind, _, _ := strings.Cut(key, "/"); kind != strings.ToLower(kindRule) {
			out = append(out, "Microsoft.Network/"+strings.TrimPrefix(r.ID[strings.LastIndex(r.ID, "Microsoft.Network/"):], "Microsoft.Network/"))
		}
	}
	slices.Sort(out)
	return out
}

// refusal is an answer with an error.
type refusal struct {
	status        int
	code, message string
}

func (r *refusal) Error() string { return r.code + ": " + r.message }

func refuse(status int, code, format string, args ...any) *refusal {
	return &refusal{status, code, fmt.Sprintf(format, args...)}
}

// invalid refuses what a body says.
func invalid(code, format string, args ...any) *refusal {
	return refuse(http.StatusBadRequest, code, format, args...)
}

// The form of names, as the service says it in its refusal.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?$`)

// where is what a path names.
type where struct {
	id            string // of the resource
	kind, name    string // loadBalancers, NAME; name "" = all of the kind
	child, childs string // backendAddressPools, NAME
}

func parsePath(path string) (w where, ok bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	const kind, name, child, childs = 6, 7, 8, 9
	if len(parts) <= kind || len(parts) > childs+1 || !strings.EqualFold(parts[5], "Microsoft.Network") {
		return w, false
	}
	word := func(i int, words ...string) string {
		if len(parts) <= i {
			return ""
		}
		for _, w := range words {
			if strings.EqualFold(w, parts[i]) {
				return w
			}
		}
		return "-"
	}
	w.id = "/" + strings.Join(parts, "/")
	w.kind = word(kind, kindGuard, kindAddress, kindBalancer)
	w.child = word(child, kindRule, kindBackends)
	if len(parts) > name {
		w.name = parts[name]
	}
	if len(parts) > childs {
		w.childs = parts[childs]
	}
	return w, w.kind != "-" && w.child != "-"
}

// ServeHTTP answers a call of the resource manager.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, body, err := s.answer(r)
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		status, body = refused.status, errorBody(refused.code, refused.message)
	case err != nil:
		s.cfg.Log.Error("call failed", "method", r.Method, "path", r.URL.Path, "error", err)
		status, body = http.StatusInternalServerError, errorBody("InternalServerError", "The network could not be kept.")
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if body != nil {
		_ = json.NewEncoder(w).Encode(body)
	}
}

func errorBody(code, message string) any {
	return map[string]any{"error": map[string]string{"code": code, "message": message}}
}

var errNotServed = refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "The requested operation is not served by the local network.")

// answer carries a call out.
func (s *Server) answer(r *http.Request) (status int, body any, err error) {
	at, ok := parsePath(r.URL.Path)
	if !ok {
		return 0, nil, refuse(http.StatusNotFound, "InvalidResourceType", "The resource type is not served by the local network.")
	}
	text, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return 0, nil, refuse(http.StatusRequestEntityTooLarge, "RequestContentTooLarge", "The request content is too large.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	switch {
	case at.kind == kindGuard && at.child == kindRule:
		return s.answerRule(r.Method, at, text)
	case at.child == kindBackends && at.kind == kindBalancer && at.childs != "":
		return s.answerBackends(r.Method, at, text)
	case at.child != "" || at.kind == kindGuard:
		return 0, nil, errNotServed
	}
	return s.answerWhole(r.Method, at, text)
}

// answerWhole answers calls for public addresses and balancers.
func (s *Server) answerWhole(method string, at where, text []byte) (status int, body any, err error) {
	key := keyOf(at.kind, at.name)
	has := s.all[key]
	switch {
	case at.name == "" && method == http.MethodGet:
		return http.StatusOK, s.list(at.kind), nil
	case at.name == "":
		return 0, nil, errNotServed
	case method == http.MethodDelete && has == nil:
		return http.StatusNoContent, nil, nil
	case method == http.MethodDelete:
		if at.kind == kindAddress {
			if err := s.mayRemoveAddress(has); err != nil {
				return 0, nil, err
			}
		}
		return http.StatusAccepted, nil, s.leave(has)
	case method == http.MethodGet && has == nil:
		return 0, nil, notFound(at)
	case method == http.MethodGet:
		return http.StatusOK, has.view(), nil
	case method != http.MethodPut:
		return 0, nil, errNotServed
	}
	put, err := s.read(at, text)
	if err == nil && at.kind == kindAddress {
		err = s.checkAddress(put, has == nil)
	} else if err == nil {
		err = s.checkBalancer(put)
	}
	if err != nil {
		return 0, nil, err
	}
	s.all[key] = put
	status = http.StatusOK
	if has == nil {
		status = http.StatusCreated
	}
	return status, put.view(), s.changed(put)
}

// read reads the body of a PUT.
func (s *Server) read(at where, text []byte) (*resource, error) {
	put := &resource{}
	if err := json.Unmarshal(text, put); err != nil {
		return nil, invalid("InvalidRequestContent", "The request content was invalid and could not be deserialized: '%s'.", err)
	}
	put.ID, put.Name = at.id, at.id[strings.LastIndex(at.id, "/")+1:]
	if !nameForm.MatchString(put.Name) {
		return nil, invalid("InvalidResourceName", "Resource name %.100s is invalid. The name can be up to 80 characters long. "+
			"It must begin with a word character, and it must end with a word character or with '_'. "+
			"The name may contain word characters or '.', '-', '_'.", put.Name)
	}
	if put.Properties == nil {
		put.Properties = map[string]json.RawMessage{}
	}
	return put, nil
}

func keyOf(kind, name string) string { return strings.ToLower(kind + "/" + name) }

func notFound(at where) *refusal {
	return refuse(http.StatusNotFound, "ResourceNotFound", "The Resource 'Microsoft.Network/%s/%.100s' was not found.", at.kind, at.name)
}

// list is the list of all resources of a kind.
func (s *Server) list(kind string) any {
	value := []any{}
	keys := []string{}
	for key := range s.all {
		if strings.HasPrefix(key, strings.ToLower(kind)+"/") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		value = append(value, s.all[key].view())
	}
	return map[string]any{"value": value}
}

// view is a resource as an answer shows it.
func (r *resource) view() any {
	shown := *r
	shown.Properties = map[string]json.RawMessage{}
	for name, value := range r.Properties {
		shown.Properties[name] = value
	}
	state := "Succeeded"
	switch {
	case r.Leaves:
		state = "Deleting"
	case time.Now().Before(r.ReadyAt):
		state = "Updating"
	}
	shown.Properties["provisioningState"], _ = json.Marshal(state)
	shown.ReadyAt, shown.Leaves = time.Time{}, false
	return shown
}

// leave begins a deletion. Another call for it changes nothing of one that is under way.
func (s *Server) leave(r *resource) error {
	if r.Leaves {
		return nil
	}
	r.Leaves = true
	return s.changed(r)
}

// changed notes when a change will have ended, and keeps it.
func (s *Server) changed(r *resource) error {
	r.ReadyAt = time.Now().Add(s.cfg.Delay)
	s.settle()
	return s.save()
}

// settle ends the changes whose time is over.
func (s *Server) settle() {
	for key, r := range s.all {
		if r.Leaves && !time.Now().Before(r.ReadyAt) {
			delete(s.all, key)
		}
	}
	s.forwardAll()
}

// save writes the file.
func (s *Server) save() error {
	if s.cfg.Path == "" {
		return nil
	}
	text, err := json.MarshalIndent(s.all, "", "  ")
	if err != nil {
		return err
	}
	return wholefile.Replace(s.cfg.Path, append(text, '\n'), 0o600)
}
