//go:build unix

package compute_test

import (
	"net/http"
	"strings"
	"testing"
)

// Clients write the words of a path in their own case, and so do Azure's answers:
// a list of instances has the group in capitals, the portal writes lower case.
func TestPathsInAnyCase(t *testing.T) {
	t.Parallel()
	r := receive(t)
	s := launch(t, config(t.TempDir(), r.address(), "plain"))
	resp, body := call(t, s.URL(), http.MethodPut, setPath+"Cpu", resource(0))
	if resp.StatusCode != http.StatusCreated || !strings.Contains(body, `"name":"Cpu"`) {
		t.Fatalf("create: got %d %s", resp.StatusCode, body)
	}
	operation, _, _ := strings.Cut(strings.TrimPrefix(resp.Header.Get("Azure-AsyncOperation"), s.URL()), "?")
	name := operation[strings.LastIndex(operation, "/")+1:]
	location := "/subscriptions/" + subscription + "/providers/Microsoft.Compute/locations/westeurope/"
	for _, path := range []string{
		setPath + "Cpu",
		setPath + "cpu/",
		strings.ToLower(setPath) + "CPU",
		strings.ToUpper(setPath) + "cpu",
		"/subscriptions/" + subscription + "/resourcegroups/" + strings.ToUpper(group) + "/providers/microsoft.compute/virtualmachinescalesets/cPU",
		setPath + "Cpu/virtualmachines",
		strings.ToUpper(setPath + "Cpu/virtualMachines"),
		operation,
		strings.ToUpper(strings.TrimSuffix(operation, name)) + name,
		location + "usages",
		location + "USAGES",
		strings.ToLower(location) + "vmsizes",
		"/SUBSCRIPTIONS/" + subscription + "/Providers/MICROSOFT.COMPUTE/Locations/WestEurope/VmSizes",
	} {
		if resp, body := call(t, s.URL(), http.MethodGet, path, ""); resp.StatusCode != http.StatusOK {
			t.Errorf("GET %s: got %d %s", path, resp.StatusCode, body)
		}
	}
	if resp, body := call(t, s.URL(), http.MethodPost, setPath+"CPU/DELETE", `{"instanceIds":["7"]}`); resp.StatusCode != http.StatusAccepted {
		t.Errorf("POST DELETE: got %d %s", resp.StatusCode, body)
	}
	// A set may be named like a word of the paths; its name is not changed.
	if resp, body := call(t, s.URL(), http.MethodPut, setPath+"Usages", resource(0)); resp.StatusCode != http.StatusCreated ||
		!strings.Contains(body, `"name":"Usages"`) {
		t.Errorf("a set named Usages: got %d %s", resp.StatusCode, body)
	}
}

// A path that is not served gets the error of its first unknown part, in the
// resource manager's form, and never a redirect.
func TestPathsThatAreNotServed(t *testing.T) {
	t.Parallel()
	r := receive(t)
	s := launch(t, config(t.TempDir(), r.address(), "plain"))
	grow(t, s, "cpu", 0)
	root := "/subscriptions/" + subscription
	groupPath := root + "/resourceGroups/" + group
	location := root + "/providers/Microsoft.Compute/locations/westeurope/"
	for _, c := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/", 404, "SubscriptionNotFound"},
		{"GET", "//", 404, "SubscriptionNotFound"},
		{"GET", "/other/" + subscription, 404, "SubscriptionNotFound"},
		{"GET", "/subscriptions", 200, ""},
		{"HEAD", "/subscriptions", 404, "SubscriptionNotFound"},
		{"GET", "/subscriptions/other" + strings.TrimPrefix(setPath, root) + "cpu", 404, "SubscriptionNotFound"},
		{"GET", "/subscriptions/other/providers/Microsoft.Compute/locations/westeurope/usages", 404, "SubscriptionNotFound"},
		{"GET", "/subscriptions//" + subscription, 404, "SubscriptionNotFound"},
		{"GET", root, 200, ""},
		{"DELETE", root, 405, "MethodNotAllowed"},
		{"GET", root + "/locations", 405, "MethodNotAllowed"},
		{"GET", root + "/resourceGroups", 200, ""},
		{"PUT", root + "/resourceGroups", 405, "MethodNotAllowed"},
		{"GET", root + "/resourceGroups/other", 404, "ResourceGroupNotFound"},
		{"GET", root + "/resourceGroups/../resourceGroups/" + group, 404, "ResourceGroupNotFound"},
		{"GET", location, 404, "InvalidResourceType"},
		{"POST", location + "usages", 404, "InvalidResourceType"},
		{"HEAD", location + "vmSizes", 404, "InvalidResourceType"},
		{"GET", location + "usages/more", 404, "InvalidResourceType"},
		{"GET", location + "operations", 404, "InvalidResourceType"},
		{"GET", location + "operations/none", 404, "NotFound"},
		{"DELETE", location + "operations/none", 404, "NotFound"},
		{"GET", groupPath, 200, ""},
		{"DELETE", groupPath, 405, "MethodNotAllowed"},
		{"GET", root + "/providers/Microsoft.Compute/virtualMachines", 404, "InvalidResourceType"},
		{"PUT", groupPath, 405, "MethodNotAllowed"},
		{"GET", groupPath + "/providers/Microsoft.Network/virtualNetworks/pools", 404, "InvalidResourceType"},
		{"HEAD", strings.TrimSuffix(setPath, "/"), 404, "InvalidResourceType"},
		{"GET", setPath + "cpu/instances", 405, "MethodNotAllowed"},
		{"GET", setPath + "cpu/delete", 405, "MethodNotAllowed"},
		{"POST", setPath + "cpu/virtualMachines", 405, "MethodNotAllowed"},
		{"GET", setPath + "cpu/virtualMachines/0", 404, "InstanceIdNotFound"},
		{"GET", setPath + "cpu/virtualMachines/0/instanceView", 404, "InstanceIdNotFound"},
		{"GET", setPath + "other/instanceView", 404, "ResourceNotFound"},
		{"POST", setPath + "cpu/virtualMachines/0/restart", 405, "MethodNotAllowed"},
		{"GET", setPath + "cpu/skus", 405, "MethodNotAllowed"},
		{"POST", setPath + "cpu", 405, "MethodNotAllowed"},
		{"HEAD", setPath + "cpu", 405, "MethodNotAllowed"},
		{"HEAD", setPath + "cpu/virtualMachines", 405, "MethodNotAllowed"},
		{"GET", setPath + "..", 404, "ResourceNotFound"},
		{"PUT", setPath + "..", 400, "InvalidParameter"},
		{"GET", setPath + "cpu//", 200, ""},
		{"GET", setPath + "cpu//virtualMachines", 405, "MethodNotAllowed"},
		{"GET", setPath + "cpu%2Fdelete", 405, "MethodNotAllowed"},
	} {
		body := ""
		if c.method == http.MethodPut {
			body = resource(0)
		}
		resp, got := call(t, s.URL(), c.method, c.path, body)
		if resp.StatusCode != c.status || resp.Header.Get("x-ms-error-code") != c.code {
			t.Errorf("%s %s: got %d %s, want %d %s", c.method, c.path, resp.StatusCode, got, c.status, c.code)
		}
	}
}
