//go:build unix

package compute_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"dsvmpools/local/chaos"
	"dsvmpools/local/compute"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/fleet"
)

// machine starts a server with the agents of this test and these injections.
func machine(t *testing.T, change func(*compute.Config), rules ...chaos.Injection) (fixture, *chaos.Set) {
	t.Helper()
	dir, set := t.TempDir(), chaos.New(1)
	for _, r := range rules {
		if _, err := set.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	cfg := compute.Config{
		Addr:           "127.0.0.1:0",
		Path:           filepath.Join(dir, "arm.db"),
		Dir:            filepath.Join(dir, "instances"),
		LogDir:         filepath.Join(dir, "logs"),
		Token:          token,
		SubscriptionID: "sub",
		ResourceGroup:  "Group",
		Location:       "westeurope",
		Supervisor:     []string{os.Args[0], "instance"},
		Agent:          []string{os.Args[0], "agent"},
		Env:            []string{"TEST_PIDS=" + dir},
		BootDelay:      5 * time.Millisecond,
		DeleteDelay:    5 * time.Millisecond,
		RestartDelay:   5 * time.Millisecond,
		RetryAfter:     5 * time.Millisecond,
		Chaos:          set,
	}
	if change != nil {
		change(&cfg)
	}
	s := launch(t, cfg)
	return fixture{s, clientOf(t, s.URL()), dir, t.Context()}, set
}

// ends polls an operation to its end and returns how it ended.
func (f fixture) ends(t *testing.T, op fleet.Operation, err error) (end error) {
	t.Helper()
	if err != nil || op.Token == "" {
		return err
	}
	until(t, "the end of the operation", func() bool {
		done, _, err := f.Poll(f.ctx, op.Token)
		end = err
		return done
	})
	return end
}

// only waits until the only instance has these states.
func (f fixture) only(t *testing.T, provisioning, power string) fleet.Instance {
	t.Helper()
	var got fleet.Instance
	until(t, "an instance that is "+provisioning+" and "+power, func() bool {
		l := f.list(t)
		if len(l.Instances) == 1 {
			got = l.Instances[0]
		}
		return got.Provisioning == provisioning && got.Power == power
	})
	return got
}

// sets returns the real client, without the conversions of fleet.
func sets(t *testing.T, url string) *armcompute.VirtualMachineScaleSetsClient {
	t.Helper()
	c, err := armcompute.NewVirtualMachineScaleSetsClient(
		"sub",
		fleet.StaticCredential(token),
		&arm.ClientOptions{DisableRPRegistration: true,
			ClientOptions: policy.ClientOptions{InsecureAllowCredentialWithHTTP: true, Retry: policy.RetryOptions{MaxRetries: -1},
				Cloud: cloud.Configuration{
					Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: url, Audience: url}},
				}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func capacity(n int64) armcompute.VirtualMachineScaleSetUpdate {
	return armcompute.VirtualMachineScaleSetUpdate{
		SKU: &armcompute.SKU{Name: to.Ptr("Standard_D2s_v5"), Tier: to.Ptr("Standard"), Capacity: to.Ptr(n)},
	}
}

// Failures that come after the call was accepted, with a status of success.
func TestAllocationFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code, says string
		want       fault.Code
	}{
		{"", "do not have sufficient capacity for the requested VM size in this region", fault.NoCapacity},
		{"AllocationFailed", "in this region", fault.NoCapacity},
		{"ZonalAllocationFailed", "in this zone", fault.NoCapacity},
		{"OverconstrainedAllocationRequest", "too restrictive", fault.NoCapacity},
		{"OverconstrainedZonalAllocationRequest", "Availability Zone", fault.NoCapacity},
		{"OperationPreempted", "preempted by a more recent operation", fault.Preempted},
		{"InsufficientSubnetSize", "'set'", fault.NoQuota},
	} {
		t.Run(c.code, func(t *testing.T) {
			t.Parallel()
			f, set := machine(t, nil)
			op, err := f.Grow(f.ctx, "set", model(), 1)
			f.poll(t, op, err)
			if _, err := set.Add(chaos.Injection{Do: chaos.Refuse, Target: "compute/allocate/set", Code: c.code, Count: 2}); err != nil {
				t.Fatal(err)
			}
			op, err = f.Grow(f.ctx, "set", model(), 3)
			if err != nil || op.Token == "" {
				t.Fatalf("got %v, want an operation", err)
			}
			if err := f.ends(t, op, nil); fault.CodeOf(err) != c.want || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %s with %q", err, c.want, c.says)
			}
			if l := f.list(t); l.Provisioning != "Failed" || l.Capacity != 3 || len(l.Instances) != 1 {
				t.Errorf("got %s with %d of %d instances, want Failed with 1 of 3", l.Provisioning, len(l.Instances), l.Capacity)
			}
			poller, err := sets(t, f.URL()).BeginUpdate(f.ctx, "group", "set", capacity(4), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = poller.PollUntilDone(f.ctx, &runtime.PollUntilDoneOptions{Frequency: time.Second})
			var raw *azcore.ResponseError
			if !errors.As(err, &raw) || raw.StatusCode != http.StatusOK || c.code != "" && raw.ErrorCode != c.code {
				t.Errorf("the client itself: got %v", err)
			}
			// The next operation succeeds, and the set is not failed any more.
			op, err = f.Grow(f.ctx, "set", model(), 5)
			f.poll(t, op, err)
			if l := f.list(t); l.Provisioning != "Succeeded" || len(l.Instances) != 5 {
				t.Errorf("afterwards: got %s with %d instances", l.Provisioning, len(l.Instances))
			}
		})
	}
}

func TestBootFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code, power string
		guest       bool
		want        fault.Code
	}{
		{"", "running", false, fault.Internal}, // OSProvisioningTimedOut: billed, and of no use
		{"VMExtensionProvisioningError", "running", true, fault.Internal},
		{"AllocationFailed", "", false, fault.NoCapacity},
		{"VMStartTimedOut", "", false, fault.Internal},
	} {
		t.Run(c.code, func(t *testing.T) {
			t.Parallel()
			f, _ := machine(t, nil, chaos.Injection{Do: chaos.Refuse, Target: "compute/boot/set/set_0", Code: c.code})
			op, err := f.Grow(f.ctx, "set", model(), 2)
			end := f.ends(t, op, err)
			if c.code == "" {
				c.code = "OSProvisioningTimedOut"
			}
			if fault.CodeOf(end) != c.want || !strings.Contains(end.Error(), c.code) {
				t.Errorf("the operation: got %v, want %s", end, c.want)
			}
			l := f.list(t)
			bad, good := l.Instances[0], l.Instances[1]
			if l.Provisioning != "Failed" || bad.Provisioning != "Failed" || bad.Power != c.power || !strings.Contains(bad.Error, c.code) {
				t.Errorf("got %s with %+v", l.Provisioning, bad)
			}
			if good.Provisioning != "Succeeded" || good.Power != "running" {
				t.Errorf("the other one: got %+v", good)
			}
			pids(t, f.dir, "set_1")
			if c.guest {
				pids(t, f.dir, "set_0")
			} else if _, err := os.Stat(filepath.Join(f.dir, "set_0")); err == nil {
				t.Error("an instance that did not come up runs an agent")
			}
			op, err = f.Client.Remove(f.ctx, "set", []string{"0"})
			f.poll(t, op, err)
			if l := f.list(t); l.Provisioning != "Succeeded" || l.Capacity != 1 {
				t.Errorf("without it: got %s of %d", l.Provisioning, l.Capacity)
			}
		})
	}
}

func TestStuckInCreating(t *testing.T) {
	t.Parallel()
	f, _ := machine(t, nil, chaos.Injection{Do: chaos.Stick, Target: "compute/boot/set/set_0", Count: 1})
	op, err := f.Grow(f.ctx, "set", model(), 2)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the other instance", func() bool {
		l := f.list(t)
		return l.Instances[1].Power == "running"
	})
	if l := f.list(t); l.Provisioning != "Updating" || l.Instances[0].Provisioning != "Creating" {
		t.Errorf("got %s with %+v", l.Provisioning, l.Instances[0])
	}
	if done, _, err := f.Poll(f.ctx, op.Token); done || err != nil {
		t.Errorf("the operation: got done %v, %v", done, err)
	}
	away, err := f.Client.Remove(f.ctx, "set", []string{"0"})
	f.poll(t, away, err)
	if err := f.ends(t, op, nil); err != nil {
		t.Errorf("the operation in the end: got %v", err)
	}
}

func TestDeletionGoesWrong(t *testing.T) {
	t.Parallel()
	t.Run("and never ends", func(t *testing.T) {
		t.Parallel()
		f, _ := machine(t, nil, chaos.Injection{Do: chaos.Stick, Target: "compute/remove/set/set_0"})
		op, err := f.Grow(f.ctx, "set", model(), 1)
		f.poll(t, op, err)
		agent, _ := pids(t, f.dir, "set_0")
		op, err = f.Client.Remove(f.ctx, "set", []string{"0"})
		if err != nil {
			t.Fatal(err)
		}
		until(t, "the end of the agent", func() bool { return !alive(agent) })
		if l := f.list(t); len(l.Instances) != 1 || l.Instances[0].Provisioning != "Deleting" || l.Capacity != 0 {
			t.Errorf("got %+v", l)
		}
		if done, _, err := f.Poll(f.ctx, op.Token); done || err != nil {
			t.Errorf("the operation: got done %v, %v", done, err)
		}
	})
	for name, delete := range map[string]func(f fixture) (fleet.Operation, error){
		"by name":       func(f fixture) (fleet.Operation, error) { return f.Client.Remove(f.ctx, "set", []string{"0"}) },
		"the whole set": func(f fixture) (fleet.Operation, error) { return f.Drop(f.ctx, "set") },
	} {
		t.Run("and fails: "+name, func(t *testing.T) {
			t.Parallel()
			f, _ := machine(t, nil, chaos.Injection{Do: chaos.Refuse, Target: "compute/remove", Count: 1})
			op, err := f.Grow(f.ctx, "set", model(), 1)
			f.poll(t, op, err)
			agent, _ := pids(t, f.dir, "set_0")
			op, err = delete(f)
			if err := f.ends(t, op, err); fault.CodeOf(err) != fault.Internal || !strings.Contains(err.Error(), "InternalExecutionError") {
				t.Errorf("the operation: got %v", err)
			}
			f.only(t, "Failed", "running") // and billed
			if l := f.list(t); l.Capacity != 1 || !alive(agent) {
				t.Errorf("got capacity %d, agent alive %v", l.Capacity, alive(agent))
			}
			op, err = delete(f)
			f.poll(t, op, err)
			if l := f.list(t); len(l.Instances) != 0 || alive(agent) {
				t.Errorf("the second time: got %+v, agent alive %v", l.Instances, alive(agent))
			}
		})
	}
}

func TestFateOfRunningInstances(t *testing.T) {
	t.Parallel()
	t.Run("stopped from inside, and billed", func(t *testing.T) {
		t.Parallel()
		f, _ := machine(t, nil, chaos.Injection{Do: chaos.Refuse, Target: "compute/run", Delay: 3 * time.Second, Count: 1})
		op, err := f.Grow(f.ctx, "set", model(), 1)
		f.poll(t, op, err)
		agent, _ := pids(t, f.dir, "set_0")
		f.only(t, "Succeeded", "stopped")
		until(t, "the end of the agent", func() bool { return !alive(agent) })
		op, err = f.Client.Remove(f.ctx, "set", []string{"0"})
		f.poll(t, op, err)
	})
	t.Run("deleted by somebody else", func(t *testing.T) {
		t.Parallel()
		f, _ := machine(t, nil, chaos.Injection{Do: chaos.Lose, Target: "compute/run/set", Count: 1})
		op, err := f.Grow(f.ctx, "set", model(), 2)
		f.poll(t, op, err)
		until(t, "its absence", func() bool { l := f.list(t); return len(l.Instances) == 1 && l.Capacity == 1 })
	})
	for _, spot := range []bool{true, false} {
		t.Run("evicted", func(t *testing.T) {
			t.Parallel()
			f, _ := machine(t, func(cfg *compute.Config) { cfg.EvictionNotice = 50 * time.Millisecond },
				chaos.Injection{Do: chaos.Evict, Target: "compute/run/set", Count: 1})
			m := model()
			m.Spot = spot
			op, err := f.Grow(f.ctx, "set", m, 2)
			f.poll(t, op, err)
			until(t, "its absence", func() bool { l := f.list(t); return len(l.Instances) == 1 && l.Capacity == 1 })
		})
	}
	t.Run("of nobody", func(t *testing.T) {
		t.Parallel()
		f, _ := machine(t, nil)
		if f.Evict("set_0") == nil || f.Server.Remove("set_0") == nil {
			t.Error("got no error")
		}
	})
}

// A stopped instance stays stopped after a restart of the server.
func TestStoppedInstanceOutlivesARestart(t *testing.T) {
	t.Parallel()
	var cfg compute.Config
	f, set := machine(t, func(c *compute.Config) { cfg = *c; c.Chaos = nil })
	_ = set
	op, err := f.Grow(f.ctx, "set", model(), 1)
	f.poll(t, op, err)
	f.Close()
	os.Remove(filepath.Join(f.dir, "set_0"))
	cfg.Chaos = chaos.New(1)
	if _, err := cfg.Chaos.Add(chaos.Injection{Do: chaos.Refuse, Target: "compute/run"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s := launch(t, cfg)
		f = fixture{s, clientOf(t, s.URL()), f.dir, f.ctx}
		f.only(t, "Succeeded", "stopped")
		s.Close()
		os.Remove(filepath.Join(f.dir, "set_0"))
		cfg.Chaos = nil
	}
	if _, err := os.Stat(filepath.Join(f.dir, "set_0")); err == nil {
		t.Error("a stopped instance runs an agent")
	}
}

func TestListLags(t *testing.T) {
	t.Parallel()
	var cfg compute.Config
	f, set := machine(t, func(c *compute.Config) { cfg = *c })
	op, err := f.Grow(f.ctx, "set", model(), 2)
	f.poll(t, op, err)
	op, err = f.Client.Remove(f.ctx, "set", []string{"0"})
	f.poll(t, op, err)
	if _, err := set.Add(chaos.Injection{Do: chaos.Lag, Target: "compute/list", Delay: time.Hour, Count: 1}); err != nil {
		t.Fatal(err)
	}
	// The oldest snapshot: the instances were just created.
	if l := f.list(t); len(l.Instances) != 2 || l.Capacity != 1 || l.Instances[0].Provisioning != "Creating" {
		t.Errorf("got %+v", l)
	}
	if l := f.list(t); len(l.Instances) != 1 {
		t.Errorf("afterwards: got %+v", l)
	}
	// After a restart there are no old snapshots. The list is then the present one, not empty.
	f.Close()
	if _, err := set.Add(chaos.Injection{Do: chaos.Lag, Target: "compute/list", Delay: time.Hour}); err != nil {
		t.Fatal(err)
	}
	s := launch(t, cfg)
	if l := (fixture{s, clientOf(t, s.URL()), f.dir, f.ctx}).list(t); len(l.Instances) != 1 {
		t.Errorf("after a restart: got %+v", l)
	}
}

// An answer that is lost on its way does not make a second set of instances.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for _, operation := range []string{"put", "patch", "deleteInstances", "delete"} {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			f, _ := machine(t, nil, chaos.Injection{Do: chaos.Lose, Target: "compute/" + operation + "/set", Count: 1})
			op, err := f.Grow(f.ctx, "set", model(), 1)
			if err != nil {
				t.Fatal(err)
			}
			f.ends(t, op, nil)
			op, err = f.Grow(f.ctx, "set", model(), 2)
			if err != nil {
				t.Fatal(err)
			}
			f.ends(t, op, nil)
			until(t, "two instances", func() bool {
				l := f.list(t)
				return l.Provisioning == "Succeeded" && len(l.Instances) == 2 && l.Capacity == 2
			})
			op, err = f.Client.Remove(f.ctx, "set", []string{"0"})
			f.poll(t, op, err)
			until(t, "one instance", func() bool { l := f.list(t); return len(l.Instances) == 1 && l.Capacity == 1 })
			op, err = f.Drop(f.ctx, "set")
			f.poll(t, op, err)
			until(t, "no set", func() bool { return !f.list(t).Exists })
		})
	}
}

func TestDelayedRequest(t *testing.T) {
	t.Parallel()
	const late = 100 * time.Millisecond
	f, _ := machine(t, nil, chaos.Injection{Do: chaos.Delay, Target: "compute/get", Delay: late, Count: 1})
	began := time.Now()
	f.list(t)
	if took := time.Since(began); took < late {
		t.Errorf("got an answer after %s, want at least %s", took, late)
	}
	// A caller that gives up does not wait for the delay, and neither does Close.
	f, _ = machine(t, nil, chaos.Injection{Do: chaos.Delay, Target: "compute/get", Delay: time.Hour})
	ctx, cancel := context.WithTimeout(f.ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := f.List(ctx, "set"); err == nil {
		t.Error("got an answer")
	}
	go f.List(f.ctx, "set")
	f.Close()
}

func TestIDsInAnotherCase(t *testing.T) {
	t.Parallel()
	f, _ := machine(t, nil)
	op, err := f.Grow(f.ctx, "set", model(), 1)
	f.poll(t, op, err)
	_, body := call(t, f.URL(), http.MethodGet,
		"/subscriptions/sub/resourceGroups/Group/providers/Microsoft.Compute/virtualMachineScaleSets/set/virtualMachines", "")
	if !strings.Contains(body, "/resourceGroups/GROUP/") {
		t.Errorf("got %s", body)
	}
	op, err = f.Client.Remove(f.ctx, "SET", []string{"0"})
	f.poll(t, op, err)
}
