package handlers

import (
	"context"
	"log/slog"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"dsvmpools/infra"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/fleet"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/push"
	"dsvmpools/shared/push/status"
	"dsvmpools/shared/service"
	"dsvmpools/shared/store"
	"dsvmpools/shared/version"
)

// app is what runs in one process: the real clients, and one copy of each use case
// for all triggers.
type app struct {
	functions *Functions
	store     *store.Store
	bus       *bus.Bus
}

// open puts the app together from the settings.
func open(s Settings, log *slog.Logger) (*app, error) {
	credential, armCredential, err := credentials(s)
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
	})
	if err != nil {
		return nil, err
	}
	model := fleet.Model{
		Region:       s.Location,
		SubnetID:     s.Subnet,
		IdentityID:   s.Identity,
		AdminUser:    "dsvm",
		SSHPublicKey: s.SSHPublicKey,
		CustomData:   infra.CloudInit,
	}
	hosts := s.AllowPrivate.Client() // for the addresses that rules name
	use := service.New(service.Config{
		Store:       st,
		Bus:         b,
		Fleet:       service.NewFleet(client, model),
		Timing:      s.Timing,
		Region:      s.Location,
		Sizes:       client.Sizes,
		Share:       s.Share,
		Keep:        s.Keep,
		ReviveAfter: s.ReviveAfter,
		Setting:     s.Lookup,
		Statuses: func(rule *push.Rule, token string) service.StatusPoster {
			return status.Poster{Provider: rule.Provider, Server: rule.Server, API: rule.Status.API, Token: token, Client: hosts}
		},
		Log: log,
	})
	return &app{New(Config{Service: use, Bus: b, UnknownAgain: s.UnknownAgain, Log: log}), st, b}, nil
}

// credentials returns the app's own identity where a setting asks for it, and
// the one for the resource manager.
func credentials(s Settings) (own, arm azcore.TokenCredential, err error) {
	if s.ResourceManagerKey != "" {
		arm = fleet.StaticCredential(s.ResourceManagerKey)
	}
	if arm != nil && s.ServiceBus != "" && s.Tables != "" {
		return nil, arm, nil
	}
	own, err = azidentity.NewDefaultAzureCredential(nil)
	if arm == nil {
		arm = own
	}
	return own, arm, err
}

// Main runs the custom handler until ctx ends. It returns the exit code: never
// 0 on failure, since the Functions host does not restart a handler that ends
// so.
func Main(ctx context.Context, getenv func(string) string, log *slog.Logger) int {
	log = slog.New(invoke.LogHandler(log.Handler()))
	slog.SetDefault(log)
	log.Info("starting handler", version.Read().LogAttributes()...)
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
	a, err := open(s, log)
	if err != nil {
		log.Error("handler cannot start", "error", err)
		return 1
	}
	if err := a.store.CreateTables(ctx); err != nil {
		log.Error("tables cannot be created", "error", err)
		return 1
	}
	cloud := getenv("WEBSITE_INSTANCE_ID") != "" // its host may name itself to the handler, and lets nobody else to it
	host := invoke.New(log, invoke.Guard(secret, cloud))
	a.functions.Register(host)
	host.HTTP(a.functions.API(s.Share))
	host.Site(site())
	if err := host.Serve(ctx, getenv("FUNCTIONS_CUSTOMHANDLER_PORT")); err != nil {
		log.Error("handler stopped", "error", err)
		return 1
	}
	return 0
}
