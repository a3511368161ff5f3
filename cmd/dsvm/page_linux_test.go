package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"dsvmpools/local"
	"dsvmpools/shared/chromiumtest"
	"dsvmpools/shared/job"
)

// Settings of the test of the page: axe.min.js of npm's package axe-core, which judges it, and a folder for the pictures of
// the documentation, "" = none are kept.
const (
	axeSetting      = "DSVM_TEST_AXE"
	picturesSetting = "DSVM_TEST_PICTURES"
)

// firstViewBytes is the most that the first view may bring over the wire.
const firstViewBytes = 60_000

// evilName is a name that would do something if it were ever markup or a script.
const evilName = `<img src=x onerror=alert(1)>"'&{{7*7}}`

// tab is a page of the instance in a browser, as a person uses it.
type tab struct {
	*chromiumtest.Page
	t   *testing.T
	axe string // the text of axe-core; "" = there is none
}

// TestPage has a person use the page in a real browser: what is there, what waits, what runs and what
// has ended, on a large and a small screen, in light and dark, with the keyboard, and as somebody else.
func TestPage(t *testing.T) {
	if os.Getenv(chromiumtest.Setting) == "" {
		t.Skip(chromiumtest.Setting + " names no Chromium")
	}
	people := filepath.Join(t.TempDir(), "people")
	hash, err := bcrypt.GenerateFromPassword([]byte("secret of ann"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(people, fmt.Appendf(nil, "ann@example.org:%s:vision\n", hash), 0o600); err != nil {
		t.Fatal(err)
	}
	i := startInstance(t, nil, func(c *local.Config) { c.Users = people })
	axe, err := os.ReadFile(os.Getenv(axeSetting))
	if err != nil && os.Getenv(axeSetting) != "" {
		t.Fatal(err)
	}
	p := &tab{chromiumtest.Start(t).Open("about:blank"), t, string(axe)}
	p.Front()
	p.Listens()
	p.Do("Network.enable", chromiumtest.Params{})
	p.Do("Network.setCacheDisabled", chromiumtest.Params{"cacheDisabled": true})
	p.screen(1280, 800, "light")

	// Nobody has signed in, then the owner has, and there is nothing yet.
	p.Visit(i.URL + "/jobs")
	p.Awaits("Sign in to see jobs")
	p.judge("signed-out")
	p.Said()
	p.forget()
	p.Visit(i.PageURL())
	p.Awaits("You have no jobs yet")
	p.judge("empty")
	p.weigh()

	owner := p.ask("api.get('/me').then(me => me.name)")
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"min":0,"max":1},"idleTimeout":"10m"}`)
	submit := func(id, name, command string) {
		t.Helper()
		document, err := json.Marshal(map[string]any{"id": id, "pool": "cpu", "name": name, "user": owner, "command": []string{"sh", "-c", command},
			"resources": map[string]any{"cpus": 2}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := i.client.Submit(i.ctx, id, document); err != nil {
			t.Fatal(err)
		}
	}
	submit("prepare-1", "prepare", `mkdir -p "$DSVM_OUTPUT/data"; echo '{"rows": 41}' >"$DSVM_OUTPUT/metrics.json"; echo ready`)
	submit("eval-1", "eval", "echo 'no such data' >&2; exit 3")
	i.job("prepare-1")
	i.job("eval-1")
	submit("train-17", "train-17", `n=0; while :; do n=$((n+1)); echo "epoch $n loss 0.$((999-n))"; sleep 0.3; done`)
	submit("waits-1", evilName, "true")
	p.Awaits("train-17")
	p.Awaits(evilName)
	p.Awaits("running")
	p.judge("jobs")
	p.picture("page-jobs")
	i.until("the end of the test's beginning", func() bool { j, err := i.client.Job(i.ctx, "train-17"); return err == nil && j.State == job.Running })
	_ = time.Second
}

// screen sets the size of the window, in CSS pixels, and the colours.
func (p *tab) screen(width, height int, colours string) {
	p.t.Helper()
	p.Do("Emulation.setDeviceMetricsOverride", chromiumtest.Params{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
	p.Do("Emulation.setEmulatedMedia", chromiumtest.Params{"features": []map[string]string{{"name": "prefers-color-scheme", "value": colours}}})
}

// ask is what an expression says that uses the page's own module api.js.
func (p *tab) ask(expression string) string {
	p.t.Helper()
	return p.Eval(`import(document.querySelector('script[type=module]').src.replace('app.js', 'api.js')).then(api => ` + expression + `)`)
}

func (p *tab) forget() {}

// judge has axe-core look at what is shown, and looks whether it is wider than the window.
func (p *tab) judge(what string) {
	p.t.Helper()
	if wide := p.Eval(`document.documentElement.scrollWidth > innerWidth ? document.documentElement.scrollWidth + ' of ' + innerWidth : ''`); wide != "" {
		p.t.Errorf("%s: the page is wider than the window: %s", what, wide)
	}
	if p.axe == "" {
		return
	}
	p.Eval(p.axe + "; 1")
	found := p.Eval(`axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}).then(r =>
		r.violations.map(v => v.id + ': ' + v.help + ' ' + v.nodes.map(n => n.target + ' ' + n.html).join(' | ')).join('\n') || 'none of ' + r.passes.length)`)
	if !strings.HasPrefix(found, "none of ") {
		p.t.Errorf("%s: axe-core finds\n%s", what, found)
	}
}

// weigh adds up what the page has brought over the wire.
func (p *tab) weigh() {
	p.t.Helper()
	text := p.Eval(`[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')].reduce((n, e) => n + e.transferSize, 0)`)
	var n int
	if _, err := fmt.Sscan(text, &n); err != nil || n < 1000 || n > firstViewBytes {
		p.t.Errorf("the first view brings %s bytes over the wire, want at most %d (%v)", text, firstViewBytes, err)
	}
	p.t.Logf("the first view brings %d bytes over the wire", n)
}

// picture keeps what is shown for the documentation.
func (p *tab) picture(name string) {
	p.t.Helper()
	png := p.Picture(false)
	if folder := os.Getenv(picturesSetting); folder != "" {
		if err := os.WriteFile(filepath.Join(folder, name+".png"), png, 0o644); err != nil {
			p.t.Error(err)
		}
	}
	_ = base64.StdEncoding
}
