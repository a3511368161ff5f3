//go:build unix

package compute

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/fault"
)

const fuzzBase = "/subscriptions/sub/resourceGroups/group/providers/Microsoft.Compute/virtualMachineScaleSets/"

// serveOnly is a server that makes no process: its instances boot for ever.
func serveOnly(t testing.TB) *Server {
	t.Helper()
	dir := t.TempDir()
	none := fault.New(1)
	if _, err := none.Add(fault.Rule{Do: fault.Partial, Target: "compute/allocate"}); err != nil {
		t.Fatal(err)
	}
	s, err := Start(Config{Addr: "127.0.0.1:0", Path: filepath.Join(dir, "c.db"), Dir: dir, Token: "t", SubscriptionID: "sub", ResourceGroup: "group",
		Location: "x", Supervisor: []string{"/bin/cat"}, BootDelay: time.Hour, Faults: none})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// FuzzReadModel: whatever is accepted holds to the limits, and its custom data
// can be read back.
func FuzzReadModel(f *testing.F) {
	f.Add("cpu", `{"location":"x","sku":{"name":"Standard_D2s_v5","capacity":1},"properties":{"overprovision":false,"upgradePolicy":{"mode":"Manual"},"virtualMachineProfile":{"storageProfile":{"imageReference":{"id":"/i"},"osDisk":{"createOption":"FromImage"}},"osProfile":{"computerNamePrefix":"c","adminUsername":"u","adminPassword":"p","customData":"YQ=="},"networkProfile":{"networkInterfaceConfigurations":[{"name":"n","properties":{"ipConfigurations":[{"properties":{"subnet":{"id":"/subscriptions/x"}}}]}}]}}}}`)
	f.Add("", `{}`)
	f.Add("a/b", `{"properties":null,"sku":null}`)
	f.Add("x", `[]`)
	f.Add("x", `{"properties":{"virtualMachineProfile":{"osProfile":null,"networkProfile":{"networkInterfaceConfigurations":[null]}}}}`)
	f.Fuzz(func(t *testing.T, name, body string) {
		st, err := readModel(name, []byte(body))
		if (st == nil) == (err == nil) {
			t.Fatalf("got %v and %v", st, err)
		}
		if err != nil {
			return
		}
		if st.SKU.Capacity < 0 || st.SKU.Capacity > maxInstances || len(st.customData()) > maxCustomData || strings.ContainsAny(st.Name, "/\x00") || strings.HasPrefix(st.Name, ".") {
			t.Errorf("accepted %q with capacity %d", st.Name, st.SKU.Capacity)
		}
	})
}

// FuzzRequest: no request is answered with an internal error, or breaks the
// server for the next one.
func FuzzRequest(f *testing.F) {
	f.Add("PATCH", "set", `{"sku":{"capacity":3}}`, "")
	f.Add("POST", "set/delete", `{"instanceIds":[]}`, "")
	f.Add("POST", "set/delete", `{"instanceIds":["0",null]}`, "")
	f.Add("GET", "set/virtualMachines", ``, "$skiptoken=-1&$expand=instanceView")
	f.Add("PUT", "../set", `{}`, "")
	f.Add("GET", "//", ``, "%zz")
	s := serveOnly(f)
	f.Fuzz(func(t *testing.T, method, path, body, query string) {
		r := httptest.NewRequest(http.MethodGet, "/", strings.NewReader(body))
		r.Method, r.URL.Path, r.URL.RawQuery = method, fuzzBase+path, "api-version=1&"+query
		r.Header.Set("Authorization", "Bearer t")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code >= http.StatusInternalServerError {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	})
}

func TestKilledProcessesAreNamed(t *testing.T) {
	t.Parallel()
	const vmid = "7d3c0f6e-0000-4000-8000-000000000000"
	for _, c := range []struct {
		name, environment string
		want              bool
	}{
		{"the instance's own", "PATH=/bin\x00DSVM_VMID=" + vmid + "\x00", true},
		{"an attempt's key", "DSVM_ATTEMPT_KEY=cpu." + vmid + ".7\x00", true},
		{"another's", "DSVM_VMID=7d3c0f6e-0000-4000-8000-000000000001\x00", false},
		{"somebody who looks for it", "VM=" + vmid + "\x00QUERY=DSVM_VMID=" + vmid + "\x00", false},
		{"none", "", false},
	} {
		if got := names(c.environment, vmid); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}
