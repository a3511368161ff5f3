package network_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	localnetwork "dsvmpools/local/network"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/fleet"
	"dsvmpools/shared/network"
	"dsvmpools/shared/pool"
)

const (
	group = "/subscriptions/s/resourceGroups/g"
	guard = group + "/providers/Microsoft.Network/networkSecurityGroups/nsg"
	rules = guard + "/securityRules"
)

// azure is a network, and the resource manager before it, which may refuse.
type azure struct {
	*localnetwork.Server
	t      *testing.T
	url    string
	status atomic.Int64 // that all calls get; 0 = none
	calls  atomic.Int64 // that change something
}

func start(t *testing.T, cfg localnetwork.Config) *azure {
	t.Helper()
	cfg.Guards = []string{"nsg"}
	s, err := localnetwork.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	a := &azure{Server: s, t: t}
	manager := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := int(a.status.Load()); status != 0 || r.Header.Get("Authorization") != "Bearer token" || r.URL.Query().Get("api-version") == "" {
			if status == http.StatusForbidden {
				w.Header().Set("x-ms-error-code", "AuthorizationFailed")
			}
			w.WriteHeader(cmp.Or(status, http.StatusUnauthorized))
			return
		}
		if r.Method != http.MethodGet {
			a.calls.Add(1)
		}
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(manager.Close)
	a.url = manager.URL
	return a
}

// client is one of a deployment whose doors listen at a port.
func (a *azure) client(group string, port, front int) *network.Client {
	a.t.Helper()
	c, err := network.New(network.Config{
		Subscription: "s", ResourceGroup: group, Region: "westeurope", Guard: guard,
		Subnet:   "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/nodes",
		From:     []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
		DoorPort: port, FrontPort: front, Endpoint: a.url, Credential: fleet.StaticCredential("token"),
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// settle looks until nothing is left to do, and returns the balancer's address.
func settle(t *testing.T, c *network.Client, of string, want pool.Network) string {
	t.Helper()
	for range 20 {
		address, after, err := c.Open(t.Context(), of, want)
		if err != nil {
			t.Fatal(err)
		}
		if after == 0 {
			return address
		}
	}
	t.Fatalf("%+v is never done", want)
	return ""
}

// put writes a resource as somebody else would, and returns the status.
func (a *azure) put(path, body string) int {
	a.t.Helper()
	return a.call(http.MethodPut, path, body, nil)
}

func (a *azure) call(method, path, body string, into any) int {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path+"?api-version=2025-01-01", strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer token")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer response.Body.Close()
	if into != nil {
		if err := json.NewDecoder(response.Body).Decode(into); err != nil {
			a.t.Fatal(err)
		}
	}
	return response.StatusCode
}

type listed struct {
	Value []struct {
		Name       string
		Properties struct {
			Priority              int
			DestinationPrefixes   []string `json:"destinationAddressPrefixes"`
			DestinationPortRanges []string
			SourceAddressPrefixes []string
		}
	}
}

func (a *azure) rules() (l listed) {
	a.t.Helper()
	a.call(http.MethodGet, rules, "", &l)
	return l
}

// TestDirect opens the doors of two nodes and closes them again, whatever others do there.
func TestDirect(t *testing.T) {
	t.Parallel()
	a := start(t, localnetwork.Config{})
	c := a.client("g", 443, 0)
	settle(t, c, "lab", pool.Network{Open: []string{"10.1.0.4:443", "10.1.0.5:443"}})
	settle(t, a.client("h", 443, 0), "lab", pool.Network{Open: []string{"10.1.0.9:443"}}) // another deployment, one group
	settle(t, c, "gpu", pool.Network{Open: []string{"10.1.0.6:443"}})
	got := a.rules()
	if len(got.Value) != 3 {
		t.Fatalf("%+v", got)
	}
	seen := map[int]bool{}
	for _, r := range got.Value {
		p := r.Properties
		if seen[p.Priority] || p.Priority >= 3800 || fmt.Sprint(p.SourceAddressPrefixes) != "[203.0.113.0/24]" || fmt.Sprint(p.DestinationPortRanges) != "[443]" {
			t.Errorf("%+v", r)
		}
		seen[p.Priority] = true
	}
	before := a.calls.Load()
	settle(t, c, "lab", pool.Network{Open: []string{"10.1.0.4:443", "10.1.0.5:443"}})
	if n := a.calls.Load() - before; n != 0 {
		t.Errorf("a look that finds all as it is wanted makes %d changes", n)
	}
	settle(t, c, "lab", pool.Network{Open: []string{"10.1.0.5:443"}})
	for _, r := range a.rules().Value {
		if strings.HasPrefix(r.Name, "dsvm-lab-") && fmt.Sprint(r.Properties.DestinationPrefixes) == "[10.1.0.4 10.1.0.5]" {
			t.Errorf("the node whose session has ended is open: %+v", r)
		}
	}
	settle(t, c, "lab", pool.Network{})
	settle(t, c, "gpu", pool.Network{})
	if got := a.rules(); len(got.Value) != 1 || fmt.Sprint(got.Value[0].Properties.DestinationPrefixes) != "[10.1.0.9]" {
		t.Errorf("the rule of the other deployment alone stays: %+v", got)
	}
}

// TestRemovalIsAskedForOnce: what is on its way is not asked for again, and who asks again does not
// make it take longer.
func TestRemovalIsAskedForOnce(t *testing.T) {
	t.Parallel()
	a := start(t, localnetwork.Config{Delay: time.Hour})
	c := a.client("g", 443, 0)
	if _, _, err := c.Open(t.Context(), "lab", pool.Network{Open: []string{"10.1.0.4:443"}}); err != nil {
		t.Fatal(err)
	}
	before := a.calls.Load()
	for range 3 {
		if _, after, err := c.Open(t.Context(), "lab", pool.Network{}); err != nil || after == 0 {
			t.Errorf("look again after %s, %v", after, err)
		}
	}
	if n := a.calls.Load() - before; n != 1 {
		t.Errorf("a removal takes %d changes, want 1", n)
	}
}

// TestPrioritiesAreFree: a rule of somebody else has the priority that would be taken first.
func TestPrioritiesAreFree(t *testing.T) {
	t.Parallel()
	a := start(t, localnetwork.Config{})
	c := a.client("g", 443, 0)
	settle(t, c, "lab", pool.Network{Open: []string{"10.1.0.4:443"}})
	taken := a.rules().Value[0].Properties.Priority
	settle(t, c, "lab", pool.Network{})
	if status := a.put(rules+"/theirs", fmt.Sprintf(`{"properties":{"priority":%d,"direction":"Inbound","access":"Allow","protocol":"Tcp",
		"sourceAddressPrefix":"*","sourcePortRange":"*","destinationAddressPrefix":"*","destinationPortRange":"9"}}`, taken)); status != http.StatusCreated {
		t.Fatal(status)
	}
	settle(t, c, "lab", pool.Network{Open: []string{"10.1.0.4:443"}})
	if got := a.rules(); len(got.Value) != 2 || got.Value[0].Properties.Priority == got.Value[1].Properties.Priority {
		t.Errorf("%+v", got)
	}
}

// TestNodesOpenNoOtherPort: what a node tells opens the port of doors alone.
func TestNodesOpenNoOtherPort(t *testing.T) {
	t.Parallel()
	a := start(t, localnetwork.Config{})
	_, _, err := a.client("g", 443, 0).Open(t.Context(), "lab", pool.Network{Open: []string{"10.1.0.4:22"}})
	if fault.CodeOf(err) != fault.Invalid || len(a.rules().Value) != 0 {
		t.Errorf("got %v, rules %+v", err, a.rules())
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	a := start(t, localnetwork.Config{})
	c := a.client("g", 443, 0)
	for status, want := range map[int]fault.Code{http.StatusForbidden: fault.Forbidden, http.StatusBadRequest: fault.Invalid, http.StatusPreconditionFailed: fault.Conflict} {
		a.status.Store(int64(status))
		if _, _, err := c.Open(t.Context(), "lab", pool.Network{Open: []string{"10.1.0.4:443"}}); fault.CodeOf(err) != want {
			t.Errorf("%d: got %v, want %s", status, err, want)
		}
	}
	a.status.Store(0)
	few := start(t, localnetwork.Config{Most: 1})
	settle(t, few.client("g", 443, frontPort(t)), "a", pool.Network{Balancer: true, Address: true})
	_, _, err := few.client("g", 443, frontPort(t)).Open(t.Context(), "b", pool.Network{Balancer: true, Address: true})
	if fault.CodeOf(err) != fault.NoQuota {
		t.Errorf("no public address is left: got %v", err)
	}
}

// frontPort is a port at which a balancer may listen on this machine.
func frontPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestBalancer makes a balancer, comes in by it to a node, and removes it; the file keeps it over
// a restart, and changes take a while.
func TestBalancer(t *testing.T) {
	t.Parallel()
	node, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	go func() {
		for {
			c, err := node.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	cfg := localnetwork.Config{Path: filepath.Join(t.TempDir(), "network.json"), Delay: time.Millisecond}
	a := start(t, cfg)
	port := node.Addr().(*net.TCPAddr).Port
	front := frontPort(t)
	c := a.client("g", port, front)
	want := pool.Network{Open: []string{node.Addr().String()}, Balancer: true, Address: true}
	address := wait(t, c, want)
	echo := func() error {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		fmt.Fprintln(conn, "hello")
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil && line != "hello\n" {
			err = fmt.Errorf("got %q", line)
		}
		return err
	}
	if err := echo(); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if err := echo(); err == nil {
		t.Error("a balancer that is closed listens")
	}
	b := start(t, cfg)
	if err := echo(); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	c = b.client("g", port, front)
	if again := wait(t, c, pool.Network{Address: true}); again != address {
		t.Errorf("the address that is kept is %q, was %q", again, address)
	}
	if left := b.Resources(); len(left) != 1 || !strings.HasPrefix(left[0], "Microsoft.Network/publicIPAddresses/dsvm-lab-") {
		t.Errorf("left with `keep`: %v", left)
	}
	if again := wait(t, c, want); again != address {
		t.Errorf("made again at %q, was at %q", again, address)
	}
	wait(t, c, pool.Network{})
	if left := b.Resources(); len(left) != 0 || len(b.rules().Value) != 0 {
		t.Errorf("left: %v", left)
	}
}

// wait looks until all is as it is wanted, while changes take time.
func wait(t *testing.T, c *network.Client, want pool.Network) string {
	t.Helper()
	for t.Context().Err() == nil {
		address, after, err := c.Open(t.Context(), "lab", want)
		if err != nil {
			t.Fatal(err)
		}
		if after == 0 {
			return address
		}
	}
	return ""
}

// TestStandIn: what Azure refuses is refused here.
func TestStandIn(t *testing.T) {
	t.Parallel()
	a := start(t, localnetwork.Config{})
	rule := func(priority int, source string) string {
		return fmt.Sprintf(`{"properties":{"priority":%d,"direction":"Inbound","access":"Allow","protocol":"Tcp","sourceAddressPrefix":%q,
			"sourcePortRange":"*","destinationAddressPrefix":"10.0.0.4","destinationPortRange":"443"}}`, priority, source)
	}
	if status := a.put(rules+"/first", rule(1000, "*")); status != http.StatusCreated {
		t.Fatal(status)
	}
	const ip, lb = group + "/providers/Microsoft.Network/publicIPAddresses/", group + "/providers/Microsoft.Network/loadBalancers/"
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"a priority that is taken", http.MethodPut, rules + "/second", rule(1000, "*"), 400, "SecurityRuleConflict"},
		{"a priority below 100", http.MethodPut, rules + "/second", rule(99, "*"), 400, "SecurityRuleInvalidPriority"},
		{"a priority above 4096", http.MethodPut, rules + "/second", rule(4097, "*"), 400, "SecurityRuleInvalidPriority"},
		{"no address", http.MethodPut, rules + "/second", rule(1001, "10.0.0.300"), 400, "SecurityRuleInvalidAddressPrefix"},
		{"an address with bits beyond its length", http.MethodPut, rules + "/second", rule(1001, "10.0.0.1/8"), 400, "SecurityRuleInvalidAddressPrefix"},
		{"a name that ends in a dash", http.MethodPut, rules + "/second-", rule(1001, "*"), 400, "InvalidResourceName"},
		{"a name of 81 characters", http.MethodPut, rules + "/" + strings.Repeat("n", 81), rule(1001, "*"), 400, "InvalidResourceName"},
		{"no JSON", http.MethodPut, rules + "/second", "{", 400, "InvalidRequestContent"},
		{"another group", http.MethodGet, strings.Replace(rules, "nsg", "other", 1), "", 404, "ResourceNotFound"},
		{"a rule that is not there", http.MethodGet, rules + "/second", "", 404, "NotFound"},
		{"the group itself", http.MethodPut, guard, "{}", 405, "MethodNotAllowed"},
		{"an address of the Basic SKU", http.MethodPut, ip + "a", `{"location":"w","properties":{"publicIPAllocationMethod":"Static"}}`, 400,
			"IPv4BasicSkuPublicIpCountLimitReached"},
		{"an address that changes", http.MethodPut, ip + "a", `{"location":"w","sku":{"name":"Standard"},"properties":{"publicIPAllocationMethod":"Dynamic"}}`, 400,
			"StandardSkuPublicIPAddressesMustBeStatic"},
		{"a balancer without its address", http.MethodPut, lb + "b", `{"location":"w","sku":{"name":"Standard"},"properties":{"frontendIPConfigurations":
			[{"name":"f","properties":{"publicIPAddress":{"id":"` + ip + `none"}}}]}}`, 400, "InvalidResourceReference"},
		{"backends of no balancer", http.MethodPut, lb + "b/backendAddressPools/doors", `{}`, 404, "ParentResourceNotFound"},
	} {
		var answer struct{ Error struct{ Code string } }
		if status := a.call(c.method, c.path, c.body, &answer); status != c.status || answer.Error.Code != c.code {
			t.Errorf("%s: got %d %s, want %d %s", c.name, status, answer.Error.Code, c.status, c.code)
		}
	}
	if status := a.put(rules+"/first", rule(1000, "Internet")); status != http.StatusOK {
		t.Errorf("the same rule again: %d", status)
	}
	settle(t, a.client("g", 443, frontPort(t)), "lab", pool.Network{Balancer: true, Address: true})
	var all struct{ Value []struct{ ID string } }
	a.call(http.MethodGet, strings.TrimSuffix(ip, "/"), "", &all)
	var answer struct{ Error struct{ Code string } }
	if status := a.call(http.MethodDelete, all.Value[0].ID, "", &answer); status != 400 || answer.Error.Code != "PublicIPAddressCannotBeDeleted" {
		t.Errorf("an address in use: got %d %s", status, answer.Error.Code)
	}
}
