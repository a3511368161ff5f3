// Package network opens the nodes of interactive pools to people who come in beside the relay, by
// the resource manager: a rule in the security group of the nodes' subnet, and a Standard load
// balancer with a public address in the nodes' resource group. All that a pool has there has one
// name, so that what is there can be found without any memory. Each call looks at all of it and
// makes the changes that can be made now; it never waits for Azure to end one.
//
// It needs the rights of infra/modules/ways.bicep. It knows nothing of sessions.
package network

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"dsvmpools/shared/armcall"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
)

// apiVersion of Microsoft.Network.
const apiVersion = "2025-01-01"

// PoolTag marks the resources of a pool, as it marks scale sets.
const PoolTag = "dsvmpools-pool"

// Config says what is opened to whom.
type Config struct {
	Subscription  string
	ResourceGroup string         // of the nodes: balancers and their addresses are made there
	Region        string         // of the nodes
	Guard         string         // resource id of the security group of the nodes' subnet
	Subnet        string         // resource id of the nodes' subnet
	From          []netip.Prefix // from where people come; at least one
	DoorPort      int            // at which the doors of nodes listen; another one is never opened. 0 = any, on one machine
	Again         time.Duration  // when to look again at a change that Azure has accepted; 0 = 3 s
	FrontPort     int            // at which a balancer listens; 0 = 443
	Endpoint      string         // of the resource manager; "" = the public cloud's; http for this machine alone
	Credential    azcore.TokenCredential
}

// Client opens and closes. Its methods may be called at the same time.
type Client struct {
	cfg     Config
	manager *armcall.Client
	group   string // path of the nodes' resource group
}

// New returns a client; nothing is sent before Open.
func New(cfg Config) (*Client, error) {
	cfg.FrontPort, cfg.Again = cmp.Or(cfg.FrontPort, 443), cmp.Or(cfg.Again, 3*time.Second)
	if len(cfg.From) == 0 {
		return nil, errors.New("nothing says from where people come")
	}
	for what, id := range map[string]string{"networkSecurityGroups": cfg.Guard, "virtualNetworks": cfg.Subnet} {
		parts := strings.Split(id, "/")
		if len(parts) < 9 || parts[1] != "subscriptions" || !strings.EqualFold(parts[7], what) {
			return nil, fmt.Errorf("%.200q is no resource id of %s", id, what)
		}
	}
	manager, err := armcall.New(cfg.Endpoint, cfg.Credential)
	if err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, manager: manager, group: path.Join("/subscriptions", cfg.Subscription, "resourceGroups", cfg.ResourceGroup)}, nil
}

// name is that of all that a pool has in the network, and of its address in the DNS, which is
// unique in a region.
func (c *Client) name(of string) string {
	const longest = 40 // a label of the DNS has 63 characters
	sum := sha256.Sum256([]byte(strings.ToLower(c.group) + "/" + of))
	return "dsvm-" + of[:min(len(of), longest)] + "-" + hex.EncodeToString(sum[:4])
}

// Open compares what a pool has in the network with want, and changes it; see drive.Network. Errors
// carry a fault code.
func (c *Client) Open(ctx context.Context, of string, want pool.Network) (address string, after time.Duration, err error) {
	nodes, err := c.nodes(want.Open)
	if err != nil {
		return "", 0, err
	}
	afterRule, refused := c.syncRule(ctx, c.name(of), of, nodes)
	// The balancer is made or removed also if the rule is refused: it costs money.
	address, afterBalancer, err := c.syncBalancer(ctx, c.name(of), of, nodes, want)
	return address, max(afterRule, afterBalancer), cmp.Or(classify(refused), classify(err))
}

// nodes checks the addresses that nodes have told. A node must not open another port, perhaps of
// another node, than that of a door.
func (c *Client) nodes(open []string) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, text := range open {
		at, err := netip.ParseAddrPort(text)
		if err != nil || c.cfg.DoorPort != 0 && int(at.Port()) != c.cfg.DoorPort {
			return nil, fault.New(fault.Invalid, "access", "a node listens at %.100q, and only the port %d is opened; "+
				"have the node made again with the settings of this deployment", text, c.cfg.DoorPort)
		}
		out = append(out, at)
	}
	return out, nil
}

// call makes a call for Microsoft.Network. A resource that is not there is no error: false.
func (c *Client) call(ctx context.Context, method, path string, body, into any) (isThere bool, status int, err error) {
	status, err = c.manager.Do(ctx, armcall.Call{Method: method, Path: path, Version: apiVersion, Body: body, Into: into})
	var answer *azcore.ResponseError
	if status == http.StatusNotFound && method != http.MethodPut && errors.As(err, &answer) && answer.ErrorCode != "ResourceGroupNotFound" {
		return false, status, nil
	}
	return err == nil, status, err
}

// remove deletes a resource that is in a state; after a delay it may be gone. One that is on its way
// is not deleted again, which could begin it anew.
func (c *Client) remove(ctx context.Context, path, state string) (after time.Duration, err error) {
	if state == "Deleting" {
		return c.cfg.Again, nil
	}
	isThere, status, err := c.call(ctx, http.MethodDelete, path, nil, nil)
	if err == nil && isThere && status == http.StatusAccepted {
		after = c.cfg.Again
	}
	return after, err
}

// meanings are what answers of Microsoft.Network mean, by their codes.
var meanings = map[string]struct {
	code fault.Code
	do   string
}{
	"AuthorizationFailed":           {fault.Forbidden, "give the app's identity the role of infra/modules/ways.bicep"},
	"LinkedAuthorizationFailed":     {fault.Forbidden, "give the app's identity the role of infra/modules/ways.bicep"},
	"PublicIPCountLimitReached":     {fault.NoQuota, "ask Azure for more public addresses in the region"},
	"SecurityRuleCountLimitReached": {fault.NoQuota, "remove rules from the security group of the nodes' subnet"},
	"DnsRecordInUse":                {fault.Conflict, "another resource in the region has this name; rename the pool"},
}

// classify gives an answer its code.
func classify(err error) error {
	var known *fault.Error
	var answer *azcore.ResponseError
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case !errors.As(err, &answer):
		return &fault.Error{Code: fault.Internal, Message: "the resource manager cannot be reached for the network of the pool", Err: err}
	}
	message := fmt.Sprintf("Azure refuses a change of the network (%.100s)", cmp.Or(answer.ErrorCode, http.StatusText(answer.StatusCode)))
	if m, is := meanings[answer.ErrorCode]; is {
		return &fault.Error{Code: m.code, Message: message + "; " + m.do, Err: err}
	}
	code := fault.Internal
	switch answer.StatusCode {
	case http.StatusTooManyRequests:
		code = fault.Throttled
	case http.StatusConflict, http.StatusPreconditionFailed:
		code = fault.Conflict
	case http.StatusBadRequest:
		code = fault.Invalid
	case http.StatusForbidden, http.StatusUnauthorized:
		code = fault.Forbidden
	case http.StatusNotFound:
		code = fault.NotFound
	}
	return &fault.Error{Code: code, Message: message, Err: err}
}

// hosts are the addresses of nodes, each once, and ports their ports as texts.
func hosts(nodes []netip.AddrPort) (hosts, ports []string) {
	for _, n := range nodes {
		hosts, ports = append(hosts, n.Addr().String()), append(ports, fmt.Sprint(n.Port()))
	}
	slices.Sort(hosts)
	slices.Sort(ports)
	return slices.Compact(hosts), slices.Compact(ports)
}
