//go:build unix

package local

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dsvmpools"
	"dsvmpools/local/compute"
	"dsvmpools/local/functions"
	issuer "dsvmpools/local/identity"
	"dsvmpools/local/network"
	"dsvmpools/local/prices"
	"dsvmpools/local/relay"
	"dsvmpools/local/servicebus"
	"dsvmpools/local/tables"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/size"
	"dsvmpools/shared/sshca"
)

// Names of the keys of Service Bus: the handler's with all rights, and the agents'.
const (
	handlerKey = "RootManageSharedAccessKey"
	agentKey   = "agent"
)

// Names of the rules of the relay, and of their keys: shared/relay has the same.
const (
	listenRule = "listen"
	sendRule   = "send"
)

// startServers starts Service Bus, the tables, the relay and the resource manager. Service Bus is first:
// the certificate of all of them names its port.
func (in *Instance) startServers(cfg Config, id *identity, log *slog.Logger) error {
	if err := in.startBus(cfg, id, log); err != nil {
		return fmt.Errorf("the local Service Bus: %w", err)
	}
	if err := in.startTables(cfg, id, log); err != nil {
		return fmt.Errorf("the local tables: %w", err)
	}
	if err := in.startRelay(cfg, id, log); err != nil {
		return fmt.Errorf("the local relay: %w", err)
	}
	if err := in.startNetwork(cfg, log); err != nil {
		return fmt.Errorf("the local network: %w", err)
	}
	if err := in.startCompute(cfg, id, log); err != nil {
		return fmt.Errorf("the local compute: %w", err)
	}
	if err := in.startPrices(id, log); err != nil {
		return fmt.Errorf("the local prices: %w", err)
	}
	return in.startIssuer(cfg, id, log)
}

func (in *Instance) startTables(cfg Config, id *identity, log *slog.Logger) (err error) {
	in.Tables, err = tables.Start(tables.Config{
		Addr:          id.addr("tables"),
		Path:          dataFile(cfg.Dir, "tables.db"),
		Account:       account,
		Key:           id.Keys["tables"],
		TLS:           in.Bus.TLS(),
		Log:           log,
		CloudRates:    cfg.CloudRates,
		PartitionRate: tables.PartitionRate / divisor(cfg),
		AccountRate:   tables.AccountRate / divisor(cfg),
		Chaos:         in.Chaos,
	})
	if err != nil {
		return err
	}
	in.close = append(in.close, in.Tables.Close)
	return id.setPort("tables", in.Tables.Addr())
}

func (in *Instance) startBus(cfg Config, id *identity, log *slog.Logger) (err error) {
	in.Bus, err = servicebus.Start(servicebus.Config{
		Addr: id.addr("serviceBus"),
		Path: dataFile(cfg.Dir, "servicebus.db"),
		// SDKs of most languages speak TLS alone to the administration.
		CertificatePath: certificateFile(cfg.Dir),
		Log:             log,
		CloudRates:      cfg.CloudRates,
		Credits:         servicebus.CreditsPerSecond / divisor(cfg),
		Chaos:           in.Chaos,
		Queues:          queues(cfg, bus.DefaultQueues),
		AccessKeys: []servicebus.AccessKey{
			{Name: handlerKey, Key: id.Keys["bus"], Send: true, Listen: true, Manage: true},
			{Name: agentKey, Key: id.Keys["agent"], Entities: map[string]servicebus.Right{
				bus.DefaultQueues.Work:       {Listen: true},
				bus.DefaultQueues.NodeEvents: {Send: true},
			}},
		},
	})
	if err != nil {
		return err
	}
	in.close = append(in.close, in.Bus.Close)
	return id.setPort("serviceBus", in.Bus.Addr())
}

// startRelay starts the relay. Its two rules have a right each, as in the cloud.
func (in *Instance) startRelay(cfg Config, id *identity, log *slog.Logger) (err error) {
	in.Relay, err = relay.Start(relay.Config{
		Addr: id.addr("relay"),
		Path: dataFile(cfg.Dir, "relay.json"),
		Rules: []relay.Rule{
			{Name: listenRule, Key: id.Keys[listenRule], Listen: true},
			{Name: sendRule, Key: id.Keys[sendRule], Send: true},
		},
		TLS:   in.Bus.TLS(),
		Log:   log,
		Chaos: in.Chaos,
	})
	if err != nil {
		return err
	}
	in.close = append(in.close, in.Relay.Close)
	return id.setPort("relay", in.Relay.Addr())
}

// divisor is what the rates of the cloud are divided by.
func divisor(cfg Config) int { return max(cfg.RatesDivisor, 1) }

// certificateFile holds the certificate of Service Bus, the tables and the resource manager.
func certificateFile(dir string) string { return dataFile(dir, "servicebus.pem") }

// queues returns the queues of a deployment. Only the queues for senders dead-letter after
// the usual number of deliveries.
func queues(cfg Config, names bus.Queues) []servicebus.QueueConfig {
	fromSenders := servicebus.QueueConfig{
		LockDuration:      cmp.Or(cfg.MessageLock, messageLock),
		MaxDeliveryCount:  cmp.Or(cfg.Deliveries, deliveries),
		DefaultTTL:        senderTTL,
		DeadLetterExpired: true,
	}
	internal := servicebus.QueueConfig{
		LockDuration:      cmp.Or(cfg.MessageLock, messageLock),
		MaxDeliveryCount:  internalDeliveries,
		DefaultTTL:        internalTTL,
		DeadLetterExpired: true,
	}
	ofNodes := servicebus.QueueConfig{
		RequiresSession:  true,
		LockDuration:     workLock,
		MaxDeliveryCount: internalDeliveries,
		DefaultTTL:       workTTL,
	}
	rejected := servicebus.QueueConfig{LockDuration: rejectLock, MaxDeliveryCount: deliveries, DefaultTTL: rejectTTL}
	named := func(name string, q servicebus.QueueConfig) servicebus.QueueConfig {
		q.Name = name
		return q
	}
	return []servicebus.QueueConfig{
		named(names.Jobs, fromSenders),
		named(names.Pools, fromSenders),
		named(names.Rejected, rejected),
		named(names.PoolEvents, internal),
		named(names.NodeEvents, internal),
		named(names.Work, ofNodes),
	}
}

func (in *Instance) startCompute(cfg Config, id *identity, log *slog.Logger) (err error) {
	env := []string{
		"ServiceBusConnection=" + in.Bus.ConnectionString(agentKey),
		"SHARE_PATH=" + in.Share,
		"DSVM_NODE_ADDRESS=127.0.0.1",
		"DSVM_DOOR_LISTEN=127.0.0.1:0",
		"DSVM_OWN_USERS=true", // accounts of people are the node's, and not this machine's
	}
	in.Compute, err = compute.Start(compute.Config{
		Addr:           id.addr("arm"),
		Path:           dataFile(cfg.Dir, "compute.db"),
		Dir:            filepath.Join(cfg.Dir, "instances"),
		LogDir:         filepath.Join(cfg.Dir, "logs"),
		Token:          id.Keys["arm"],
		TLS:            in.Bus.TLS(),
		NodeToken:      id.Keys["node"],
		Providers:      map[string]http.Handler{"Microsoft.Relay": in.Relay.Manager(), "Microsoft.Network": in.Network},
		SubscriptionID: subscription,
		ResourceGroup:  resourceGroup,
		Location:       location,
		Supervisor:     role(cfg, "instance"),
		Agent:          role(cfg, "agent"),
		Env:            slices.Concat(env, cfg.AgentEnv),
		BootDelay:      cmp.Or(cfg.BootDelay, bootDelay),
		DeleteDelay:    deleteDelay,
		RestartDelay:   restartDelay,
		RetryAfter:     retryAfter,
		Log:            log,
		OnCapacity:     cfg.OnCapacity,
		Chaos:          in.Chaos,
		CloudRates:     cfg.CloudRates,
		Quota:          cfg.Quota,
		Sizes:          size.Names(),
		CPUs: func(name string) int {
			s, _ := size.Lookup(name)
			return s.CPUs
		},
	})
	if err != nil {
		return err
	}
	in.close = append(in.close, in.Compute.Close)
	return id.setPort("arm", in.Compute.Addr())
}

// startPrices starts the price list, with the prices that this version knows.
func (in *Instance) startPrices(id *identity, log *slog.Logger) (err error) {
	var sizes []prices.Size
	for _, name := range size.Names() {
		s, _ := size.Lookup(name)
		sizes = append(sizes, prices.Size{Name: s.Name, PerHour: s.PricePerHour})
	}
	in.Prices, err = prices.Start(prices.Config{Addr: id.addr("prices"), Sizes: sizes, Chaos: in.Chaos, Log: log})
	if err != nil {
		return err
	}
	in.close = append(in.close, in.Prices.Close)
	return id.setPort("prices", in.Prices.Addr())
}

// networkDelay is how long a change of the network takes; minutes in the cloud.
const networkDelay = 200 * time.Millisecond

func (in *Instance) startNetwork(cfg Config, log *slog.Logger) (err error) {
	in.Network, err = network.Start(network.Config{
		Path:   dataFile(cfg.Dir, "network.json"),
		Guards: []string{guard},
		Delay:  networkDelay,
		Log:    log,
	})
	if err == nil {
		in.close = append(in.close, in.Network.Close)
	}
	return err
}

func (in *Instance) startHost(cfg Config, id *identity, log *slog.Logger) error {
	root := filepath.Join(cfg.Dir, "app")
	if err := dsvmpools.Layout(root); err != nil {
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
	in.sshCA = dataFile(cfg.Dir, "ssh_ca.pem")
	if err := sshca.CreateFile(in.sshCA); err != nil {
		return fmt.Errorf("the key that signs certificates for SSH: %w", err)
	}
	settings := in.settings("http://"+l.Addr().String(), id)
	maps.Copy(settings, cfg.Settings)
	in.host = functions.Config{
		Root:        os.DirFS(root),
		Addr:        l.Addr().String(),
		Listener:    l,
		Handler:     role(cfg, "handler"),
		Dir:         root,
		Settings:    settings,
		FunctionKey: id.Keys["function"],
		MasterKey:   id.Keys["master"],
		StateDir:    dataFile(cfg.Dir, "timers"),
		Output:      output,
		Log:         log,
		Chaos:       in.Chaos,
		Guard:       true,
	}
	if public, err := url.Parse(settings["DSVM_PUBLIC_URL"]); err == nil && public.Host != "" {
		in.host.Hosts = []string{public.Host} // a tunnel to this host sends its own name
	}
	if in.Host, err = functions.Start(in.host); err != nil {
		l.Close()
		return fmt.Errorf("the local Functions host: %w", err)
	}
	in.close = append(in.close, in.Host.Close)
	in.issuer.AllowPages(pageOrigins(in.Host.Addr())...)
	in.Description = Description{
		URL:             "http://" + in.Host.Addr(),
		Key:             id.Keys["function"],
		ServiceBus:      settings["ServiceBusConnection"],
		ServiceBusTLS:   in.Bus.SecureConnectionString(handlerKey),
		CertificateFile: certificateFile(cfg.Dir),
		Tables:          settings["TablesConnection"],
		TablesTLS:       in.Tables.SecureConnectionString(),
		ARM:             in.Compute.URL(),
		ARMTLS:          in.Compute.SecureURL(),
		ARMToken:        id.Keys["arm"],
		TokenFile:       tokenFile(cfg.Dir),

		Relay:    settings["DSVM_RELAY"],
		RelayTLS: "https://" + in.Relay.Addr(),

		Subscription:  subscription,
		ResourceGroup: resourceGroup,
	}
	return id.setPort("url", in.Host.Addr())
}

// settings returns the app settings of the handler. The settings of Config override them.
func (in *Instance) settings(home string, id *identity) map[string]string {
	names := bus.DefaultQueues
	return map[string]string{
		"FUNCTIONS_WORKER_RUNTIME":        "custom",
		"AzureWebJobsDisableHomepage":     "true",
		"ServiceBusConnection":            in.Bus.ConnectionString(handlerKey),
		"TablesConnection":                in.Tables.ConnectionString(),
		"AZURE_SUBSCRIPTION_ID":           subscription,
		"AZURE_RESOURCE_GROUP":            resourceGroup,
		"AZURE_LOCATION":                  location,
		"AZURE_RESOURCE_MANAGER_ENDPOINT": in.Compute.URL(),
		"SHARE_PATH":                      in.Share,
		"JOBS_QUEUE":                      names.Jobs,
		"POOLS_QUEUE":                     names.Pools,
		"POOL_EVENTS_QUEUE":               names.PoolEvents,
		"NODE_EVENTS_QUEUE":               names.NodeEvents,
		"WORK_QUEUE":                      names.Work,
		"REJECTED_QUEUE":                  names.Rejected,
		"RECONCILE_SCHEDULE":              "0 * * * * *",
		"NIGHTLY_SCALE_DOWN":              "0 0 * * * *",
		"RECORD_USAGE_SCHEDULE":           "30 * * * * *",
		"WATCH_BUDGETS_SCHEDULE":          "10 * * * * *",
		"COMMIT_STATUS_SCHEDULE":          "*/5 * * * * *",
		"REFRESH_PRICES_SCHEDULE":         "0 17 3 * * *",
		"DSVM_PRICES_ENDPOINT":            in.Prices.URL(),
		"DSVM_PUBLIC_URL":                 cmp.Or(os.Getenv("DSVM_PUBLIC_URL"), home), // for the links on commits
		"DSVM_ARM_TOKEN":                  id.Keys["arm"],
		"DSVM_RELAY":                      "http://" + in.Relay.Addr(),
		"DSVM_RELAY_LISTEN_KEY":           id.Keys[listenRule],
		"DSVM_RELAY_SEND_KEY":             id.Keys[sendRule],
		"DSVM_SSH_CA":                     in.sshCA,
		"DSVM_SESSIONS_FOR":               in.sessionsFor(),
		"DSVM_SUBNET_ID":                  subnet,
		"DSVM_WAYS_FROM":                  "127.0.0.0/8", // from this machine
		"DSVM_NETWORK_GUARD":              guardID,
		"DSVM_BALANCER_PORT":              balancerPort,
		"DSVM_SSH_PUBLIC_KEY":             sshPublicKey,
		"DSVM_NODE_CLIENT_ID":             clientID,
		"DSVM_SHARE_ACCOUNT":              account, // the same custom data as in the cloud; nothing here carries it out
		"DSVM_SHARE_NAME":                 "dsvm",
		"DSVM_SHARE_KEY_URL":              "https://" + account + ".vault.azure.net/secrets/share-key",
		"DSVM_FLEET_POLL":                 "500ms",
		"DSVM_MISSING_FOR":                "2s",
		"DSVM_LEDGER_DELAY":               "1s",
		"DSVM_RESEND_AFTER":               "10s",
		"DSVM_ISSUER":                     in.issuer.URL(),
		"DSVM_PAGE_KEYS":                  in.issuer.URL() + "/token",
		"DSVM_AUDIENCE":                   in.issuer.Client(),
		"DSVM_TENANT":                     in.issuer.Tenant(),
		"DSVM_SCOPE":                      issuer.Scope,
		"DSVM_ROLES":                      issuer.OwnerGroup + "=operator;" + cmp.Or(os.Getenv("DSVM_ROLES"), "*=user"),
		"DSVM_KEY_ROLE":                   os.Getenv("DSVM_KEY_ROLE"),
	}
}

// sessionsFor is the one person who may open sessions: without root they all run as the
// account of this program. "" = everybody.
func (in *Instance) sessionsFor() string {
	if os.Geteuid() == 0 {
		return ""
	}
	return in.issuer.Owner()
}

// role returns the command line for a part of the instance that dsvm itself runs as.
func role(cfg Config, name string) []string { return append(slices.Clone(cfg.Program), name) }

// dataFile returns the path of the file or folder with the data of a server.
func dataFile(dir, name string) string { return filepath.Join(dir, "data", name) }
