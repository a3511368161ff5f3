// Package table is a small client of Azure Table Storage for package store. It
// sends requests through the real aztables client, tries them again when that
// may help, runs transactions, reads ranges of rows page by page, and writes
// and reads the JSON of rows, also of texts that are longer than one property.
//
// It knows nothing of what the rows mean, keeps none of them in memory between
// two calls, and never decides who wins: a condition that fails is an error.
//
// This package is the one owner of retries: the client below it makes one try
// per request, and the callers above make none. Every try has a deadline of its
// own. Errors are fault errors:
//
//	NotFound   the row is not there
//	Conflict   the row is there already, or somebody else has changed it
//	Throttled  the service is busy and stayed busy over all tries
//	Invalid    the service or this package refuses what is to be written
//	Internal   the service could not be reached, or answered something else
package table

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
)

const (
	// idleConnections per host: one transaction per pool and sixteen
	// partitions of ids may be on their way at once, and a connection that is
	// thrown away costs a TLS handshake.
	idleConnections = 64
	// idleTimeout stays below the few minutes after which load balancers of
	// the cloud forget a silent connection.
	idleTimeout = 90 * time.Second
	// dialTimeout is how long a connection may take to open, so that a dead
	// address leaves time for another try.
	dialTimeout = 5 * time.Second
)

// Config says where the tables are: a connection string, or an endpoint
// (https://account.table.core.windows.net) with a credential.
type Config struct {
	ConnectionString string
	Endpoint         string
	Credential       azcore.TokenCredential
	Transport        http.RoundTripper // carries the requests; nil = connections over the network
}

// Service is one storage account. Its methods may be called concurrently.
type Service struct {
	client *aztables.ServiceClient
	http   *http.Client
}

// Open prepares a service. It does not send a request yet.
func Open(cfg Config) (*Service, error) {
	transport := cfg.Transport
	if transport == nil {
		transport = newTransport()
	}
	web := &http.Client{Transport: transport}
	options := &aztables.ClientOptions{ClientOptions: azcore.ClientOptions{
		Retry:           policy.RetryOptions{MaxRetries: -1}, // this package retries, see call.go
		Transport:       web,
		PerCallPolicies: []policy.Policy{bodyWriter{}},
	}}
	var client *aztables.ServiceClient
	var err error
	switch {
	case cfg.ConnectionString != "":
		client, err = aztables.NewServiceClientFromConnectionString(cfg.ConnectionString, options)
	case cfg.Endpoint != "" && cfg.Credential != nil:
		client, err = aztables.NewServiceClient(cfg.Endpoint, cfg.Credential, options)
	default:
		err = errors.New("set TablesConnection to a connection string, or TablesConnection__endpoint to the endpoint of the account")
	}
	if err != nil {
		// The message shows no part of the connection string: it holds the key.
		return nil, wrap(fault.Invalid, err, "the connection to the tables is not usable")
	}
	return &Service{client: client, http: web}, nil
}

// newTransport returns the way over the network.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: idleTimeout / 3}).DialContext,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        2 * idleConnections,
		MaxIdleConnsPerHost: idleConnections,
		IdleConnTimeout:     idleTimeout,
		TLSHandshakeTimeout: dialTimeout,
	}
}

// Close closes idle connections. It does not disturb calls under way.
func (s *Service) Close() { s.http.CloseIdleConnections() }

// Create creates the tables that do not exist yet.
func (s *Service) Create(ctx context.Context, names ...string) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, name := range names {
		group.Go(func() error {
			return call(ctx, "create table "+name, s.Table(name).create)
		})
	}
	return group.Wait()
}

// Table is the table of a name. It sends no request.
func (s *Service) Table(name string) *Table { return &Table{s.client.NewClient(name), name} }

// ETag names one version of a row, as the service writes it.
type ETag = azcore.ETag

// Any is the condition that every version of a row fulfils. The row has to exist.
const Any = azcore.ETagAny

// Table reads and writes the rows of one table. The first text of each method
// says what the call is for; it begins the message of an error. Methods may be
// called concurrently.
//
// A deployment creates the tables. If one is missing all the same, the request that
// finds out creates it and is sent once more.
type Table struct {
	client *aztables.Client
	name   string
}

// create creates the table, unless it exists.
func (t *Table) create(ctx context.Context) error {
	_, err := t.client.CreateTable(ctx, nil)
	if hasCode(err, aztables.TableAlreadyExists) {
		return nil
	}
	return err
}

// call is the function call for a request to this table.
func (t *Table) call(ctx context.Context, what string, do func(context.Context) error) error {
	return call(ctx, what, func(ctx context.Context) error { return t.sendCreating(ctx, do) })
}

// sendCreating sends a request. If the table does not exist, it creates the table and
// sends the request a second time, and never a third.
func (t *Table) sendCreating(ctx context.Context, do func(context.Context) error) error {
	err := do(ctx)
	if !hasCode(err, aztables.TableNotFound) {
		return err
	}
	if refused := t.create(ctx); refused != nil {
		// Internal: a conflict over the table must not look like a lost race for a row.
		return wrap(fault.Internal, refused, "the table %q does not exist and cannot be created", t.name)
	}
	return do(ctx)
}

// Get reads one row and its ETag.
func (t *Table) Get(ctx context.Context, what, partition, row string) ([]byte, ETag, error) {
	var response aztables.GetEntityResponse
	err := t.call(ctx, what, func(ctx context.Context) (err error) {
		response, err = t.client.GetEntity(ctx, partition, row, nil)
		return err
	})
	return response.Value, response.ETag, err
}

// Insert writes a new row. Conflict: it exists.
func (t *Table) Insert(ctx context.Context, what string, row []byte) error {
	return t.call(ctx, what, func(ctx context.Context) error {
		_, err := t.client.AddEntity(ctx, row, nil)
		return err
	})
}

// Put writes a row. It replaces the one that exists.
func (t *Table) Put(ctx context.Context, what string, row []byte) error {
	return t.call(ctx, what, func(ctx context.Context) error {
		_, err := t.client.UpsertEntity(ctx, row, &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeReplace})
		return err
	})
}

// Replace writes a row in the place of one version of it. Conflict: another
// version is there; NotFound: no row is there.
func (t *Table) Replace(ctx context.Context, what string, row []byte, match ETag) error {
	return t.update(ctx, what, row, match, aztables.UpdateModeReplace)
}

// Merge writes the properties that row has into one version of a row, and
// leaves the others. Conflict: another version is there; NotFound: no row is there.
func (t *Table) Merge(ctx context.Context, what string, row []byte, match ETag) error {
	return t.update(ctx, what, row, match, aztables.UpdateModeMerge)
}

func (t *Table) update(ctx context.Context, what string, row []byte, match ETag, mode aztables.UpdateMode) error {
	return t.call(ctx, what, func(ctx context.Context) error {
		_, err := t.client.UpdateEntity(ctx, row, &aztables.UpdateEntityOptions{IfMatch: &match, UpdateMode: mode})
		return err
	})
}

// Delete deletes one version of a row. Conflict: another version is there;
// NotFound: no row is there.
func (t *Table) Delete(ctx context.Context, what, partition, row string, match ETag) error {
	return t.call(ctx, what, func(ctx context.Context) error {
		_, err := t.client.DeleteEntity(ctx, partition, row, &aztables.DeleteEntityOptions{IfMatch: &match})
		return err
	})
}
