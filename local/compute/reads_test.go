//go:build unix

package compute_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestReads asks for all that can be read of sets and instances, as az and the SDKs do.
func TestReads(t *testing.T) {
	t.Parallel()
	f := setup(t)
	op, err := f.Grow(f.ctx, "cpu", model(), 2)
	f.poll(t, op, err)
	if _, err := f.Grow(f.ctx, "aaa", model(), 0); err != nil {
		t.Fatal(err)
	}
	const sets = "/providers/Microsoft.Compute/virtualMachineScaleSets"
	const root, group = "/subscriptions/sub", "/subscriptions/sub/resourceGroups/group"
	type statuses []struct{ Code string }
	type one struct {
		Name, InstanceID string
		Properties       struct {
			VMID         string
			InstanceView *struct{ Statuses statuses }
		}
	}
	get := func(path string, into any) {
		t.Helper()
		resp, body := call(t, f.URL(), http.MethodGet, path, "")
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("GET %s: got %d %s", path, resp.StatusCode, body)
		}
		if err := json.Unmarshal([]byte(body), into); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{root + sets, group + sets, strings.ToLower(group + sets)} {
		var list struct{ Value []struct{ Name, ID string } }
		if get(path, &list); len(list.Value) != 2 || list.Value[0].Name != "aaa" || list.Value[1].ID != root+"/resourceGroups/Group"+sets+"/cpu" {
			t.Errorf("GET %s: got %+v", path, list)
		}
	}
	var all struct{ Value []one }
	get(group+sets+"/cpu/virtualMachines", &all)
	id := all.Value[1].InstanceID
	var i, expanded one
	get(group+sets+"/cpu/virtualMachines/"+id, &i)
	get(group+sets+"/cpu/virtualMachines/"+id+"?api-version=1&$expand=instanceView", &expanded)
	if i != all.Value[1] || expanded.Properties.InstanceView == nil {
		t.Errorf("got %+v and %+v, want %+v", i, expanded, all.Value[1])
	}
	var view struct{ Statuses statuses }
	get(group+sets+"/cpu/virtualMachines/"+id+"/instanceView", &view)
	if len(view.Statuses) != 2 || view.Statuses[0].Code != "ProvisioningState/succeeded" || view.Statuses[1].Code != "PowerState/running" {
		t.Errorf("the view of an instance: got %+v", view)
	}
	var viewOfSet struct {
		VirtualMachine struct {
			StatusesSummary []struct {
				Code  string
				Count int
			}
		}
		Statuses statuses
	}
	get(group+sets+"/cpu/instanceView", &viewOfSet)
	summary := viewOfSet.VirtualMachine.StatusesSummary
	if len(summary) != 2 || summary[0].Code != "PowerState/running" || summary[0].Count != 2 || summary[1].Code != "ProvisioningState/succeeded" ||
		len(viewOfSet.Statuses) != 1 || viewOfSet.Statuses[0].Code != "ProvisioningState/succeeded" {
		t.Errorf("the view of a set: got %+v", viewOfSet)
	}
}

// TestEndpointsNeedNoToken asks what a client asks before it has a token, and that nothing
// else is answered to it.
func TestEndpointsNeedNoToken(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for path, want := range map[string]string{
		"/metadata/endpoints?api-version=2015-01-01": `"loginEndpoint":"` + f.URL(),
		"/metadata/endpoints?api-version=2022-09-01": `"resourceManager":"` + f.URL(),
		"/subscriptions/sub?api-version=2022-09-01":  `"InvalidAuthenticationToken"`,
	} {
		resp, err := http.Get(f.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("GET %s: got %s %v, want %s", path, body, err, want)
		}
	}
}

// TestPutOfCapacityAlone scales a set as az does: by a model without properties.
func TestPutOfCapacityAlone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const path = "/subscriptions/sub/resourceGroups/group/providers/Microsoft.Compute/virtualMachineScaleSets/cpu"
	const scale = `{"location":"westeurope","sku":{"name":"Standard_D2s_v5","tier":"Standard","capacity":2}}`
	if resp, body := call(t, f.URL(), http.MethodPut, path, scale); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "'properties'") {
		t.Errorf("a set that does not exist: got %d %s", resp.StatusCode, body)
	}
	if _, err := f.Grow(f.ctx, "cpu", model(), 0); err != nil {
		t.Fatal(err)
	}
	resp, body := call(t, f.URL(), http.MethodPut, path, scale)
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, `"capacity":2`) || !strings.Contains(body, `"imageReference"`) {
		t.Errorf("got %d %s, want two instances of the same model", resp.StatusCode, body)
	}
	if n := len(f.Instances()); n != 2 {
		t.Errorf("got %d instances, want 2", n)
	}
}
