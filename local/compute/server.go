//go:build unix

// Package compute is the part of Azure Compute that pools stand on, on one
// machine: the resource manager's calls of a Uniform VM scale set over HTTP,
// with its conditions, long-running operations and errors. An instance is a
// process tree: a supervisor that plays the VM's init, and below it the agent.
// Deleting the instance kills everything below it. It has no networks, disks or
// images: those are checked for form and otherwise believed.
package compute

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"dsvmpools/local/disk"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
)

// Limits of the server.
const (
	maxBody        = 1 << 20 // of a request; a model with the largest custom data is far smaller
	maxInstances   = 1000    // of a scale set
	pageSize       = 100     // instances in one answer
	requestTimeout = 30 * time.Second
	keepOperations = time.Hour // finished ones can be asked for this long
)

// Config says where the server listens and stores, and what its instances run.
type Config struct {
	Addr           string // loopback host:port; port 0 = any free one
	Path           string // store file
	Dir            string // instances have their directories below it
	LogDir         string // what instances write, one file each
	Token          string // bearer token that callers present
	SubscriptionID string
	ResourceGroup  string
	Location       string
	Supervisor     []string // argv that ends in Supervise
	Agent          []string // argv of the agent
	Env            []string // of the agents, besides what an instance adds
	BootDelay      time.Duration
	DeleteDelay    time.Duration
	RestartDelay   time.Duration // before a crashed agent or supervisor is started again
	RetryAfter     time.Duration // told to those who follow an operation
	Log            *slog.Logger
	// OnCapacity is told of every accepted request for capacity.
	OnCapacity func(set string, capacity int, at time.Time)
	// CPUs says what a size has, for the agents; 0 = not known. nil = not known.
	CPUs func(size string) int
}

// Server is a running resource group.
type Server struct {
	cfg      Config
	db       *disk.DB
	listener net.Listener
	http     *http.Server

	mu     sync.Mutex
	sets   map[string]*set // by lower-case name
	ops    map[string]*op
	closed bool
	stop   chan struct{}
	wg     sync.WaitGroup
}

// set is a scale set.
type set struct {
	Name       string
	Location   string
	Tags       map[string]string
	Identity   json.RawMessage `json:",omitempty"`
	SKU        sku
	Properties map[string]json.RawMessage
	Version    int64
	NextID     int
	Deleting   bool
	Instances  []*instance
}

type sku struct {
	Name     string `json:"name"`
	Tier     string `json:"tier,omitempty"`
	Capacity int64  `json:"capacity"`
}

// instance is one VM.
type instance struct {
	VMID    string
	ID      string
	Name    string
	Size    string
	Created time.Time
	State   string // creating, running, deleting

	set  *set
	kill chan struct{} // closed when it is to go
}

const (
	creating = "creating"
	running  = "running"
	deleting = "deleting"
)

// op is a long-running operation: over when each of its instances is running,
// or gone when it deletes.
type op struct {
	ID       string
	Set      string
	Deletes  bool
	VMIDs    []string
	WholeSet bool
	Ended    time.Time
}

// Start opens the store, starts the instances that were there, and listens.
func Start(cfg Config) (*Server, error) {
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%s is not a loopback address; the local compute serves this machine only", cfg.Addr)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, sets: map[string]*set{}, ops: map[string]*op{}, stop: make(chan struct{})}
	if s.db, err = disk.Open(cfg.Path); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		s.db.Close()
		return nil, fmt.Errorf("%s: %w", cfg.Path, err)
	}
	if s.listener, err = net.Listen("tcp", cfg.Addr); err != nil {
		s.db.Close()
		return nil, err
	}
	for _, st := range s.sets {
		for _, inst := range st.Instances {
			s.run(inst)
		}
	}
	s.http = &http.Server{Handler: s, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug)}
	go s.http.Serve(s.listener)
	return s, nil
}

var setsBucket = []byte("sets")

// load reads the sets and what was under way.
func (s *Server) load() error {
	return s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(setsBucket)
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			var st set
			if err := json.Unmarshal(v, &st); err != nil {
				return fmt.Errorf("scale set %s cannot be read; the file is damaged: %w", k, err)
			}
			for _, inst := range st.Instances {
				inst.set, inst.kill = &st, make(chan struct{})
				if inst.State == deleting {
					close(inst.kill)
				}
			}
			s.sets[string(k)] = &st
			return nil
		})
	})
}

// save writes a set, or removes it. The lock is held; what callers see waits
// for the disk.
func (s *Server) save(st *set) error {
	key := []byte(strings.ToLower(st.Name))
	if s.sets[string(key)] != st {
		return s.db.Update(func(tx *bbolt.Tx) error {
			if b := tx.Bucket(setsBucket); b != nil {
				return b.Delete(key)
			}
			return nil
		})
	}
	v, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(setsBucket)
		if err != nil {
			return err
		}
		return b.Put(key, v)
	})
}

// Addr is where the server listens; URL is the resource manager's endpoint.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// URL is what clients take for the resource manager's endpoint.
func (s *Server) URL() string { return "http://" + s.Addr() }

// Close stops the instances, which stay on record, and the server.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.stop)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	s.wg.Wait()
	return s.db.Close()
}

// Snapshot is an instance as tests and demos see it.
type Snapshot struct{ VMID, Name, Set, State string }

// Instances lists all instances.
func (s *Server) Instances() []Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Snapshot
	for _, st := range s.sets {
		for _, i := range st.Instances {
			out = append(out, Snapshot{i.VMID, i.Name, st.Name, i.State})
		}
	}
	return out
}

// Vanish deletes an instance as somebody else would: without any call that the
// pool makes or follows.
func (s *Server) Vanish(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.sets {
		for _, i := range st.Instances {
			if i.Name == name {
				return s.remove(st, []*instance{i})
			}
		}
	}
	return fmt.Errorf("there is no instance %s", name)
}

// armError is an error in the resource manager's form.
type armError struct {
	status  int
	code    string
	message string
}

func (e *armError) Error() string { return e.code + ": " + e.message }

func refuse(status int, code, format string, args ...any) *armError {
	return &armError{status, code, fmt.Sprintf(format, args...)}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("x-ms-request-id", uuid.NewString())
	h.Set("x-ms-correlation-request-id", uuid.NewString())
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Type", "application/json; charset=utf-8")
	if err := s.serve(w, r); err != nil {
		var e *armError
		if !errors.As(err, &e) {
			e = refuse(http.StatusInternalServerError, "InternalServerError", "%v", err)
		}
		h.Set("x-ms-error-code", e.code)
		w.WriteHeader(e.status)
		json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": e.code, "message": e.message}})
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if subtle.ConstantTimeCompare([]byte(given), []byte(s.cfg.Token)) != 1 {
		return refuse(http.StatusUnauthorized, "InvalidAuthenticationToken", "The access token is invalid.")
	}
	if r.URL.Query().Get("api-version") == "" {
		return refuse(http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return refuse(http.StatusRequestEntityTooLarge, "RequestContentTooLarge", "The request content is too large.")
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	at := func(i int, want string) bool { return i < len(parts) && strings.EqualFold(parts[i], want) }
	if !at(0, "subscriptions") || !at(1, s.cfg.SubscriptionID) {
		return refuse(http.StatusNotFound, "SubscriptionNotFound", "The subscription could not be found.")
	}
	if at(2, "providers") && at(6, "operations") && len(parts) == 8 {
		return s.operation(w, r, parts[7])
	}
	if !at(2, "resourceGroups") || !at(3, s.cfg.ResourceGroup) {
		return refuse(http.StatusNotFound, "ResourceGroupNotFound", "Resource group could not be found.")
	}
	if !at(4, "providers") || !at(5, "Microsoft.Compute") || !at(6, "virtualMachineScaleSets") || len(parts) < 8 {
		return refuse(http.StatusNotFound, "InvalidResourceType", "The resource type could not be found.")
	}
	name := parts[7]
	remaining := map[string]string{http.MethodGet: "reads", http.MethodDelete: "deletes"}[r.Method]
	if remaining == "" {
		remaining = "writes"
	}
	w.Header().Set("x-ms-ratelimit-remaining-subscription-"+remaining, "199")
	switch {
	case len(parts) == 8 && r.Method == http.MethodGet:
		return s.get(w, name)
	case len(parts) == 8 && r.Method == http.MethodPut:
		return s.put(w, r, name, body)
	case len(parts) == 8 && r.Method == http.MethodPatch:
		return s.patch(w, r, name, body)
	case len(parts) == 8 && r.Method == http.MethodDelete:
		return s.drop(w, r, name)
	case len(parts) == 9 && at(8, "delete") && r.Method == http.MethodPost:
		return s.deleteInstances(w, r, name, body)
	case len(parts) == 9 && at(8, "virtualMachines") && r.Method == http.MethodGet:
		return s.list(w, r, name)
	}
	return refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "The requested operation is not served by the local compute.")
}

// find returns a set that is not gone. The lock is held.
func (s *Server) find(name string) (*set, error) {
	st := s.sets[strings.ToLower(name)]
	if st == nil {
		return nil, refuse(http.StatusNotFound, "ResourceNotFound", "The Resource 'Microsoft.Compute/virtualMachineScaleSets/%s' under resource group '%s' was not found.", name, s.cfg.ResourceGroup)
	}
	return st, nil
}

func (st *set) etag() string { return fmt.Sprintf("%q", strconv.FormatInt(st.Version, 10)) }

func (s *Server) id(name string) string {
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.Compute/virtualMachineScaleSets/%s", s.cfg.SubscriptionID, s.cfg.ResourceGroup, name)
}

// show writes a set as an answer.
func (s *Server) show(w http.ResponseWriter, status int, st *set) error {
	props := map[string]any{}
	for k, v := range st.Properties {
		props[k] = v
	}
	state := "Succeeded"
	for _, i := range st.Instances {
		if i.State == creating {
			state = "Updating"
		}
	}
	if st.Deleting {
		state = "Deleting"
	}
	props["provisioningState"] = state
	body := map[string]any{"id": s.id(st.Name), "name": st.Name, "type": "Microsoft.Compute/virtualMachineScaleSets", "location": st.Location,
		"tags": st.Tags, "sku": st.SKU, "properties": props, "etag": st.etag()}
	if st.Identity != nil {
		body["identity"] = st.Identity
	}
	w.Header().Set("ETag", st.etag())
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(body)
}

func (s *Server) get(w http.ResponseWriter, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(name)
	if err != nil {
		return err
	}
	return s.show(w, http.StatusOK, st)
}

// put creates a set, or replaces its model and capacity.
func (s *Server) put(w http.ResponseWriter, r *http.Request, name string, body []byte) error {
	want, err := readModel(name, body)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.sets[strings.ToLower(name)]
	if st != nil && r.Header.Get("If-None-Match") == "*" || !matches(st, r.Header.Get("If-Match")) {
		return refuse(http.StatusPreconditionFailed, "PreconditionFailed", "The precondition given in one or more of the request headers evaluated to false.")
	}
	status := http.StatusOK
	if st == nil {
		status = http.StatusCreated
		st = want
		s.sets[strings.ToLower(name)] = st
	} else {
		if st.Deleting {
			return refuse(http.StatusConflict, "OperationNotAllowed", "The scale set is being deleted.")
		}
		st.SKU.Name, st.Properties, st.Tags = want.SKU.Name, want.Properties, want.Tags
	}
	o, err := s.resize(st, int(want.SKU.Capacity))
	if err != nil {
		return err
	}
	s.follow(w, r, o)
	return s.show(w, status, st)
}

func matches(st *set, condition string) bool {
	return condition == "" || st != nil && (condition == "*" || condition == st.etag())
}

// patch changes the capacity, under If-Match.
func (s *Server) patch(w http.ResponseWriter, r *http.Request, name string, body []byte) error {
	var p struct {
		SKU *struct {
			Name     string
			Tier     string
			Capacity *int64
		}
	}
	if err := json.Unmarshal(body, &p); err != nil || p.SKU == nil || p.SKU.Capacity == nil {
		return refuse(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid: the local compute takes a patch of sku.capacity only.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(name)
	if err != nil {
		return err
	}
	if !matches(st, r.Header.Get("If-Match")) {
		return refuse(http.StatusPreconditionFailed, "PreconditionFailed", "The precondition given in one or more of the request headers evaluated to false.")
	}
	if st.Deleting {
		return refuse(http.StatusConflict, "OperationNotAllowed", "The scale set is being deleted.")
	}
	if p.SKU.Name != "" && !strings.EqualFold(p.SKU.Name, st.SKU.Name) {
		return refuse(http.StatusBadRequest, "InvalidParameter", "The size of a scale set with instances cannot be changed here.")
	}
	o, err := s.resize(st, int(*p.SKU.Capacity))
	if err != nil {
		return err
	}
	s.follow(w, r, o)
	return s.show(w, http.StatusOK, st)
}

// drop deletes a set with its instances.
func (s *Server) drop(w http.ResponseWriter, r *http.Request, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(name)
	if err != nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	st.Deleting = true
	if err := s.remove(st, st.Instances); err != nil {
		return err
	}
	o := s.begin(&op{Set: st.Name, Deletes: true, WholeSet: true})
	s.endIfEmpty(st)
	s.follow(w, r, o)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// deleteInstances deletes the named instances; no names means all of them, as
// with the real service.
func (s *Server) deleteInstances(w http.ResponseWriter, r *http.Request, name string, body []byte) error {
	var p struct{ InstanceIDs []string }
	if len(body) > 0 && json.Unmarshal(body, &p) != nil {
		return refuse(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(name)
	if err != nil {
		return err
	}
	var going []*instance
	wanted := map[string]bool{}
	for _, id := range p.InstanceIDs {
		wanted[id] = true
	}
	for _, i := range st.Instances {
		if len(wanted) == 0 || wanted[i.ID] {
			going = append(going, i)
		}
	}
	o := &op{Set: st.Name, Deletes: true}
	for _, i := range going {
		o.VMIDs = append(o.VMIDs, i.VMID)
	}
	if err := s.remove(st, going); err != nil {
		return err
	}
	s.follow(w, r, s.begin(o))
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// list pages through the instances, with their instance view.
func (s *Server) list(w http.ResponseWriter, r *http.Request, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.find(name)
	if err != nil {
		return err
	}
	skip, _ := strconv.Atoi(r.URL.Query().Get("$skiptoken"))
	values := []any{}
	next := ""
	for n, i := range st.Instances {
		if n < skip {
			continue
		}
		if len(values) == pageSize {
			q := r.URL.Query()
			q.Set("$skiptoken", strconv.Itoa(n))
			next = s.URL() + r.URL.Path + "?" + q.Encode()
			break
		}
		values = append(values, s.view(st, i, r.URL.Query().Get("$expand") == "instanceView"))
	}
	answer := map[string]any{"value": values}
	if next != "" {
		answer["nextLink"] = next
	}
	return json.NewEncoder(w).Encode(answer)
}

// view is an instance as the list shows it.
func (s *Server) view(st *set, i *instance, expand bool) any {
	state := map[string]string{creating: "Creating", running: "Succeeded", deleting: "Deleting"}[i.State]
	props := map[string]any{"vmId": i.VMID, "provisioningState": state, "latestModelApplied": true, "timeCreated": i.Created.Format(time.RFC3339Nano)}
	if expand {
		statuses := []any{map[string]any{"code": "ProvisioningState/" + strings.ToLower(state), "level": "Info"}}
		if i.State == running {
			statuses = append(statuses, map[string]any{"code": "PowerState/running", "level": "Info", "displayStatus": "VM running"})
		}
		props["instanceView"] = map[string]any{"statuses": statuses}
	}
	return map[string]any{"instanceId": i.ID, "name": i.Name, "id": s.id(st.Name) + "/virtualMachines/" + i.ID, "location": st.Location,
		"tags": st.Tags, "sku": map[string]string{"name": st.SKU.Name, "tier": st.SKU.Tier}, "properties": props}
}

// begin registers an operation. The lock is held.
func (s *Server) begin(o *op) *op {
	for id, old := range s.ops {
		if !old.Ended.IsZero() && time.Since(old.Ended) > keepOperations {
			delete(s.ops, id)
		}
	}
	o.ID = uuid.NewString()
	s.ops[o.ID] = o
	return o
}

// follow tells the caller where an operation can be followed.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, o *op) {
	url := fmt.Sprintf("%s/subscriptions/%s/providers/Microsoft.Compute/locations/%s/operations/%s?api-version=%s",
		s.URL(), s.cfg.SubscriptionID, s.cfg.Location, o.ID, r.URL.Query().Get("api-version"))
	w.Header().Set("Azure-AsyncOperation", url)
	if o.Deletes {
		w.Header().Set("Location", url+"&monitor=true")
	}
	s.retryAfter(w)
}

// retryAfter says when to look again: in whole seconds as the service does, and
// in milliseconds for those who read that too.
func (s *Server) retryAfter(w http.ResponseWriter) {
	w.Header().Set("Retry-After", strconv.Itoa(int((s.cfg.RetryAfter+time.Second-1)/time.Second)))
	w.Header().Set("retry-after-ms", strconv.FormatInt(s.cfg.RetryAfter.Milliseconds(), 10))
}

// operation answers how an operation stands.
func (s *Server) operation(w http.ResponseWriter, r *http.Request, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.ops[id]
	if o == nil {
		return refuse(http.StatusNotFound, "NotFound", "The operation could not be found.")
	}
	over := s.over(o)
	if r.URL.Query().Get("monitor") != "" {
		if !over {
			s.retryAfter(w)
			w.WriteHeader(http.StatusAccepted)
			return nil
		}
		_, err := w.Write([]byte("{}"))
		return err
	}
	status := "InProgress"
	if over {
		status = "Succeeded"
	} else {
		s.retryAfter(w)
	}
	return json.NewEncoder(w).Encode(map[string]any{"name": o.ID, "status": status})
}

// over reports whether an operation has ended. The lock is held.
func (s *Server) over(o *op) bool {
	if !o.Ended.IsZero() {
		return true
	}
	st := s.sets[strings.ToLower(o.Set)]
	if o.WholeSet && st != nil && st.Deleting {
		return false
	}
	pending := map[string]bool{}
	for _, id := range o.VMIDs {
		pending[id] = true
	}
	if st != nil {
		for _, i := range st.Instances {
			if pending[i.VMID] && (o.Deletes || i.State == creating) {
				return false
			}
		}
	}
	o.Ended = time.Now()
	return true
}
