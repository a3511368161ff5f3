package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// browserSetting names a Chromium; without it the test of a real browser is
// skipped. `.ci/run` installs one.
const browserSetting = "DSVM_TEST_CHROMIUM"

// evilHost is a site that a stranger has renamed to 127.0.0.1.
const evilHost = "evil.example"

// attackPage tries all that a page can send to a server of another origin without
// being asked, and then says so.
const attackPage = `<!doctype html><body><script>
const targets = TARGETS;
const bodies = [['/api/pools', POOL], ['/SubmitJob', JOB], ['/admin/functions/SubmitJob', JOB], ['/faults', FAULT], ['/dsvmpools/Tables', TABLE], ['/evil', POOL]];
const wait = ms => new Promise(done => setTimeout(done, ms));
const tried = {};
const count = (what, how) => { tried[what] = tried[what] || []; tried[what].push(how); };
async function send(base, path, body, how, options) {
  try {
    const reply = await fetch(base + path, Object.assign({method: 'POST', body}, options));
    count(how, reply.type === 'opaque' ? 'sent' : 'READ ' + base + path + ' ' + reply.status);
  } catch (e) { count(how, 'failed'); }
}
function form(base, path, body) {
  const frame = document.createElement('iframe');
  frame.name = 'f' + Math.random();
  document.body.append(frame);
  const f = document.createElement('form');
  f.method = 'POST'; f.enctype = 'text/plain'; f.action = base + path; f.target = frame.name;
  const field = document.createElement('input');
  field.name = body; field.value = '';
  f.append(field);
  document.body.append(f);
  f.submit();
  count('form', 'sent');
}
function image(url) {
  return new Promise(done => {
    const i = new Image();
    i.onload = () => { count('image', 'READ ' + url); done(); };
    i.onerror = () => { count('image', 'failed'); done(); };
    i.src = url;
  });
}
function socket(url) {
  return new Promise(done => {
    let s;
    try { s = new WebSocket(url, 'amqp'); } catch (e) { count('socket', 'failed'); return done(); }
    s.onopen = () => { count('socket', 'OPEN ' + url); s.close(); done(); };
    s.onerror = () => { count('socket', 'failed'); done(); };
  });
}
(async () => {
  for (const host of ['127.0.0.1', 'localhost', 'EVIL']) for (const port of targets) {
    const base = 'http://' + host + ':' + port;
    for (const [path, body] of bodies) {
      await Promise.all([
        send(base, path, body, 'text', {mode: 'no-cors', headers: {'Content-Type': 'text/plain'}}),
        send(base, path, new Blob([body]), 'blob', {mode: 'no-cors'}),
        send(base, path, body, 'json', {mode: 'cors', headers: {'Content-Type': 'application/json', 'x-functions-key': 'x'}})]);
    }
    form(base, ...bodies[0]);
    form(base, ...bodies[1]);
    navigator.sendBeacon(base + bodies[0][0], bodies[0][1]);
    await image(base + '/api/pools');
    await socket('ws://' + host + ':' + port + '/$servicebus/websocket');
    try { count('read', 'READ ' + base + ' ' + await (await fetch(base + '/api/pools')).text()); } catch (e) { count('read', 'failed'); }
  }
  await wait(500);
  await fetch('/done', {method: 'POST', body: JSON.stringify(tried)});
})();
</script>`

// A page of another site, in a real browser, sends what pages can send to every
// listener, under 127.0.0.1, localhost, and a name of its own that it has renamed to
// 127.0.0.1. Nothing changes, and it reads nothing. A server of the test's own, which
// has no door, shows that all of it does arrive.
func TestWebPage(t *testing.T) {
	browser := os.Getenv(browserSetting)
	if browser == "" {
		t.Skip(browserSetting + " names no Chromium")
	}
	m, _ := startDoors(t)
	var mu sync.Mutex
	arrived := map[string]bool{} // at the server without a door
	open := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		name, _, _ := net.SplitHostPort(r.Host)
		kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
		what := fmt.Sprintf("%s %s %s", name, r.Method, kind)
		if r.Header.Get("Upgrade") != "" {
			what = name + " websocket"
		}
		arrived[what] = true
		if r.Method == "POST" && len(body) > 0 && r.Header.Get("Origin") == "" {
			arrived["a body without an origin"] = true
		}
	}))
	defer open.Close()
	ports := []string{portOf(open.Listener.Addr().String())}
	for _, d := range m.doors() {
		if p := portOf(d.address); !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	quoted := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	page := strings.NewReplacer("TARGETS", quoted(ports), "EVIL", evilHost, "POOL", quoted(evilPool), "FAULT", quoted(`{"do":"refuse","target":"*"}`),
		"TABLE", quoted(`{"TableName":"evil"}`), "JOB", quoted(`{"Data":{"messages":["{\"id\":\"evil\",\"pool\":\"cpu\",\"command\":[\"true\"]}"]},"Metadata":{}}`)).Replace(attackPage)
	done := make(chan map[string][]string, 1)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, page)
		case "/done":
			var tried map[string][]string
			if err := json.NewDecoder(r.Body).Decode(&tried); err != nil {
				t.Error(err)
			}
			done <- tried
		default:
			http.NotFound(w, r)
		}
	}))
	defer site.Close()
	before := m.everything()

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	// It has a folder of its own, no sandbox (it may be run by root), and asks no
	// server of its maker's for anything.
	cmd := exec.CommandContext(
		ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--user-data-dir="+t.TempDir(), "--host-resolver-rules=MAP "+evilHost+" 127.0.0.1",
		"http://"+evilHost+":"+portOf(site.Listener.Addr().String())+"/",
	)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, 5*time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		cmd.Wait()
	}()
	select {
	case tried := <-done:
		for how, outcomes := range tried {
			for _, o := range outcomes {
				// The open server answers like every other one that sets no headers: only what
				// it sends may be opened or read, and that is nothing.
				if strings.HasPrefix(o, "READ") || strings.HasPrefix(o, "OPEN") {
					t.Errorf("%s: %.300s", how, o)
				}
			}
		}
		if len(tried["text"]) == 0 || !slices.Contains(tried["text"], "sent") {
			t.Error("the page could send nothing")
		}
	case <-ctx.Done():
		t.Fatalf("the browser did not finish the page; it says\n%.3000s", said.String())
	}
	mu.Lock()
	for _, name := range []string{"127.0.0.1", "localhost", evilHost} {
		for _, what := range []string{" POST text/plain", " POST ", " GET ", " websocket"} {
			if !arrived[name+what] {
				t.Errorf("the browser has not sent%s to %s, so the test shows nothing; it has sent %v", what, name, arrived)
			}
		}
	}
	if arrived["a body without an origin"] {
		t.Error("this browser sends bodies without saying where they come from; the walls must not rely on Origin alone")
	}
	mu.Unlock()
	if after := m.everything(); after != before {
		t.Errorf("a web page has changed something:\n%s\nwas\n%s", after, before)
	}
}
