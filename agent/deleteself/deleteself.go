// Package deleteself deletes the virtual machine that an agent runs on, by one call to the
// resource manager with the node's own identity: a machine that was only powered off is
// billed until somebody deallocates or deletes it.
//
// It deletes an instance of a scale set and nothing else, whatever it is asked for, and it
// never reads, lists or changes a resource. One call needs no client of all of Compute, so it
// goes through the pipeline that such clients are made of.
package deleteself

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm/policy"
	armruntime "github.com/Azure/azure-sdk-for-go/sdk/azcore/arm/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"dsvmpools/shared/door"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/version"
)

// Endpoint is the setting with the URL of the resource manager, for other clouds than the
// public one.
const Endpoint = "AZURE_RESOURCE_MANAGER_ENDPOINT"

// apiVersion of Microsoft.Compute; deleting an instance is the same in all of them.
const apiVersion = "2024-11-01"

// instanceID is the resource id of an instance of a scale set.
var instanceID = regexp.MustCompile(`(?i)^/subscriptions/[0-9a-z-]+/resourceGroups/[\p{L}\p{N}._()-]+` +
	`/providers/Microsoft\.Compute/virtualMachineScaleSets/[\p{L}\p{N}._-]+/virtualMachines/[0-9]+$`)

// Client deletes instances.
type Client struct {
	pipeline runtime.Pipeline
	endpoint string
}

// New returns a client; nothing is sent before Delete. Endpoint "" is that of the public
// cloud. Errors are *fault.Error with code Invalid and the setting's name.
func New(endpoint string, credential azcore.TokenCredential) (*Client, error) {
	options := &policy.ClientOptions{DisableRPRegistration: true}
	service := cloud.AzurePublic.Services[cloud.ResourceManager]
	if endpoint != "" {
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !(u.Scheme == "http" && door.IsLoopback(u.Hostname())) {
			return nil, fault.New(fault.Invalid, Endpoint,
				"%s is no URL such as https://management.azure.com; a token goes to another machine over https only", Endpoint)
		}
		service = cloud.ServiceConfiguration{Endpoint: strings.TrimSuffix(endpoint, "/"), Audience: endpoint}
		options.Cloud = cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: service}}
		options.InsecureAllowCredentialWithHTTP = u.Scheme == "http"
	}
	pipeline, err := armruntime.NewPipeline("dsvmpools-agent", version.Read().Version, credential, runtime.PipelineOptions{}, options)
	if err != nil {
		return nil, err
	}
	return &Client{pipeline, service.Endpoint}, nil
}

// Delete asks for the deletion of an instance, by the resource id that its metadata
// endpoint gave. Without an error the request was accepted, or the instance is deleted
// already; a machine that deletes itself does not see the end. The pipeline has tried again
// what is worth it. A refusal is a *fault.Error with code Invalid that names the right that
// is missing.
func (c *Client) Delete(ctx context.Context, resourceID string) error {
	if !instanceID.MatchString(resourceID) {
		return fault.New(fault.Invalid, "", "nothing is deleted: the resource id %q is not that of an instance of a scale set", resourceID)
	}
	request, err := runtime.NewRequest(ctx, http.MethodDelete, runtime.JoinPaths(c.endpoint, resourceID))
	if err != nil {
		return err
	}
	query := request.Raw().URL.Query()
	query.Set("api-version", apiVersion)
	request.Raw().URL.RawQuery = query.Encode()
	response, err := c.pipeline.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return &fault.Error{Code: fault.Invalid, Err: runtime.NewResponseError(response),
			Message: "the node's identity may not delete the node; " +
				"give it a role with `Microsoft.Compute/virtualMachineScaleSets/virtualMachines/delete` on the resource group of the nodes"}
	}
	return runtime.NewResponseError(response)
}
