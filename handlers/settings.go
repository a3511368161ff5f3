package handlers

import (
	"fmt"
	"net/netip"
	"time"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/doctor"
	"dsvmpools/shared/identity"
	"dsvmpools/shared/outbound"
	"dsvmpools/shared/price"
	"dsvmpools/shared/relay"
	"dsvmpools/shared/retail"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/service"
	"dsvmpools/shared/tree"
)

// Settings are what the app reads from its environment; docs/settings.md
// lists every name with unit and default.
type Settings struct {
	ServiceBus          string // connection string
	ServiceBusNamespace string // or fully qualified namespace, with the app's identity
	Tables              string // connection string
	TablesEndpoint      string // or endpoint, with the app's identity
	Subscription        string
	ResourceGroup       string
	Location            string
	ResourceManager     string          // endpoint; "" = the public cloud's
	ResourceManagerKey  string          // bearer token for a local endpoint; "" = the app's identity
	Relay               relay.Namespace // the doors of interactive pools; zero = none
	RelayGroup          string          // resource group of Relay; "" = ResourceGroup
	RelayListenKey      string          // of its rule "listen"
	RelaySendKey        string          // of its rule "send"
	WaysFrom            []netip.Prefix  // from where people come in beside the relay; nil = they do not
	NetworkGuard        string          // resource id of the security group of the nodes' subnet
	BalancerPort        int             // at which balancers listen
	SSHCA               string          // URL of a vault's key, or path of a file: signs certificates for SSH; "" = none
	SessionsFor         string          // object id of the one person who may open sessions; "" = everybody who has the right
	Share               string          // path of the share
	Subnet              string          // resource id of the nodes' subnet
	Nodes               NodeSettings
	Queues              bus.Queues
	Timing              scheduler.Timing
	UnknownAgain        time.Duration            // before an unknown pool is looked up a second time
	AllowPrivate        outbound.Guard           // which private addresses may be connected to for a rule
	ReviveAfter         []time.Duration          // before a dead-lettered message comes back, each time it does
	Keep                service.Keep             // how long what has ended is kept
	Trees               tree.Limits              // of a folder that is sent to the share
	Lookup              func(name string) string // of the settings that rules for pushes name
	SignIn              SignIn
	PricesEndpoint      string       // of Azure's price list; "" = the public cloud's
	PriceFactor         price.Factor // what this deployment pays for what the list says
}

// mostFiles bounds DSVM_SYNC_MAX_FILES: the list of more files is longer than any that is
// taken.
const mostFiles = 200_000

// reviveAfter is, unless DSVM_REVIVE_AFTER says otherwise, how long a dead message
// waits before each time it is brought back. What killed it was mostly a service or
// a release of the handler that did not work, and somebody has mended that by then.
var reviveAfter = []time.Duration{time.Minute, 10 * time.Minute, time.Hour}

// ReadSettings reads the settings from the environment. Everything that is missing or
// malformed is named in one error, whose field is the first of these settings: somebody
// who sets up a function app waits a minute for every restart.
func ReadSettings(getenv func(string) string) (Settings, error) {
	r := &reader{getenv: getenv}
	s := Settings{
		ServiceBus: getenv("ServiceBusConnection"), ServiceBusNamespace: getenv("ServiceBusConnection__fullyQualifiedNamespace"),
		Tables: getenv("TablesConnection"), TablesEndpoint: getenv("TablesConnection__endpoint"),
		Subscription: r.required("AZURE_SUBSCRIPTION_ID"), ResourceGroup: r.required("AZURE_RESOURCE_GROUP"),
		Location:        r.required("AZURE_LOCATION"),
		ResourceManager: getenv("AZURE_RESOURCE_MANAGER_ENDPOINT"), ResourceManagerKey: getenv("DSVM_ARM_TOKEN"),
		SSHCA: getenv("DSVM_SSH_CA"), SessionsFor: getenv("DSVM_SESSIONS_FOR"),
		Share: r.required("SHARE_PATH"), Subnet: r.required("DSVM_SUBNET_ID"),
		Nodes:  r.nodes(),
		Queues: bus.DefaultQueues, Timing: scheduler.DefaultTiming, UnknownAgain: time.Minute, Lookup: getenv,
	}
	if s.ServiceBus+s.ServiceBusNamespace == "" {
		r.required("ServiceBusConnection")
	}
	if s.Tables+s.TablesEndpoint == "" {
		r.required("TablesConnection")
	}
	for name, into := range map[string]*string{
		"JOBS_QUEUE": &s.Queues.Jobs, "POOLS_QUEUE": &s.Queues.Pools, "POOL_EVENTS_QUEUE": &s.Queues.PoolEvents,
		"NODE_EVENTS_QUEUE": &s.Queues.NodeEvents, "WORK_QUEUE": &s.Queues.Work, "REJECTED_QUEUE": &s.Queues.Rejected,
	} {
		if v := getenv(name); v != "" {
			*into = v
		}
	}
	for name, into := range map[string]*time.Duration{
		"DSVM_FLEET_POLL": &s.Timing.PollEvery, "DSVM_BOOT_DEADLINE": &s.Timing.BootDeadline, "DSVM_DELETE_AGAIN": &s.Timing.DeleteAgain,
		"DSVM_MISSING_FOR": &s.Timing.MissingFor, "DSVM_SILENT_AFTER": &s.Timing.SilentAfter, "DSVM_RESEND_AFTER": &s.Timing.ResendAfter,
		"DSVM_ASSIGNED_FOR": &s.Timing.AssignedFor, "DSVM_AHEAD_FOR": &s.Timing.AheadFor, "DSVM_REMEMBER_GONE": &s.Timing.RememberGone,
		"DSVM_LEDGER_INTERVAL": &s.Timing.IntervalLength, "DSVM_LEDGER_DELAY": &s.Timing.RecordDelay,
		"DSVM_SHARE_HALF_LIFE":    &s.Timing.ShareHalfLife,
		"DSVM_ROLL_WITHIN":        &s.Timing.RollWithin,
		"DSVM_UNKNOWN_POOL_AGAIN": &s.UnknownAgain,
	} {
		r.duration(name, into)
	}
	r.relay(&s)
	r.ways(&s)
	s.ReviveAfter = r.durations("DSVM_REVIVE_AFTER", reviveAfter)
	var err error
	s.AllowPrivate, err = outbound.Parse(getenv(outbound.Setting))
	r.add(outbound.Setting, err)
	s.Keep, err = readKeep(getenv)
	r.add("DSVM_KEEP_IDS", err)
	s.Trees = tree.Limits{Bytes: r.bytes("DSVM_SYNC_MAX_BYTES"), Files: r.number("DSVM_SYNC_MAX_FILES", 1, mostFiles)}
	s.SignIn = r.signIn()
	s.PricesEndpoint = getenv(retail.Setting)
	_, err = retail.New(s.PricesEndpoint)
	r.add(retail.Setting, err)
	s.PriceFactor, err = price.ParseFactor(getenv(price.Setting))
	r.add(price.Setting, err)
	return s, r.err()
}

// relay reads where the relay is, and its keys. All of them are there, or none.
func (r *reader) relay(s *Settings) {
	address := r.getenv("DSVM_RELAY")
	if address == "" {
		return
	}
	var err error
	s.Relay, err = relay.ParseNamespace(address)
	r.add("DSVM_RELAY", err)
	s.RelayGroup = r.getenv("DSVM_RELAY_GROUP")
	s.RelayListenKey, s.RelaySendKey = r.required("DSVM_RELAY_LISTEN_KEY"), r.required("DSVM_RELAY_SEND_KEY")
}

// mostSources bounds DSVM_WAYS_FROM: a rule of a security group takes more, and nobody reads them.
const mostSources = 100

// ways reads from where people come in beside the relay.
func (r *reader) ways(s *Settings) {
	const from = "DSVM_WAYS_FROM"
	for _, text := range r.list(from) {
		prefix, err := netip.ParsePrefix(text)
		if err != nil || !prefix.Addr().Is4() || prefix != prefix.Masked() {
			r.fail(from, "%s has %.60q; write ranges of IPv4 addresses, such as 203.0.113.0/24, with commas between them", from, text)
			break
		}
		s.WaysFrom = append(s.WaysFrom, prefix)
	}
	if len(s.WaysFrom) > mostSources {
		r.fail(from, "%s has %d ranges; write at most %d", from, len(s.WaysFrom), mostSources)
	}
	s.NetworkGuard, s.BalancerPort = r.getenv("DSVM_NETWORK_GUARD"), r.number("DSVM_BALANCER_PORT", 1, 65534)
	if len(s.WaysFrom) > 0 {
		r.required("DSVM_NETWORK_GUARD")
	}
}

// place says where the deployment is.
func (s Settings) place() doctor.Place {
	return doctor.Place{
		Subscription:   s.Subscription,
		ResourceGroup:  s.ResourceGroup,
		Location:       s.Location,
		Namespace:      s.ServiceBusNamespace,
		TablesEndpoint: s.TablesEndpoint,
		ClientID:       s.Lookup(identity.ClientID),
	}
}

// String never shows a connection string or a key.
func (s Settings) String() string {
	return fmt.Sprintf("settings for %s in %s", s.ResourceGroup, s.Location)
}
