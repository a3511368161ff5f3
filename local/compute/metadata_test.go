//go:build unix

package compute_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"dsvmpools/local/chaos"
	"dsvmpools/local/compute"
)

const nodeToken = "a-node's-token"

// guest is a running instance, as its agent knows it.
type guest struct{ name, vmid, metadata string }

// guests starts a set of instances.
func guests(t *testing.T, n int, body string, change func(*compute.Config)) (*compute.Server, map[string]guest) {
	t.Helper()
	r := receive(t)
	cfg := config(t.TempDir(), r.address(), "plain")
	cfg.NodeToken = nodeToken
	if change != nil {
		change(&cfg)
	}
	s := launch(t, cfg)
	if resp, answer := call(t, s.URL(), http.MethodPut, setPath+"cpu", body); resp.StatusCode != http.StatusCreated {
		t.Fatalf("create: got %d %s", resp.StatusCode, answer)
	}
	all := map[string]guest{}
	for range n {
		select {
		case v := <-r.visits:
			all[v.info[0]] = guest{v.info[0], v.info[1], v.info[4]}
		case <-time.After(patience):
			t.Fatalf("%d of %d agents came", len(all), n)
		}
	}
	return s, all
}

// ask sends a request to an instance's metadata endpoint.
func (g guest) ask(t *testing.T, method, path, body string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, g.metadata+"/metadata/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if len(header) == 0 {
		header = []string{"Metadata", "true"}
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestInstanceDocument(t *testing.T) {
	t.Parallel()
	body := strings.Replace(resource(1), `"tags":{`, `"tags":{"a":"b",`, 1)
	body = strings.Replace(body, `"virtualMachineProfile":{`, `"virtualMachineProfile":{"userData":"eyJ2IjoxfQ==",`, 1)
	_, all := guests(t, 1, body, nil)
	g := all["cpu_0"]
	status, body := g.ask(t, "GET", "instance?api-version=2021-02-01", "")
	var doc struct {
		Compute struct {
			VMID, Name, VMSize, Location, VMScaleSetName, ResourceID, ResourceGroupName, SubscriptionID, Priority, Tags, OSType, Provider, Publisher, Offer, SKU, Version string
			TagsList                                                                                                                                                      []struct{ Name, Value string }
			OSProfile                                                                                                                                                     struct{ ComputerName, AdminUsername string }
		}
	}
	if err := json.Unmarshal([]byte(body), &doc); status != http.StatusOK || err != nil {
		t.Fatalf("got %d %s, %v", status, body, err)
	}
	c := doc.Compute
	id := setPath + "cpu/virtualMachines/0"
	if c.VMID != g.vmid || c.Name != "cpu_0" || c.VMSize != "Standard_D2s_v5" || c.Location != "westeurope" || c.VMScaleSetName != "cpu" || c.ResourceID != id || c.ResourceGroupName != group ||
		c.SubscriptionID != subscription || c.Priority != "Regular" || c.Tags != "a:b;dsvmpools-pool:the-pool" || c.OSType != "Linux" || c.Provider != "Microsoft.Compute" || c.Publisher != "p" ||
		c.Offer != "o" || c.SKU != "s" || c.Version != "latest" || len(c.TagsList) != 2 ||
		c.TagsList[1].Value != "the-pool" ||
		c.OSProfile.ComputerName != "cpu000000" ||
		c.OSProfile.AdminUsername != "dsvm" {
		t.Errorf("got %s", body)
	}
	for _, c := range []struct{ name, path, want string }{
		{"a part", "instance/compute/osProfile?api-version=2021-02-01", `{"adminUsername":"dsvm","computerName":"cpu000000","disablePasswordAuthentication":"true"}` + "\n"},
		{"user data", "instance/compute/userData?api-version=2021-01-01&format=text", "eyJ2IjoxfQ=="},
		{"a text", "instance/compute/vmId?api-version=2021-02-01&format=text", g.vmid},
		{"a part, whatever its case", "instance/Compute/NAME?api-version=2021-02-01&format=text", "cpu_0"},
	} {
		if _, got := g.ask(t, "GET", c.path, ""); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestMetadataRefuses(t *testing.T) {
	t.Parallel()
	s, all := guests(t, 1, resource(1), nil)
	g := all["cpu_0"]
	stranger := guest{metadata: s.URL() + "/node/00000000000000000000000000000000"}
	for _, c := range []struct {
		name, method, path, body string
		of                       guest
		header                   []string
		status                   int
		says                     string
	}{
		{"no header", "GET", "instance?api-version=2021-02-01", "", g, []string{"X", "y"}, 400, "Required metadata header not specified"},
		{"another value", "GET", "instance?api-version=2021-02-01", "", g, []string{"Metadata", "1"}, 400, "Required metadata header"},
		{"forwarded", "GET", "instance?api-version=2021-02-01", "", g, []string{"Metadata", "true", "X-Forwarded-For", "10.0.0.1"}, 400, "forwarded"},
		{"no version", "GET", "instance", "", g, nil, 400, `"newest-versions":["20`},
		{"no such version", "GET", "instance?api-version=latest", "", g, nil, 400, "api-version is invalid"},
		{"too old a version", "GET", "scheduledevents?api-version=2017-04-02", "", g, nil, 400, "api-version is invalid"},
		{"too old a version of tokens", "GET", "identity/oauth2/token?api-version=2017-12-01&resource=x", "", g, nil, 400, "api-version is invalid"},
		{"a text as JSON", "GET", "instance/compute/vmId?api-version=2021-02-01", "", g, nil, 400, "format=text"},
		{"no such part", "GET", "instance/compute/secrets?api-version=2021-02-01", "", g, nil, 404, "Not found"},
		{"no such document", "GET", "attested/document?api-version=2021-02-01", "", g, nil, 404, "Not found"},
		{"below a text", "GET", "instance/compute/vmId/x?api-version=2021-02-01", "", g, nil, 404, "Not found"},
		{"another method", "PUT", "instance?api-version=2021-02-01", "", g, nil, 405, "Method not allowed"},
		{"another instance", "GET", "instance?api-version=2021-02-01", "", stranger, nil, 404, "Not found"},
		{"no resource", "GET", "identity/oauth2/token?api-version=2018-02-01", "", g, nil, 400, "resource"},
		{"approval of nothing", "POST", "scheduledevents?api-version=2020-07-01", `{}`, g, nil, 400, "StartRequests"},
		{"approval of what is not", "POST", "scheduledevents?api-version=2020-07-01", `{"StartRequests":[{"EventId":"x"}]}`, g, nil, 400, "not known"},
		{"a long approval", "POST", "scheduledevents?api-version=2020-07-01", strings.Repeat(" ", 20<<10), g, nil, 400, "too large"},
	} {
		if status, body := c.of.ask(t, c.method, c.path, c.body, c.header...); status != c.status ||
			!strings.HasPrefix(body, `{"error":`) ||
			!strings.Contains(body, c.says) {
			t.Errorf("%s: got %d %s, want %d with %q", c.name, status, body, c.status, c.says)
		}
	}
}

// route sends requests for the well-known address to this endpoint.
type route struct{ guest }

func (r route) Do(request *http.Request) (*http.Response, error) {
	url := strings.Replace(request.URL.String(), "http://169.254.169.254", r.metadata, 1)
	out, err := http.NewRequestWithContext(request.Context(), request.Method, url, nil)
	if err != nil {
		return nil, err
	}
	out.Header = request.Header
	return http.DefaultClient.Do(out)
}

// The real client of managed identities.
func TestTokenOfTheNode(t *testing.T) {
	t.Parallel()
	s, all := guests(t, 1, resource(1), nil)
	g := all["cpu_0"]
	_, body := g.ask(t, "GET", "identity/oauth2/token?api-version=2018-02-01&resource=https://servicebus.azure.net", "")
	var raw map[string]string // numbers are texts
	if err := json.Unmarshal([]byte(body), &raw); err != nil || raw["access_token"] != nodeToken || raw["token_type"] != "Bearer" ||
		raw["expires_on"] == "" ||
		raw["resource"] != "https://servicebus.azure.net" {
		t.Errorf("got %s, %v", body, err)
	}
	c, err := azidentity.NewManagedIdentityCredential(
		&azidentity.ManagedIdentityCredentialOptions{ClientOptions: policy.ClientOptions{Transport: route{g}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://servicebus.azure.net/.default"}})
	if err != nil || got.Token != nodeToken || time.Until(got.ExpiresOn) < time.Hour {
		t.Fatalf("got %v, %v", got.ExpiresOn, err)
	}
	// It opens nothing: a node has no right on the resource manager.
	if resp, body := call(t, s.URL(), "GET", setPath+"cpu", "", "Authorization", "Bearer "+got.Token); resp.StatusCode != http.StatusForbidden ||
		!strings.Contains(body, "AuthorizationFailed") {
		t.Errorf("the resource manager: got %d %s", resp.StatusCode, body)
	}
}

func TestNodeWithoutAnIdentity(t *testing.T) {
	t.Parallel()
	body := strings.Replace(resource(1), `"identity"`, `"nothing"`, 1)
	_, all := guests(t, 1, body, nil)
	if status, body := all["cpu_0"].ask(t, "GET", "identity/oauth2/token?api-version=2018-02-01&resource=x", ""); status != 400 ||
		!strings.Contains(body, "Identity not found") {
		t.Errorf("got %d %s", status, body)
	}
	faults := chaos.New(1)
	if _, err := faults.Add(chaos.Injection{Do: chaos.Throttle, Target: "compute/token/cpu/cpu_0"}); err != nil {
		t.Fatal(err)
	}
	_, all = guests(t, 1, resource(1), func(c *compute.Config) { c.Chaos = faults })
	if status, _ := all["cpu_0"].ask(t, "GET", "identity/oauth2/token?api-version=2018-02-01&resource=x", ""); status != 429 {
		t.Errorf("throttled: got %d", status)
	}
}

type events struct {
	DocumentIncarnation int
	Events              []struct {
		EventID, EventType, EventStatus, EventSource, ResourceType, NotBefore string
		Resources                                                             []string
		DurationInSeconds                                                     int
	}
}

func (g guest) events(t *testing.T) (e events) {
	t.Helper()
	status, body := g.ask(t, "GET", "scheduledevents?api-version=2020-07-01", "")
	if err := json.Unmarshal([]byte(body), &e); status != http.StatusOK || err != nil {
		t.Fatalf("got %d %s, %v", status, body, err)
	}
	return e
}

func TestScheduledEvents(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"Delete", "Deallocate"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			body := strings.Replace(resource(2), `"virtualMachineProfile":{`,
				`"virtualMachineProfile":{"priority":"Spot","evictionPolicy":"`+policy+`",`, 1)
			s, all := guests(t, 2, body, func(c *compute.Config) { c.EvictionNotice = time.Hour })
			if e := all["cpu_0"].events(t); len(e.Events) != 0 || e.DocumentIncarnation != 0 {
				t.Errorf("before: got %+v", e)
			}
			for range 2 { // the second time changes nothing
				if err := s.Evict("CPU_0"); err != nil {
					t.Fatal(err)
				}
			}
			var id string
			for _, g := range all { // the neighbour is told too
				e := g.events(t)
				if len(e.Events) != 1 || e.DocumentIncarnation != 1 {
					t.Fatalf("%s: got %+v", g.name, e)
				}
				at, err := http.ParseTime(e.Events[0].NotBefore)
				if left := time.Until(at); err != nil || left < 59*time.Minute || left > time.Hour {
					t.Errorf("not before: got %q", e.Events[0].NotBefore)
				}
				if v := e.Events[0]; v.EventType != "Preempt" || v.EventStatus != "Scheduled" || v.EventSource != "Platform" ||
					v.ResourceType != "VirtualMachine" ||
					len(v.Resources) != 1 ||
					v.Resources[0] != "cpu_0" ||
					v.DurationInSeconds != -1 {
					t.Errorf("%s: got %+v", g.name, v)
				}
				id = e.Events[0].EventID
			}
			if status, answer := all["cpu_0"].ask(t, "POST", "scheduledevents?api-version=2020-07-01", `{"StartRequests":[{"EventId":"`+id+`"}]}`); status != http.StatusOK {
				t.Fatalf("acknowledged: got %d %s", status, answer)
			}
			gone := func() bool { return len(s.Instances()) == 1 }
			if policy == "Deallocate" {
				gone = func() bool {
					_, list := call(t, s.URL(), "GET", setPath+"cpu/virtualMachines?$expand=instanceView&api-version=1", "")
					return strings.Contains(list, "PowerState/deallocated") && strings.Contains(list, "PowerState/running")
				}
			}
			until(t, "the eviction", gone)
			if e := all["cpu_1"].events(t); len(e.Events) != 0 || e.DocumentIncarnation < 2 {
				t.Errorf("afterwards: got %+v", e)
			}
		})
	}
}

// What is sent to a server by whoever means it harm is bounded.
func TestHostileClients(t *testing.T) {
	t.Parallel()
	_, all := guests(t, 1, resource(1), nil)
	address := strings.TrimPrefix(all["cpu_0"].metadata, "http://")
	address, _, _ = strings.Cut(address, "/")
	for name, c := range map[string]struct{ send, want string }{
		"an endless header": {"GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 64<<10), "HTTP/1.1 431 "},
		"an announced body": {"PUT " + setPath + "cpu?api-version=1 HTTP/1.1\r\nHost: " + address + "\r\nAuthorization: Bearer " + token + "\r\nContent-Length: 99999999999\r\n\r\n" + strings.Repeat(" ", 2<<20), "HTTP/1.1 413 "},
		"no HTTP":           {"\x16\x03\x01\x00\xa5\r\n\r\n", "HTTP/1.1 400 "},
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		go conn.Write([]byte(c.send))
		got := make([]byte, len(c.want))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != c.want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, c.want)
		}
		conn.Close()
	}
}

// What every agent asks every second.
func BenchmarkScheduledEvents(b *testing.B) {
	dir := b.TempDir()
	r, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	s, err := compute.Start(config(dir, r.Addr().String(), "plain"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	put, _ := http.NewRequest("PUT", s.URL()+setPath+"cpu?api-version=1", strings.NewReader(resource(1)))
	put.Header.Set("Authorization", "Bearer "+token)
	if resp, err := http.DefaultClient.Do(put); err != nil || resp.StatusCode != http.StatusCreated {
		b.Fatal(resp, err)
	}
	conn, err := r.Accept()
	if err != nil {
		b.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	url := line[strings.LastIndex(strings.TrimSpace(line), ",")+1:]
	ask, _ := http.NewRequest("GET", strings.TrimSpace(url)+"/metadata/scheduledevents?api-version=2020-07-01", nil)
	ask.Header.Set("Metadata", "true")
	for b.Loop() {
		resp, err := http.DefaultClient.Do(ask)
		if err != nil || resp.StatusCode != http.StatusOK {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// TestNodeDeletesItself: the identity of nodes may delete one instance at a time, and
// nothing else; so that a node whose pool has died can end itself.
func TestNodeDeletesItself(t *testing.T) {
	t.Parallel()
	s, all := guests(t, 2, resource(2), nil)
	id := setPath + "cpu/virtualMachines/0"
	send := func(method, path, token string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path+"?api-version=2024-11-01", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, c := range []struct {
		name, method, path, token string
		want                      int
	}{
		{"nobody", "DELETE", id, "", http.StatusUnauthorized},
		{"a node reads the set", "GET", setPath + "cpu", nodeToken, http.StatusForbidden},
		{"a node reads its instance", "GET", id, nodeToken, http.StatusForbidden},
		{"a node deletes the set", "DELETE", setPath + "cpu", nodeToken, http.StatusForbidden},
		{"a node deletes several", "POST", setPath + "cpu/delete", nodeToken, http.StatusForbidden},
		{"an instance of no set", "DELETE", setPath + "none/virtualMachines/0", nodeToken, http.StatusNotFound},
		{"an instance that is gone", "DELETE", setPath + "cpu/virtualMachines/77", nodeToken, http.StatusNoContent},
		{"a node deletes its instance", "DELETE", id, nodeToken, http.StatusAccepted},
	} {
		if got := send(c.method, c.path, c.token); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
	until(t, "one instance", func() bool {
		_, body := call(t, s.URL(), http.MethodGet, setPath+"cpu/virtualMachines", "")
		return !strings.Contains(body, `"cpu_0"`) && strings.Contains(body, `"cpu_1"`)
	})
	if len(all) != 2 {
		t.Errorf("%d agents came, want 2", len(all))
	}
}
