package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dsvmpools/shared/wire"
)

// waysPool gives each person a node, which is reached past the relay.
const waysPool = `{"name":"lab","kind":"interactive","sizes":["Standard_D2s_v5"],"nodes":{"max":2},"idleTimeout":"1s",
	"access":["direct"],"sessions":{"resources":{"cpus":2},"jupyter":"off"}}`

// TestPeopleComeDirectly has two people come to their nodes without the relay, by OpenSSH's own
// client, to the end of their sessions.
func TestPeopleComeDirectly(t *testing.T) {
	onlyLong(t)
	t.Parallel()
	i, ann, bob := startPeople(t, waysPool)
	i.connect(ann, bob)
	sessions := map[*laptop]wire.Session{ann: i.sessionOf("ann"), bob: i.sessionOf("bob")}
	if sessions[ann].Node == sessions[bob].Node {
		t.Errorf("both are on node %q", sessions[ann].Node)
	}
	big := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	for l, user := range map[*laptop]string{ann: "ann", bob: "bob"} {
		file := filepath.Join(l.home, "data")
		if err := os.WriteFile(file, []byte(big), 0o600); err != nil {
			t.Fatal(err)
		}
		l.must("", "scp", l.sshArgs(file, "lab.dsvm:data")...)
		l.must(fmt.Sprintf("%s 1048576", user), "ssh", l.sshArgs("lab.dsvm", "echo $(id -un) $(stat -c %s data)")...)
		known, err := os.ReadFile(filepath.Join(l.home, ".dsvm", "lab.dsvm.door"))
		if text := string(known); err != nil || !strings.Contains(text, `"kind":"direct"`) || strings.Contains(text, "wss:") {
			t.Errorf("the ways of %s are %s, %v", user, text, err)
		}
	}
	window := ann.terminal()
	i.until("an open connection", func() bool {
		s := ann.session(sessions[ann].ID)
		return s.Connections["ssh"] == 1 && s.DoorClosed == ""
	})
	if s := ann.session(sessions[ann].ID); s.Relayed != 0 {
		t.Errorf("%d bytes went through the relay", s.Relayed)
	}
	for _, l := range []*laptop{ann, bob} {
		l.must("", os.Args[0], "session", "stop", "lab")
	}
	if err := <-window.gone; err == nil {
		t.Error("ann's window has ended well")
	}
	i.until("a pool that costs nothing, and is closed", func() bool { return len(i.billed()) == 0 })
}

// TestLabsByTheBalancer has two people, each on a node, open JupyterLab at the one address of
// their pool, by TLS: each finds the own files, by whichever node.
func TestLabsByTheBalancer(t *testing.T) {
	t.Parallel()
	jupyter := jupyterUnderTest(t)
	i, ann, bob := startPeople(t, `{"name":"lab","kind":"interactive","sizes":["Standard_D2s_v5"],"nodes":{"max":2},
		"access":["balancer","direct"],"sessions":{"resources":{"cpus":2}}}`, "DSVM_JUPYTER="+jupyter)
	i.connect(ann, bob)
	if a, b := i.sessionOf("ann"), i.sessionOf("bob"); a.Node == b.Node {
		t.Errorf("both are on node %q", a.Node)
	}
	for l, name := range map[*laptop]string{ann: "ann", bob: "bob"} {
		l.must("", "ssh", l.sshArgs("lab.dsvm", "touch file-of-"+name)...)
	}
	hosts := map[string]bool{}
	for l, name := range map[*laptop]string{ann: "ann", bob: "bob"} {
		at, page := i.openByBalancer(l)
		hosts[page.Host] = true
		var files string
		i.until("the JupyterLab of "+name, func() bool { // it may still be starting
			status, body := at.ask(http.MethodGet, page.JoinPath("../../api/contents"), "")
			files = body
			return status == http.StatusOK
		})
		if !strings.Contains(files, `"file-of-`+name+`"`) || strings.Count(files, `"name": "file-of-`) > 1 {
			t.Errorf("the JupyterLab of %s has %s", name, files)
		}
	}
	if len(hosts) != 1 {
		t.Errorf("the pool has the addresses %v", hosts)
	}
}

// TestHubByTheBalancer has a person come to JupyterHub at the one address of their pool, where it
// starts their JupyterLab.
func TestHubByTheBalancer(t *testing.T) {
	t.Parallel()
	jupyter := jupyterUnderTest(t)
	if _, err := exec.LookPath(filepath.Join(filepath.Dir(jupyter), "jupyterhub")); err != nil {
		t.Skip("JupyterHub is not installed beside " + jupyter)
	}
	i, ann, _ := startPeople(t, `{"name":"lab","kind":"interactive","sizes":["Standard_D2s_v5"],"nodes":{"max":1},
		"access":["balancer"],"sessions":{"resources":{"cpus":1},"jupyter":"hub"}}`, "DSVM_JUPYTER="+jupyter)
	i.connect(ann)
	at, page := i.openByBalancer(ann)
	root := page.JoinPath("../..")
	var status int
	var body string
	i.until("the hub, which starts JupyterLab", func() bool {
		status, body = at.ask(http.MethodGet, root.JoinPath("lab"), "")
		return status == http.StatusOK
	})
	i.until("the JupyterLab of ann", func() bool {
		status, body = at.ask(http.MethodGet, root.JoinPath("user/ann/api/status"), "")
		return status == http.StatusOK && strings.Contains(body, "kernels")
	})
	if status, body = at.ask(http.MethodGet, root.JoinPath("hub/home"), ""); status != http.StatusOK || !strings.Contains(body, `id="stop"`) {
		t.Errorf("the hub's page: %d %.500s", status, body)
	}
	for _, path := range []string{"hub/home", "user/ann/lab"} { // without ann's cookie
		if status, body := browseTLS(t).ask(http.MethodGet, root.JoinPath(path), ""); status != http.StatusForbidden {
			t.Errorf("%s of a stranger: %d %.200s", path, status, body)
		}
	}
}

// jupyterUnderTest is the program jupyter; without one the test is skipped.
func jupyterUnderTest(t *testing.T) string {
	t.Helper()
	jupyter := os.Getenv("JUPYTER_UNDER_TEST")
	if jupyter == "" {
		jupyter, _ = exec.LookPath("jupyter")
	}
	if jupyter == "" {
		t.Skip("JupyterLab is not installed; JUPYTER_UNDER_TEST names the program jupyter of a venv")
	}
	return jupyter
}

// openByBalancer is a browser that is in at the balancer of the pool, and the address at which
// it came in.
func (i *instance) openByBalancer(l *laptop) (at tlsBrowser, page *url.URL) {
	i.t.Helper()
	var address string
	i.until("the balancer", func() bool {
		out, err := l.run(os.Args[0], "jupyter", "lab", "--no-browser")
		address = strings.TrimSpace(out)
		return err == nil
	})
	page, err := url.Parse(address)
	if err != nil || page.Scheme != "https" || page.Fragment == "" {
		i.t.Fatalf("the address of %s is %s, %v", l.login, address, err)
	}
	at = browseTLS(i.t)
	if status, body := at.ask(http.MethodPost, page, `{"ticket":"`+page.Fragment+`"}`); status != http.StatusNoContent {
		i.t.Fatalf("the ticket of %s is answered with %d %s", l.login, status, body)
	}
	page.RawQuery = ""
	return at, page
}

// tlsBrowser is a browser that keeps cookies and takes any certificate, as a person does who is asked.
type tlsBrowser struct {
	t testing.TB
	*http.Client
}

func browseTLS(t testing.TB) tlsBrowser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.CloseIdleConnections)
	return tlsBrowser{t, &http.Client{Jar: jar, Transport: transport}}
}

func (b tlsBrowser) ask(method string, at *url.URL, body string) (int, string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, at.String(), strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Origin", "https://"+at.Host)
	reply, err := b.Do(r)
	if err != nil {
		return 0, err.Error() // the balancer may be changed at this moment
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		return 0, err.Error()
	}
	return reply.StatusCode, string(text)
}
