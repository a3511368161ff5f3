package handlers

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"dsvmpools/handlers/httpapi"
	"dsvmpools/infra"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/drive"
	"dsvmpools/shared/fleet"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/store"
	"dsvmpools/shared/version"
)

// New puts the functions together from the settings: the real clients, one
// driver, one copy of each for all functions of the process.
func New(s Settings, log *slog.Logger) (*Functions, error) {
	credential, armCredential, err := credentials(s)
	if err != nil {
		return nil, err
	}
	st, err := store.Open(store.Config{ConnectionString: s.Tables, Endpoint: s.TablesEndpoint, Credential: credential})
	if err != nil {
		return nil, err
	}
	b, err := bus.Open(bus.Config{ConnectionString: s.ServiceBus, Namespace: s.ServiceBusNamespace, Credential: credential, Queues: s.Queues})
	if err != nil {
		return nil, err
	}
	fl, err := fleet.New(fleet.Config{SubscriptionID: s.Subscription, ResourceGroup: s.ResourceGroup, Region: s.Location,
		Endpoint: s.ResourceManager, Credential: armCredential})
	if err != nil {
		return nil, err
	}
	f := &Functions{store: st, bus: b, unknownAgain: s.UnknownAgain, reviveAfter: s.ReviveAfter, keep: s.Keep, files: newFiles(s.Share),
		setting: s.Lookup, log: log, now: func() time.Time { return time.Now().UTC() }}
	f.sizes, f.region, f.hosts = fl.Sizes, s.Location, s.AllowPrivate.Client()
	model := fleet.Model{Region: s.Location, SubnetID: s.Subnet, IdentityID: s.Identity, AdminUser: "dsvm", SSHPublicKey: s.SSHPublicKey, CustomData: infra.CloudInit}
	f.driver = drive.New(drive.Config{Store: driveStore{st, f}, Bus: busPort{b}, Fleet: fleetPort{fl, model}, Ledger: ledgerPort{f}, Timing: s.Rules, Log: log})
	return f, nil
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

// API is the HTTP API over the same functions.
func (f *Functions) API(share string) http.Handler { return httpapi.New(backend{f}, share) }

// Main runs the custom handler until ctx ends. It returns the exit code: never
// 0 on failure, since the Functions host does not restart a handler that ends
// so.
func Main(ctx context.Context, getenv func(string) string, log *slog.Logger) int {
	slog.SetDefault(log)
	log.Info("starting handler", version.Read().LogAttributes()...)
	secret, err := invoke.ReadSecret(getenv) // before anything else can inherit it
	if err != nil {
		log.Error("the host cannot be told from others", "error", err)
		return 1
	}
	s, err := ReadSettings(getenv)
	if err != nil {
		log.Error("the settings cannot be used", "error", err)
		return 1
	}
	f, err := New(s, log)
	if err != nil {
		log.Error("the handler cannot start", "error", err)
		return 1
	}
	if err := f.store.CreateTables(ctx); err != nil {
		log.Error("the tables cannot be created", "error", err)
		return 1
	}
	cloud := getenv("WEBSITE_INSTANCE_ID") != "" // its host may name itself to the handler, and lets nobody else to it
	app := invoke.New(log, invoke.Guard(secret, cloud))
	f.Register(app)
	app.HTTP(f.API(s.Share))
	app.Site(site())
	if err := app.Serve(ctx, getenv("FUNCTIONS_CUSTOMHANDLER_PORT")); err != nil {
		log.Error("the handler has stopped", "error", err)
		return 1
	}
	return 0
}
