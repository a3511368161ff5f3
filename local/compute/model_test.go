//go:build unix

package compute_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// resource is a complete scale set as a client sends it.
func resource(capacity int) string {
	return fmt.Sprintf(
		`{"location":"westeurope","tags":{"dsvmpools-pool":"the-pool"},"sku":{"name":"Standard_D2s_v5","tier":"Standard","capacity":%d},
"identity":{"type":"UserAssigned","userAssignedIdentities":{"/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i":{}}},
"properties":{"orchestrationMode":"Uniform","singlePlacementGroup":false,"platformFaultDomainCount":1,"overprovision":false,"upgradePolicy":{"mode":"Manual"},
"virtualMachineProfile":{"storageProfile":{"imageReference":{"publisher":"p","offer":"o","sku":"s","version":"latest"},"osDisk":{"createOption":"FromImage"}},
"osProfile":{"computerNamePrefix":"cpu","adminUsername":"dsvm","customData":"I2Nsb3VkLWNvbmZpZw==","linuxConfiguration":{"disablePasswordAuthentication":true,"ssh":{"publicKeys":[{"path":"/home/dsvm/.ssh/authorized_keys","keyData":"ssh-ed25519 AAAA"}]}}},
"networkProfile":{"networkInterfaceConfigurations":[{"name":"nic","properties":{"primary":true,"ipConfigurations":[{"name":"ip","properties":{"subnet":{"id":"/subscriptions/s/subnets/n"}}}]}}]}}}}`,
		capacity,
	)
}

func TestModelIsCheckedWhole(t *testing.T) {
	t.Parallel()
	r := receive(t)
	s := launch(t, config(t.TempDir(), r.address(), "plain"))
	for _, c := range []struct{ name, old, new, want string }{
		{"no JSON", `{"location"`, `{"location`, "InvalidRequestContent"},
		{"wrong type", `"capacity":0`, `"capacity":"many"`, "InvalidRequestContent"},
		{"no location", `"location":"westeurope",`, ``, "LocationRequired"},
		{"no size", `"name":"Standard_D2s_v5",`, ``, "sku.name"},
		{"negative capacity", `"capacity":0`, `"capacity":-1`, "sku.capacity"},
		{"capacity over the limit", `"capacity":0`, `"capacity":1001`, "sku.capacity"},
		{"Flexible", `"Uniform"`, `"Flexible"`, "orchestrationMode"},
		{"overprovisioned by default", `"overprovision":false,`, ``, "overprovision"},
		{"no upgrade policy", `"upgradePolicy":{"mode":"Manual"},`, ``, "upgradePolicy"},
		{"image without a version", `,"version":"latest"`, ``, "imageReference"},
		{"image twice", `"publisher":"p"`, `"id":"/subscriptions/x","publisher":"p"`, "imageReference"},
		{"no disk", `"createOption":"FromImage"`, `"createOption":"Empty"`, "osDisk"},
		{"long prefix", `"computerNamePrefix":"cpu"`, `"computerNamePrefix":"0123456789abcdef"`, "computerNamePrefix"},
		{"no user", `"adminUsername":"dsvm",`, ``, "adminUsername"},
		{"password wanted", `"disablePasswordAuthentication":true`, `"disablePasswordAuthentication":false`, "adminPassword"},
		{"custom data not encoded", `"I2Nsb3VkLWNvbmZpZw=="`, `"#cloud-config"`, "customData"},
		{"custom data too long", `"I2Nsb3VkLWNvbmZpZw=="`, `"` + strings.Repeat("AAAA", 21846) + `"`, "customData"},
		{"no network", `"networkProfile"`, `"other"`, "networkProfile"},
		{"no subnet", `"subnet":{"id":"/subscriptions/s/subnets/n"}`, `"subnet":{"id":"n"}`, "subnet"},
		{"identity without a name", `"/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i":{}`, ``, "identity"},
		{"Spot without a policy", `"virtualMachineProfile":{`, `"virtualMachineProfile":{"priority":"Spot",`, "evictionPolicy"},
		{"no properties", `"properties"`, `"other"`, "properties"},
	} {
		body := strings.Replace(resource(0), c.old, c.new, 1)
		if body == resource(0) {
			t.Errorf("%s: the test changes nothing", c.name)
		}
		resp, got := call(t, s.URL(), http.MethodPut, setPath+"cpu", body)
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(got, c.want) || !strings.HasPrefix(got, `{"error":{"code":"`) {
			t.Errorf("%s: got %d %s, want 400 with %s", c.name, resp.StatusCode, got, c.want)
		}
	}
	big := strings.Replace(resource(101), `"singlePlacementGroup":false,`, ``, 1)
	if resp, got := call(t, s.URL(), http.MethodPut, setPath+"cpu", big); resp.StatusCode != http.StatusBadRequest ||
		!strings.Contains(got, "singlePlacementGroup") {
		t.Errorf("one placement group: got %d %s", resp.StatusCode, got)
	}
	if resp, got := call(t, s.URL(), http.MethodPut, setPath+"cpu", resource(0)); resp.StatusCode != http.StatusCreated {
		t.Errorf("the model as it is: got %d %s", resp.StatusCode, got)
	}
}

func TestCallsThatAreRefused(t *testing.T) {
	t.Parallel()
	r := receive(t)
	s := launch(t, config(t.TempDir(), r.address(), "plain"))
	grow(t, s, "cpu", 0)
	other := strings.Replace(setPath, group, "Other", 1)
	for _, c := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		code                     string
	}{
		{"no token", "GET", setPath + "cpu", "", []string{"Authorization", ""}, 401, "InvalidAuthenticationToken"},
		{"another token", "GET", setPath + "cpu", "", []string{"Authorization", "Bearer " + token + "x"}, 401, "InvalidAuthenticationToken"},
		{"another scheme", "GET", setPath + "cpu", "", []string{"Authorization", "Basic " + token}, 401, "InvalidAuthenticationToken"},
		{"no version", "GET", setPath + "cpu?x=api-version", "", nil, 400, "MissingApiVersionParameter"},
		{"another group", "GET", other + "cpu", "", nil, 404, "ResourceGroupNotFound"},
		{"no such set", "GET", setPath + "gpu", "", nil, 404, "ResourceNotFound"},
		{"another method", "POST", setPath + "cpu", "", nil, 405, "MethodNotAllowed"},
		{"create what is there", "PUT", setPath + "cpu", resource(1), []string{"If-None-Match", "*"}, 412, "PreconditionFailed"},
		{"patch under an old version", "PATCH", setPath + "cpu", `{"sku":{"name":"Standard_D2s_v5","capacity":1}}`, []string{"If-Match", `"1"`}, 412, "PreconditionFailed"},
		{"patch of nothing", "PATCH", setPath + "cpu", `{}`, nil, 400, "InvalidRequestContent"},
		{"patch without a capacity", "PATCH", setPath + "cpu", `{"sku":{"name":"Standard_D2s_v5"}}`, nil, 400, "InvalidRequestContent"},
		{"patch of the size", "PATCH", setPath + "cpu", `{"sku":{"name":"Standard_D4s_v5","capacity":1}}`, nil, 400, "InvalidParameter"},
		{"patch above the limit", "PATCH", setPath + "cpu", `{"sku":{"capacity":1001}}`, nil, 400, "InvalidParameter"},
		{"unknown operation", "GET", "/subscriptions/" + subscription + "/providers/Microsoft.Compute/locations/westeurope/operations/x", "", nil, 404, "NotFound"},
		{"too large", "PUT", setPath + "cpu", strings.Repeat(" ", 2<<20), nil, 413, "RequestContentTooLarge"},
	} {
		resp, got := call(t, s.URL(), c.method, c.path, c.body, c.header...)
		if resp.StatusCode != c.status || !strings.HasPrefix(got, `{"error":{"code":"`+c.code+`"`) ||
			resp.Header.Get("x-ms-error-code") != c.code {
			t.Errorf("%s: got %d %s, want %d %s", c.name, resp.StatusCode, got, c.status, c.code)
		}
		if resp.Header.Get("x-ms-request-id") == "" {
			t.Errorf("%s: no x-ms-request-id", c.name)
		}
	}
	if resp, _ := call(t, s.URL(), "GET", strings.ToUpper(setPath)+"CPU", ""); resp.StatusCode != http.StatusOK ||
		resp.Header.Get("ETag") == "" {
		t.Errorf("ids in capitals: got %d, ETag %q", resp.StatusCode, resp.Header.Get("ETag"))
	}
	if len(s.Instances()) != 0 {
		t.Errorf("a refused call created %v", s.Instances())
	}
}
