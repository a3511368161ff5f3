//go:build unix

// Package local puts the local servers together to one machine that plays
// Azure: Service Bus, Table Storage, the resource manager and the Functions
// host, with a folder that holds all of it. It goes on where it was when it is
// started on the same folder again, whatever happened in between.
package local

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"dsvmpools"
	"dsvmpools/local/chaos"
	"dsvmpools/local/compute"
	"dsvmpools/local/functions"
	"dsvmpools/local/servicebus"
	"dsvmpools/local/tables"
	"dsvmpools/shared/door"
	"dsvmpools/shared/size"
)

// What the local deployment is called; any names would do.
const (
	subscription  = "00000000-0000-4000-8000-000000000001"
	resourceGroup = "dsvmpools"
	location      = "westeurope"
	account       = "dsvmpools"
	subnet        = "/subscriptions/" + subscription + "/resourceGroups/" + resourceGroup + "/providers/Microsoft.Network/virtualNetworks/pools/subnets/nodes"
)

// Times of the local deployment where they differ from the cloud's: instances
// come and go in seconds here.
const (
	bootDelay    = 500 * time.Millisecond
	deleteDelay  = 200 * time.Millisecond
	restartDelay = 500 * time.Millisecond
	retryAfter   = 200 * time.Millisecond
	workLock     = 2 * time.Minute // session lock of a node
	// Messages to and from nodes are never given up because a process was killed
	// while it held them.
	internalDeliveries = 1000
	workTTL            = 24 * time.Hour   // of what waits for a node that is gone
	controlTimeout     = 10 * time.Second // for a rule to arrive; it is a line
)

// Config says where the instance lives and how it runs its parts.
type Config struct {
	Dir      string   // all of it
	Program  []string // argv of dsvm itself, which plays handler, agent and init
	Settings map[string]string
	AgentEnv []string
	Log      slog.Level

	BootDelay   time.Duration // 0 = the default
	MessageLock time.Duration // of messages that a function holds; 0 = a minute, as in the cloud
	Deliveries  int           // of a job's or a pool's message, before it is dead-lettered; 0 = ten, as in the cloud
	Seed        uint64        // of the faults that are commanded
	// CloudRates has the servers keep the rates of the cloud, and refuse what goes
	// beyond them.
	CloudRates bool
	Quota      map[string]int // of cpus, see compute.Config
	// OnCapacity is told of every accepted request for capacity.
	OnCapacity func(set string, capacity int, at time.Time)
}

// Description is what instance.json holds. It has keys and is readable by its
// owner only.
type Description struct {
	URL        string `json:"url"`
	Key        string `json:"key"`
	ServiceBus string `json:"serviceBus"`
	Tables     string `json:"tables"`
	ARM        string `json:"arm"`
	Control    string `json:"control"` // where faults are commanded
	ControlKey string `json:"controlKey"`
}

// Instance is a running deployment.
type Instance struct {
	Description
	Bus     *servicebus.Server
	Tables  *tables.Server
	Compute *compute.Server
	Host    *functions.Host
	Chaos   *chaos.Set
	Share   string
	Notes   []string // what a person should know of the start, in sentences

	host  functions.Config
	lock  *flock.Flock
	close []func() error
}

// identity is what an instance keeps across restarts: its ports and keys.
type identity struct {
	Ports map[string]int
	Keys  map[string]string
}

// Start starts everything and returns when the handler answers.
func Start(ctx context.Context, cfg Config) (in *Instance, err error) {
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	defer func() { err = startError(cfg.Dir, err) }()
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, err
	}
	if err := closeFolders(cfg.Dir); err != nil {
		return nil, err
	}
	in = &Instance{Share: filepath.Join(cfg.Dir, "share"), Chaos: chaos.New(cfg.Seed), lock: flock.New(filepath.Join(cfg.Dir, "lock"))}
	if got, err := in.lock.TryLock(); err != nil {
		return nil, fmt.Errorf("%s cannot be locked: %w", cfg.Dir, err)
	} else if !got {
		return nil, fmt.Errorf("%s is in use by another dsvm up%s; stop it first, or choose another folder with --data", cfg.Dir, holder(in.lock.Path()))
	}
	hold(in.lock.Path())
	in.close = append(in.close, in.lock.Unlock)
	defer func() {
		if err != nil {
			in.Close()
			in = nil
		}
	}()
	id, err := loadIdentity(cfg.Dir)
	if err != nil {
		return in, err
	}
	if err := checkWhole(cfg.Dir); err != nil {
		return in, err
	}
	taken := id.freePorts()
	if err := os.MkdirAll(in.Share, 0o755); err != nil {
		return in, err
	}
	log, err := in.logger(cfg, "servers")
	if err != nil {
		return in, err
	}
	if err := in.startServers(cfg, id, log); err != nil {
		return in, err
	}
	if err := in.startHost(cfg, id, log); err != nil {
		return in, err
	}
	if err := in.startControl(id); err != nil {
		return in, err
	}
	if err := saveIdentity(cfg.Dir, id); err != nil {
		return in, err
	}
	if err := in.awaitHandler(ctx, cfg); err != nil {
		return in, err
	}
	in.Notes = append(in.Notes, id.moved(taken)...)
	return in, in.describe(cfg.Dir)
}

// handlerTime is how long the handler may take to come up. It takes a second; one that
// refuses a setting ends at once, and is started again without end.
const handlerTime = 30 * time.Second

// awaitHandler waits until the handler answers. The error has its last words.
func (in *Instance) awaitHandler(ctx context.Context, cfg Config) error {
	bounded, cancel := context.WithTimeout(ctx, handlerTime)
	defer cancel()
	err := in.Host.Ready(bounded)
	if err == nil {
		return nil
	}
	file := filepath.Join(cfg.Dir, "logs", "handler.log")
	return fmt.Errorf("the handler does not come up (%w); %s ends with: %s", err, file, lastLine(file))
}

// lastLine is the last line of a log, as far as its last 4 KiB have it whole.
func lastLine(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 4 << 10
	if at, err := f.Stat(); err == nil && at.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(f, most))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// addr is a server's address: the port it had before, as long as it is free.
func (id *identity) addr(name string) string {
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(id.Ports[name]))
}

func (id *identity) keep(name, addr string) {
	_, port, _ := net.SplitHostPort(addr)
	var n int
	fmt.Sscan(port, &n)
	id.Ports[name] = n
}

func (in *Instance) startServers(cfg Config, id *identity, log *slog.Logger) (err error) {
	data := filepath.Join(cfg.Dir, "data")
	in.Tables, err = tables.Start(tables.Config{Addr: id.addr("tables"), Path: filepath.Join(data, "tables.db"), Account: account, Key: id.Keys["tables"], Log: log,
		CloudRates: cfg.CloudRates, Chaos: in.Chaos})
	if err != nil {
		return fmt.Errorf("the local tables: %w", err)
	}
	in.close = append(in.close, in.Tables.Close)
	id.keep("tables", in.Tables.Addr())
	in.Bus, err = servicebus.Start(servicebus.Config{Addr: id.addr("serviceBus"), Path: filepath.Join(data, "servicebus.db"), Log: log,
		CloudRates: cfg.CloudRates, Chaos: in.Chaos,
		Queues: []servicebus.QueueConfig{
			{Name: "jobs", LockDuration: cfg.MessageLock, MaxDeliveryCount: cfg.Deliveries}, {Name: "pools", LockDuration: cfg.MessageLock, MaxDeliveryCount: cfg.Deliveries},
			{Name: "rejected"},
			{Name: "pool-events", LockDuration: cfg.MessageLock, MaxDeliveryCount: internalDeliveries},
			{Name: "node-events", LockDuration: cfg.MessageLock, MaxDeliveryCount: internalDeliveries},
			{Name: "work", RequiresSession: true, LockDuration: workLock, MaxDeliveryCount: internalDeliveries, DefaultTTL: workTTL},
		},
		AccessKeys: []servicebus.AccessKey{
			{Name: "RootManageSharedAccessKey", Key: id.Keys["bus"], Send: true, Listen: true, Manage: true},
			{Name: "agent", Key: id.Keys["agent"], Entities: map[string]servicebus.Right{"work": {Listen: true}, "node-events": {Send: true}}},
		}})
	if err != nil {
		return fmt.Errorf("the local Service Bus: %w", err)
	}
	in.close = append(in.close, in.Bus.Close)
	id.keep("serviceBus", in.Bus.Addr())
	boot := cfg.BootDelay
	if boot == 0 {
		boot = bootDelay
	}
	in.Compute, err = compute.Start(compute.Config{Addr: id.addr("arm"), Path: filepath.Join(data, "compute.db"), Dir: filepath.Join(cfg.Dir, "instances"),
		LogDir: filepath.Join(cfg.Dir, "logs"), Token: id.Keys["arm"], SubscriptionID: subscription, ResourceGroup: resourceGroup, Location: location,
		Supervisor: append(append([]string(nil), cfg.Program...), "instance"), Agent: append(append([]string(nil), cfg.Program...), "agent"),
		Env:       append([]string{"ServiceBusConnection=" + in.Bus.ConnectionString("agent"), "SHARE_PATH=" + in.Share, "DSVM_NODE_ADDRESS=127.0.0.1"}, cfg.AgentEnv...),
		BootDelay: boot, DeleteDelay: deleteDelay, RestartDelay: restartDelay, RetryAfter: retryAfter, Log: log, OnCapacity: cfg.OnCapacity,
		NodeToken: id.Keys["node"], Chaos: in.Chaos, CloudRates: cfg.CloudRates, Quota: cfg.Quota, Sizes: size.Names(),
		CPUs: func(name string) int {
			s, _ := size.Lookup(name)
			return s.CPUs
		}})
	if err != nil {
		return fmt.Errorf("the local compute: %w", err)
	}
	in.close = append(in.close, in.Compute.Close)
	id.keep("arm", in.Compute.Addr())
	return nil
}

func (in *Instance) startHost(cfg Config, id *identity, log *slog.Logger) error {
	root := filepath.Join(cfg.Dir, "app")
	if err := Layout(root); err != nil {
		return err
	}
	output, err := in.logFile(cfg, "handler")
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", id.addr("url"))
	if err != nil {
		return fmt.Errorf("the local Functions host: %w", err)
	}
	settings := map[string]string{
		"DSVM_PUBLIC_URL":          cmp.Or(os.Getenv("DSVM_PUBLIC_URL"), "http://"+l.Addr().String()), // links on commits lead here
		"FUNCTIONS_WORKER_RUNTIME": "custom", "AzureWebJobsDisableHomepage": "true", "ServiceBusConnection": in.Bus.ConnectionString("RootManageSharedAccessKey"), "TablesConnection": in.Tables.ConnectionString(),
		"AZURE_SUBSCRIPTION_ID": subscription, "AZURE_RESOURCE_GROUP": resourceGroup, "AZURE_LOCATION": location,
		"AZURE_RESOURCE_MANAGER_ENDPOINT": in.Compute.URL(), "DSVM_ARM_TOKEN": id.Keys["arm"], "DSVM_SUBNET_ID": subnet, "SHARE_PATH": in.Share,
		"JOBS_QUEUE": "jobs", "POOLS_QUEUE": "pools", "POOL_EVENTS_QUEUE": "pool-events", "NODE_EVENTS_QUEUE": "node-events", "WORK_QUEUE": "work", "REJECTED_QUEUE": "rejected",
		"RECONCILE_SCHEDULE": "0 * * * * *", "NIGHTLY_SCALE_DOWN": "0 0 * * * *", "RECORD_USAGE_SCHEDULE": "30 * * * * *", "COMMIT_STATUS_SCHEDULE": "*/5 * * * * *",
		"DSVM_FLEET_POLL": "500ms", "DSVM_MISSING_FOR": "2s", "DSVM_LEDGER_DELAY": "1s", "DSVM_RESEND_AFTER": "10s",
	}
	maps.Copy(settings, cfg.Settings)
	in.host = functions.Config{Root: os.DirFS(root), Addr: l.Addr().String(), Listener: l, Handler: append(append([]string(nil), cfg.Program...), "handler"),
		Dir: root, Settings: settings, FunctionKey: id.Keys["function"], MasterKey: id.Keys["master"], StateDir: filepath.Join(cfg.Dir, "data", "timers"), Output: output, Log: log, Chaos: in.Chaos,
		Guard: true}
	if public, err := url.Parse(settings["DSVM_PUBLIC_URL"]); err == nil && public.Host != "" {
		in.host.Hosts = []string{public.Host} // a tunnel from there hands its name on
	}
	if in.Host, err = functions.Start(in.host); err != nil {
		l.Close()
		return fmt.Errorf("the local Functions host: %w", err)
	}
	in.close = append(in.close, in.Host.Close)
	id.keep("url", in.Host.Addr())
	in.Description = Description{URL: "http://" + in.Host.Addr(), Key: id.Keys["function"], ServiceBus: settings["ServiceBusConnection"], Tables: settings["TablesConnection"], ARM: in.Compute.URL()}
	return nil
}

// startControl serves the faults to the command line.
func (in *Instance) startControl(id *identity) error {
	l, err := net.Listen("tcp", id.addr("control"))
	if err != nil {
		return fmt.Errorf("the control service: %w", err)
	}
	control := chaos.Control{Set: in.Chaos, Key: id.Keys["control"], Evict: in.Compute.Evict, Remove: in.Compute.Remove}
	web := &http.Server{Handler: door.Door{}.Guard(control.Handler(), true), ReadTimeout: controlTimeout}
	go web.Serve(l)
	in.close = append(in.close, web.Close)
	id.keep("control", l.Addr().String())
	in.Control, in.ControlKey = "http://"+l.Addr().String(), control.Key
	return nil
}

// StopHost ends the host and its handlers, and leaves the servers and the nodes: what
// runs goes on, and what it reports waits for the next start.
func (in *Instance) StopHost() error { return in.Host.Close() }

// ScaleOut starts one more host with a handler of its own on the same queues
// and tables, as the cloud does under load.
func (in *Instance) ScaleOut(ctx context.Context) (*functions.Host, error) {
	cfg := in.host
	cfg.Addr, cfg.Listener, cfg.StateDir = "127.0.0.1:0", nil, cfg.StateDir+"-more"
	h, err := functions.Start(cfg)
	if err != nil {
		return nil, err
	}
	in.close = append(in.close, h.Close)
	return h, h.Ready(ctx)
}

// Layout writes the root that a Functions host wants: host.json, and one folder
// for each function. The executable is the caller's.
func Layout(root string) error {
	return fs.WalkDir(dsvmpools.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(dsvmpools.Files, name)
		if err != nil {
			return err
		}
		if rel, err := filepath.Rel("functions", name); err == nil && filepath.IsLocal(rel) {
			name = rel
		}
		to := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o644)
	})
}

func (in *Instance) logFile(cfg Config, name string) (io.Writer, error) {
	dir := filepath.Join(cfg.Dir, "logs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		in.close = append(in.close, f.Close)
	}
	return f, err
}

func (in *Instance) logger(cfg Config, name string) (*slog.Logger, error) {
	w, err := in.logFile(cfg, name)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: cfg.Log})), err
}

// describe writes instance.json, in one move and for its owner only.
func (in *Instance) describe(dir string) error {
	return writeJSON(filepath.Join(dir, "instance.json"), in.Description)
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_ = os.Remove(path + ".new") // one that was left has whatever rights it had
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func identityFile(dir string) string { return filepath.Join(dir, "data", "identity.json") }

// loadIdentity reads the ports and keys, or makes new ones.
func loadIdentity(dir string) (*identity, error) {
	id := &identity{Ports: map[string]int{}, Keys: map[string]string{}}
	b, err := os.ReadFile(identityFile(dir))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(b, id); err != nil {
			return nil, fmt.Errorf("%s cannot be read (%w); restore it, or begin with an empty folder", identityFile(dir), err)
		}
	}
	for _, name := range []string{"tables", "bus", "agent", "arm", "node", "function", "master", "control"} {
		if id.Keys[name] == "" {
			key := make([]byte, 32)
			rand.Read(key)
			id.Keys[name] = base64.StdEncoding.EncodeToString(key)
		}
	}
	return id, os.MkdirAll(filepath.Dir(identityFile(dir)), 0o700)
}

func saveIdentity(dir string, id *identity) error { return writeJSON(identityFile(dir), id) }

// Close stops everything, the last started first.
func (in *Instance) Close() error {
	var errs []error
	for i := len(in.close) - 1; i >= 0; i-- {
		errs = append(errs, in.close[i]())
	}
	in.close = nil
	return errors.Join(errs...)
}
