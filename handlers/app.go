package handlers

import (
	"context"
	"log/slog"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"dsvmpools/handlers/page"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/collector"
	"dsvmpools/shared/doctor"
	"dsvmpools/shared/fleet"
	"dsvmpools/shared/identity"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/push"
	"dsvmpools/shared/push/status"
	"dsvmpools/shared/retail"
	"dsvmpools/shared/service"
	"dsvmpools/shared/store"
	"dsvmpools/shared/version"
)

// open puts the app together from the settings: the real clients, and one copy of each
// use case for all triggers. It sends nothing.
func open(s Settings, getenv func(string) string, log *slog.Logger) (*Functions, error) {
	credential, armCredential, err := credentials(s, getenv)
	if err != nil {
		return nil, err
	}
	st, err := store.Open(store.Config{ConnectionString: s.Tables, Endpoint: s.TablesEndpoint, Credential: credential})
	if err != nil {
		return nil, err
	}
	b, err := bus.Open(bus.Config{
		ConnectionString: s.ServiceBus,
		Namespace:        s.ServiceBusNamespace,
		Credential:       credential,
		Queues:           s.Queues,
	})
	if err != nil {
		return nil, err
	}
	client, err := fleet.New(fleet.Config{
		SubscriptionID: s.Subscription,
		ResourceGroup:  s.ResourceGroup,
		Region:         s.Location,
		Endpoint:       s.ResourceManager,
		Credential:     armCredential,
		Log:            log,
	})
	if err != nil {
		return nil, err
	}
	nodes := service.NodeModel{
		Model: fleet.Model{
			Region:           s.Location,
			SubnetID:         s.Subnet,
			PublicIP:         s.Nodes.PublicIP,
			IdentityID:       s.Nodes.Identity,
			AdminUser:        "dsvm",
			SSHPublicKey:     s.Nodes.SSHPublicKey,
			OSDisk:           fleet.OSDisk{GiB: s.Nodes.OSDiskGiB},
			SecurityType:     s.Nodes.SecurityType,
			Zones:            s.Nodes.Zones,
			ProximityGroupID: s.Nodes.ProximityGroup,
			Deployed:         s.Nodes.DeployedAt,
		},
		Image:         s.Nodes.Image,
		EphemeralDisk: s.Nodes.EphemeralDisk,
		Boot:          s.boot(),
	}
	list, err := retail.New(s.PricesEndpoint)
	if err != nil {
		return nil, err
	}
	prices := service.NewPrices(service.PricesConfig{Store: st, List: list, Nodes: nodes, Region: s.Location, Factor: s.PriceFactor, Log: log})
	scaleSets := service.NewFleet(client, nodes, prices)
	doors, err := s.doors(credential, armCredential)
	if err != nil {
		return nil, err
	}
	opens, err := s.Network(armCredential)
	if err != nil {
		return nil, err
	}
	hosts := s.AllowPrivate.Client() // for the addresses that rules name
	use := service.New(service.Config{
		Store:       st,
		Bus:         b,
		Fleet:       scaleSets,
		Timing:      s.Timing,
		Region:      s.Location,
		Sizes:       client.Sizes,
		Share:       s.Share,
		Keep:        s.Keep,
		Trees:       s.Trees,
		ReviveAfter: s.ReviveAfter,
		Setting:     s.Lookup,
		Statuses: func(rule *push.Rule, token string) service.StatusPoster {
			return status.Poster{Provider: rule.Provider, Server: rule.Server, API: rule.Status.API, Token: token, Client: hosts}
		},
		Doors:       doors,
		Network:     opens,
		NoAddresses: !s.Nodes.PublicIP,
		SessionsFor: s.SessionsFor,
		Prices:      prices,
		Log:         log,
	})
	needs, err := s.sessionNeeds(credential)
	if err != nil {
		return nil, err
	}
	examine := doctor.New(doctor.Config{
		Tables:      st,
		Bus:         b,
		Fleet:       scaleSets,
		Sizes:       client.Sizes,
		Pools:       use.Pools.Specs,
		Place:       s.place(),
		Share:       s.Share,
		Mounted:     isInCloud(getenv),
		Credential:  credential,
		AgentURL:    s.Nodes.AgentURL,
		AgentSHA256: s.Nodes.AgentSHA256,
		ShareKeyURL: s.Nodes.ShareKeyURL,
		Sessions:    needs,
		Prices:      prices.Troubles,
	})
	access, err := s.SignIn.access(log)
	if err != nil {
		return nil, err
	}
	return New(Config{Service: use, Bus: b, Intake: b, Doctor: examine, Access: access, UnknownAgain: s.UnknownAgain, Log: log}), nil
}

// credentials returns the app's own identity where a setting asks for it, and
// the one for the resource manager.
func credentials(s Settings, getenv func(string) string) (own, arm azcore.TokenCredential, err error) {
	if s.ResourceManagerKey != "" {
		arm = fleet.StaticCredential(s.ResourceManagerKey)
	}
	if arm != nil && s.ServiceBus != "" && s.Tables != "" {
		return nil, arm, nil
	}
	own, err = identity.New(getenv, isInCloud(getenv))
	if arm == nil {
		arm = own
	}
	return own, arm, err
}

// isInCloud reports whether Azure runs the app.
func isInCloud(getenv func(string) string) bool { return getenv("WEBSITE_INSTANCE_ID") != "" }

// memoryGoal is what the Go runtime of the handler may hold, see shared/collector: host and
// handler may share 512 MB.
const memoryGoal = 84 << 20

// Main runs the custom handler until ctx ends. It returns the exit code: never
// 0 on failure, since the Functions host does not restart a handler that ends
// so.
//
// Nothing goes over the network before the port is open. The host gives up an app whose
// handler ends three times, and while the roles of a new deployment are on their way
// every service refuses the handler: that is an error of each invocation, which comes
// again, and never the end of the process.
func Main(ctx context.Context, getenv func(string) string, log *slog.Logger) int {
	log = slog.New(invoke.LogHandler(log.Handler()))
	slog.SetDefault(log)
	log.Info("starting handler", version.Read().LogAttributes()...)
	collector.Tune(getenv, memoryGoal)
	secret, err := invoke.ReadSecret(getenv) // before anything else can inherit it
	if err != nil {
		log.Error("secret of the host cannot be read", "error", err)
		return 1
	}
	s, err := ReadSettings(getenv)
	if err != nil {
		log.Error("settings cannot be used", "error", err)
		return 1
	}
	functions, err := open(s, getenv, log)
	if err != nil {
		log.Error("handler cannot start", "error", err)
		return 1
	}
	host := invoke.New(log, invoke.Guard(secret, isInCloud(getenv))) // there its host may name itself, and lets nobody else to the handler
	functions.Register(host)
	api := functions.API(s.Share)
	host.HTTP(api)
	web, err := page.New(s.SignIn.page())
	if err != nil {
		log.Error("page cannot be served", "error", err)
		return 1
	}
	host.Site(site(api, web))
	if err := host.Serve(ctx, getenv("FUNCTIONS_CUSTOMHANDLER_PORT")); err != nil {
		log.Error("handler stopped", "error", err)
		return 1
	}
	return 0
}
