// Package store keeps pools, ids, usage and the rules of pushes in Table Storage, through the real
// aztables client. It knows how rows look and how they are read and written
// safely; it decides nothing about pools and jobs, and it never keeps a row in
// memory between two calls.
//
// The store is the one owner of retries: the client below it makes one try per
// request. Every call has a deadline of its own. Errors are fault errors:
//
//	NotFound   the pool, job or id is not there
//	Conflict   somebody else wrote first: load again
//	Throttled  the service is busy and stayed busy over the store's own retries
//	Invalid    the service or the store refuses what is to be written
//	Internal   the service could not be reached or answered something else
package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/fault"
)

// Names of the tables.
const (
	poolsTable  = "pools"
	idsTable    = "ids"
	usageTable  = "usage"
	pricesTable = "prices"
	rulesTable  = "rules"
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
}

// Store reads and writes the tables. Its methods may be called concurrently.
type Store struct {
	pools, ids, usage, rules *aztables.Client
	service                  *aztables.ServiceClient
	transport                *http.Transport
}

// Open prepares a store. It does not reach for the service yet.
func Open(cfg Config) (*Store, error) {
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: idleTimeout / 3}).DialContext,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        2 * idleConnections,
		MaxIdleConnsPerHost: idleConnections,
		IdleConnTimeout:     idleTimeout,
		TLSHandshakeTimeout: dialTimeout,
	}
	options := &aztables.ClientOptions{ClientOptions: azcore.ClientOptions{
		Retry:     policy.RetryOptions{MaxRetries: -1}, // the store retries, see call.go
		Transport: &http.Client{Transport: transport},
	}}
	var service *aztables.ServiceClient
	var err error
	switch {
	case cfg.ConnectionString != "":
		service, err = aztables.NewServiceClientFromConnectionString(cfg.ConnectionString, options)
	case cfg.Endpoint != "" && cfg.Credential != nil:
		service, err = aztables.NewServiceClient(cfg.Endpoint, cfg.Credential, options)
	default:
		err = errors.New("set TablesConnection to a connection string, or TablesConnection__endpoint to the endpoint of the account")
	}
	if err != nil {
		// Neither the connection string nor any part of it is shown: it holds the key.
		return nil, wrap(fault.Invalid, err, "the connection to the tables is not usable")
	}
	return &Store{
		pools: service.NewClient(poolsTable), ids: service.NewClient(idsTable), usage: service.NewClient(usageTable), rules: service.NewClient(rulesTable),
		service: service, transport: transport,
	}, nil
}

// Close lets go of idle connections. Calls under way are not disturbed.
func (s *Store) Close() { s.transport.CloseIdleConnections() }

// CreateTables creates the tables that are not there yet.
func (s *Store) CreateTables(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, name := range []string{poolsTable, idsTable, usageTable, pricesTable, rulesTable} {
		group.Go(func() error {
			return s.call(ctx, "create table "+name, func(ctx context.Context) error {
				_, err := s.service.CreateTable(ctx, name, nil)
				if hasCode(err, aztables.TableAlreadyExists) {
					return nil
				}
				return err
			})
		})
	}
	return group.Wait()
}

// wrap makes a fault with a cause.
func wrap(code fault.Code, cause error, format string, args ...any) error {
	return &fault.Error{Code: code, Message: fmt.Sprintf(format, args...), Err: cause}
}
