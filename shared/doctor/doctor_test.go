package doctor_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"dsvmpools/shared/bus"
	"dsvmpools/shared/doctor"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/wire"
)

// world is a deployment in which everything is right until a test changes it. It is all
// that a doctor asks.
type world struct {
	at        time.Time // of the tables' clock
	tables    error
	queues    map[string]bus.Queue
	sizes     []string
	sizesErr  error
	quotas    error
	quotaless bool // no quota is listed
	nodes     error
	example   atomic.Value // size of the set that Azure was asked for
	hang      bool         // Azure never answers
	access    error
	specs     []pool.Spec
	tokenless bool
}

func healthy() *world {
	w := &world{at: noon, queues: map[string]bus.Queue{}, sizes: []string{"Standard_D2s_v5"}}
	for _, name := range []string{"jobs", "pools", "pool-events", "node-events", "rejected"} {
		w.queues[name] = bus.Queue{Lock: 5 * time.Minute}
	}
	w.queues["work"] = bus.Queue{Lock: 2 * time.Minute, Sessions: true}
	return w
}

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

type tables struct{ *world }

func (t tables) TestAccess(context.Context) (time.Time, error) { return t.at, t.world.tables }

type queues struct{ *world }

func (q queues) Queues() bus.Queues { return bus.DefaultQueues }

func (q queues) Inspect(_ context.Context, name string) (bus.Queue, error) {
	found, ok := q.world.queues[name]
	if !ok {
		return found, fault.New(fault.NotFound, "", "queue %q does not exist", name)
	}
	return found, nil
}

func (q queues) TestAccess(_ context.Context, name string, _ bool) error {
	if name == "jobs" {
		return q.world.access
	}
	return nil
}

type scaleSets struct{ *world }

func (s scaleSets) Check(ctx context.Context, _ string, _ pool.Spec, set pool.Set) error {
	s.world.example.Store(set.Size)
	if s.world.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.world.nodes
}

func (s scaleSets) Quotas(context.Context, string, pool.Spec, pool.Set) ([]string, error) {
	if s.world.quotaless {
		return nil, nil
	}
	return []string{"cores: 0 of 10 cores in use"}, s.world.quotas
}

func (w *world) GetToken(_ context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if w.tokenless {
		return azcore.AccessToken{}, errors.New("no identity with secret-id")
	}
	return azcore.AccessToken{Token: "token", ExpiresOn: noon.Add(time.Hour)}, nil
}

func (w *world) config(t *testing.T) doctor.Config {
	return doctor.Config{
		Tables: tables{w}, Bus: queues{w}, Fleet: scaleSets{w},
		Sizes: func(context.Context, string) ([]string, error) { return w.sizes, w.sizesErr },
		Pools: func(context.Context) ([]pool.Spec, error) { return w.specs, nil },
		Place: doctor.Place{
			Subscription: "s", ResourceGroup: "nodes", Location: "westeurope", Namespace: "bus1.servicebus.windows.net",
			TablesEndpoint: "https://store1.table.core.windows.net/", ClientID: "client-1",
		},
		Share: t.TempDir(),
		Now:   func() time.Time { return noon },
	}
}

// rows are the rows of a diagnosis by name.
func rows(t *testing.T, c doctor.Config) map[string]wire.Check {
	t.Helper()
	found := map[string]wire.Check{}
	for _, row := range doctor.New(c).Diagnose(t.Context()) {
		if _, twice := found[row.Check]; twice {
			t.Errorf("%s is there twice", row.Check)
		}
		found[row.Check] = row
	}
	return found
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	found := rows(t, healthy().config(t))
	for _, name := range []string{
		"version", "tables", "clock", "queue jobs", "queue pools", "queue pool-events", "queue node-events", "queue work",
		"queue rejected", "share", "sizes", "quota", "nodes",
	} {
		if row, ok := found[name]; !ok || row.State != wire.CheckOK || row.Detail == "" || row.Mend != "" {
			t.Errorf("%s: got %+v, want ok with a detail and nothing to do", name, row)
		}
		delete(found, name)
	}
	if len(found) > 0 {
		t.Errorf("also: %v", found)
	}
}

// No quota is as it should be for an instance on one machine, and strange in the cloud.
func TestNoQuota(t *testing.T) {
	t.Parallel()
	w := healthy()
	w.quotaless = true
	if row := rows(t, w.config(t))["quota"]; row.State != wire.CheckOK || row.Mend != "" {
		t.Errorf("on one machine: got %+v, want ok with nothing to do", row)
	}
	config := w.config(t)
	config.Mounted = true
	if row := rows(t, config)["quota"]; row.State != wire.CheckUnknown || row.Mend == "" {
		t.Errorf("in the cloud: got %+v, want unknown and where to look", row)
	}
}

// Each fault shows in its own row, with what mends it, and in no other.
func TestFaults(t *testing.T) {
	t.Parallel()
	refused := func(code string) error { return fault.New(fault.Invalid, "", "Azure answered %s: no", code) }
	for name, c := range map[string]struct {
		harm         func(*world, *doctor.Config)
		row          string
		state        wire.CheckState
		detail, mend string
	}{
		"tables refuse": {func(w *world, _ *doctor.Config) { w.tables = fault.New(fault.Internal, "", "refused") }, "tables", wire.CheckFailed,
			"refused", `before the next deployment: az role assignment create --assignee client-1 --role "Storage Table Data Contributor" --scope "$(az resource list --resource-type Microsoft.Storage/storageAccounts --name store1 `},
		"clock":    {func(w *world, _ *doctor.Config) { w.at = noon.Add(-10 * time.Minute) }, "clock", wire.CheckFailed, "10m0s off", "NTP"},
		"no clock": {func(w *world, _ *doctor.Config) { w.at = time.Time{} }, "clock", wire.CheckUnknown, "what time", ""},
		"no queue": {func(w *world, _ *doctor.Config) { delete(w.queues, "pools") }, "queue pools", wire.CheckFailed, "does not exist", "dsvm deploy"},
		"short lock": {func(w *world, _ *doctor.Config) { w.queues["jobs"] = bus.Queue{Lock: time.Minute} }, "queue jobs", wire.CheckFailed,
			"lock 1m0s", "dsvm deploy"},
		"no sessions": {func(w *world, _ *doctor.Config) { w.queues["work"] = bus.Queue{Lock: time.Minute} }, "queue work", wire.CheckFailed,
			"sessions", "delete the queue"},
		"no right on a queue": {func(w *world, _ *doctor.Config) { w.access = refused("Unauthorized") }, "queue jobs", wire.CheckFailed,
			"Unauthorized", "Azure Service Bus Data Owner"},
		"throttled": {func(w *world, _ *doctor.Config) { w.access = fault.New(fault.Throttled, "", "busy") }, "queue jobs", wire.CheckUnknown,
			"busy", "again in a minute"},
		"no share":    {func(_ *world, c *doctor.Config) { c.Share = filepath.Join(c.Share, "none") }, "share", wire.CheckFailed, "none", "mount"},
		"not mounted": {func(_ *world, c *doctor.Config) { c.Mounted = true }, "share", wire.CheckFailed, "nothing is mounted", "mount"},
		"no size": {func(w *world, _ *doctor.Config) { w.sizes = []string{"Standard_Other"} }, "sizes", wire.CheckFailed,
			"westeurope has no Standard_D2s_v5", "list-skus"},
		"sizes unread": {func(w *world, _ *doctor.Config) { w.sizesErr = refused("AuthorizationFailed") }, "sizes", wire.CheckUnknown, "misspelled", "vmSizes/read"},
		"quota unread": {func(w *world, _ *doctor.Config) { w.quotas = refused("AuthorizationFailed") }, "quota", wire.CheckFailed,
			"AuthorizationFailed", "usages/read"},
		"no right on nodes": {func(w *world, _ *doctor.Config) { w.nodes = refused("AuthorizationFailed") }, "nodes", wire.CheckFailed,
			"AuthorizationFailed", `"Virtual Machine Contributor" --scope "/subscriptions/s/resourceGroups/nodes"`},
		"no right on the subnet": {func(w *world, _ *doctor.Config) { w.nodes = refused("LinkedAuthorizationFailed") }, "nodes", wire.CheckFailed,
			"LinkedAuthorizationFailed", "Network Contributor"},
		"no image": {func(w *world, _ *doctor.Config) { w.nodes = refused("PlatformImageNotFound") }, "nodes", wire.CheckFailed,
			"ImageNotFound", "az vm image list --location westeurope"},
		"not registered": {func(w *world, _ *doctor.Config) { w.nodes = refused("MissingSubscriptionRegistration") }, "nodes", wire.CheckFailed,
			"Registration", "az provider register --namespace Microsoft.Compute"},
		"no answer": {func(w *world, _ *doctor.Config) { w.nodes = context.DeadlineExceeded }, "nodes", wire.CheckUnknown, "deadline", "again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := healthy()
			config := w.config(t)
			c.harm(w, &config)
			for of, row := range rows(t, config) {
				if of != c.row && row.State != wire.CheckOK {
					t.Errorf("%s is %+v, which is not broken", of, row)
				}
				if of == c.row && (row.State != c.state || !strings.Contains(row.Detail, c.detail) || !strings.Contains(row.Mend, c.mend)) {
					t.Errorf("%s: got %+v, want %s about %q, mended by %q", of, row, c.state, c.detail, c.mend)
				}
			}
		})
	}
}

// Nodes are judged by the first of the pools there are.
func TestNodesAreThoseOfAPool(t *testing.T) {
	t.Parallel()
	w := healthy()
	w.specs = []pool.Spec{{Name: "b", Sizes: []string{"Standard_B"}}, {Name: "a", Sizes: []string{"Standard_A"}}}
	rows(t, w.config(t))
	if got := w.example.Load(); got != "Standard_A" {
		t.Errorf("Azure was asked for %v, want the size of the first pool", got)
	}
}

// A diagnosis ends with its caller, also where a service does not answer.
func TestDiagnosisEnds(t *testing.T) {
	t.Parallel()
	w := healthy()
	w.hang = true
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for _, row := range doctor.New(w.config(t)).Diagnose(ctx) {
		if row.Check == "nodes" && row.State != wire.CheckUnknown {
			t.Errorf("got %+v, want unknown", row)
		}
	}
}

// The agent's program and the key of the share are fetched as the nodes fetch them. Nothing
// that is a secret is in a row.
func TestFetched(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("program"))
	right := hex.EncodeToString(sum[:])
	for name, c := range map[string]struct {
		status       int
		hash         string
		tokenless    bool
		row          string
		state        wire.CheckState
		detail, mend string
	}{
		"good":        {200, right, false, "agent", wire.CheckOK, "7 bytes", ""},
		"other hash":  {200, strings.Repeat("0", 64), false, "agent", wire.CheckFailed, right, "dsvm deploy"},
		"not there":   {404, right, false, "agent", wire.CheckFailed, "404", "dsvm deploy"},
		"no right":    {403, right, false, "agent", wire.CheckFailed, "403", "Storage Blob Data Reader"},
		"no key":      {403, right, false, "key of the share", wire.CheckFailed, "403", "Key Vault Secrets User"},
		"the key":     {200, right, false, "key of the share", wire.CheckOK, "vault", ""},
		"no identity": {200, right, true, "key of the share", wire.CheckFailed, "no token", "identity assign"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var naked atomic.Bool
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer token" {
					naked.Store(true)
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte("program"))
			}))
			defer server.Close()
			w := healthy()
			w.tokenless = c.tokenless
			config := w.config(t)
			config.Credential = w
			config.AgentURL, config.AgentSHA256, config.ShareKeyURL = server.URL+"/agent", c.hash, server.URL+"/secrets/share-key"
			row := rows(t, config)[c.row]
			if row.State != c.state || !strings.Contains(row.Detail, c.detail) || !strings.Contains(row.Mend, c.mend) {
				t.Errorf("got %+v, want %s about %q, mended by %q", row, c.state, c.detail, c.mend)
			}
			if strings.Contains(row.Detail, "program") && c.row == "key of the share" || strings.Contains(row.Detail, "secret-id") {
				t.Errorf("a secret is in %+v", row)
			}
			if naked.Load() {
				t.Error("it was fetched without a token")
			}
		})
	}
}

// Two people may ask at once: what one of them looks at is not broken for the other.
func TestDiagnosesAtOnce(t *testing.T) {
	t.Parallel()
	d := doctor.New(healthy().config(t))
	var asking sync.WaitGroup
	for range 50 {
		asking.Go(func() {
			for _, row := range d.Diagnose(t.Context()) {
				if row.Check == "share" && row.State != wire.CheckOK {
					t.Errorf("got %+v", row)
				}
			}
		})
	}
	asking.Wait()
}
