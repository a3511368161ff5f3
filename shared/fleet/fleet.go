// Package fleet manages VM scale sets for the driver, through the armcompute
// client: it grows a set by number, shrinks it by name and lists all instances
// in one paged call. It decides nothing and waits for nothing: a long-running
// operation is a token that the caller polls later. The client retries
// connection errors briefly, and never retries a 429.
package fleet

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"dsvmpools/shared/door"
	"dsvmpools/shared/fault"
)

// Retries of one call: connection errors and 5xx, briefly, since the caller
// calls again anyway.
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
	Log            *slog.Logger // nil = no log
}

// Client is the adapter. Its methods may be called concurrently.
type Client struct {
	cfg   Config
	local string // port of a resource manager on this machine; "" = elsewhere
	sets  *armcompute.VirtualMachineScaleSetsClient
	vms   *armcompute.VirtualMachineScaleSetVMsClient
	usage *armcompute.UsageClient
	sizes *armcompute.VirtualMachineSizesClient
	known sizeLists

	plainAddress atomic.Bool // Azure has refused the SKU of the instances' public addresses
	quotaFailed  atomic.Bool // the log says that quotas cannot be read
}

// Instance is what Azure reports about one VM.
type Instance struct {
	VMID         string // lower case
	ID           string // instance id within the set: "0", "1", ...
	Name         string
	Provisioning string // Creating, Updating, Succeeded, Failed, Deleting
	Power        string // running, starting, stopped, ...; "" = none yet
	Created      time.Time
	Error        string // why provisioning failed, in Azure's words
	Outdated     bool   // it runs with an older model than the set has now
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
	Model        string    // hash of the model that the set has: see Model.Hash; "" = not known
	Deployed     time.Time // when the program was deployed that wrote the model; zero = not known
	Instances    []Instance
}

// New returns a client. Nothing is sent until the first call.
func New(cfg Config) (*Client, error) {
	opts := &arm.ClientOptions{DisableRPRegistration: true, ClientOptions: policy.ClientOptions{
		Retry: policy.RetryOptions{MaxRetries: maxRetries, RetryDelay: retryDelay, MaxRetryDelay: maxRetryDelay,
			StatusCodes: []int{http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway,
				http.StatusServiceUnavailable, http.StatusGatewayTimeout}},
	}}
	c := &Client{cfg: cfg}
	if cfg.Endpoint != "" {
		u, err := url.Parse(cfg.Endpoint)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
			return nil, fault.New(fault.Invalid, "AZURE_RESOURCE_MANAGER_ENDPOINT",
				"the resource manager's endpoint is not a URL such as https://management.azure.com")
		}
		if door.IsLoopback(u.Hostname()) {
			c.local = u.Port()
		}
		if u.Scheme == "http" && !door.IsLoopback(u.Hostname()) {
			return nil, fault.New(fault.Invalid, "AZURE_RESOURCE_MANAGER_ENDPOINT",
				"a credential goes to another machine over https only; write https://%s", u.Host)
		}
		opts.Cloud = cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: strings.TrimSuffix(cfg.Endpoint, "/"), Audience: cfg.Endpoint}}}
		opts.InsecureAllowCredentialWithHTTP = u.Scheme == "http"
	}
	var err error
	if c.sets, err = armcompute.NewVirtualMachineScaleSetsClient(cfg.SubscriptionID, cfg.Credential, opts); err != nil {
		return nil, err
	}
	if c.vms, err = armcompute.NewVirtualMachineScaleSetVMsClient(cfg.SubscriptionID, cfg.Credential, opts); err != nil {
		return nil, err
	}
	if c.usage, err = armcompute.NewUsageClient(cfg.SubscriptionID, cfg.Credential, opts); err != nil {
		return nil, err
	}
	if c.sizes, err = armcompute.NewVirtualMachineSizesClient(cfg.SubscriptionID, cfg.Credential, opts); err != nil {
		return nil, err
	}
	return c, nil
}

// StaticCredential is a fixed bearer token, for a resource manager on this
// machine.
func StaticCredential(token string) azcore.TokenCredential { return static(token) }

type static string

func (s static) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(s), ExpiresOn: time.Now().Add(24 * time.Hour)}, nil
}

// Grow raises the capacity of the set to at least target; it never lowers it.
// It creates a missing set with that capacity. The write is conditional on the
// read before it; after a conflict with another writer it is tried once more.
// If the set has another model than this one, and no newer deployment wrote it, the model
// is written with the capacity, so that no new instance is made from an old one.
// Grow does not request more than the quotas allow: fault.NoQuota says how many
// instances they allow.
func (c *Client) Grow(ctx context.Context, set string, m Model, target int) (Operation, error) {
	if err := m.check(); err != nil {
		return Operation{}, err
	}
	op, err := c.grow(ctx, set, m, target)
	if isStatus(err, http.StatusPreconditionFailed) {
		return c.grow(ctx, set, m, target)
	}
	return op, err
}

func (c *Client) grow(ctx context.Context, set string, m Model, target int) (Operation, error) {
	read := make(chan []quota, 1)
	go func() { read <- c.quotas(ctx, m) }()
	got, exists, err := c.get(ctx, set)
	quotas := <-read
	if err != nil {
		return Operation{}, err
	}
	there := 0
	if exists && got.SKU != nil && got.SKU.Capacity != nil {
		there = int(*got.SKU.Capacity)
	}
	if err := foresee(quotas, m, target-there); err != nil {
		return Operation{}, err
	}
	if !exists {
		return c.put(ctx, set, m, target, &armcompute.VirtualMachineScaleSetsClientBeginCreateOrUpdateOptions{IfNoneMatch: to.Ptr("*")})
	}
	if m.replaces(set, got.Tags) && got.Etag != nil {
		return c.put(ctx, set, m, max(there, target), &armcompute.VirtualMachineScaleSetsClientBeginCreateOrUpdateOptions{IfMatch: got.Etag})
	}
	if there >= target {
		if got.Properties == nil || value(got.Properties.ProvisioningState) != "Failed" {
			return Operation{}, nil
		}
		// The capacity is unbacked: the missing instances come only after the
		// capacity of the set is written again.
		target = there
	}
	return c.setCapacity(ctx, set, got, target)
}

// Settle lowers the capacity to the number of listed instances, for a set whose
// instances never came. It never raises the capacity. It counts the instances
// itself: if there are more than the caller knows, the service would choose some
// to delete, so Settle returns fault.Conflict and writes nothing.
func (c *Client) Settle(ctx context.Context, set string, listed int) (Operation, error) {
	got, exists, err := c.get(ctx, set)
	if err != nil || !exists || got.SKU == nil || got.SKU.Capacity == nil || *got.SKU.Capacity <= int64(listed) {
		return Operation{}, err
	}
	there := 0
	_, err = c.each(ctx, set, "", func(vm *armcompute.VirtualMachineScaleSetVM) {
		if vm.Properties == nil || value(vm.Properties.ProvisioningState) != "Deleting" {
			there++
		}
	})
	if err != nil {
		return Operation{}, err
	}
	if listed < 0 || there > listed {
		return Operation{}, fault.New(fault.Conflict, "",
			"scale set %s has %d instances and not %d; list it again before its capacity is written down", set, there, listed)
	}
	return c.setCapacity(ctx, set, got, listed)
}

// setCapacity patches nothing but the capacity, under the ETag of the read.
func (c *Client) setCapacity(ctx context.Context, set string, got armcompute.VirtualMachineScaleSet, capacity int) (Operation, error) {
	if got.Etag == nil || got.SKU == nil {
		return Operation{}, fault.New(fault.Internal, "", "scale set %s was read without an ETag; its capacity is not written blindly", set)
	}
	ctx, response, cancel := capture(ctx)
	defer cancel()
	sku := armcompute.SKU{Name: got.SKU.Name, Tier: got.SKU.Tier, Capacity: to.Ptr(int64(capacity))}
	poller, err := c.sets.BeginUpdate(ctx, c.cfg.ResourceGroup, set, armcompute.VirtualMachineScaleSetUpdate{SKU: &sku},
		&armcompute.VirtualMachineScaleSetsClientBeginUpdateOptions{IfMatch: got.Etag})
	return operation(ctx, opUpdate, set, poller, *response, err)
}

// get reads the set; a missing one is no error.
func (c *Client) get(ctx context.Context, set string) (armcompute.VirtualMachineScaleSet, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	got, err := c.sets.Get(ctx, c.cfg.ResourceGroup, set, nil)
	if isMissing(err) {
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
	l.ETag, l.Model, l.Deployed = value(got.Etag), value(got.Tags[ModelTag]), deployedOf(got.Tags)
	if got.Properties != nil {
		l.Provisioning = value(got.Properties.ProvisioningState)
	}
	there, err := c.each(ctx, set, "instanceView", func(vm *armcompute.VirtualMachineScaleSetVM) {
		if inst, ok := instance(vm); ok {
			l.Instances = append(l.Instances, inst)
		}
	})
	if err != nil || !there {
		return Listing{}, err
	}
	return l, nil
}

// each calls visit for every instance of the set, page by page. It reports
// whether the set was there until the end: it may be deleted between two reads.
func (c *Client) each(ctx context.Context, set, expand string, visit func(*armcompute.VirtualMachineScaleSetVM)) (bool, error) {
	opts := &armcompute.VirtualMachineScaleSetVMsClientListOptions{}
	if expand != "" {
		opts.Expand = &expand
	}
	pager := c.vms.NewListPager(c.cfg.ResourceGroup, set, opts)
	for pager.More() {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		page, err := pager.NextPage(ctx)
		cancel()
		if isMissing(err) {
			return false, nil
		}
		if err != nil {
			return false, classify(err)
		}
		for _, vm := range page.Value {
			if vm != nil {
				visit(vm)
			}
		}
	}
	return true, nil
}

// instance reads one entry of the list. One without identity is left out: that
// is how the service shows an instance that is just being deleted.
func instance(vm *armcompute.VirtualMachineScaleSetVM) (Instance, bool) {
	if vm.Properties == nil || vm.Properties.VMID == nil || vm.InstanceID == nil {
		return Instance{}, false
	}
	p := vm.Properties
	inst := Instance{VMID: strings.ToLower(*p.VMID), ID: *vm.InstanceID, Name: value(vm.Name), Provisioning: value(p.ProvisioningState)}
	if p.TimeCreated != nil {
		inst.Created = *p.TimeCreated
	}
	inst.Outdated = p.LatestModelApplied != nil && !*p.LatestModelApplied
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
	ctx, response, cancel := capture(ctx)
	defer cancel()
	poller, err := c.sets.BeginDeleteInstances(ctx, c.cfg.ResourceGroup, set,
		armcompute.VirtualMachineScaleSetVMInstanceRequiredIDs{InstanceIDs: list}, nil)
	if isMissing(err) {
		return Operation{}, nil
	}
	return operation(ctx, opRemove, set, poller, *response, err)
}

// Drop deletes the set; a missing one is dropped already.
func (c *Client) Drop(ctx context.Context, set string) (Operation, error) {
	ctx, response, cancel := capture(ctx)
	defer cancel()
	poller, err := c.sets.BeginDelete(ctx, c.cfg.ResourceGroup, set, nil)
	if isMissing(err) {
		return Operation{}, nil
	}
	return operation(ctx, opDrop, set, poller, *response, err)
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
