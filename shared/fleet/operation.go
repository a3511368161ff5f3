package fleet

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"dsvmpools/shared/door"
	"dsvmpools/shared/fault"
)

// Kinds of operations in tokens.
const (
	opCreate = "create"
	opUpdate = "update"
	opRemove = "remove"
	opDrop   = "drop"
)

// token is what Operation.Token holds.
type token struct {
	Kind   string `json:"kind"`
	Set    string `json:"set"`
	Resume string `json:"resume"`
}

// poller is the part of a runtime.Poller that is used here.
type poller[T any] interface {
	Done() bool
	ResumeToken() (string, error)
	Result(ctx context.Context) (T, error)
}

// operation turns what a Begin call returned into an Operation.
func operation[T any, P poller[T]](ctx context.Context, kind, set string, p P, response *http.Response, err error) (Operation, error) {
	if err != nil {
		return Operation{}, classify(err)
	}
	if p.Done() {
		_, err := p.Result(ctx)
		return Operation{}, failed(err)
	}
	resume, err := p.ResumeToken()
	if err != nil {
		return Operation{}, &fault.Error{Code: fault.Internal, Message: "an accepted operation cannot be followed", Err: err}
	}
	t, err := json.Marshal(token{kind, set, resume})
	return Operation{Token: base64.StdEncoding.EncodeToString(t), RetryAfter: retryAfter(response)}, err
}

// gone is the answer about an operation that cannot be followed.
func gone(cause error) error {
	return &fault.Error{Code: fault.Gone, Message: "the operation is not known any more; list the scale set", Err: cause}
}

// Poll looks at an operation once. done with an error is an operation that
// failed; fault.Gone is one that is not known any more. What stands in the way
// of asking (throttling, an outage) is no error: it is asked again later.
func (c *Client) Poll(ctx context.Context, text string) (done bool, after time.Duration, err error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	var t token
	if err != nil || len(raw) > maxToken || json.Unmarshal(raw, &t) != nil || !c.reaches(t.Resume) {
		return true, 0, gone(nil)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	switch t.Kind {
	case opCreate:
		p, err := c.sets.BeginCreateOrUpdate(ctx, "", "", armcompute.VirtualMachineScaleSet{},
			&armcompute.VirtualMachineScaleSetsClientBeginCreateOrUpdateOptions{ResumeToken: t.Resume})
		return look(ctx, p, err)
	case opUpdate:
		p, err := c.sets.BeginUpdate(ctx, "", "", armcompute.VirtualMachineScaleSetUpdate{},
			&armcompute.VirtualMachineScaleSetsClientBeginUpdateOptions{ResumeToken: t.Resume})
		return look(ctx, p, err)
	case opRemove:
		p, err := c.sets.BeginDeleteInstances(ctx, "", "",
			armcompute.VirtualMachineScaleSetVMInstanceRequiredIDs{InstanceIDs: []*string{to.Ptr("0")}},
			&armcompute.VirtualMachineScaleSetsClientBeginDeleteInstancesOptions{ResumeToken: t.Resume})
		return look(ctx, p, err)
	case opDrop:
		p, err := c.sets.BeginDelete(ctx, "", "", &armcompute.VirtualMachineScaleSetsClientBeginDeleteOptions{ResumeToken: t.Resume})
		return look(ctx, p, err)
	}
	return true, 0, gone(nil)
}

// reaches reports whether the URLs of a resume token can be used. A local resource
// manager that restarted on another port does not answer the old URLs, and its
// bearer token must not go to the program that has the old port now.
func (c *Client) reaches(resume string) bool {
	if c.local == "" {
		return true
	}
	var t struct {
		Token struct {
			AsyncURL string `json:"asyncURL"`
			PollURL  string `json:"pollURL"`
		} `json:"token"`
	}
	if json.Unmarshal([]byte(resume), &t) != nil {
		return false
	}
	at := t.Token.AsyncURL
	if at == "" {
		at = t.Token.PollURL
	}
	u, err := url.Parse(at)
	return err == nil && door.IsLoopback(u.Hostname()) && u.Port() == c.local
}

// resumed is a poller that can be asked.
type resumed[T any] interface {
	Poll(ctx context.Context) (*http.Response, error)
	Done() bool
	Result(ctx context.Context) (T, error)
}

// look polls once.
func look[T any, P resumed[T]](ctx context.Context, p P, err error) (bool, time.Duration, error) {
	if err != nil {
		return true, 0, gone(err)
	}
	response, err := p.Poll(ctx)
	var refused *azcore.ResponseError
	switch {
	case errors.As(err, &refused):
		return unanswered(refused)
	case err != nil:
		return false, defaultPoll, nil
	case !p.Done():
		return false, retryAfter(response), nil
	}
	_, err = p.Result(ctx)
	return true, 0, failed(err)
}

// failed reads from its result how an operation failed; nil if it succeeded. The
// polls of a failed operation succeed; only its result reports the failure, with
// a status of success. Any other error comes from the read after a successful
// operation; it is ignored, because the caller reads again.
func failed(err error) error {
	var refused *azcore.ResponseError
	if errors.As(err, &refused) && refused.StatusCode < http.StatusBadRequest {
		return classify(err)
	}
	return nil
}

// unanswered is what becomes of a poll that was refused.
func unanswered(e *azcore.ResponseError) (bool, time.Duration, error) {
	switch s := e.StatusCode; {
	case s == http.StatusNotFound || s == http.StatusGone:
		return true, 0, gone(e)
	case s == http.StatusTooManyRequests || s == http.StatusRequestTimeout || s >= http.StatusInternalServerError:
		return false, retryAfter(e.RawResponse), nil
	}
	return true, 0, classify(e)
}

// capture keeps the response of the next call, for its headers, and bounds
// the call's time.
func capture(ctx context.Context) (context.Context, **http.Response, context.CancelFunc) {
	response := new(*http.Response)
	ctx, cancel := context.WithTimeout(policy.WithCaptureResponse(ctx, response), callTimeout)
	return ctx, response, cancel
}

// retryAfter reads Retry-After in seconds; without one it is defaultPoll.
func retryAfter(r *http.Response) time.Duration {
	if r == nil {
		return defaultPoll
	}
	if ms, err := strconv.Atoi(r.Header.Get("retry-after-ms")); err == nil && ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	if s, err := strconv.Atoi(r.Header.Get("Retry-After")); err == nil && s >= 0 {
		return time.Duration(s) * time.Second
	}
	return defaultPoll
}
