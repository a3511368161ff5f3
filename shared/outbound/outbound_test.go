package outbound

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
)

// addresses are such that lead elsewhere than into the Internet, and such that do.
var addresses = map[string]bool{
	"127.0.0.1": true, "127.255.255.254": true, "0.0.0.0": true, "0.1.2.3": true, "10.0.0.1": true, "10.255.255.255": true, "100.64.0.1": true, "100.127.255.255": true,
	"169.254.169.254": true, "169.254.0.1": true, "172.16.0.1": true, "172.31.255.255": true, "192.168.0.1": true, "192.0.0.8": true, "192.0.2.1": true, "198.18.0.1": true,
	"198.19.255.255": true, "198.51.100.1": true, "203.0.113.1": true, "224.0.0.1": true, "239.255.255.255": true, "240.0.0.1": true, "255.255.255.255": true,
	"168.63.129.16": true, "192.88.99.1": true,
	"::": true, "::1": true, "fe80::1": true, "fe80::1%eth0": true, "fec0::1": true, "fc00::1": true, "fd00:ec2::254": true, "ff02::1": true, "2001:db8::1": true, "2001::1": true,
	"::ffff:127.0.0.1": true, "::ffff:169.254.169.254": true, "::ffff:10.1.2.3": true, "::127.0.0.1": true, "::10.0.0.1": true, "64:ff9b::7f00:1": true, "64:ff9b::a9fe:a9fe": true,
	"64:ff9b:1::1": true, "2002:7f00:1::1": true, "2002:a9fe:a9fe::1": true, "2001:0:4136:e378:8000:63bf:3fff:fdd2": true, "3fff::1": true, "100::1": true, "5f00::1": true, "4000::1": true,

	"1.1.1.1": false, "8.8.8.8": false, "100.63.255.255": false, "100.128.0.1": false, "172.15.255.255": false, "172.32.0.1": false, "192.167.255.255": false, "11.0.0.1": false,
	"223.255.255.255": false, "140.82.121.4": false, "2606:50c0:8000::153": false, "2a00:1450:4001:81b::200e": false, "::ffff:8.8.8.8": false, "64:ff9b::808:808": false,
	"2002:808:808::1": false, "168.63.129.15": false, "169.253.255.255": false, "128.0.0.1": false,
}

func TestPrivate(t *testing.T) {
	t.Parallel()
	for text, want := range addresses {
		if got := Private(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
		if err := (Guard{}).Check(text); (err != nil) != want {
			t.Errorf("%s: got %v", text, err)
		}
	}
	if !Private(netip.Addr{}) {
		t.Error("no address at all is public")
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	g, err := Parse(" git.corp.example , *.Lab.example, 10.1.0.0/16, 192.168.7.9,[fd00::1], fd12::/16,, ")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		host, address string
		want          bool
	}{
		{"git.corp.example", "10.9.9.9", true}, {"GIT.corp.example.", "127.0.0.1", true}, {"x.git.corp.example", "10.9.9.9", false}, {"evilgit.corp.example", "10.9.9.9", false},
		{"a.lab.example", "172.16.0.1", true}, {"a.b.LAB.example", "172.16.0.1", true}, {"lab.example", "172.16.0.1", false}, {"evillab.example", "172.16.0.1", false},
		{"a.lab.example.evil.test", "172.16.0.1", false}, {"any.test", "10.1.2.3", true}, {"any.test", "10.2.2.3", false}, {"any.test", "::ffff:10.1.2.3", true},
		{"any.test", "192.168.7.9", true}, {"any.test", "192.168.7.8", false}, {"any.test", "fd00::1", true}, {"any.test", "fd00::2", false}, {"any.test", "fd12::9", true},
		{"any.test", "8.8.8.8", true}, {"any.test", "169.254.169.254", false},
	} {
		if got := g.Allows(test.host, netip.MustParseAddr(test.address)); got != test.want {
			t.Errorf("%s at %s: got %v, want %v", test.host, test.address, got, test.want)
		}
	}
	for host, want := range map[string]bool{"localhost": false, "LOCALHOST.": false, "a.localhost": false, "127.1": false, "0x7f000001": false, "2130706433": false, "0177.0.0.1": false,
		"[::1]": false, "": false, "a:b": false, "a b": false, "git.corp.example": true, "github.com": true, "10.1.0.1": true, "10.2.0.1": false, "sub_domain.test": true} {
		if err := g.Check(host); (err == nil) != want {
			t.Errorf("%q: got %v, want %v", host, err, want)
		}
	}
	here, err := Parse("localhost")
	if err != nil || here.Check("localhost") != nil || here.Check("127.0.0.1") == nil {
		t.Errorf("localhost by its name: %v", err)
	}
	if here, err = Parse("127.0.0.0/8"); err != nil || here.Check("localhost") != nil {
		t.Errorf("localhost by its network: %v", err)
	}
	for _, text := range []string{"https://git.example", "git.example:443", "10.0.0.0/33", "*", "*.*.a", "a b", "fe80::1%eth0", "127.1", "-a", "a/b", "..", "*.1", strings.Repeat("a,", 101), strings.Repeat("a", 64)} {
		if _, err := Parse(text); fault.CodeOf(err) != fault.Invalid || !strings.Contains(fmt.Sprint(err), Setting) {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

// listen serves a text on an address of this machine.
func listen(t *testing.T, address string, handler http.Handler) *httptest.Server {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("this machine has no address %s: %v", address, err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: handler}}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })

func parsed(t *testing.T, text string) Guard {
	t.Helper()
	g, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func refused(err error) bool {
	var r *RefusedError
	return errors.As(err, &r)
}

// TestClient: an address is judged when it is connected to, whatever its name was.
func TestClient(t *testing.T) {
	t.Parallel()
	s := listen(t, "127.0.0.1:0", hello)
	port := strings.TrimPrefix(s.URL, "http://127.0.0.1")
	get := func(g Guard, address string) (string, error) {
		c := g.Client()
		c.Transport.(*transport).proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
		r, err := c.Get(address)
		if err != nil {
			return "", err
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		return string(text), err
	}
	for _, url := range []string{s.URL, "http://localhost" + port, "http://[::ffff:127.0.0.1]" + port} {
		if text, err := get(Guard{}, url); !refused(err) {
			t.Errorf("%s: got %q, %v", url, text, err)
		}
	}
	if text, err := get(parsed(t, "localhost"), "http://localhost"+port); err != nil || text != "hello" {
		t.Errorf("a host that is named: got %q, %v", text, err)
	}
	if text, err := get(parsed(t, "localhost"), s.URL); !refused(err) {
		t.Errorf("its address by another name: got %q, %v", text, err)
	}
	if text, err := get(parsed(t, "127.0.0.1"), "http://localhost"+port); err != nil || text != "hello" {
		t.Errorf("an address that is named: got %q, %v", text, err)
	}
	// A redirect is the caller's to follow, and goes through the same check.
	away := listen(t, "127.0.0.1:0", http.RedirectHandler(s.URL, http.StatusFound))
	c := parsed(t, "127.0.0.1").Client()
	r, err := c.Get(away.URL)
	if err != nil || r.StatusCode != http.StatusFound {
		t.Errorf("a redirect: got %v, %v", r, err)
	}
}

// TestClientByProxy: a proxy connects, so names are its own to judge; an address by
// itself is not sent to it.
func TestClientByProxy(t *testing.T) {
	t.Parallel()
	var asked []string
	proxy := listen(t, "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		io.WriteString(w, "by proxy")
	}))
	at, _ := url.Parse(proxy.URL)
	c := Guard{}.Client()
	by := c.Transport.(*transport)
	by.proxy = func(*http.Request) (*url.URL, error) { return at, nil }
	by.through.Proxy = http.ProxyURL(at)
	for url, want := range map[string]bool{"http://git.example.test/": true, "http://127.0.0.1:1/": false, "http://169.254.169.254/metadata": false, "http://localhost/": false} {
		r, err := c.Get(url)
		if err == nil {
			r.Body.Close()
		}
		if (err == nil) != want || err != nil && !refused(err) {
			t.Errorf("%s: got %v", url, err)
		}
	}
	if len(asked) != 1 {
		t.Errorf("the proxy was asked for %v", asked)
	}
}

func direct(*url.URL) (*url.URL, error) { return nil, nil }

// opened is a gate, and a client that goes through it.
func opened(t *testing.T, guard Guard, upstream func(*url.URL) (*url.URL, error)) (*Gate, *http.Client) {
	t.Helper()
	g, err := Open(guard, upstream)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	at, err := url.Parse(g.URL())
	if err != nil {
		t.Fatal(err)
	}
	return g, &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyURL(at), DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func TestGate(t *testing.T) {
	t.Parallel()
	s := listen(t, "127.0.0.1:0", hello)
	tls := httptest.NewTLSServer(hello)
	t.Cleanup(tls.Close)
	for name, test := range map[string]struct {
		guard Guard
		url   string
		want  bool
	}{
		"plain": {parsed(t, "127.0.0.1"), s.URL, true}, "plain, refused": {Guard{}, s.URL, false},
		"tunnel": {parsed(t, "127.0.0.0/8"), tls.URL, true}, "tunnel, refused": {Guard{}, tls.URL, false},
		"metadata": {Guard{}, "http://169.254.169.254/metadata/instance", false}, "by name": {Guard{}, strings.Replace(tls.URL, "127.0.0.1", "localhost", 1), false},
	} {
		g, c := opened(t, test.guard, direct)
		c.Transport.(*http.Transport).TLSClientConfig = tls.Client().Transport.(*http.Transport).TLSClientConfig
		r, err := c.Get(test.url)
		text := ""
		if err == nil {
			body, _ := io.ReadAll(r.Body)
			text = string(body)
			r.Body.Close()
		}
		if kept := g.Take(); (text == "hello") != test.want || refused(kept) == test.want {
			t.Errorf("%s: got %q, %v; kept %v", name, text, err, kept)
		}
		if kept := g.Take(); kept != nil {
			t.Errorf("%s: told twice: %v", name, kept)
		}
	}
}

// TestGateHasKey: without the key nothing is connected to.
func TestGateHasKey(t *testing.T) {
	t.Parallel()
	reached := false
	s := listen(t, "127.0.0.1:0", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	g, _ := opened(t, parsed(t, "127.0.0.1"), direct)
	for _, user := range []*url.Userinfo{nil, url.UserPassword("gate", "guess"), url.UserPassword("gate", ""), url.User("gate")} {
		c := &http.Client{
			Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", User: user, Host: g.listener.Addr().String()})},
		}
		r, err := c.Get(s.URL)
		if err != nil || r.StatusCode != http.StatusProxyAuthRequired || reached {
			t.Errorf("%v: got %v, %v", user, r, err)
		}
	}
	r, err := http.Get("http://" + g.listener.Addr().String() + "/")
	if err != nil || r.StatusCode != http.StatusProxyAuthRequired {
		t.Errorf("as a page: got %v, %v", r, err)
	}
}

// TestGateByProxy: behind a proxy, the gate hands on to it what is no private address
// by itself.
func TestGateByProxy(t *testing.T) {
	t.Parallel()
	var asked []string
	proxy := listen(t, "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.Host+" "+r.Header.Get("Proxy-Authorization"))
		w.WriteHeader(http.StatusTeapot)
	}))
	at, _ := url.Parse(strings.Replace(proxy.URL, "http://", "http://ann:pass@", 1))
	g, c := opened(t, Guard{}, func(*url.URL) (*url.URL, error) { return at, nil })
	if _, err := c.Get("https://git.example.test/"); err == nil {
		t.Error("the proxy's refusal was taken for a connection")
	}
	if kept := g.Take(); kept == nil || !strings.Contains(kept.Error(), "the proxy answers 418") {
		t.Errorf("kept %v", kept)
	}
	for _, url := range []string{"https://10.0.0.1/", "https://localhost/", "http://169.254.169.254/x", "https://[::1]/"} {
		c.Get(url)
		if kept := g.Take(); !refused(kept) {
			t.Errorf("%s: kept %v", url, kept)
		}
	}
	if want := "CONNECT git.example.test:443 Basic YW5uOnBhc3M="; len(asked) != 1 || asked[0] != want {
		t.Errorf("the proxy was asked %q, want %q", asked, want)
	}
	away, _ := url.Parse("socks5://127.0.0.1:1")
	g, c = opened(t, Guard{}, func(*url.URL) (*url.URL, error) { return away, nil })
	c.Get("https://git.example.test/")
	if kept := g.Take(); kept == nil || !strings.Contains(kept.Error(), "HTTPS_PROXY") {
		t.Errorf("kept %v", kept)
	}
}

// TestGateCloses: what goes through a gate ends with it.
func TestGateCloses(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	met := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			met <- c
		}
	}()
	g, _ := opened(t, parsed(t, "127.0.0.1"), direct)
	c, err := net.Dial("tcp", g.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	at, _ := url.Parse(g.URL())
	password, _ := at.User.Password()
	r := &http.Request{Method: "CONNECT", URL: &url.URL{Opaque: l.Addr().String()}, Host: l.Addr().String(), Header: http.Header{}}
	r.SetBasicAuth("gate", password)
	r.Header.Set("Proxy-Authorization", r.Header.Get("Authorization"))
	if err := r.Write(c); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), r)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("got %v, %v", answer, err)
	}
	there := <-met
	defer there.Close()
	g.Close()
	there.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := there.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the connection outlives the gate: %v", err)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "localhost", "::1"} {
		if a, err := (Guard{}).Lookup(t.Context(), host); !refused(err) {
			t.Errorf("%s: got %v, %v", host, a, err)
		}
	}
	if a, err := parsed(t, "localhost").Lookup(t.Context(), "localhost"); err != nil || !a.IsLoopback() {
		t.Errorf("got %v, %v", a, err)
	}
	if a, err := (Guard{}).Lookup(t.Context(), "8.8.8.8"); err != nil || a.String() != "8.8.8.8" {
		t.Errorf("got %v, %v", a, err)
	}
}

// FuzzPrivate: however an IPv4 address is written into one of IPv6, it stays what it is,
// and what the standard library knows to be private is.
func FuzzPrivate(f *testing.F) {
	for text := range addresses {
		f.Add(netip.MustParseAddr(text).AsSlice())
	}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		a, ok := netip.AddrFromSlice(bytes)
		if !ok {
			return
		}
		u := a.Unmap()
		if (u.IsLoopback() || u.IsPrivate() || u.IsMulticast() || u.IsLinkLocalUnicast() || u.IsUnspecified()) && !Private(a) {
			t.Fatalf("%v is public", a)
		}
		if u.Is4() {
			four := u.As4()
			for _, in := range []netip.Addr{netip.AddrFrom16(u.As16()), netip.AddrFrom16([16]byte{0: 0, 1: 0x64, 2: 0xff, 3: 0x9b, 12: four[0], 13: four[1], 14: four[2], 15: four[3]}),
				netip.AddrFrom16([16]byte{0: 0x20, 1: 2, 2: four[0], 3: four[1], 4: four[2], 5: four[3]})} {
				if Private(in) != Private(u) {
					t.Fatalf("%v is %v, and in %v %v", u, Private(u), in, Private(in))
				}
			}
		}
	})
}

// FuzzParse: whatever the setting says, the metadata address is open only to who names
// it, and a host passes Check only when it would pass as an address.
func FuzzParse(f *testing.F) {
	f.Add("localhost,*.a.example,10.0.0.0/8", "localhost")
	f.Add("[::1]", "0x7f.1")
	f.Add("::ffff:1.2.3.4/100", "1.2.3.4")
	f.Fuzz(func(t *testing.T, text, host string) {
		g, err := Parse(text)
		if err != nil {
			if fault.CodeOf(err) != fault.Invalid {
				t.Fatalf("got %v", err)
			}
			return
		}
		if a, err := netip.ParseAddr(host); err == nil && (g.Check(host) == nil) != g.Allows(host, a) {
			t.Fatalf("%s passes by one way alone", host)
		}
		if !strings.Contains(text, "/") && !strings.Contains(text, ":") && !strings.Contains(text, "169.254.169.254") &&
			g.Allows("x.test", netip.MustParseAddr("169.254.169.254")) &&
			!strings.Contains(strings.ToLower(text), "test") {
			t.Fatalf("%q opens the metadata address", text)
		}
	})
}
