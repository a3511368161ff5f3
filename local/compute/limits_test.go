//go:build unix

package compute_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"dsvmpools/local/compute"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/fleet"
)

func TestQuota(t *testing.T) {
	t.Parallel()
	cpus := func(size string) int { return map[string]int{"Standard_D2s_v5": 2, "Standard_D4s_v5": 4}[size] }
	spot := func(m fleet.Model) fleet.Model { m.Spot = true; return m }
	large := func(m fleet.Model) fleet.Model { m.Size = "Standard_D4s_v5"; return m }
	for _, c := range []struct {
		name  string
		quota map[string]int
		model fleet.Model
		fits  int // instances at most
		says  string
	}{
		{"the region's", map[string]int{compute.QuotaTotal: 7}, model(), 3, "exceeding approved Total Regional Cores quota. Additional details - Deployment Model: Resource Manager, Location: westeurope, Current Limit: 7, Current Usage: 6, Additional Required: 4, (Minimum) New Limit Required: 10."},
		{"the family's", map[string]int{"standardDSv5Family": 6, compute.QuotaTotal: 100}, model(), 3, "standardDSv5Family Cores quota"},
		{"the size's", map[string]int{"standard_d4S_V5": 8}, large(model()), 2, "Cores quota"},
		{"Spot's", map[string]int{compute.QuotaSpot: 4, compute.QuotaTotal: 0}, spot(model()), 2, "LowPriorityCores quota"},
		{"nothing left", map[string]int{"standardDSv5Family": 0}, model(), 0, "Current Limit: 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, _ := machine(t, func(cfg *compute.Config) { cfg.Quota, cfg.CPUs = c.quota, cpus })
			if c.fits > 0 {
				op, err := f.Grow(f.ctx, "set", c.model, c.fits)
				f.poll(t, op, err)
			}
			// One more would fit of none; two more are refused as a whole.
			_, err := f.Grow(f.ctx, "set", c.model, c.fits+2)
			if fault.CodeOf(err) != fault.NoQuota || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want no quota with %q", err, c.says)
			}
			var raw *azcore.ResponseError
			if !errors.As(err, &raw) || raw.StatusCode != http.StatusConflict || raw.ErrorCode != "OperationNotAllowed" {
				t.Errorf("the client's error: got %v", raw)
			}
			if l := f.list(t); l.Capacity != c.fits || len(l.Instances) != c.fits || l.Exists != (c.fits > 0) {
				t.Errorf("got %+v, want %d as before", l, c.fits)
			}
			if c.fits == 0 {
				return
			}
			op, err := f.Client.Remove(f.ctx, "set", []string{"0"})
			f.poll(t, op, err)
			op, err = f.Grow(f.ctx, "set", c.model, c.fits)
			f.poll(t, op, err) // deleted instances do not count
		})
	}
}

func TestFamily(t *testing.T) {
	t.Parallel()
	for size, want := range map[string]string{"Standard_D2s_v5": "standardDSv5Family", "Standard_E16-4ds_v5": "standardEDSv5Family", "Standard_F8s_v2": "standardFSv2Family",
		"Standard_D2": "standardDFamily", "x": ""} {
		if got := compute.Family(size); got != want {
			t.Errorf("%s: got %s, want %s", size, got, want)
		}
	}
}

// The rates of the cloud: twelve changes of a scale set at once, then four a
// minute.
func TestCloudRates(t *testing.T) {
	t.Parallel()
	f, _ := machine(t, func(cfg *compute.Config) { cfg.CloudRates, cfg.BootDelay = true, time.Hour })
	op, err := f.Grow(f.ctx, "set", model(), 0)
	f.ends(t, op, err)
	c := sets(t, f.URL())
	for n := range 12 {
		var response *http.Response
		if _, err := c.BeginUpdate(policy.WithCaptureResponse(f.ctx, &response), "group", "set", capacity(0), nil); err != nil {
			t.Fatalf("change %d: %v", n+1, err)
		}
		if n == 0 {
			if got, want := response.Header.Get("x-ms-ratelimit-remaining-resource"), "Microsoft.Compute/UpdateVMScaleSetSubscriptionMaximum;1499,Microsoft.Compute/UpdateVMScaleSetResource;11"; got != want {
				t.Errorf("remaining: got %q, want %q", got, want)
			}
			if response.Header.Get("x-ms-request-charge") != "1" ||
				response.Header.Get("x-ms-ratelimit-remaining-subscription-writes") != "198" {
				t.Errorf("got %v", response.Header)
			}
		}
	}
	_, err = c.BeginUpdate(f.ctx, "group", "set", capacity(0), nil)
	var raw *azcore.ResponseError
	if !errors.As(err, &raw) || raw.StatusCode != http.StatusTooManyRequests || raw.ErrorCode != "OperationNotAllowed" || raw.RawResponse.Header.Get("Retry-After") == "" ||
		!strings.Contains(raw.Error(), `"TooManyRequests"`) ||
		!strings.Contains(raw.Error(), "UpdateVMScaleSet") {
		t.Errorf("got %v", err)
	}
	_, err = f.Grow(f.ctx, "set", model(), 1)
	var got *fault.Error
	if !errors.As(err, &got) || got.Code != fault.Throttled || got.RetryAfter <= 0 || got.RetryAfter > 15*time.Second {
		t.Errorf("through the fleet: got %v after %s, want throttled for up to 15s", err, got.RetryAfter)
	}
	if _, err := f.Grow(f.ctx, "other", model(), 1); err != nil {
		t.Errorf("another scale set: got %v", err)
	}
}
