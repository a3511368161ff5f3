//go:build unix

package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dsvmpools/local/chaos"
	"dsvmpools/local/compute"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/fleet"
)

// patience is how long an event may take on a machine that is busy.
const patience = 20 * time.Second

var model = fleet.Model{
	Pool:         "cpu",
	Size:         "Standard_D2s_v5",
	Region:       "westeurope",
	Image:        fleet.Image{Publisher: "p", Offer: "o", SKU: "s", Version: "latest"},
	CustomData:   []byte("#cloud-config"),
	Tags:         map[string]string{"team": "vision", fleet.PoolTag: "not this"},
	SubnetID:     "/subscriptions/s/subnets/n",
	IdentityID:   "/subscriptions/s/identities/i",
	AdminUser:    "dsvm",
	SSHPublicKey: "ssh-ed25519 AAAA",
}

// azure is a resource manager whose instances do nothing.
func azure(t testing.TB, change func(*compute.Config)) *compute.Server {
	t.Helper()
	dir := t.TempDir()
	cfg := compute.Config{
		Addr:           "127.0.0.1:0",
		Path:           filepath.Join(dir, "compute.db"),
		Dir:            dir,
		Token:          "secret",
		SubscriptionID: "sub",
		ResourceGroup:  "Pools",
		Location:       "westeurope",
		Supervisor:     []string{"/bin/cat"},
		RetryAfter:     time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	s, err := compute.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// before calls hook with what is asked for, before each request reaches the
// server, and returns where to send requests to.
func before(t testing.TB, s *compute.Server, hook func(operation string)) string {
	t.Helper()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		operation := strings.ToLower(r.Method)
		switch {
		case strings.HasSuffix(r.URL.Path, "/delete"):
			operation = "deleteInstances"
		case strings.HasSuffix(r.URL.Path, "/virtualMachines"):
			operation = "list"
		case strings.HasSuffix(r.URL.Path, "/usages"):
			operation = "usages"
		}
		hook(operation)
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL
}

// broken is a resource manager with these faults.
func broken(t testing.TB, rules ...chaos.Injection) *compute.Server {
	t.Helper()
	set := chaos.New(1)
	for _, r := range rules {
		if _, err := set.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	return azure(t, func(cfg *compute.Config) { cfg.Chaos = set })
}

func client(t testing.TB, endpoint string) *fleet.Client {
	t.Helper()
	c, err := fleet.New(
		fleet.Config{SubscriptionID: "SUB", ResourceGroup: "pools", Endpoint: endpoint, Credential: fleet.StaticCredential("secret")},
	)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// finish follows an operation to its end and returns how it ended.
func finish(t testing.TB, c *fleet.Client, op fleet.Operation, err error) error {
	t.Helper()
	if err != nil || op.Token == "" {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		done, after, err := c.Poll(ctx, op.Token)
		if done {
			return err
		}
		select {
		case <-time.After(after):
		case <-ctx.Done():
			t.Fatal("the operation does not end")
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func list(t testing.TB, c *fleet.Client, set string) fleet.Listing {
	t.Helper()
	l, err := c.List(t.Context(), set)
	must(t, err)
	return l
}

func TestOneSetFromNothingToNothing(t *testing.T) {
	t.Parallel()
	c := client(t, azure(t, nil).URL())
	if l := list(t, c, "set"); l.Exists || l.Capacity != 0 || l.Instances != nil {
		t.Errorf("before: got %+v, want nothing", l)
	}
	op, err := c.Grow(t.Context(), "set", model, 2)
	if op.Token == "" || op.RetryAfter != time.Millisecond {
		t.Errorf("got %d characters of token, after %s, %v", len(op.Token), op.RetryAfter, err)
	}
	must(t, finish(t, c, op, err))
	for _, target := range []int{2, 1, 0} {
		if op, err := c.Grow(t.Context(), "set", model, target); err != nil || op != (fleet.Operation{}) {
			t.Errorf("target %d of 2: got %+v, %v, want nothing done", target, op, err)
		}
	}
	op, err = c.Grow(t.Context(), "set", model, 3)
	must(t, finish(t, c, op, err))
	l := list(t, c, "set")
	if !l.Exists || l.Capacity != 3 || l.Provisioning != "Succeeded" || l.ETag == "" || len(l.Instances) != 3 {
		t.Fatalf("got %+v", l)
	}
	for n, i := range l.Instances {
		if i.ID != fmt.Sprint(n) || i.Name != "set_"+i.ID || i.VMID == "" || i.VMID != strings.ToLower(i.VMID) ||
			i.Provisioning != "Succeeded" || i.Power != "running" || i.Created.IsZero() || i.Error != "" {
			t.Errorf("instance %d: got %+v", n, i)
		}
	}
	op, err = c.Remove(t.Context(), "set", []string{"1"})
	must(t, finish(t, c, op, err))
	l = list(t, c, "set")
	var ids []string
	for _, i := range l.Instances {
		ids = append(ids, i.ID)
	}
	if want := []string{"0", "2"}; !slices.Equal(ids, want) || l.Capacity != 2 {
		t.Errorf("after the removal: got %v of %d, want %v of 2", ids, l.Capacity, want)
	}
	for range 2 { // what is dropped already is dropped
		op, err = c.Drop(t.Context(), "set")
		must(t, finish(t, c, op, err))
	}
	if l := list(t, c, "set"); l.Exists {
		t.Errorf("after the end: got %+v", l)
	}
	op, err = c.Remove(t.Context(), "set", []string{"0"})
	must(t, finish(t, c, op, err))
}

func TestRemoveNamesWhatItRemoves(t *testing.T) {
	t.Parallel()
	var deletes atomic.Int32
	c := client(t, before(t, azure(t, nil), func(operation string) {
		if operation == "deleteInstances" {
			deletes.Add(1)
		}
	}))
	op, err := c.Grow(t.Context(), "set", model, 1)
	must(t, finish(t, c, op, err))
	for _, ids := range [][]string{nil, {}, {""}, {"0", ""}, {"*"}, make([]string, 101)} {
		if _, err := c.Remove(t.Context(), "set", ids); err == nil {
			t.Errorf("%q: got no error", ids)
		}
	}
	if n := deletes.Load(); n != 0 || len(list(t, c, "set").Instances) != 1 {
		t.Errorf("got %d calls that delete", n)
	}
}

// Somebody else writes the capacity between the read and the write.
func TestGrowLosesARace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		before       int // capacity that is there; -1 = no set
		other        int // what the other asks for meanwhile
		want, writes int
	}{
		{"and is content with the other's", 1, 4, 4, 1},
		{"and writes once more", 1, 2, 3, 2},
		{"to create, and raises", -1, 1, 3, 1},
		{"to create, and is content", -1, 3, 3, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var armed atomic.Bool
			var mine atomic.Int32
			s := azure(t, nil)
			cl := client(t, before(t, s, func(operation string) {
				if operation == "patch" {
					mine.Add(1)
				}
				if (operation == "patch" || operation == "put") && armed.CompareAndSwap(true, false) {
					if _, err := client(t, s.URL()).Grow(context.Background(), "set", model, c.other); err != nil {
						t.Error(err)
					}
				}
			}))
			if c.before >= 0 {
				op, err := cl.Grow(t.Context(), "set", model, c.before)
				must(t, finish(t, cl, op, err))
			}
			armed.Store(true)
			op, err := cl.Grow(t.Context(), "set", model, 3)
			must(t, finish(t, cl, op, err))
			if got := list(t, cl, "set").Capacity; got != c.want {
				t.Errorf("capacity: got %d, want %d", got, c.want)
			}
			if got := int(mine.Load()); got != c.writes {
				t.Errorf("patches: got %d, want %d", got, c.writes)
			}
		})
	}
}

func TestGrowGivesUpARaceThatIsLostTwice(t *testing.T) {
	t.Parallel()
	var patches atomic.Int32
	s := broken(t, chaos.Injection{Do: chaos.Refuse, Target: "compute/patch", Code: "PreconditionFailed"})
	c := client(t, before(t, s, func(operation string) {
		if operation == "patch" {
			patches.Add(1)
		}
	}))
	op, err := c.Grow(t.Context(), "set", model, 1)
	must(t, finish(t, c, op, err))
	if _, err := c.Grow(t.Context(), "set", model, 2); fault.CodeOf(err) != fault.Conflict || patches.Load() != 2 {
		t.Errorf("got %v after %d patches, want a conflict after 2", err, patches.Load())
	}
}

func TestRefusedGrowing(t *testing.T) {
	t.Parallel()
	refuse := func(code string) chaos.Injection { return chaos.Injection{Do: chaos.Refuse, Code: code} }
	for _, c := range []struct {
		name  string
		with  chaos.Injection
		want  fault.Code
		after time.Duration
		calls int32
	}{
		{"size not offered", refuse("SkuNotAvailable"), fault.NoCapacity, 0, 1},
		{"quota in its newer form", refuse("QuotaExceeded"), fault.NoQuota, 0, 1},
		{"another call is under way", refuse("Conflict"), fault.Conflict, 0, 1},
		{"a newer call", refuse("OperationPreempted"), fault.Preempted, 0, 1},
		{"no such image", refuse("ImageNotFound"), fault.Invalid, 0, 1},
		{"a broken neighbour", refuse("ReferencedResourceNotProvisioned"), fault.Conflict, 0, 1},
		{"policy", refuse("RequestDisallowedByPolicy"), fault.Invalid, 0, 1},
		{"something new", refuse("NeverHeardOf"), fault.Conflict, 0, 1},
		{"throttled, which is not tried again", chaos.Injection{Do: chaos.Throttle, RetryAfter: 7 * time.Second}, fault.Throttled, 7 * time.Second, 1},
		{"throttled by the resource manager", refuse("SubscriptionRequestsThrottled"), fault.Throttled, 10 * time.Second, 1},
		{"an outage, which is tried again", refuse("ServiceUnavailable"), fault.Internal, 0, 3},
		{"no connection, which is tried again", chaos.Injection{Do: chaos.Disconnect}, fault.Internal, 0, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			c.with.Target = "compute/put"
			cl := client(t, before(t, broken(t, c.with), func(operation string) {
				if operation == "put" {
					calls.Add(1)
				}
			}))
			_, err := cl.Grow(t.Context(), "set", model, 1)
			var got *fault.Error
			if !errors.As(err, &got) || got.Code != c.want || got.RetryAfter != c.after {
				t.Errorf("got %v, want %s after %s", err, c.want, c.after)
			}
			if calls.Load() != c.calls {
				t.Errorf("got %d calls, want %d", calls.Load(), c.calls)
			}
			if l := list(t, cl, "set"); l.Exists {
				t.Errorf("got %+v, want no set", l)
			}
		})
	}
}

// A grow is met in part: the operation fails with a status of success, and the
// capacity stays at what will never come.
func TestInstancesThatNeverCome(t *testing.T) {
	t.Parallel()
	c := client(t, broken(t, chaos.Injection{Do: chaos.Partial, Target: "compute/allocate", Amount: 1, Count: 1}).URL())
	op, err := c.Grow(t.Context(), "set", model, 3)
	if err != nil || op.Token == "" {
		t.Fatalf("got %v, want an operation", err)
	}
	if err := finish(t, c, op, nil); fault.CodeOf(err) != fault.NoCapacity || !strings.Contains(err.Error(), "sufficient capacity") {
		t.Errorf("got %v, want no capacity", err)
	}
	if l := list(t, c, "set"); l.Capacity != 3 || len(l.Instances) != 1 {
		t.Fatalf("got capacity %d with %d instances, want 3 with 1", l.Capacity, len(l.Instances))
	}
	for _, listed := range []int{-1, 0} {
		if _, err := c.Settle(t.Context(), "set", listed); fault.CodeOf(err) != fault.Conflict {
			t.Errorf("settling at %d while one runs: got %v, want a conflict", listed, err)
		}
	}
	op, err = c.Settle(t.Context(), "set", 1)
	must(t, finish(t, c, op, err))
	if l := list(t, c, "set"); l.Capacity != 1 || len(l.Instances) != 1 {
		t.Errorf("settled: got capacity %d with %d instances, want 1 with 1", l.Capacity, len(l.Instances))
	}
	op, err = c.Settle(t.Context(), "set", 5) // never raises
	must(t, finish(t, c, op, err))
	if l := list(t, c, "set"); l.Capacity != 1 {
		t.Errorf("settled higher: got capacity %d, want 1", l.Capacity)
	}
	if op, err := c.Settle(t.Context(), "other", 0); err != nil || op.Token != "" {
		t.Errorf("no set: got %v", err)
	}
}

// What did not come for want of room is asked for again, although the capacity
// says that it is there.
func TestInstancesThatCameInPartAreAskedForAgain(t *testing.T) {
	t.Parallel()
	c := client(t, broken(t, chaos.Injection{Do: chaos.Partial, Target: "compute/allocate", Amount: 1, Count: 1}).URL())
	op, err := c.Grow(t.Context(), "set", model, 3)
	if err := finish(t, c, op, err); fault.CodeOf(err) != fault.NoCapacity {
		t.Fatalf("got %v, want no capacity", err)
	}
	op, err = c.Grow(t.Context(), "set", model, 2) // never lowers
	must(t, finish(t, c, op, err))
	if l := list(t, c, "set"); l.Capacity != 3 || len(l.Instances) != 3 || l.Provisioning != "Succeeded" {
		t.Errorf("got %s with %d of %d", l.Provisioning, len(l.Instances), l.Capacity)
	}
}

// What deletes instances between two pages must not hide others.
func TestListPagesWhileInstancesGo(t *testing.T) {
	t.Parallel()
	var lists atomic.Int32
	s := azure(t, func(cfg *compute.Config) { cfg.BootDelay = time.Hour })
	c := client(t, before(t, s, func(operation string) {
		if operation == "list" && lists.Add(1) == 2 {
			other := client(t, s.URL())
			op, err := other.Remove(context.Background(), "set", []string{"3", "4", "5"})
			if err := finish(t, other, op, err); err != nil {
				t.Error(err)
			}
		}
	}))
	_, err := c.Grow(t.Context(), "set", model, 230)
	must(t, err)
	seen := map[string]bool{}
	for _, i := range list(t, c, "set").Instances {
		if seen[i.ID] {
			t.Errorf("instance %s came twice", i.ID)
		}
		seen[i.ID] = true
		if i.Provisioning != "Creating" || i.Power != "" {
			t.Errorf("got %+v, want one that is being created", i)
		}
	}
	for n := range 230 {
		if gone := n >= 3 && n <= 5; !gone && !seen[fmt.Sprint(n)] {
			t.Errorf("instance %d is there and was not listed", n)
		}
	}
	if got := lists.Load(); got != 3 {
		t.Errorf("pages: got %d, want 3", got)
	}
}

// A read that failed is an error and never an empty set.
func TestFailedReadIsNotZero(t *testing.T) {
	t.Parallel()
	for _, operation := range []string{"get", "list"} {
		set := chaos.New(1)
		c := client(t, azure(t, func(cfg *compute.Config) { cfg.Chaos = set }).URL())
		op, err := c.Grow(t.Context(), "set", model, 1)
		must(t, finish(t, c, op, err))
		if _, err := set.Add(chaos.Injection{Do: chaos.Throttle, Target: "compute/" + operation}); err != nil {
			t.Fatal(err)
		}
		if l, err := c.List(t.Context(), "set"); fault.CodeOf(err) != fault.Throttled || l.Exists {
			t.Errorf("%s: got %+v, %v, want throttled", operation, l, err)
		}
	}
}

func TestTokenTellsNoSecret(t *testing.T) {
	t.Parallel()
	c := client(t, azure(t, nil).URL())
	op, err := c.Grow(t.Context(), "set", model, 1)
	must(t, err)
	if len(op.Token) > 4<<10 || strings.Contains(op.Token, "secret") {
		t.Errorf("got a token of %d bytes", len(op.Token))
	}
}

func BenchmarkGrowFromEmpty(b *testing.B) {
	c := client(b, azure(b, nil).URL())
	n := 0
	for b.Loop() {
		n++
		if _, err := c.Grow(context.Background(), fmt.Sprintf("set%d", n), model, 1); err != nil {
			b.Fatal(err)
		}
	}
}

// Without the resource group nobody knows what there is: a slip in a setting must not look
// as if all nodes were gone.
func TestMissingGroupIsNoEmptySet(t *testing.T) {
	t.Parallel()
	c, err := fleet.New(fleet.Config{
		SubscriptionID: "SUB",
		ResourceGroup:  "slip",
		Endpoint:       azure(t, nil).URL(),
		Credential:     fleet.StaticCredential("secret"),
	})
	must(t, err)
	calls := map[string]func() error{
		"list":   func() error { _, err := c.List(t.Context(), "set"); return err },
		"grow":   func() error { _, err := c.Grow(t.Context(), "set", model, 1); return err },
		"remove": func() error { _, err := c.Remove(t.Context(), "set", []string{"0"}); return err },
		"drop":   func() error { _, err := c.Drop(t.Context(), "set"); return err },
	}
	for name, call := range calls {
		if err := call(); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "AZURE_RESOURCE_GROUP") {
			t.Errorf("%s: got %v, want invalid about the setting", name, err)
		}
	}
}

// What surrounds a set and is not there is an operator's, in the real client's words.
func TestGrowWithoutWhatItStandsOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		there compute.Surroundings
		disk  int
		says  string
	}{
		"no provider":  {compute.Surroundings{Unregistered: true}, 0, "az provider register --namespace Microsoft.Compute --wait"},
		"no subnet":    {compute.Surroundings{Subnets: map[string]string{}}, 0, "DSVM_SUBNET_ID"},
		"no image":     {compute.Surroundings{Images: map[string]int{}}, 0, "DSVM_IMAGE"},
		"a small disk": {compute.Surroundings{Images: map[string]int{"p:o:s": 150}}, 128, "DSVM_OS_DISK_GIB"},
	} {
		cl, m := client(t, azure(t, func(cfg *compute.Config) { cfg.Surroundings = c.there }).URL()), model
		m.OSDisk.GiB = c.disk
		if _, err := cl.Grow(t.Context(), "set", m, 1); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want invalid with %q", name, err, c.says)
		}
	}
	// What Azure may not take, the client does not need: both answers end in a set.
	strict := compute.Surroundings{RefuseAddressSKU: true, RefuseDeleteOption: true}
	cl, m := client(t, azure(t, func(cfg *compute.Config) { cfg.Surroundings = strict }).URL()), model
	m.PublicIP = true
	op, err := cl.Grow(t.Context(), "set", m, 1)
	must(t, finish(t, cl, op, err))
}
