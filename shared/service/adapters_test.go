//go:build unix

package service

import (
	"path/filepath"
	"testing"
	"time"

	"dsvmpools/local/compute"
	"dsvmpools/shared/fleet"
	"dsvmpools/shared/pool"
)

// scaleSetsOf is the fleet of a deployment over a resource manager.
func scaleSetsOf(t *testing.T, s *compute.Server, deployed time.Time, image pool.Image) Fleet {
	t.Helper()
	client, err := fleet.New(fleet.Config{SubscriptionID: "sub", ResourceGroup: "g", Endpoint: s.URL(), Credential: fleet.StaticCredential("k")})
	if err != nil {
		t.Fatal(err)
	}
	return NewFleet(client, NodeModel{
		Model: fleet.Model{Region: "l", SubnetID: "/subscriptions/s/n", AdminUser: "dsvm", SSHPublicKey: "ssh-ed25519 AAAA", Deployed: deployed},
		Image: image,
	}, nil)
}

// A newer deployment writes its model over an older one's, and the older one sees nothing
// to do. What a pool is changed to, its set is changed to.
func TestFleetKeepsTheNewestModel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := compute.Start(compute.Config{Addr: "127.0.0.1:0", Path: filepath.Join(dir, "compute.db"), Dir: dir, Token: "k", SubscriptionID: "sub",
		ResourceGroup: "g", Location: "l", Supervisor: []string{"/bin/cat"}, RetryAfter: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	noon := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	latest := pool.Image{Name: "UbuntuDSVM"}
	pinned := latest.Full() // another publisher or offer would be refused
	pinned.Version = "25.06.18"
	older, newer := scaleSetsOf(t, s, noon, latest), scaleSetsOf(t, s, noon.Add(time.Hour), pinned)
	spec, set := pool.Spec{}, pool.Set{Name: "d2s-v5", Size: "Standard_D2s_v5"}
	list := func(f Fleet) pool.Listed {
		t.Helper()
		l, err := f.List(t.Context(), "cpu", spec, set)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	update := func(f Fleet) {
		t.Helper()
		if _, err := f.UpdateModel(t.Context(), "cpu", spec, set); err != nil {
			t.Fatal(err)
		}
	}
	if l := list(older); l.Exists || l.Wanted == "" || l.Model != "" {
		t.Errorf("no set: got %+v", l)
	}
	if _, err := older.Grow(t.Context(), "cpu", spec, set, 1); err != nil {
		t.Fatal(err)
	}
	if l := list(older); l.Model != l.Wanted || len(l.Tariffs) != 1 || l.Tariffs[0].PerHour != "0.122302" {
		t.Errorf("as made: got %+v, want its own model and 0.122302", l)
	}
	if l := list(newer); l.Model == l.Wanted {
		t.Errorf("a newer deployment: got %+v, want another model", l)
	}
	update(newer)
	if l := list(newer); l.Model != l.Wanted || l.Capacity != 1 || len(l.Instances) != 1 || !l.Instances[0].Outdated {
		t.Errorf("after the update: got %+v, want the model and an outdated instance", l)
	}
	after := list(newer).Model
	update(older)
	if l := list(older); l.Model != after || l.Wanted != after {
		t.Errorf("an older deployment: got %+v, want that it leaves model %s alone", l, after)
	}
	spec.Labels = map[string]string{"a": "b"}
	if l := list(newer); l.Model == l.Wanted {
		t.Errorf("a changed pool: got %+v, want another model", l)
	}
}

// The first release wrote no tag for the model: such a set has another one than is wanted, so
// that it is written without waiting for the next request for nodes.
func TestASetWithoutATagIsToBeWritten(t *testing.T) {
	t.Parallel()
	if l := modelIn(fleet.Listing{Exists: true}); l == "" {
		t.Error("its model is taken for unknown, and is never written")
	}
	if l := modelIn(fleet.Listing{}); l != "" {
		t.Errorf("a set that is not there has the model %q", l)
	}
	if l := modelIn(fleet.Listing{Exists: true, Model: "m"}); l != "m" {
		t.Errorf("got %q, want the tag's", l)
	}
}
