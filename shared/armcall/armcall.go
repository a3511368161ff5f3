// Package armcall makes single calls at the resource manager, for adapters that need a few calls
// of a service and no client of all of it. They go through the pipeline that such clients are
// made of: it signs in, and tries again what is worth it. It knows nothing of what is asked.
package armcall

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm/policy"
	armruntime "github.com/Azure/azure-sdk-for-go/sdk/azcore/arm/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"dsvmpools/shared/version"
)

// Client makes calls. Its methods may be called at the same time.
type Client struct {
	pipeline runtime.Pipeline
	endpoint string
}

// New returns a client of the resource manager at endpoint: "" = the public cloud's; http for
// this machine alone. Nothing is sent.
func New(endpoint string, credential azcore.TokenCredential) (*Client, error) {
	options := &policy.ClientOptions{DisableRPRegistration: true}
	service := cloud.AzurePublic.Services[cloud.ResourceManager]
	if endpoint != "" {
		service = cloud.ServiceConfiguration{Endpoint: strings.TrimSuffix(endpoint, "/"), Audience: endpoint}
		options.Cloud = cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: service}}
		options.InsecureAllowCredentialWithHTTP = strings.HasPrefix(endpoint, "http:")
	}
	pipeline, err := armruntime.NewPipeline("dsvmpools", version.Read().Version, credential, runtime.PipelineOptions{}, options)
	if err != nil {
		return nil, err
	}
	return &Client{pipeline: pipeline, endpoint: service.Endpoint}, nil
}

// Call is one call.
type Call struct {
	Method  string
	Path    string // from /subscriptions/ on, its segments escaped
	Version string // of the API
	Body    any    // as JSON; nil = none
	Into    any    // what the body of an answer with a status below 300 is read into; nil = nothing
}

// maxAnswer bounds the body of an answer, in bytes: a list of rules is far smaller.
const maxAnswer = 8 << 20

// Do makes a call and returns the status of its answer. After a status of 300 or more the error
// is an *azcore.ResponseError; with status 0 there was no answer.
func (c *Client) Do(ctx context.Context, call Call) (status int, err error) {
	request, err := runtime.NewRequest(ctx, call.Method, runtime.JoinPaths(c.endpoint, call.Path))
	if err != nil {
		return 0, err
	}
	query := request.Raw().URL.Query()
	query.Set("api-version", call.Version)
	request.Raw().URL.RawQuery = query.Encode()
	request.Raw().Header.Set("Accept", "application/json")
	if call.Body != nil {
		if err := runtime.MarshalAsJSON(request, call.Body); err != nil {
			return 0, err
		}
	}
	runtime.SkipBodyDownload(request) // it is read here, with a bound
	response, err := c.pipeline.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	response.Body = http.MaxBytesReader(nil, response.Body, maxAnswer)
	if response.StatusCode >= http.StatusMultipleChoices {
		return response.StatusCode, runtime.NewResponseError(response)
	}
	if call.Into == nil {
		_, err = io.Copy(io.Discard, response.Body)
		return response.StatusCode, err
	}
	return response.StatusCode, runtime.UnmarshalAsJSON(response, call.Into)
}
