//go:build unix

package fleet_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dsvmpools/local/chaos"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/fleet"
)

// made is a set of two instances with the first model, and its client.
func made(t *testing.T, rules ...chaos.Injection) *fleet.Client {
	t.Helper()
	c := client(t, broken(t, rules...).URL())
	op, err := c.Grow(t.Context(), "set", model, 2)
	must(t, finish(t, c, op, err))
	return c
}

// second is the first model with another image, written by a deployment.
func second(deployed time.Time) fleet.Model {
	m := model
	m.Image.SKU, m.Deployed = "t", deployed
	return m
}

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func TestUpdateModelLeavesTheCapacity(t *testing.T) {
	t.Parallel()
	c := made(t)
	if l := list(t, c, "set"); l.Model != model.Hash("set") || !l.Deployed.IsZero() {
		t.Fatalf("as made: got model %q of %v", l.Model, l.Deployed)
	}
	m := second(noon)
	op, err := c.UpdateModel(t.Context(), "set", m)
	must(t, finish(t, c, op, err))
	l := list(t, c, "set")
	if l.Model != m.Hash("set") || l.Model == model.Hash("set") || !l.Deployed.Equal(noon) || l.Capacity != 2 || len(l.Instances) != 2 {
		t.Errorf("got model %q of %v with %d of %d instances", l.Model, l.Deployed, len(l.Instances), l.Capacity)
	}
}

// What is asked for with another model comes with it, beside what is there.
func TestGrowWritesTheModel(t *testing.T) {
	t.Parallel()
	c := made(t)
	op, err := c.Grow(t.Context(), "set", second(noon), 3)
	must(t, finish(t, c, op, err))
	l := list(t, c, "set")
	outdated := 0
	for _, inst := range l.Instances {
		if inst.Outdated {
			outdated++
		}
	}
	if l.Model != second(noon).Hash("set") || l.Capacity != 3 || len(l.Instances) != 3 || outdated != 2 {
		t.Errorf("got model %q, %d of %d instances, of which %d are outdated", l.Model, len(l.Instances), l.Capacity, outdated)
	}
	// An older deployment adds to it and leaves the model.
	op, err = c.Grow(t.Context(), "set", model, 4)
	must(t, finish(t, c, op, err))
	if l := list(t, c, "set"); l.Model != second(noon).Hash("set") || l.Capacity != 4 {
		t.Errorf("after an older deployment: got model %q and capacity %d", l.Model, l.Capacity)
	}
}

// One that is there already, that a newer deployment wrote, or that has no set, is not written.
func TestUpdateModelLeavesAlone(t *testing.T) {
	t.Parallel()
	var puts atomic.Int32
	c := client(t, before(t, azure(t, nil), func(operation string) {
		if operation == "put" {
			puts.Add(1)
		}
	}))
	write := func(set string, m fleet.Model) {
		op, err := c.UpdateModel(t.Context(), set, m)
		must(t, finish(t, c, op, err))
	}
	op, err := c.Grow(t.Context(), "set", second(noon), 1)
	must(t, finish(t, c, op, err))
	older, unknown := model, model
	older.Deployed = noon.Add(-time.Hour)
	for _, m := range []fleet.Model{second(noon), second(noon.Add(time.Hour)), older, unknown} {
		write("set", m)
	}
	write("none", model)
	if got := puts.Load(); got != 1 {
		t.Errorf("got %d writes, want the first alone", got)
	}
	if l := list(t, c, "set"); l.Model != second(noon).Hash("set") {
		t.Errorf("got model %s, want that of the newer deployment", l.Model)
	}
	newer := model
	newer.Deployed = noon.Add(time.Hour)
	write("set", newer)
	if l := list(t, c, "set"); l.Model != model.Hash("set") || puts.Load() != 2 {
		t.Errorf("got model %s after %d writes, want that of the newest deployment", l.Model, puts.Load())
	}
}

// Somebody grows the set between the read and the write of the model.
func TestUpdateModelLosesARace(t *testing.T) {
	t.Parallel()
	var once sync.Once
	s := azure(t, nil)
	c := client(t, before(t, s, func(operation string) {
		if operation == "put" {
			once.Do(func() {
				other := client(t, s.URL())
				op, err := other.Grow(t.Context(), "set", model, 3)
				if err := finish(t, other, op, err); err != nil {
					t.Error(err)
				}
			})
		}
	}))
	first := client(t, s.URL())
	op, err := first.Grow(t.Context(), "set", model, 1)
	must(t, finish(t, first, op, err))
	op, err = c.UpdateModel(t.Context(), "set", second(noon))
	must(t, finish(t, c, op, err))
	if l := list(t, c, "set"); l.Capacity != 3 || len(l.Instances) != 3 || l.Model != second(noon).Hash("set") {
		t.Errorf("got %d of %d instances with model %s", len(l.Instances), l.Capacity, l.Model)
	}
}

func TestUpdateModelOfWhatCannotChange(t *testing.T) {
	t.Parallel()
	c := made(t, chaos.Injection{Do: chaos.Refuse, Target: "compute/put", Code: "PropertyChangeNotAllowed", After: 1})
	if _, err := c.UpdateModel(t.Context(), "set", second(noon)); fault.CodeOf(err) != fault.Immutable {
		t.Errorf("got %v, want immutable", err)
	}
}

// Azure's documents differ on whether a Uniform set may name the SKU of its addresses.
func TestAddressesWhoseSKUIsRefused(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"as an unknown member": `{"error":{"code":"InvalidRequestContent","message":"The request content was invalid.","details":[{"code":"InvalidJson",` +
			`"message":"Could not find member 'sku' on object of type 'VMScaleSetPublicIPAddressConfiguration'."}]}}`,
		"as a parameter": `{"error":{"code":"InvalidParameter","target":"publicIPAddressConfiguration.sku",` +
			`"message":"The value of parameter publicIPAddressConfiguration.sku is invalid."}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, tried := azure(t, nil), atomic.Int32{}
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(strings.NewReader(string(body)))
				if r.Method == http.MethodPut && strings.Contains(string(body), `"tier":"Regional"`) {
					tried.Add(1)
					w.WriteHeader(http.StatusBadRequest)
					io.WriteString(w, answer)
					return
				}
				s.ServeHTTP(w, r)
			}))
			t.Cleanup(front.Close)
			c, m := client(t, front.URL), model
			m.PublicIP = true
			for _, set := range []string{"first", "second"} {
				op, err := c.Grow(t.Context(), set, m, 1)
				must(t, finish(t, c, op, err))
				if l := list(t, c, set); l.Capacity != 1 || l.Model != m.Hash(set) {
					t.Errorf("%s: got %+v", set, l)
				}
			}
			if got := tried.Load(); got != 1 {
				t.Errorf("the SKU was sent %d times, want once", got)
			}
		})
	}
	t.Run("for another reason", func(t *testing.T) {
		t.Parallel()
		var puts atomic.Int32
		s := broken(t, chaos.Injection{Do: chaos.Refuse, Target: "compute/put", Code: "InvalidParameter"})
		c, m := client(t, before(t, s, func(operation string) {
			if operation == "put" {
				puts.Add(1)
			}
		})), model
		m.PublicIP = true
		if _, err := c.Grow(t.Context(), "set", m, 1); fault.CodeOf(err) != fault.Invalid || puts.Load() != 1 {
			t.Errorf("got %v after %d calls, want invalid after one", err, puts.Load())
		}
	})
}
