package handlers

import (
	"fmt"
	"strings"
	"time"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/outbound"
	"dsvmpools/shared/scheduler"
	"dsvmpools/shared/service"
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
	ResourceManager     string // endpoint; "" = the public cloud's
	ResourceManagerKey  string // bearer token for a local endpoint; "" = the app's identity
	Share               string // path of the share
	Subnet              string // resource id of the nodes' subnet
	Identity            string // resource id of the nodes' managed identity
	SSHPublicKey        string // of the nodes' administrator
	Queues              bus.Queues
	Timing              scheduler.Timing
	UnknownAgain        time.Duration            // before an unknown pool is looked up a second time
	AllowPrivate        outbound.Guard           // which private addresses may be connected to for a rule
	ReviveAfter         []time.Duration          // before a dead-lettered message comes back, each time it does
	Keep                service.Keep             // how long what has ended is kept
	Lookup              func(name string) string // of the settings that rules for pushes name
}

// reviveAfter is, unless DSVM_REVIVE_AFTER says otherwise, how long a dead message
// waits before each time it is brought back. What killed it was mostly a service or
// a release of the handler that did not work, and somebody has mended that by then.
var reviveAfter = []time.Duration{time.Minute, 10 * time.Minute, time.Hour}

// ReadSettings reads the settings from the environment. Everything that is
// missing or malformed is named at once.
func ReadSettings(getenv func(string) string) (Settings, error) {
	s := Settings{
		ServiceBus: getenv("ServiceBusConnection"), ServiceBusNamespace: getenv("ServiceBusConnection__fullyQualifiedNamespace"),
		Tables: getenv("TablesConnection"), TablesEndpoint: getenv("TablesConnection__endpoint"),
		Subscription: getenv("AZURE_SUBSCRIPTION_ID"), ResourceGroup: getenv("AZURE_RESOURCE_GROUP"), Location: getenv("AZURE_LOCATION"),
		ResourceManager: getenv("AZURE_RESOURCE_MANAGER_ENDPOINT"), ResourceManagerKey: getenv("DSVM_ARM_TOKEN"),
		Share: getenv("SHARE_PATH"), Subnet: getenv("DSVM_SUBNET_ID"), Identity: getenv("DSVM_NODE_IDENTITY_ID"),
		SSHPublicKey: getenv("DSVM_SSH_PUBLIC_KEY"),
		Queues:       bus.DefaultQueues, Timing: scheduler.DefaultTiming, UnknownAgain: time.Minute, ReviveAfter: reviveAfter, Lookup: getenv,
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
		"DSVM_ASSIGNED_FOR":  &s.Timing.AssignedFor,
		"DSVM_REMEMBER_GONE": &s.Timing.RememberGone, "DSVM_LEDGER_INTERVAL": &s.Timing.IntervalLength, "DSVM_LEDGER_DELAY": &s.Timing.RecordDelay,
		"DSVM_SHARE_HALF_LIFE":    &s.Timing.ShareHalfLife,
		"DSVM_UNKNOWN_POOL_AGAIN": &s.UnknownAgain,
	} {
		if v := getenv(name); v != "" {
			var d job.Duration
			if err := d.UnmarshalText([]byte(v)); err != nil {
				return s, fault.New(fault.Invalid, name, "%s: %v", name, err)
			}
			*into = time.Duration(d)
		}
	}
	if v := getenv("DSVM_REVIVE_AFTER"); v != "" {
		s.ReviveAfter = nil
		for text := range strings.SplitSeq(v, ",") {
			var d job.Duration
			if err := d.UnmarshalText([]byte(strings.TrimSpace(text))); err != nil {
				return s, fault.New(
					fault.Invalid,
					"DSVM_REVIVE_AFTER",
					"DSVM_REVIVE_AFTER: %v; write durations with commas, such as 1m,10m,1h",
					err,
				)
			}
			s.ReviveAfter = append(s.ReviveAfter, time.Duration(d))
		}
	}
	var err error
	if s.AllowPrivate, err = outbound.Parse(getenv(outbound.Setting)); err != nil {
		return s, err
	}
	if s.Keep, err = readKeep(getenv); err != nil {
		return s, err
	}
	for _, need := range []struct{ field, value string }{
		{"ServiceBusConnection", s.ServiceBus + s.ServiceBusNamespace}, {"TablesConnection", s.Tables + s.TablesEndpoint},
		{"AZURE_SUBSCRIPTION_ID", s.Subscription}, {"AZURE_RESOURCE_GROUP", s.ResourceGroup}, {"AZURE_LOCATION", s.Location},
		{"SHARE_PATH", s.Share}, {"DSVM_SUBNET_ID", s.Subnet},
	} {
		if need.value == "" {
			return s, fault.New(
				fault.Invalid,
				need.field,
				"the setting %s is missing; local.settings.json.example shows all of them",
				need.field,
			)
		}
	}
	return s, nil
}

// String never shows a connection string or a key.
func (s Settings) String() string {
	return fmt.Sprintf("settings for %s in %s", s.ResourceGroup, s.Location)
}
