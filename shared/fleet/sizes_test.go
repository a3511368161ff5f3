//go:build unix

package fleet_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"dsvmpools/local/chaos"
	"dsvmpools/local/compute"
)

// TestSizes: a region's sizes are read once, and what cannot be read is no empty list.
func TestSizes(t *testing.T) {
	t.Parallel()
	want := []string{"Standard_D2s_v5", "Standard_NC4as_T4_v3"}
	s := azure(t, func(cfg *compute.Config) { cfg.Sizes, cfg.Location = want, "westeurope" })
	var asked atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/locations/westeurope/vmSizes") {
			asked.Add(1)
		}
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	c := client(t, front.URL)
	for range 3 {
		if got, err := c.Sizes(t.Context(), "westeurope"); err != nil || !slices.Equal(got, want) {
			t.Fatalf("got %v, %v", got, err)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("the list was asked for %d times", asked.Load())
	}
	if got, err := c.Sizes(t.Context(), "nowhere"); err == nil || len(got) > 0 {
		t.Errorf("of no region: got %v, %v", got, err)
	}
	empty := client(t, before(t, azure(t, func(cfg *compute.Config) { cfg.Location = "westeurope" }), func(string) {}))
	if got, err := empty.Sizes(t.Context(), "westeurope"); err == nil || len(got) > 0 {
		t.Errorf("an empty list: got %v, %v", got, err)
	}
	forbidden := client(
		t,
		before(t, broken(t, chaos.Injection{Target: "compute/vmSizes", Do: chaos.Refuse, Code: "AuthorizationFailed"}), func(string) {}),
	)
	if got, err := forbidden.Sizes(t.Context(), "westeurope"); err == nil || len(got) > 0 ||
		!strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("without the right: got %v, %v", got, err)
	}
}
