// Package entities makes the hybrid connections of a relay by the resource manager. An entity
// without a listener costs nothing, so that none is ever removed.
//
// It needs the right `Microsoft.Relay/namespaces/hybridConnections/write` on the namespace. One
// call needs no client of all of Relay, so it goes through the pipeline that such clients are
// made of.
package entities

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm/policy"
	armruntime "github.com/Azure/azure-sdk-for-go/sdk/azcore/arm/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/version"
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
	pipeline runtime.Pipeline
	base     string
	made     sync.Map // names of the entities that are there, as far as this process knows
}

// New returns a client; nothing is sent before Ensure.
func New(cfg Config) (*Client, error) {
	options := &policy.ClientOptions{DisableRPRegistration: true}
	service := cloud.AzurePublic.Services[cloud.ResourceManager]
	if cfg.Endpoint != "" {
		service = cloud.ServiceConfiguration{Endpoint: strings.TrimSuffix(cfg.Endpoint, "/"), Audience: cfg.Endpoint}
		options.Cloud = cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: service}}
		options.InsecureAllowCredentialWithHTTP = strings.HasPrefix(cfg.Endpoint, "http:")
	}
	pipeline, err := armruntime.NewPipeline("dsvmpools", version.Read().Version, cfg.Credential, runtime.PipelineOptions{}, options)
	if err != nil {
		return nil, err
	}
	base := runtime.JoinPaths(service.Endpoint, "subscriptions", url.PathEscape(cfg.Subscription),
		"resourceGroups", url.PathEscape(cfg.ResourceGroup),
		"providers/Microsoft.Relay/namespaces", url.PathEscape(cfg.Namespace), "hybridConnections")
	return &Client{pipeline: pipeline, base: base}, nil
}

// Ensure makes an entity; one that is there stays, with its listeners. anonymous takes senders
// without a token. The pipeline tries again what is worth it. Errors: fault.Forbidden: the app's
// identity lacks the right; fault.NotFound: there is no such namespace; else fault.Internal.
func (c *Client) Ensure(ctx context.Context, name string, anonymous bool) error {
	if _, isMade := c.made.Load(name); isMade {
		return nil
	}
	request, err := runtime.NewRequest(ctx, http.MethodPut, runtime.JoinPaths(c.base, url.PathEscape(name)))
	if err != nil {
		return err
	}
	query := request.Raw().URL.Query()
	query.Set("api-version", apiVersion)
	request.Raw().URL.RawQuery = query.Encode()
	type properties struct {
		Authorized bool `json:"requiresClientAuthorization"`
	}
	if err := runtime.MarshalAsJSON(request, map[string]properties{"properties": {!anonymous}}); err != nil {
		return err
	}
	response, err := c.pipeline.Do(request)
	if err != nil {
		return &fault.Error{Code: fault.Internal, Message: "the resource manager could not be asked for the relay's entity", Err: err}
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK, http.StatusCreated:
		c.made.Store(name, true)
		return nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return &fault.Error{Code: fault.Forbidden, Err: runtime.NewResponseError(response),
			Message: "the app's identity may not make entities of the relay; " +
				"give it a role with `Microsoft.Relay/namespaces/hybridConnections/write` on the namespace"}
	case http.StatusNotFound:
		return &fault.Error{Code: fault.NotFound, Err: runtime.NewResponseError(response),
			Message: "the namespace of the relay is not there; look at DSVM_RELAY"}
	}
	return &fault.Error{Code: fault.Internal, Message: "the relay's entity could not be made", Err: runtime.NewResponseError(response)}
}
