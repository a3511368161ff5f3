//go:build unix

package fleet_test

import (
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"dsvmpools/local/chaos"
	"dsvmpools/local/compute"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/fleet"
)

// What quota does not allow is not asked for, and the refusal says what it does
// allow: by the region's quota, the family's, or that of Spot, which is none of the
// others' business.
func TestQuotaIsReadBefore(t *testing.T) {
	t.Parallel()
	cpus := func(string) int { return 2 }
	spot := model
	spot.Spot = true
	for _, c := range []struct {
		name  string
		quota map[string]int
		model fleet.Model
		left  int
		says  string
	}{
		{"the region's", map[string]int{compute.QuotaTotal: 11, "standardDSv5Family": 100}, model, 2, "Total Regional Cores allows 2 more Standard_D2s_v5: 6 of 11 cores are in use, and each takes 2"},
		{"the family's", map[string]int{compute.QuotaTotal: 100, "StandardDSV5family": 8}, model, 1, "StandardDSV5family Cores allows 1 more"},
		{"nothing left", map[string]int{compute.QuotaTotal: 6}, model, 0, "allows 0 more"},
		{"Spot's", map[string]int{compute.QuotaTotal: 0, compute.QuotaSpot: 10}, spot, 2, "LowPriorityCores allows 2 more"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var puts atomic.Int64
			f := client(t, before(t, azure(t, func(cfg *compute.Config) { cfg.Quota, cfg.CPUs = c.quota, cpus }), func(operation string) {
				if operation == "put" || operation == "patch" {
					puts.Add(1)
				}
			}))
			m := c.model
			m.CPUs = 2
			op, err := f.Grow(t.Context(), "set", m, 3)
			must(t, finish(t, f, op, err))
			_, err = f.Grow(t.Context(), "set", m, 3+c.left+1)
			var refused *fault.Error
			if !errors.As(err, &refused) || refused.Code != fault.NoQuota || refused.Left == nil || *refused.Left != c.left ||
				!strings.Contains(refused.Message, c.says) {
				t.Fatalf("got %v, want no quota with %q", err, c.says)
			}
			if puts.Load() != 1 {
				t.Errorf("%d changes were asked for, want the first alone", puts.Load())
			}
			if _, err := f.Grow(t.Context(), "set", m, 3+c.left); err != nil {
				t.Errorf("what is left: %v", err)
			}
		})
	}
}

// What others have given back counts at once.
func TestQuotaThatHasBecomeFree(t *testing.T) {
	t.Parallel()
	s := azure(t, func(cfg *compute.Config) {
		cfg.Quota, cfg.CPUs = map[string]int{compute.QuotaTotal: 8}, func(string) int { return 2 }
	})
	f := client(t, s.URL())
	m := model
	m.CPUs = 2
	op, err := f.Grow(t.Context(), "one", m, 3)
	must(t, finish(t, f, op, err))
	if _, err := f.Grow(t.Context(), "other", m, 3); fault.CodeOf(err) != fault.NoQuota {
		t.Fatalf("got %v, want no quota", err)
	}
	op, err = f.Drop(t.Context(), "one")
	must(t, finish(t, f, op, err))
	if op, err = f.Grow(t.Context(), "other", m, 3); err != nil {
		t.Errorf("got %v, want what has become free", err)
	}
	must(t, finish(t, f, op, err))
}

// What cannot be read keeps nothing from being asked, and what nobody foresaw the
// service refuses itself.
func TestQuotaThatIsNotKnown(t *testing.T) {
	t.Parallel()
	unreadable := chaos.New(1)
	if _, err := unreadable.Add(chaos.Injection{Target: "compute/usages", Do: chaos.Refuse, Code: "AuthorizationFailed"}); err != nil {
		t.Fatal(err)
	}
	s := azure(t, func(cfg *compute.Config) {
		cfg.Quota, cfg.CPUs, cfg.Chaos = map[string]int{compute.QuotaTotal: 8}, func(string) int { return 2 }, unreadable
	})
	f := client(t, s.URL())
	m := model
	m.CPUs = 2
	var refused *fault.Error
	if _, err := f.Grow(t.Context(), "set", m, 5); !errors.As(err, &refused) || refused.Code != fault.NoQuota || refused.Left != nil ||
		!strings.Contains(refused.Message, "Additional Required: 10") {
		t.Errorf("got %v, want the service's own refusal", err)
	}
	op, err := f.Grow(t.Context(), "set", m, 4)
	must(t, finish(t, f, op, err))
}

// A quota that cannot be read is logged once, with the right that is missing.
func TestUnreadableQuotaIsLoggedOnce(t *testing.T) {
	t.Parallel()
	for code, names := range map[string]bool{"AuthorizationFailed": true, "NoRegisteredProviderFound": false} {
		var said strings.Builder
		s := broken(t, chaos.Injection{Target: "compute/usages", Do: chaos.Refuse, Code: code})
		c, err := fleet.New(fleet.Config{
			SubscriptionID: "SUB",
			ResourceGroup:  "pools",
			Endpoint:       s.URL(),
			Credential:     fleet.StaticCredential("secret"),
			Log:            slog.New(slog.NewTextHandler(&said, nil)),
		})
		must(t, err)
		m := model
		m.CPUs = 2
		for target := range 3 {
			op, err := c.Grow(t.Context(), "set", m, target)
			must(t, finish(t, c, op, err))
		}
		got := said.String()
		if strings.Count(got, "reading quotas failed") != 1 || strings.Contains(got, "Microsoft.Compute/locations/usages/read") != names ||
			strings.Contains(got, "/subscriptions/SUB ") != names {
			t.Errorf("%s: got %s", code, got)
		}
	}
}
