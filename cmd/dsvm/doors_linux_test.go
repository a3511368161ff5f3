package main

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/local/chaos"
	"dsvmpools/shared/client"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/job"
)

// probeEnv makes the test binary a job that looks for open doors; see TestMain. It
// holds the folder of the instance.
const probeEnv = "TEST_PROBE_OF"

// nobody is the user that jobs run as.
const nobody = "nobody"

// evilPool is what an intruder would like to have.
const evilPool = `{"name":"evil","sizes":["Standard_D2s_v5"],"nodes":{"max":1}}`

// knock is a listener of the product, and the ways to knock at it.
type knock struct {
	name         string
	address      string // host:port
	method, path string // changes something
	kind, body   string
	read         string                            // a path to GET, which the key opens; "" = there is none
	sign         func(r *http.Request, right bool) // puts the key on, or another one
}

// TestNoOpenDoor starts everything, lists what listens anywhere in its processes,
// and tries each without a key, with a wrong one, and as a web page would. A new
// listener that is not in the table fails it.
func TestNoOpenDoor(t *testing.T) {
	t.Parallel()
	m, base := startDoors(t)
	doors := m.doors()
	known := map[string]bool{}
	for _, d := range doors {
		known[d.address] = true
	}
	for _, s := range listening(t, append(descendants(m.cmd.Process.Pid), m.cmd.Process.Pid)) {
		if !known[s.address] {
			t.Errorf(
				"%s listens on %s %s, and no test knocks at it; add it to the table, and to docs/local.md",
				s.program,
				s.network,
				s.address,
			)
		}
		delete(known, s.address)
	}
	for address := range known {
		t.Errorf("%s is in the table and listens nowhere", address)
	}
	before := m.everything()
	for _, d := range doors {
		d.try(t)
	}
	m.tryAMQP()
	if after := m.everything(); after != before {
		t.Errorf("something has changed:\n%s\nwas\n%s", after, before)
	}
	if os.Geteuid() == 0 {
		m.tryAs(nobody, base, doors)
	}
	if after := m.everything(); after != before {
		t.Errorf("a job of another user has changed something:\n%s\nwas\n%s", after, before)
	}
}

// startDoors starts `dsvm up` with a pool and a node that runs a job, in a folder
// that others can reach.
func startDoors(t *testing.T) (m *machine, base string) {
	t.Helper()
	base, err := os.MkdirTemp("", "doors")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	var args []string
	if os.Geteuid() == 0 {
		args = []string{"--job-user", nobody}
	}
	m = startMachine(t, filepath.Join(base, ".dsvm"), args...)
	if _, err := m.client.Apply(m.ctx, []byte(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1}}`)); err != nil {
		t.Fatal(err)
	}
	m.submit("stays", `{"id":"stays","pool":"cpu","team":"other","command":["sleep","300"],"env":{"TOKEN":"of-another-team"}}`)
	m.until("a job that runs", func() bool {
		j, err := m.client.Job(m.ctx, "stays")
		return err == nil && j.State == job.Running
	})
	return m, base
}

func (m *machine) submit(id, document string) {
	m.t.Helper()
	r, err := http.NewRequestWithContext(m.ctx, "POST", m.in.URL+"/api/jobs", strings.NewReader(document))
	if err != nil {
		m.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("x-functions-key", m.in.Key)
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		m.t.Fatal(err)
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusAccepted {
		b, _ := io.ReadAll(reply.Body)
		m.t.Fatalf("job %s: %s %s", id, reply.Status, b)
	}
}

// everything is what an intruder could have changed: pools, jobs, faults, queues.
func (m *machine) everything() string {
	m.t.Helper()
	pools, err := m.client.Pools(m.ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	jobs, err := m.client.Jobs(m.ctx, client.JobFilter{}, 100)
	if err != nil {
		m.t.Fatal(err)
	}
	faults, err := chaos.Client{URL: m.in.Control, Key: m.in.ControlKey}.Status(m.ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	var out strings.Builder
	for _, p := range pools {
		fmt.Fprintln(&out, "pool", p.Name)
	}
	for _, j := range jobs {
		if j.ID != "probe" {
			fmt.Fprintln(&out, "job", j.ID, j.State)
		}
	}
	fmt.Fprintln(&out, "faults", len(faults.Injections))
	for _, d := range m.doors() {
		if d.name == "Service Bus" || d.name == "tables" {
			status, body := d.ask(m.t, "GET", d.read, "", "", func(r *http.Request) { d.sign(r, true) })
			fmt.Fprintln(&out, d.name, status, strings.Contains(body, "evil"))
		}
	}
	return out.String()
}

// doors is the table of everything that listens.
func (m *machine) doors() []knock {
	m.t.Helper()
	var identity struct {
		Keys  map[string]string
		Ports map[string]int
	}
	b, err := os.ReadFile(filepath.Join(m.dir, "data", "identity.json"))
	if err == nil {
		err = json.Unmarshal(b, &identity)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	wrong := base64.StdEncoding.EncodeToString(make([]byte, 32))
	choose := func(right bool, key string) string {
		if right {
			return key
		}
		return wrong
	}
	bearer := func(key string) func(*http.Request, bool) {
		return func(r *http.Request, right bool) { r.Header.Set("Authorization", "Bearer "+choose(right, key)) }
	}
	host := func(address string) string {
		u, err := url.Parse(address)
		if err != nil {
			m.t.Fatal(err)
		}
		return u.Host
	}
	part := func(connection, name string) string {
		for p := range strings.SplitSeq(connection, ";") {
			if v, ok := strings.CutPrefix(p, name+"="); ok {
				return v
			}
		}
		m.t.Fatalf("%s is not in a connection string", name)
		return ""
	}
	set := "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/dsvmpools/providers/Microsoft.Compute/virtualMachineScaleSets"
	handler, metadata := m.child("handler"), m.metadata()
	all := []knock{
		{"Functions host", host(m.in.URL), "POST", "/api/pools", "application/json", evilPool, "/api/pools",
			func(r *http.Request, right bool) { r.Header.Set("x-functions-key", choose(right, m.in.Key)) }},
		{
			"its administration",
			host(m.in.URL),
			"POST",
			"/admin/functions/SubmitJob",
			"application/json",
			`{"input":"{\"id\":\"evil\",\"pool\":\"cpu\",\"command\":[\"true\"]}"}`,
			"",
			func(r *http.Request, _ bool) { r.Header.Set("x-functions-key", wrong) },
		},
		{"handler", m.listens(handler), "POST", "/api/pools", "application/json", evilPool, "",
			func(r *http.Request, _ bool) { r.Header.Set(invoke.HeaderSecret, wrong) }},
		{"handler's invocations", m.listens(handler), "POST", "/SubmitJob", "application/json",
			`{"Data":{"messages":["{\"id\":\"evil\",\"pool\":\"cpu\",\"command\":[\"true\"]}"]},"Metadata":{}}`, "",
			func(r *http.Request, _ bool) { r.Header.Set(invoke.HeaderSecret, wrong) }},
		{
			"tables",
			host(part(m.in.Tables, "TableEndpoint")),
			"POST",
			"/dsvmpools/Tables",
			"application/json",
			`{"TableName":"evil"}`,
			"/dsvmpools/Tables",
			func(r *http.Request, right bool) { signLite(r, choose(right, part(m.in.Tables, "AccountKey"))) },
		},
		{"Service Bus", host(part(m.in.ServiceBus, "Endpoint")), "PUT", "/evil", "application/atom+xml",
			`<entry xmlns="http://www.w3.org/2005/Atom"><content type="application/xml"><QueueDescription xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"></QueueDescription></content></entry>`,
			"/$Resources/Queues", func(r *http.Request, right bool) { signSAS(r, choose(right, part(m.in.ServiceBus, "SharedAccessKey"))) }},
		{"resource manager", host(m.in.ARM), "PUT", set + "/evil?api-version=2024-07-01", "application/json", `{"location":"westeurope"}`,
			"/subscriptions/00000000-0000-4000-8000-000000000001/providers/Microsoft.Compute/locations/westeurope/usages?api-version=2024-07-01", bearer(identity.Keys["arm"])},
		{
			"faults", host(m.in.Control), "POST", "/faults", "application/json", `{"do":"refuse","target":"*"}`,
			"/faults", bearer(m.in.ControlKey),
		},
		{
			"issuer", net.JoinHostPort("127.0.0.1", strconv.Itoa(identity.Ports["issuer"])), "POST", "/device",
			"application/x-www-form-urlencoded", "user_code=BBBB-BBBB&login=owner%40local&secret=x", "", func(*http.Request, bool) {},
		},
		{
			"issuer's tokens", net.JoinHostPort("127.0.0.1", strconv.Itoa(identity.Ports["issuer"])), "POST", "/token",
			"application/x-www-form-urlencoded", "grant_type=client_credentials&client_id=x", "", func(*http.Request, bool) {},
		},
		{
			"relay", net.JoinHostPort("127.0.0.1", strconv.Itoa(identity.Ports["relay"])), "POST", "/evil", "application/json", `{}`, "",
			func(r *http.Request, _ bool) { signSAS(r, wrong) },
		},
		{
			"price list", net.JoinHostPort("127.0.0.1", strconv.Itoa(identity.Ports["prices"])), "POST", "/evil", "application/json", `{}`, "",
			func(*http.Request, bool) {}, // it has no key, and nothing to change
		},
		{
			"metadata of a node",
			host(metadata),
			"GET",
			"/node/" + hex.EncodeToString(make([]byte, 16)) + "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=x",
			"",
			"",
			"",
			func(r *http.Request, _ bool) { r.Header.Set("Metadata", "true") },
		},
	}
	return all
}

// try knocks at a door in all the ways that must not open it.
func (d knock) try(t *testing.T) {
	t.Helper()
	const right, wrong = true, false
	key := func(right bool, more ...string) func(*http.Request) {
		return func(r *http.Request) {
			d.sign(r, right)
			for i := 0; i < len(more); i += 2 {
				r.Header.Set(more[i], more[i+1])
			}
		}
	}
	refused := []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound}
	foreign := []int{http.StatusForbidden}
	for _, k := range []struct {
		how    string
		change func(*http.Request)
		want   []int
	}{
		{"without a key", func(*http.Request) {}, refused},
		{"with a wrong key", key(wrong), refused},
		{"as a renamed site", func(r *http.Request) { d.sign(r, right); r.Host = "evil.example:" + portOf(d.address) }, foreign},
		{"as a renamed site without a port", func(r *http.Request) { d.sign(r, right); r.Host = "evil.example" }, foreign},
		{"as a page of another site", key(right, "Origin", "http://evil.example"), foreign},
		{"as a page of another port", key(right, "Origin", "http://127.0.0.1:1"), foreign},
		{"as a page without an origin", key(right, "Origin", "null"), foreign},
		{"as a browser says it", key(right, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"), foreign},
		{"as a form", key(right, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Content-Type", "application/x-www-form-urlencoded"), foreign},
	} {
		if d.method == "GET" && k.how == "as a form" {
			continue
		}
		if status, body := d.ask(t, d.method, d.path, d.kind, d.body, k.change); !slices.Contains(k.want, status) {
			t.Errorf("%s, %s: got %d %.200s, want one of %v", d.name, k.how, status, body, k.want)
		}
		if k.how == "as a form" { // to be led to a page by another site is no harm
			continue
		}
		if d.read == "" {
			continue
		}
		if status, body := d.ask(t, "GET", d.read, "", "", k.change); !slices.Contains(k.want, status) {
			t.Errorf("%s, reading %s: got %d %.200s, want one of %v", d.name, k.how, status, body, k.want)
		}
	}
	if d.read == "" {
		return
	}
	// The key alone opens it, or nothing above has shown anything.
	if status, body := d.ask(t, "GET", d.read, "", "", key(right)); status != http.StatusOK {
		t.Errorf("%s, with its key: got %d %.200s", d.name, status, body)
	}
	for _, kind := range []string{"text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"} {
		status, body := d.ask(t, d.method, d.path, kind, d.body, func(r *http.Request) { d.sign(r, right) })
		if status != http.StatusUnsupportedMediaType {
			t.Errorf("%s, with its key and %s: got %d %.200s, want 415", d.name, kind, status, body)
		}
	}
}

// ask makes one request.
func (d knock) ask(t *testing.T, method, path, kind, body string, change func(*http.Request)) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+d.address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	change(r)
	c := http.Client{
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	reply, err := c.Do(r)
	if err != nil {
		t.Fatalf("%s, %s %s of type %q with %v: %v", d.name, method, path, kind, r.Header, err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(io.LimitReader(reply.Body, 1<<16))
	if err != nil {
		t.Errorf("%s: %v", d.name, err)
	}
	if reply.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%s lets other sites read its answers", d.name)
	}
	return reply.StatusCode, string(text)
}

// tryAMQP knocks at the queues: with a wrong key, and with a WebSocket of a page.
func (m *machine) tryAMQP() {
	m.t.Helper()
	key := m.in.ServiceBus[strings.Index(m.in.ServiceBus, "SharedAccessKey="):]
	key, _, _ = strings.Cut(key, ";")
	wrong := strings.Replace(m.in.ServiceBus, key, "SharedAccessKey="+base64.StdEncoding.EncodeToString(make([]byte, 32)), 1)
	c, err := azservicebus.NewClientFromConnectionString(
		wrong,
		&azservicebus.ClientOptions{RetryOptions: azservicebus.RetryOptions{MaxRetries: -1}},
	)
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close(m.ctx)
	s, err := c.NewSender("jobs", nil)
	if err == nil {
		err = s.SendMessage(m.ctx, &azservicebus.Message{Body: []byte(`{"id":"evil","pool":"cpu","command":["true"]}`)}, nil)
	}
	if err == nil {
		m.t.Error("Service Bus took a message under a wrong key")
	}
	u, err := url.Parse(strings.TrimPrefix(strings.SplitN(m.in.ServiceBus, ";", 2)[0], "Endpoint="))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, tt := range []struct {
		header string
		status int
	}{{"", 101}, {"Origin: http://" + u.Host + "\r\n", 101}, {"Origin: http://evil.example\r\n", 403}, {"Origin: http://127.0.0.1:1\r\nSec-Fetch-Site: same-site\r\n", 403}} {
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			m.t.Fatal(err)
		}
		fmt.Fprintf(
			conn,
			"GET /$servicebus/websocket HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
				"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: amqp\r\n%s\r\n",
			u.Host,
			tt.header,
		)
		conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		reply, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || reply.StatusCode != tt.status {
			m.t.Errorf("a WebSocket with %q: got %v, %v, want %d", tt.header, reply, err, tt.status)
		}
		conn.Close()
	}
}

// metadata is the metadata endpoint of the node, as only its agent is told.
func (m *machine) metadata() string {
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", m.child("agent")))
	if err != nil {
		m.t.Fatal(err)
	}
	for v := range strings.SplitSeq(string(environ), "\x00") {
		if address, ok := strings.CutPrefix(v, "DSVM_METADATA_ENDPOINT="); ok {
			return address
		}
	}
	m.t.Fatal("the agent has no metadata endpoint")
	return ""
}

// listens is the one address on which a process listens.
func (m *machine) listens(pid int) string {
	m.t.Helper()
	all := listening(m.t, []int{pid})
	if len(all) != 1 {
		m.t.Fatalf("process %d listens on %v, want one address", pid, all)
	}
	return all[0].address
}

// signLite signs a request for tables.
func signLite(r *http.Request, key string) {
	date := time.Now().UTC().Format(http.TimeFormat)
	secret, _ := base64.StdEncoding.DecodeString(key)
	mac := hmac.New(sha256.New, secret)
	io.WriteString(mac, date+"\n/dsvmpools"+r.URL.EscapedPath())
	r.Header.Set("x-ms-date", date)
	r.Header.Set("Authorization", "SharedKeyLite dsvmpools:"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// signSAS signs a request for the administration of Service Bus.
func signSAS(r *http.Request, key string) {
	resource, until := url.QueryEscape("http://"+r.URL.Host+"/"), fmt.Sprint(time.Now().Add(time.Hour).Unix())
	mac := hmac.New(sha256.New, []byte(key))
	io.WriteString(mac, resource+"\n"+until)
	r.Header.Set(
		"Authorization",
		fmt.Sprintf(
			"SharedAccessSignature sr=%s&sig=%s&se=%s&skn=RootManageSharedAccessKey",
			resource,
			url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil))),
			until,
		),
	)
}
