//go:build unix

package compute

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/chaos"
)

const fuzzBase = "/subscriptions/sub/resourceGroups/group/providers/Microsoft.Compute/virtualMachineScaleSets/"

// serveOnly starts a server without processes: its instances never finish their boot.
func serveOnly(t testing.TB, rules ...chaos.Injection) *Server {
	t.Helper()
	dir := t.TempDir()
	none := chaos.New(1)
	for _, r := range rules {
		if _, err := none.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Start(
		Config{Addr: "127.0.0.1:0", Path: filepath.Join(dir, "c.db"), Dir: dir, Token: "t", SubscriptionID: "sub", ResourceGroup: "group",
			Location: "x", Supervisor: []string{"/bin/cat"}, BootDelay: time.Hour, Chaos: none},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// smallModel is the smallest valid model.
const smallModel = `{"location":"x","sku":{"name":"Standard_D2s_v5","capacity":1},"properties":{"overprovision":false,"upgradePolicy":{"mode":"Manual"},"virtualMachineProfile":{"storageProfile":{"imageReference":{"id":"/i"},"osDisk":{"createOption":"FromImage"}},"osProfile":{"computerNamePrefix":"c","adminUsername":"u","adminPassword":"p","customData":"YQ=="},"networkProfile":{"networkInterfaceConfigurations":[{"name":"n","properties":{"ipConfigurations":[{"properties":{"subnet":{"id":"/subscriptions/x"}}}]}}]}}}}`

// FuzzReadModel: an accepted model is within the limits, and its custom data can be read.
func FuzzReadModel(f *testing.F) {
	f.Add("cpu", smallModel)
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
		if st.SKU.Capacity < 0 || st.SKU.Capacity > maxInstances || len((&instance{set: st}).customData()) > maxCustomData ||
			strings.ContainsAny(st.Name, "/\x00") ||
			strings.HasPrefix(st.Name, ".") {
			t.Errorf("accepted %q with capacity %d", st.Name, st.SKU.Capacity)
		}
	})
}

// FuzzRequest: no request is answered with an internal error, or breaks the
// server for the next one.
func FuzzRequest(f *testing.F) {
	s := serveOnly(f, chaos.Injection{Do: chaos.Partial, Target: "compute/allocate"})
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

// FuzzMetadata: the metadata endpoint answers each request in JSON or plain text, and never
// with an internal error.
func FuzzMetadata(f *testing.F) {
	s := serveOnly(f)
	put := httptest.NewRequest(http.MethodPut, fuzzBase+"cpu?api-version=1", strings.NewReader(smallModel))
	put.Header.Set("Authorization", "Bearer t")
	created := httptest.NewRecorder()
	if s.ServeHTTP(created, put); created.Code != http.StatusCreated {
		f.Fatalf("got %d %s", created.Code, created.Body)
	}
	if err := s.Evict("cpu_0"); err != nil {
		f.Fatal(err)
	}
	s.mu.Lock()
	key := s.metadataKey(s.sets["cpu"].Instances[0])
	s.mu.Unlock()
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		r := httptest.NewRequest(http.MethodGet, "/", strings.NewReader(body))
		r.Method, r.URL.Path, r.URL.RawQuery = method, nodePath+key+"/metadata/"+path, query
		r.Header.Set("Metadata", "true")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code >= http.StatusInternalServerError {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
		if text := w.Body.Bytes(); len(text) > 0 && strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") &&
			!json.Valid(text) {
			t.Errorf("got %s", text)
		}
	})
}

// FuzzFamily: any name of a size has at most one family, of plain letters.
func FuzzFamily(f *testing.F) {
	f.Add("Standard_D2s_v5")
	f.Add("Standard_NC64as_T4_v3")
	f.Add("Standard_E16-4ds_v5")
	f.Add("Standard_" + strings.Repeat("_A", 1000))
	f.Fuzz(func(t *testing.T, size string) {
		if got := Family(size); strings.ContainsAny(got, "_- /") || len(got) > len(size)+len("standardFamily") {
			t.Errorf("%q: got %q", size, got)
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
		if got := namesVM(c.environment, vmid); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}
