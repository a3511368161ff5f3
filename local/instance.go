//go:build unix

// Package local makes one machine play Azure, for `dsvm up`, its demo and tests: it
// starts the local Service Bus, Table Storage, relay, resource manager and Functions host,
// with the real handler and agents, on one folder that holds all their data. A start
// on the same folder continues from what the folder holds, also after a kill.
//
// It decides nothing about jobs or pools, it listens on loopback addresses only, and
// it never replaces missing or damaged data by something empty: Start reports it.
package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"dsvmpools/local/chaos"
	"dsvmpools/local/compute"
	"dsvmpools/local/functions"
	issuer "dsvmpools/local/identity"
	"dsvmpools/local/network"
	"dsvmpools/local/prices"
	"dsvmpools/local/relay"
	"dsvmpools/local/servicebus"
	"dsvmpools/local/tables"
	"dsvmpools/shared/door"
	"dsvmpools/shared/wholefile"
)

// Names of the local deployment. Nothing depends on them.
const (
	subscription  = "00000000-0000-4000-8000-000000000001"
	resourceGroup = "dsvmpools"
	location      = "westeurope"
	account       = "dsvmpools"
	clientID      = "00000000-0000-4000-8000-0000000000aa" // of the nodes' identity
	subnet        = "/subscriptions/" + subscription + "/resourceGroups/" + resourceGroup +
		"/providers/Microsoft.Network/virtualNetworks/pools/subnets/nodes"
	guard   = "nodes" // the security group of the subnet
	guardID = "/subscriptions/" + subscription + "/resourceGroups/" + resourceGroup +
		"/providers/Microsoft.Network/networkSecurityGroups/" + guard
	// balancerPort is that of balancers, which have an address of their own each; 443 is for root alone.
	balancerPort = "2222"
	// sshPublicKey is one whose other half nobody has.
	sshPublicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIICmaMSfDrKa2dIhTp4JydV6fFRvwxNdTNSaFLFk300O dsvm-local"
)

// Times of the local deployment where they differ from the cloud's: instances
// come and go in seconds here.
const (
	bootDelay    = 500 * time.Millisecond
	deleteDelay  = 200 * time.Millisecond
	restartDelay = 500 * time.Millisecond
	retryAfter   = 200 * time.Millisecond
)

// Times of messages and numbers of deliveries, as in the cloud: infra/main.bicep has
// the same, which TestQueuesAreThoseOfTheTemplate holds.
const (
	messageLock = 5 * time.Minute // of messages that a function holds; triggers of batches renew none
	workLock    = 2 * time.Minute // lock of a node's session
	rejectLock  = time.Minute
	deliveries  = 10
	// Messages to and from nodes must not be dead-lettered when the processes that hold
	// them are killed.
	internalDeliveries = 1000
	senderTTL          = 14 * 24 * time.Hour // of documents of jobs and pools
	internalTTL        = 7 * 24 * time.Hour
	workTTL            = 24 * time.Hour // of messages that wait for a deleted node
	rejectTTL          = 30 * 24 * time.Hour
)

// MemoryGoal is what the Go runtime of an instance may hold, for shared/collector. The program
// itself and the pages of the stores that it has looked at come on top.
const MemoryGoal = 60 << 20

// controlTimeout is how long the control service waits for a request.
const controlTimeout = 10 * time.Second

// Config configures an instance.
type Config struct {
	Dir      string   // folder of all data
	Program  []string // argv of dsvm itself, which is also the handler, the agent and the init of a node
	Settings map[string]string
	AgentEnv []string
	Log      slog.Level
	Users    string // file with the people who may sign in; "" = only the owner

	BootDelay   time.Duration // 0 = the default
	MessageLock time.Duration // of messages that a function holds; 0 = five minutes, as in the cloud
	Deliveries  int           // of a message of a job or a pool before it is dead-lettered; 0 = ten, as in the cloud
	Seed        uint64        // of the injected failures
	// CloudRates limits the rates of requests as the cloud does.
	CloudRates bool
	// RatesDivisor divides the rates of Service Bus and of the tables, so that a small test
	// reaches them; 0 = 1.
	RatesDivisor int
	Quota        map[string]int // of cpus, see compute.Config
	// OnCapacity is called for every accepted request for capacity.
	OnCapacity func(set string, capacity int, at time.Time)
}

// Description is the content of instance.json. It holds keys, so only its owner may
// read the file.
type Description struct {
	URL        string `json:"url"`
	Key        string `json:"key"`
	ServiceBus string `json:"serviceBus"`
	// ServiceBusTLS, TablesTLS and ARMTLS are for clients that speak TLS, which trust the
	// certificate in the file CertificateFile.
	ServiceBusTLS   string `json:"serviceBusTLS"`
	CertificateFile string `json:"certificateFile"`

	Tables    string `json:"tables"`
	TablesTLS string `json:"tablesTLS"`

	ARM      string `json:"arm"` // URL of the resource manager
	ARMTLS   string `json:"armTLS"`
	ARMToken string `json:"armToken"`
	Relay    string `json:"relay"` // URL of the relay
	RelayTLS string `json:"relayTLS"`
	// Where the scale sets are.
	Subscription  string `json:"subscription"`
	ResourceGroup string `json:"resourceGroup"`

	TokenFile string `json:"tokenFile"` // file with a token of the owner, which is renewed

	Control    string `json:"control"` // URL of the control service of injected failures
	ControlKey string `json:"controlKey"`
}

// Instance is a running deployment.
type Instance struct {
	Description
	Bus     *servicebus.Server
	Tables  *tables.Server
	Compute *compute.Server
	Relay   *relay.Server
	Network *network.Server
	Prices  *prices.Server
	Host    *functions.Host
	Chaos   *chaos.Set
	Share   string
	Notes   []string // what a person should know about the start, in sentences

	issuer *issuer.Server

	host  functions.Config
	sshCA string // file of the key that signs certificates for SSH
	lock  *flock.Flock
	close []func() error
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
	in = &Instance{
		Share: filepath.Join(cfg.Dir, "share"),
		Chaos: chaos.New(cfg.Seed),
		lock:  flock.New(filepath.Join(cfg.Dir, "lock")),
	}
	if got, err := in.lock.TryLock(); err != nil {
		return nil, fmt.Errorf("%s cannot be locked: %w", cfg.Dir, err)
	} else if !got {
		return nil, fmt.Errorf("%s is in use by another `dsvm up`%s; stop it first, or choose another folder with --data",
			cfg.Dir, lockHolder(in.lock.Path()))
	}
	writeLockHolder(in.lock.Path())
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
	if err := checkComplete(cfg.Dir); err != nil {
		return in, err
	}
	taken := id.releaseTakenPorts()
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
	in.Notes = append(in.Notes, id.movedPorts(taken)...)
	return in, in.writeDescription(cfg.Dir)
}

// handlerTime is how long the handler may take to start. Usually it takes a second. One that
// refuses a setting exits at once; the host starts it some times again before it says so.
const handlerTime = 30 * time.Second

// awaitHandler waits until the handler answers. Its error quotes the last line of the
// handler's log.
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

// lastLine returns the last line of a log, or its end if that line has more than
// 4 KiB.
func lastLine(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const maxEnd = 4 << 10
	if at, err := f.Stat(); err == nil && at.Size() > maxEnd {
		_, _ = f.Seek(-maxEnd, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(f, maxEnd))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// startControl starts the control service of the injected failures, for `dsvm fault`.
func (in *Instance) startControl(id *identity) error {
	l, err := net.Listen("tcp", id.addr("control"))
	if err != nil {
		return fmt.Errorf("the control service: %w", err)
	}
	control := chaos.Control{Set: in.Chaos, Key: id.Keys["control"], Evict: in.Compute.Evict, Remove: in.Compute.Remove}
	web := &http.Server{Handler: door.Door{}.Guard(control.Handler(), true), ReadTimeout: controlTimeout}
	go web.Serve(l)
	in.close = append(in.close, web.Close)
	if err := id.setPort("control", l.Addr().String()); err != nil {
		return err
	}
	in.Control, in.ControlKey = "http://"+l.Addr().String(), control.Key
	return nil
}

// StopHost stops the host and its handlers, but not the servers and the nodes. Running
// jobs continue, and their reports wait for the next start.
func (in *Instance) StopHost() error { return in.Host.Close() }

// ScaleOut starts one more host, with its own handler, on the same queues and tables,
// as the cloud does under load.
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

// writeDescription writes instance.json, in one step and for its owner only.
func (in *Instance) writeDescription(dir string) error {
	return writeJSON(filepath.Join(dir, "instance.json"), in.Description)
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return wholefile.Replace(path, append(b, '\n'), 0o600)
}

// Close stops everything, in the reverse order of the starts.
func (in *Instance) Close() error {
	var errs []error
	for i := len(in.close) - 1; i >= 0; i-- {
		errs = append(errs, in.close[i]())
	}
	in.close = nil
	return errors.Join(errs...)
}
