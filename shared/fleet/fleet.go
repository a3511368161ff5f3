// Package fleet is VM scale sets as this project uses them, through the
// armcompute client: grow by number, shrink by name, list everything in one
// paged call. It decides nothing and waits for nothing: a long-running
// operation is a token that somebody polls later. Each call is one attempt of
// the caller's; the client retries connection faults briefly, and never a 429.
package fleet

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"dsvmpools/shared/fault"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
)

// Retries of one call: connection faults and 5xx, briefly, since the caller
// comes again anyway.
const (
	maxRetries    = 2
	retryDelay    = 200 * time.Millisecond
	maxRetryDelay = 2 * time.Second
	callTimeout   = 20 * time.Second
)

// defaultPoll is when to look at an operation that names no time.
const defaultPoll = 10 * time.Second

// maxToken bounds a token that is read back.
const maxToken = 16 << 10

// Config says which resource group the scale sets live in.
type Config struct {
	SubscriptionID string
	ResourceGroup  string
	Region         string
	Endpoint       string // of the resource manager; "" = the public cloud
	Credential     azcore.TokenCredential
}

// Client is the adapter. Its methods may be called concurrently.
type Client struct {
	cfg  Config
	sets *armcompute.VirtualMachineScaleSetsClient
	vms  *armcompute.VirtualMachineScaleSetVMsClient
}

// Instance is what Azure says of one VM.
type Instance struct {
	VMID         string // lower case
	ID           string // instance id within the set: "0", "1", ...
	Name         string
	Provisioning string // Creating, Updating, Succeeded, Failed, Deleting
	Power        string // running, starting, stopped, ...; "" = none yet
	Created      time.Time
	Error        string // why provisioning failed, in Azure's words
}

// Operation is a call that was accepted.
type Operation struct {
	Token      string // to Poll with; "" = finished already. It holds a URL that is a capability: never log it.
	RetryAfter time.Duration
}

// Listing is a whole scale set.
type Listing struct {
	Exists       bool
	Capacity     int
	ETag         string
	Provisioning string
	Instances    []Instance
}

// New returns a client. Nothing is sent until the first call.
func New(cfg Config) (*Client, error) {
	opts := &arm.ClientOptions{DisableRPRegistration: true, ClientOptions: policy.ClientOptions{
		Retry: policy.RetryOptions{MaxRetries: maxRetries, RetryDelay: retryDelay, MaxRetryDelay: maxRetryDelay,
			StatusCodes: []int{http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}},
	}}
	if cfg.Endpoint != "" {
		opts.Cloud = cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: strings.TrimSuffix(cfg.Endpoint, "/"), Audience: cfg.Endpoint}}}
		opts.InsecureAllowCredentialWithHTTP = strings.HasPrefix(cfg.Endpoint, "http://127.0.0.1:") || strings.HasPrefix(cfg.Endpoint, "http://localhost:")
	}
	sets, err := armcompute.NewVirtualMachineScaleSetsClient(cfg.SubscriptionID, cfg.Credential, opts)
	if err != nil {
		return nil, err
	}
	vms, err := armcompute.NewVirtualMachineScaleSetVMsClient(cfg.SubscriptionID, cfg.Credential, opts)
	return &Client{cfg, sets, vms}, err
}

// StaticCredential is a fixed bearer token, for a resource manager on this
// machine.
func StaticCredential(token string) azcore.TokenCredential { return static(token) }

type static string

func (s static) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(s), ExpiresOn: time.Now().Add(24 * time.Hour)}, nil
}

// Grow has the set reach a capacity of at least target; it never lowers it. A
// set that is not there is created with that capacity. The write is conditional
// on the read it is based on; when another writer was first, it is tried once
// more.
func (c *Client) Grow(ctx context.Context, set string, m Model, target int) (Operation, error) {
	op, err := c.grow(ctx, set, m, target)
	if fault.CodeOf(err) == fault.Conflict {
		return c.grow(ctx, set, m, target)
	}
	return op, err
}

func (c *Client) grow(ctx context.Context, set string, m Model, target int) (Operation, error) {
	got, exists, err := c.get(ctx, set)
	if err != nil {
		return Operation{}, err
	}
	if !exists {
		ctx, response := capture(ctx)
		poller, err := c.sets.BeginCreateOrUpdate(ctx, c.cfg.ResourceGroup, set, m.build(set, target),
			&armcompute.VirtualMachineScaleSetsClientBeginCreateOrUpdateOptions{IfNoneMatch: to.Ptr("*")})
		return operation(opCreate, set, poller, *response, err)
	}
	if got.SKU != nil && got.SKU.Capacity != nil && *got.SKU.Capacity >= int64(target) {
		return Operation{}, nil
	}
	return c.setCapacity(ctx, set, got, target)
}

// Settle writes the capacity down to the number of instances that are listed:
// for a set whose instances never came. It never raises it.
func (c *Client) Settle(ctx context.Context, set string, listed int) (Operation, error) {
	got, exists, err := c.get(ctx, set)
	if err != nil || !exists || got.SKU == nil || got.SKU.Capacity == nil || *got.SKU.Capacity <= int64(listed) {
		return Operation{}, err
	}
	return c.setCapacity(ctx, set, got, listed)
}

// setCapacity patches nothing but the capacity, under the ETag of the read.
func (c *Client) setCapacity(ctx context.Context, set string, got armcompute.VirtualMachineScaleSet, capacity int) (Operation, error) {
	if got.Etag == nil || got.SKU == nil {
		return Operation{}, fault.New(fault.Internal, "", "scale set %s was read without an ETag; its capacity is not written blindly", set)
	}
	ctx, response := capture(ctx)
	sku := armcompute.SKU{Name: got.SKU.Name, Tier: got.SKU.Tier, Capacity: to.Ptr(int64(capacity))}
	poller, err := c.sets.BeginUpdate(ctx, c.cfg.ResourceGroup, set, armcompute.VirtualMachineScaleSetUpdate{SKU: &sku},
		&armcompute.VirtualMachineScaleSetsClientBeginUpdateOptions{IfMatch: got.Etag})
	return operation(opUpdate, set, poller, *response, err)
}

// get reads the set; a missing one is no error.
func (c *Client) get(ctx context.Context, set string) (armcompute.VirtualMachineScaleSet, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	got, err := c.sets.Get(ctx, c.cfg.ResourceGroup, set, nil)
	if isStatus(err, http.StatusNotFound) {
		return armcompute.VirtualMachineScaleSet{}, false, nil
	}
	return got.VirtualMachineScaleSet, err == nil, classify(err)
}

// List reads the set and all its instances. A missing set has none.
func (c *Client) List(ctx context.Context, set string) (Listing, error) {
	got, exists, err := c.get(ctx, set)
	if err != nil || !exists {
		return Listing{}, err
	}
	l := Listing{Exists: true}
	if got.SKU != nil && got.SKU.Capacity != nil {
		l.Capacity = int(*got.SKU.Capacity)
	}
	l.ETag = value(got.Etag)
	if got.Properties != nil {
		l.Provisioning = value(got.Properties.ProvisioningState)
	}
	pager := c.vms.NewListPager(c.cfg.ResourceGroup, set, &armcompute.VirtualMachineScaleSetVMsClientListOptions{Expand: to.Ptr("instanceView")})
	for pager.More() {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		page, err := pager.NextPage(ctx)
		cancel()
		if isStatus(err, http.StatusNotFound) {
			return Listing{}, nil // deleted between the two reads
		}
		if err != nil {
			return Listing{}, classify(err)
		}
		for _, vm := range page.Value {
			if inst, ok := instance(vm); ok {
				l.Instances = append(l.Instances, inst)
			}
		}
	}
	return l, nil
}

// instance reads one entry of the list; one without identity is left out.
func instance(vm *armcompute.VirtualMachineScaleSetVM) (Instance, bool) {
	if vm == nil || vm.Properties == nil || vm.Properties.VMID == nil || vm.InstanceID == nil {
		return Instance{}, false
	}
	p := vm.Properties
	inst := Instance{VMID: strings.ToLower(*p.VMID), ID: *vm.InstanceID, Name: value(vm.Name), Provisioning: value(p.ProvisioningState)}
	if p.TimeCreated != nil {
		inst.Created = *p.TimeCreated
	}
	if p.InstanceView == nil {
		return inst, true
	}
	for _, s := range p.InstanceView.Statuses {
		code := value(s.Code)
		if power, ok := strings.CutPrefix(code, "PowerState/"); ok {
			inst.Power = power
		}
		if strings.HasPrefix(code, "ProvisioningState/failed") {
			inst.Error = strings.TrimSpace(strings.TrimPrefix(code, "ProvisioningState/failed/") + " " + value(s.Message))
		}
	}
	return inst, true
}

// maxRemove bounds the instances of one call.
const maxRemove = 100

// Remove deletes instances by id. An empty list is refused here, because the
// service takes it for "all".
func (c *Client) Remove(ctx context.Context, set string, ids []string) (Operation, error) {
	if len(ids) == 0 || len(ids) > maxRemove {
		return Operation{}, fault.New(fault.Internal, "", "%d instances to delete; 1 to %d are named in a call", len(ids), maxRemove)
	}
	list := make([]*string, len(ids))
	for i, id := range ids {
		if id == "" || id == "*" {
			return Operation{}, fault.New(fault.Internal, "", "an instance without an id cannot be deleted by name")
		}
		list[i] = to.Ptr(id)
	}
	ctx, response := capture(ctx)
	poller, err := c.sets.BeginDeleteInstances(ctx, c.cfg.ResourceGroup, set, armcompute.VirtualMachineScaleSetVMInstanceRequiredIDs{InstanceIDs: list}, nil)
	if isStatus(err, http.StatusNotFound) {
		return Operation{}, nil
	}
	return operation(opRemove, set, poller, *response, err)
}

// Drop deletes the set; a missing one is dropped already.
func (c *Client) Drop(ctx context.Context, set string) (Operation, error) {
	ctx, response := capture(ctx)
	poller, err := c.sets.BeginDelete(ctx, c.cfg.ResourceGroup, set, nil)
	if isStatus(err, http.StatusNotFound) {
		return Operation{}, nil
	}
	return operation(opDrop, set, poller, *response, err)
}

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
type poller interface {
	Done() bool
	ResumeToken() (string, error)
}

// operation turns what a Begin call returned into an Operation.
func operation[P poller](kind, set string, p P, response *http.Response, err error) (Operation, error) {
	if err != nil {
		return Operation{}, classify(err)
	}
	if p.Done() {
		return Operation{}, nil
	}
	resume, err := p.ResumeToken()
	if err != nil {
		return Operation{}, &fault.Error{Code: fault.Internal, Message: "an accepted operation cannot be followed", Err: err}
	}
	t, err := json.Marshal(token{kind, set, resume})
	return Operation{Token: base64.StdEncoding.EncodeToString(t), RetryAfter: retryAfter(response, defaultPoll)}, err
}

// Poll looks at an operation once. done with an error is an operation that
// failed; fault.Gone is one that is not known any more.
func (c *Client) Poll(ctx context.Context, text string) (done bool, after time.Duration, err error) {
	gone := &fault.Error{Code: fault.Gone, Message: "the operation is not known any more"}
	raw, err := base64.StdEncoding.DecodeString(text)
	var t token
	if err != nil || len(raw) > maxToken || json.Unmarshal(raw, &t) != nil {
		return true, 0, gone
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	switch t.Kind {
	case opCreate:
		p, err := c.sets.BeginCreateOrUpdate(ctx, "", "", armcompute.VirtualMachineScaleSet{}, &armcompute.VirtualMachineScaleSetsClientBeginCreateOrUpdateOptions{ResumeToken: t.Resume})
		return look(ctx, p, err)
	case opUpdate:
		p, err := c.sets.BeginUpdate(ctx, "", "", armcompute.VirtualMachineScaleSetUpdate{}, &armcompute.VirtualMachineScaleSetsClientBeginUpdateOptions{ResumeToken: t.Resume})
		return look(ctx, p, err)
	case opRemove:
		p, err := c.sets.BeginDeleteInstances(ctx, "", "", armcompute.VirtualMachineScaleSetVMInstanceRequiredIDs{InstanceIDs: []*string{to.Ptr("0")}}, &armcompute.VirtualMachineScaleSetsClientBeginDeleteInstancesOptions{ResumeToken: t.Resume})
		return look(ctx, p, err)
	case opDrop:
		p, err := c.sets.BeginDelete(ctx, "", "", &armcompute.VirtualMachineScaleSetsClientBeginDeleteOptions{ResumeToken: t.Resume})
		return look(ctx, p, err)
	}
	return true, 0, gone
}

// resumed is a poller that can be asked.
type resumed[T any] interface {
	Poll(ctx context.Context) (*http.Response, error)
	Done() bool
	Result(ctx context.Context) (T, error)
}

// look polls once. An operation that failed answers its poll well; only its
// result tells.
func look[T any, P resumed[T]](ctx context.Context, p P, err error) (bool, time.Duration, error) {
	if err != nil {
		return true, 0, &fault.Error{Code: fault.Gone, Message: "the operation is not known any more", Err: err}
	}
	response, err := p.Poll(ctx)
	if isStatus(err, http.StatusNotFound) {
		return true, 0, &fault.Error{Code: fault.Gone, Message: "the operation is not known any more", Err: err}
	}
	var failed *azcore.ResponseError
	if err != nil && !errors.As(err, &failed) {
		return false, defaultPoll, nil // it could not be asked; it is asked again
	}
	if err != nil && failed.StatusCode >= 400 {
		if f := classify(err); fault.CodeOf(f) != fault.Throttled {
			return true, 0, f
		}
		return false, retryAfter(failed.RawResponse, defaultPoll), nil
	}
	if !p.Done() {
		return false, retryAfter(response, defaultPoll), nil
	}
	_, err = p.Result(ctx)
	if isStatus(err, http.StatusNotFound) {
		err = nil // what was operated on is gone; the listing tells
	}
	return true, 0, classify(err)
}

// capture has the response of the next call kept, for its headers.
func capture(ctx context.Context) (context.Context, **http.Response) {
	response := new(*http.Response)
	return policy.WithCaptureResponse(ctx, response), response
}

// retryAfter reads Retry-After in seconds.
func retryAfter(r *http.Response, or time.Duration) time.Duration {
	if r == nil {
		return or
	}
	if ms, err := strconv.Atoi(r.Header.Get("retry-after-ms")); err == nil && ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	if s, err := strconv.Atoi(r.Header.Get("Retry-After")); err == nil && s >= 0 {
		return time.Duration(s) * time.Second
	}
	return or
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
