//go:build unix

package deleteself

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"dsvmpools/local/compute"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/fleet"
)

const (
	nodeToken = "the-node's-token"
	set       = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/nodes/providers/Microsoft.Compute/virtualMachineScaleSets/cpu"
)

// static is a token that a test gives.
type static string

func (s static) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(s), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// TestDelete deletes one of two instances of the local resource manager, with the token of
// a node, which has no other right there.
func TestDelete(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := compute.Start(compute.Config{
		Addr: "127.0.0.1:0", Path: filepath.Join(dir, "arm.db"), Dir: filepath.Join(dir, "instances"), LogDir: filepath.Join(dir, "logs"),
		Token: "t", NodeToken: nodeToken, SubscriptionID: "00000000-0000-4000-8000-000000000001", ResourceGroup: "nodes", Location: "westeurope",
		Supervisor: []string{"/bin/sh", "-c", "read line"}, BootDelay: time.Millisecond, DeleteDelay: time.Millisecond, RetryAfter: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	pool, err := fleet.New(fleet.Config{SubscriptionID: "00000000-0000-4000-8000-000000000001", ResourceGroup: "nodes", Region: "westeurope",
		Endpoint: server.URL(), Credential: fleet.StaticCredential("t")})
	if err != nil {
		t.Fatal(err)
	}
	model := fleet.Model{Pool: "cpu", Size: "Standard_D2s_v5", Region: "westeurope", AdminUser: "dsvm",
		Image: fleet.Image{Publisher: "p", Offer: "o", SKU: "s", Version: "latest"}, CustomData: []byte("#cloud-config"),
		SSHPublicKey: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1e4Zx2V9dJ0uQb3Yw7mC5kG8nP6hR2tL0sX4aD1fZq",
		SubnetID: "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/net" +
			"/providers/Microsoft.Network/virtualNetworks/v/subnets/nodes"}
	if _, err := pool.Grow(t.Context(), "cpu", model, 2); err != nil {
		t.Fatal(err)
	}
	ids := func() (ids []string) {
		t.Helper()
		list, err := pool.List(t.Context(), "cpu")
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range list.Instances {
			ids = append(ids, set+"/virtualMachines/"+i.ID)
		}
		return ids
	}
	both := ids()
	if len(both) != 2 {
		t.Fatalf("got the instances %v, want two", both)
	}
	client, err := New(server.URL(), static(nodeToken))
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Delete(t.Context(), both[0]); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); ; <-tick.C {
		if left := ids(); len(left) == 1 && left[0] == both[1] {
			break
		} else if time.Now().After(end) {
			t.Fatalf("got the instances %v, want %v alone", left, both[1])
		}
	}
	if err := client.Delete(t.Context(), both[0]); err != nil {
		t.Errorf("deleted once more: %v", err)
	}
}

// TestRefusals: a missing right is said with its name, and nothing but an instance is ever
// asked for.
func TestRefusals(t *testing.T) {
	t.Parallel()
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, `{"error":{"code":"AuthorizationFailed","message":"no"}}`)
	}))
	t.Cleanup(server.Close)
	client, err := New(server.URL, static(nodeToken))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"", set, set + "/virtualMachines/", set + "/virtualMachines/../..", set + "/virtualMachines/0/extensions/x",
		"/subscriptions/s/resourceGroups/nodes", "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm"} {
		if err := client.Delete(t.Context(), id); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("delete %q: got %v, want a refusal", id, err)
		}
	}
	if asked > 0 {
		t.Errorf("the resource manager was asked %d times for what is no instance", asked)
	}
	err = client.Delete(t.Context(), set+"/virtualMachines/3")
	if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "virtualMachines/delete") || asked == 0 {
		t.Errorf("without the right: got %v after %d requests, want the right's name", err, asked)
	}
}

// TestEndpoints: a token never goes to another machine in the clear.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	for endpoint, ok := range map[string]bool{
		"": true, "https://management.usgovcloudapi.net": true, "http://127.0.0.1:1/": true,
		"http://10.0.0.1": false, "management.azure.com": false, "https://u:p@h": false,
	} {
		if _, err := New(endpoint, static("t")); (err == nil) != ok {
			t.Errorf("%q: got %v, want it taken: %v", endpoint, err, ok)
		}
	}
}
