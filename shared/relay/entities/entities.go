// Package entities makes the hybrid connections of a relay by the resource manager. An entity
// without a listener costs nothing, so that none is ever removed.
//
// It needs the right `Microsoft.Relay/namespaces/hybridConnections/write` on the namespace.
package entities

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"dsvmpools/shared/armcall"
	"dsvmpools/shared/fault"
)

// apiVersion of Microsoft.Relay.
const apiVersion = "2024-01-01"

// Config says where the namespace is.
type Config struct {
	Subscription  string
	ResourceGroup string
	Namespace     string // its name alone
	Endpoint      string // of the resource manager; "" = the public cloud's; http for this machine alone
	Credential    azcore.TokenCredential
}

// Client makes entities.
type Client struct {
	manager *armcall.Client
	base    string
	made    sync.Map // names of the entities that are there, as far as this process knows
}

// New returns a client; nothing is sent before Ensure.
func New(cfg Config) (*Client, error) {
	manager, err := armcall.New(cfg.Endpoint, cfg.Credential)
	if err != nil {
		return nil, err
	}
	base := path.Join("/subscriptions", url.PathEscape(cfg.Subscription), "resourceGroups", url.PathEscape(cfg.ResourceGroup),
		"providers/Microsoft.Relay/namespaces", url.PathEscape(cfg.Namespace), "hybridConnections")
	return &Client{manager: manager, base: base}, nil
}

// Ensure makes an entity; one that is there stays, with its listeners. anonymous takes senders
// without a token. Errors: fault.Forbidden: the app's identity lacks the right; fault.NotFound:
// there is no such namespace; else fault.Internal.
func (c *Client) Ensure(ctx context.Context, name string, anonymous bool) error {
	if _, isMade := c.made.Load(name); isMade {
		return nil
	}
	type properties struct {
		Authorized bool `json:"requiresClientAuthorization"`
	}
	status, err := c.manager.Do(ctx, armcall.Call{
		Method:  http.MethodPut,
		Path:    c.base + "/" + url.PathEscape(name),
		Version: apiVersion,
		Body:    map[string]properties{"properties": {!anonymous}},
	})
	switch {
	case err == nil:
		c.made.Store(name, true)
		return nil
	case status == 0:
		return &fault.Error{Code: fault.Internal, Message: "the resource manager could not be asked for the relay's entity", Err: err}
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return &fault.Error{Code: fault.Forbidden, Err: err,
			Message: "the app's identity may not make entities of the relay; " +
				"give it a role with `Microsoft.Relay/namespaces/hybridConnections/write` on the namespace"}
	case status == http.StatusNotFound:
		return &fault.Error{Code: fault.NotFound, Err: err, Message: "the namespace of the relay is not there; look at DSVM_RELAY"}
	}
	return &fault.Error{Code: fault.Internal, Message: "the relay's entity could not be made", Err: err}
}
