//go:build unix

package door

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/way"
)

// webName is how people find the gate.
const webName = "lab.example:8000"

// webGateway is a gateway whose sessions have a JupyterLab below /lab/.
func (a app) webGateway(users ...string) gateway {
	a.t.Helper()
	g := a.gateway(users...)
	n := node{t: a.t, dir: folder(a.t)}
	for _, user := range users {
		n.lab(user)
		f := *g.of[user].file.Load()
		f.UID, f.Lab, f.WebBase = os.Getuid(), "unix:"+n.socket(user, "lab"), "lab"
		g.remove(g.of[user])
		s := newSession(f, []byte("key of "+user), g.log)
		g.of[user] = s
		g.take(s)
	}
	g.mu.Lock()
	g.at = g.listener.Addr().String()
	g.inside = g.at
	g.mu.Unlock()
	return g
}

func (g gateway) webWay(user string, life time.Duration) string {
	return g.sign(way.Way{For: way.Web, Session: "session-" + user, Inside: g.at, Expires: time.Now().Add(life).Unix()})
}

// tab is a browser that comes by webName, which leads to one gate.
type tab struct {
	t       testing.TB
	client  *http.Client
	cookies map[string]string
}

func newTab(t testing.TB, at string) *tab {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", at)
	}
	transport := &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // of a name that no authority knows
	t.Cleanup(transport.CloseIdleConnections)
	return &tab{t, &http.Client{Transport: transport}, map[string]string{}}
}

// at is the same tab, led to another gate.
func (b *tab) at(address string) *tab {
	other := newTab(b.t, address)
	other.cookies = b.cookies
	return other
}

func (b *tab) header(header ...string) http.Header {
	h := http.Header{"Origin": {"https://" + webName}}
	var all []string
	for name, value := range b.cookies {
		all = append(all, name+"="+value)
	}
	h.Set("Cookie", strings.Join(all, "; "))
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return h
}

func (b *tab) do(method, path, body string, header ...string) (int, string, http.Header) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, "https://"+webName+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header = b.header(header...)
	answer, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range answer.Cookies() {
		if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/lab/" && !strings.HasPrefix(c.Path, "/$hc/") {
			b.t.Errorf("a cookie is %v", c)
		}
		b.cookies[c.Name] = c.Value
	}
	return answer.StatusCode, string(text), answer.Header
}

// login shows a ticket at the address that the app gives out.
func (b *tab) login(a app, user, text string) int {
	b.t.Helper()
	query := url.Values{"session": {"session-" + user}, "way": {text}}.Encode()
	if status, page, _ := b.do("GET", "/lab/dsvm/login?"+query, ""); status != http.StatusOK || !strings.Contains(page, "<script>") {
		b.t.Errorf("the page for tickets: %d %.100s", status, page)
	}
	t := ticket{Session: "session-" + user, User: user, Expires: time.Now().Add(time.Minute).Unix(), Nonce: fmt.Sprint(time.Now().UnixNano())}
	status, _, _ := b.do("POST", "/lab/dsvm/login?"+query, `{"ticket":"`+sign(a.signer, t)+`"}`)
	return status
}

// echo sends a message by a WebSocket, and returns what comes back.
func (b *tab) echo(path string, header ...string) (string, error) {
	options := &websocket.DialOptions{HTTPClient: b.client, HTTPHeader: b.header(header...), Subprotocols: []string{"v1.kernel.websocket.jupyter.org"}}
	c, _, err := websocket.Dial(b.t.Context(), "wss://"+webName+path, options)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.CloseNow() }()
	if err := c.Write(b.t.Context(), websocket.MessageText, []byte("cell")); err != nil {
		return "", err
	}
	_, text, err := c.Read(b.t.Context())
	return c.Subprotocol() + " " + string(text), err
}

// A browser comes to its own JupyterLab whichever node it is led to, each time.
func TestBrowsersComeByTheGate(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	right, wrong := a.webGateway("ann"), a.webGateway("bob")
	b := newTab(t, wrong.at)
	if status := b.login(a, "ann", right.webWay("ann", time.Hour)); status != http.StatusNoContent || len(b.cookies) != 2 {
		t.Fatalf("the ticket is answered with %d and the cookies %v", status, b.cookies)
	}
	large := strings.Repeat("x", 300<<10)
	for name, tab := range map[string]*tab{"past the wrong node": b, "to the right one": b.at(right.at)} {
		if status, text, header := tab.do("GET", "/lab/lab?x=1", ""); status != http.StatusOK || text != "Lab of ann: GET /lab/lab " {
			t.Errorf("%s: got %d %.100q %v", name, status, text, header)
		}
		if status, text, _ := tab.do("PUT", "/lab/api/contents/a", large); status != http.StatusOK || !strings.HasSuffix(text, " "+large) {
			t.Errorf("%s: an upload is answered with %d and %d bytes", name, status, len(text))
		}
		for range 2 {
			if got, err := tab.echo("/lab/api/kernels/1/channels"); got != "v1.kernel.websocket.jupyter.org cell" {
				t.Errorf("%s: got %q, %v", name, got, err)
			}
		}
	}
	if n := right.of["ann"].state("").Relayed; n != 0 {
		t.Errorf("%d bytes went through the relay", n)
	}
	// The end of the session ends what was passed on.
	right.remove(right.of["ann"])
	right.of["ann"].end()
	if status, text, _ := b.do("GET", "/lab/lab", ""); status != http.StatusServiceUnavailable || strings.Contains(text, "Lab of") {
		t.Errorf("after the end: %d %s", status, text)
	}
	if got, err := b.echo("/lab/api/kernels/1/channels"); err == nil {
		t.Errorf("after the end, a WebSocket: %q", got)
	}
}

// No browser gets in without the ticket and the cookie of the session, by whichever node.
func TestBrowsersThatDoNotGetIn(t *testing.T) {
	t.Parallel()
	a := newApp(t)
	right, wrong := a.webGateway("ann"), a.webGateway("bob")
	good := newTab(t, wrong.at)
	if status := good.login(a, "ann", right.webWay("ann", time.Hour)); status != http.StatusNoContent {
		t.Fatalf("the ticket is answered with %d", status)
	}
	session, its := good.cookies["dsvm_lab"], good.cookies[wayCookie]
	if session == "" || its == "" {
		t.Fatalf("the cookies are %v", good.cookies)
	}
	bob := newTab(t, right.at)
	if status := bob.login(a, "bob", wrong.webWay("bob", time.Hour)); status != http.StatusNoContent {
		t.Fatalf("bob's ticket is answered with %d", status)
	}
	stranger := newApp(t)
	for name, cookies := range map[string]map[string]string{
		"nothing":                  {},
		"a way alone":              {wayCookie: its},
		"a cookie alone":           {"dsvm_lab": session},
		"the cookie of another":    {"dsvm_lab": bob.cookies["dsvm_lab"], wayCookie: its},
		"the way to another":       {"dsvm_lab": session, wayCookie: bob.cookies[wayCookie]},
		"a way of a stranger":      {"dsvm_lab": session, wayCookie: stranger.sign(way.Way{For: way.Web, Session: "session-ann", Inside: right.at, Expires: time.Now().Add(time.Hour).Unix()})},
		"a way for SSH":            {"dsvm_lab": session, wayCookie: a.way("session-ann", right.at, time.Minute)},
		"a way that is over":       {"dsvm_lab": session, wayCookie: right.webWay("ann", -time.Hour)},
		"a way to another service": {"dsvm_lab": session, wayCookie: a.sign(way.Way{For: way.Web, Session: "session-ann", Inside: "169.254.169.254:80", Expires: time.Now().Add(time.Hour).Unix()})},
		"a way to no node's door":  {"dsvm_lab": session, wayCookie: a.sign(way.Way{For: way.Web, Session: "session-ann", Inside: "127.0.0.1:1", Expires: time.Now().Add(time.Hour).Unix()})},
		"a way to the wrong node":  {"dsvm_lab": session, wayCookie: a.sign(way.Way{For: way.Web, Session: "session-ann", Inside: wrong.at, Expires: time.Now().Add(time.Hour).Unix()})},
	} {
		b := newTab(t, wrong.at)
		b.cookies = cookies
		if status, text, _ := b.do("GET", "/lab/lab", ""); status < 400 || strings.Contains(text, "Lab of") {
			t.Errorf("%s: got %d %q", name, status, text)
		}
		if got, err := b.echo("/lab/api/kernels/1/channels"); err == nil {
			t.Errorf("%s: a WebSocket: %q", name, got)
		}
	}
	// Pages of other sites cannot use the cookies.
	for _, origin := range []string{"https://evil.example", "https://gate", "http://" + webName, "null"} {
		if status, text, _ := good.do("PUT", "/lab/api/contents/a", "x", "Origin", origin); status != http.StatusForbidden {
			t.Errorf("from %s: got %d %q", origin, status, text)
		}
		if got, err := good.echo("/lab/api/kernels/1/channels", "Origin", origin); err == nil {
			t.Errorf("from %s: a WebSocket: %q", origin, got)
		}
	}
	if status, text, _ := good.do("GET", "/lab/lab", "", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"); status != http.StatusForbidden {
		t.Errorf("as a picture of another site: %d %q", status, text)
	}
	// A ticket is good once, whichever node it is shown to.
	used := sign(a.signer, ticket{Session: "session-ann", User: "ann", Expires: time.Now().Add(time.Minute).Unix(), Nonce: "once"})
	query := "?" + url.Values{"session": {"session-ann"}, "way": {right.webWay("ann", time.Hour)}}.Encode()
	for i, at := range []string{wrong.at, right.at, wrong.at} {
		want := http.StatusNoContent
		if i > 0 {
			want = http.StatusForbidden
		}
		if status, text, _ := newTab(t, at).do("POST", "/lab/dsvm/login"+query, `{"ticket":"`+used+`"}`); status != want {
			t.Errorf("time %d: got %d %q, want %d", i+1, status, text, want)
		}
	}
	// The door of no node is told to answer browsers by who is none.
	if _, err := dialWay(t, right.at, right.webWay("ann", time.Hour)); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("a browser's way without TLS: %v", err)
	}
}

// Browsers that say nothing are among those that are bounded.
func TestBrowsersThatSayNothing(t *testing.T) {
	t.Parallel()
	g := newApp(t).webGateway("ann")
	silent, err := tls.Dial("tcp", g.at, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	await(t, "one that is silent", func() bool { return g.countSilent() == 1 })
	b := newTab(t, g.at)
	if status := b.login(g.app, "ann", g.webWay("ann", time.Hour)); status != http.StatusNoContent {
		t.Fatalf("the ticket is answered with %d", status)
	}
	if n := g.countSilent(); n != 1 {
		t.Errorf("%d are silent: who has a way is among them", n)
	}
	for range mostSilent {
		connect(t, g.at)
	}
	if got, _ := io.ReadAll(silent); len(got) > 0 {
		t.Errorf("the silent one gets %q", got)
	}
	if status, _, _ := b.do("GET", "/lab/lab", ""); status != http.StatusOK {
		t.Errorf("who is in gets %d", status)
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := &certificates{own: filepath.Join(dir, "own.pem")}
	leaf := func() string {
		t.Helper()
		config, err := c.config()
		if err != nil {
			t.Fatal(err)
		}
		return config.Certificates[0].Leaf.Subject.CommonName
	}
	if got := leaf(); got != "door of a node" {
		t.Errorf("its own is of %q", got)
	}
	own := string(c.read.Certificate[0])
	again := &certificates{own: c.own}
	if _, err := again.config(); err != nil || string(again.read.Certificate[0]) != own {
		t.Errorf("it has another one when it starts again: %v", err)
	}
	path := filepath.Join(dir, "theirs.pem")
	c.use(path)
	if _, err := c.config(); err == nil || !strings.Contains(err.Error(), "DSVM_DOOR_CERTIFICATE") {
		t.Errorf("without the file: %v", err)
	}
	writeCertificate(t, path, "first")
	if got := leaf(); got != "first" {
		t.Errorf("it is of %q", got)
	}
	writeCertificate(t, path, "second") // the vault has renewed it
	c.at = c.at.Add(-2 * certAge)
	if got := leaf(); got != "second" {
		t.Errorf("it is of %q", got)
	}
	if err := os.WriteFile(path, []byte("half a"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.at = c.at.Add(-2 * certAge)
	if got := leaf(); got != "second" {
		t.Errorf("while it is written, it is of %q", got)
	}
}

// writeCertificate writes the certificates first and then the key, as the extension for vaults does.
func writeCertificate(t *testing.T, path, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	template.Subject.CommonName = name
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
