//go:build unix

// Package compute is the part of Azure Compute that pools need, on one machine, for
// `dsvm up` and for tests: the resource manager's calls of a Uniform VM scale set over
// HTTP, with its conditions, long-running operations and errors. An instance is a tree
// of processes: a supervisor that plays the VM's init, and below it the agent. Deleting
// the instance kills all of them. Each instance has a metadata endpoint, like the
// address 169.254.169.254 of a VM. The failures of the cloud happen here on demand, by
// Config.Quota, CloudRates and Chaos.
//
// It has no networks, disks or images: it checks only their form. It knows nothing of
// jobs or pools, and it listens on loopback addresses only.
package compute

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"dsvmpools/local/chaos"
	"dsvmpools/local/disk"
	"dsvmpools/local/internal/tlsport"
	"dsvmpools/shared/door"
)

// Limits of the server.
const (
	maxBody        = 1 << 20 // of a request; a model with the largest custom data is far smaller
	maxInstances   = 1000    // of a scale set
	pageSize       = 100     // instances in one answer
	requestTimeout = 30 * time.Second
	keepOperations = time.Hour // after their end, in which clients can ask for them
	maxSets        = 2000      // of a region and subscription
	maxHeader      = 32 << 10  // of a request's header, in bytes
	headerTimeout  = 10 * time.Second
)

// Config says where the server listens and stores, and what its instances run.
type Config struct {
	Addr           string      // loopback host:port; port 0 = any free one
	Path           string      // store file
	Dir            string      // holds the directories of the instances
	LogDir         string      // one log file for each instance, which stays after its deletion; "" = Dir/logs
	Token          string      // bearer token that callers present
	TLS            *tls.Config // for clients that begin with TLS; nil = plain HTTP only
	SubscriptionID string
	ResourceGroup  string
	Location       string
	Supervisor     []string // argv that ends in Supervise
	Agent          []string // argv of the agent
	Env            []string // of the agents; each instance adds its own
	BootDelay      time.Duration
	DeleteDelay    time.Duration
	RestartDelay   time.Duration // before a crashed agent or supervisor is started again; 0 = 1s
	KillAfter      time.Duration // time for a supervisor to end, before it is killed; 0 = 10s
	RetryAfter     time.Duration // in answers about an operation that has not ended
	Log            *slog.Logger
	// OnCapacity is called for every accepted create and change of capacity, under the
	// server's lock: it must not call the server.
	OnCapacity func(set string, capacity int, at time.Time)
	// CPUs returns the number of CPUs of a size, for the agents; 0 or a nil func = unknown.
	CPUs func(size string) int
	// Quota limits the cores of a family (standardDSv5Family), of a size, of all
	// regular instances (QuotaTotal) and of all Spot ones (QuotaSpot). nil = no
	// limits. A size with an unknown number of CPUs counts as one core.
	Quota map[string]int
	// Sizes are the sizes in the region's list. A set may have another one.
	Sizes []string
	// CloudRates limits requests as the service does; without it there are no
	// limits.
	CloudRates bool
	// NodeToken is the token of the nodes' identity that the metadata endpoint returns;
	// "" = nodes have no identity. With it the resource manager deletes one instance at a time,
	// and refuses everything else.
	NodeToken string
	// Providers answer the calls for other kinds of resources of the group, by the name of
	// their provider, such as Microsoft.Relay; who calls has been checked then.
	Providers map[string]http.Handler
	// Surroundings are what the scale sets stand on.
	Surroundings Surroundings
	// EvictionNotice is the time from the Scheduled Event to the eviction; 0 = 30s.
	EvictionNotice time.Duration
	// Chaos makes requests and instances fail; nil = none. The server is "compute". Its
	// operations are put, patch, get, list, delete, deleteInstances, deleteInstance, operation,
	// usages, vmSizes and token, with the set (for token the instance) as entity, and the steps
	// allocate, boot, run and remove of instances.
	Chaos *chaos.Set
}

// Server is a running resource group.
type Server struct {
	cfg      Config
	db       *disk.DB
	listener net.Listener
	http     *http.Server
	manager  http.Handler // of the resource manager's calls

	mu     sync.Mutex
	sets   map[string]*set // by lower-case name
	ops    map[string]*op
	nodes  map[string]*instance // by the key of their metadata endpoint
	rates  buckets
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
	Zones      []string `json:",omitempty"`
	Properties map[string]json.RawMessage
	Model      int64                     `json:",omitempty"` // counts the models that it had
	Profiles   map[int64]json.RawMessage `json:",omitempty"` // of earlier models that instances run with
	Version    int64
	NextID     int
	Deleting   bool
	Op         string // the last operation on its model
	Failed     bool   // that operation failed
	Instances  []*instance

	past        []snapshot // earlier lists of its instances, for lists with a lag
	events      []*event   // Scheduled Events that have not ended
	incarnation int        // of the events; it grows with each change of them
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
	State   string   // creating, running, failed, deleting
	Power   string   `json:",omitempty"` // power state, where State does not imply it
	Failure *Failure `json:",omitempty"` // why State is failed
	Model   int64    `json:",omitempty"` // that it was created with

	set     *set
	kill    chan struct{} // closed when it is deleted
	halt    chan struct{} // closed when its guest stops and the instance stays
	removal chaos.Verdict // the injected failure of its deletion
}

const (
	creating = "creating"
	running  = "running"
	failed   = "failed"
	deleting = "deleting"
)

// Start opens the store, starts the instances in it, and listens.
func Start(cfg Config) (*Server, error) {
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, err
	}
	if !door.IsLoopback(host) {
		return nil, fmt.Errorf("%s is not a loopback address; the local compute serves this machine only", cfg.Addr)
	}
	if cfg.Token == "" || len(cfg.Supervisor) == 0 {
		return nil, errors.New("the local compute needs a token that callers present, and the command line of a supervisor")
	}
	if cfg.LogDir == "" {
		cfg.LogDir = filepath.Join(cfg.Dir, "logs")
	}
	if cfg.RestartDelay <= 0 {
		cfg.RestartDelay = defaultRestart // an agent that ends at once must not be started in a tight loop
	}
	if cfg.KillAfter <= 0 {
		cfg.KillAfter = killAfter
	}
	if cfg.EvictionNotice <= 0 {
		cfg.EvictionNotice = evictionNotice
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg:   cfg,
		sets:  map[string]*set{},
		ops:   map[string]*op{},
		nodes: map[string]*instance{},
		rates: buckets{},
		stop:  make(chan struct{}),
	}
	s.manager = s.managerHandler()
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
	s.mu.Lock()
	for _, st := range s.sets {
		s.recordSnapshot(st)
		for _, inst := range st.Instances {
			s.run(inst, true)
		}
		s.removeIfEmpty(st)
	}
	s.mu.Unlock()
	s.http = &http.Server{
		Handler:           s.guarded(),
		ReadHeaderTimeout: headerTimeout,
		MaxHeaderBytes:    maxHeader,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	go s.http.Serve(tlsport.Listen(s.listener, cfg.TLS))
	return s, nil
}

// Addr returns the address at which the server listens, as host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// URL returns the endpoint of the resource manager, for clients.
func (s *Server) URL() string { return "http://" + s.Addr() }

// SecureURL returns the endpoint for clients with TLS; the server must have Config.TLS.
func (s *Server) SecureURL() string {
	_, port, _ := net.SplitHostPort(s.Addr())
	return "https://localhost:" + port
}

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

// Snapshot is the state of an instance, for tests and demos.
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
	slices.SortStableFunc(out, func(a, b Snapshot) int { return strings.Compare(a.Set, b.Set) })
	return out
}

// Remove deletes an instance as an outsider would: without any call that the pool makes
// or watches.
func (s *Server) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.findInstance(name)
	if err != nil {
		return err
	}
	return s.removeInstances(i.set, []*instance{i}, nil)
}

// findInstance finds an instance that is not being deleted. The lock is held.
func (s *Server) findInstance(name string) (*instance, error) {
	for _, st := range s.sets {
		for _, i := range st.Instances {
			if strings.EqualFold(i.Name, name) && i.State != deleting {
				return i, nil
			}
		}
	}
	return nil, fmt.Errorf("there is no node %.100q; `dsvm node list` shows the nodes", name)
}
