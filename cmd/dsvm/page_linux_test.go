package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"min":0,"max":1},"idleTimeout":"10m"}`)
	axe, err := os.ReadFile(os.Getenv(axeSetting))
	if err != nil && os.Getenv(axeSetting) != "" {
		t.Fatal(err)
	}
	browser := chromiumtest.Start(t)
	p := &tab{browser.Open("about:blank"), t, string(axe)}
	p.Front()
	p.Do("Network.enable", chromiumtest.Params{})
	p.Do("Network.setCacheDisabled", chromiumtest.Params{"cacheDisabled": true})
	p.screen(1280, 800, "light")

	p.Visit(i.URL + "/jobs")
	p.Awaits("Sign in to see jobs")
	p.judge("nobody has signed in")
	p.Visit("about:blank")
	p.Listens() // from here on the console stays empty: what comes before is the 401
	p.Visit(i.PageURL())
	p.Awaits("There are no jobs yet")
	p.judge("no jobs")
	p.weigh()

	p.fillJobs(i)
	p.Awaits("its process ended with exit code 3")
	p.Awaits(evilName)
	p.Awaits("1 running · 1 waiting · 0 held")
	p.judge("jobs")
	p.picture("page-jobs")
	p.goesByKeys()
	p.looksIntoJob(i)
	p.isSmall()
	p.cancelsByKeys(i)
	p.seesTrouble()
	if said := p.Said(); len(said) > 0 {
		t.Errorf("the page, or its policy, says\n%s", strings.Join(said, "\n"))
	}
	signsIn(&tab{browser.Open("about:blank"), t, string(axe)}, i)
}

// fillJobs submits jobs of the owner: two have ended, one writes on, one waits for its place.
func (p *tab) fillJobs(i *instance) {
	p.t.Helper()
	owner := p.ask("api.get('/me').then(me => me.name)")
	submit := func(id, name, command string) {
		p.t.Helper()
		document, err := json.Marshal(map[string]any{"id": id, "pool": "cpu", "name": name, "user": owner,
			"command": []string{"sh", "-c", command}, "resources": map[string]any{"cpus": 2}})
		if err != nil {
			p.t.Fatal(err)
		}
		if _, err := i.client.Submit(i.ctx, id, document); err != nil {
			p.t.Fatal(err)
		}
	}
	submit("prepare-1", "prepare", `mkdir -p "$DSVM_OUTPUT/data"; echo '{"rows": 41}' >"$DSVM_OUTPUT/metrics.json"; echo ready`)
	submit("eval-1", "eval", "echo 'no such data' >&2; exit 3")
	i.job("prepare-1")
	i.job("eval-1")
	submit("train-1", "train-17", `seq -f 'step %06.0f' 20000; n=0; while :; do n=$((n+1)); echo "epoch $n </pre><script>alert(1)</script>"; sleep 0.3; done`)
	submit("waits-1", evilName, "true")
	i.until("a job that runs", func() bool { j, err := i.client.Job(i.ctx, "train-1"); return err == nil && j.State == job.Running })
}

// goesByKeys finds a job with the keyboard alone.
func (p *tab) goesByKeys() {
	p.t.Helper()
	p.presses("?")
	p.Awaits("next, previous row")
	p.judge("the list of keys")
	p.presses("Escape")
	p.presses("/")
	p.Do("Input.insertText", chromiumtest.Params{"text": "train"})
	p.until("one row", `document.querySelectorAll('[data-row]').length === 1 && location.search === '?q=train'`)
	p.Eval("document.activeElement.blur()")
	p.presses("j")
	p.until("a row with the focus", `document.activeElement.textContent === 'train-17'`)
	p.presses("Enter")
	p.until("the job's address", `location.pathname === '/jobs/train-1'`)
}

// looksIntoJob looks at a job that writes and at one that waits.
func (p *tab) looksIntoJob(i *instance) {
	p.t.Helper()
	p.Awaits("epoch 2 </pre><script>alert(1)</script>")
	p.Awaits("The first ")
	if lines := p.Eval("document.querySelector('.log').textContent.split('\\n').length"); len(lines) > 4 || lines == "" {
		p.t.Errorf("the page keeps %s lines of 20,000", lines)
	}
	p.until("the end of the log in sight", `(b => b.scrollHeight - b.scrollTop - b.clientHeight < 40)(document.querySelector('.log'))`)
	p.Awaits("Cost so far")
	p.judge("a job that runs")
	p.picture("page-job")
	p.Visit(i.URL + "/jobs/waits-1")
	p.Awaits("Place 1 of 1 in line")
	p.judge("a job that waits")
	p.Visit(i.URL + "/jobs/prepare-1")
	p.Awaits("Outputs")
	p.until("open outputs", `(d => d.open || (d.querySelector('summary').click(), false))(document.querySelector('details'))`)
	p.Awaits("Download metrics.json")
	p.Awaits("data/")
	p.judge("outputs")
	got := p.ask(`api.call('/jobs/prepare-1/files/metrics.json').then(a => a.text())`)
	if !strings.Contains(got, `"rows": 41`) {
		p.t.Errorf("the output is %q", got)
	}
}

// isSmall looks at the page on a phone, in the dark, and enlarged.
func (p *tab) isSmall() {
	p.t.Helper()
	p.screen(360, 740, "dark")
	p.Eval("history.pushState(null, '', '/jobs'); dispatchEvent(new PopStateEvent('popstate'))")
	p.Awaits("train-17")
	p.judge("jobs on a phone")
	p.picture("page-jobs-phone")
	p.Click(`a[href="/jobs/train-1"]`)
	p.Awaits("epoch")
	p.judge("a job on a phone")
	p.picture("page-job-phone")
	p.screen(640, 400, "light") // 1280 by 800 at 200 %
	p.judge("a job at 200 %")
	p.screen(1280, 800, "dark")
	p.judge("a job in the dark")
	p.screen(1280, 800, "light")
}

// cancelsByKeys cancels the job that runs, with the keyboard alone, after having kept it once.
func (p *tab) cancelsByKeys(i *instance) {
	p.t.Helper()
	p.Eval("document.querySelector('button.danger').focus()")
	p.presses("Enter")
	p.Awaits("Cancel train-17?")
	p.judge("the question")
	p.presses("Escape")
	p.until("no question", `!document.querySelector('dialog')`)
	if j, err := i.client.Job(i.ctx, "train-1"); err != nil || j.State != job.Running {
		p.t.Errorf("the job is %s though it was kept (%v)", j.State, err)
	}
	p.Eval("document.querySelector('button.danger').focus()")
	p.presses("Enter")
	p.Awaits("Cancel train-17?")
	p.presses("Tab")
	p.until("the focus on the answer", `document.activeElement.textContent === 'Cancel the job'`)
	p.presses("Enter")
	i.job("train-1")
	p.Awaits("cancelled")
	p.Awaits("This log has ended.")
	p.Click("button:not(.plain):not(.danger)")
	p.until("another job", `location.pathname !== '/jobs/train-1' && location.pathname.startsWith('/jobs/')`)
	p.Awaits("runs train-1 again")
}

// seesTrouble has the deployment not answer, refuse, and answer late: what was there stays, and a sentence says what is wrong.
func (p *tab) seesTrouble() {
	p.t.Helper()
	p.Eval("history.pushState(null, '', '/jobs'); dispatchEvent(new PopStateEvent('popstate'))")
	p.Awaits("prepare")
	before := len(p.Said())
	p.GoesOffline(true)
	p.Eval("dispatchEvent(new KeyboardEvent('keydown', {key: 'x'})); document.dispatchEvent(new Event('visibilitychange'))")
	p.Awaits("The server does not answer")
	p.Awaits("prepare")
	p.judge("no answer")
	p.GoesOffline(false)
	p.until("an answer again", `!document.querySelector('[role=alert]')`)
	p.Forgets(before)
}

// signsIn has ann sign in at the issuer: nothing of her token stays in the browser.
func signsIn(p *tab, i *instance) {
	p.t.Helper()
	p.Front()
	p.screen(1280, 800, "light")
	p.Visit(i.URL + "/jobs?state=failed&who=all")
	p.Click("button.main")
	p.Awaits("Login")
	p.until("a form that is filled in",
		`(of => of.length === 2 && ['ann@example.org', 'secret of ann'].every((text, i) => (of[i].value = text)))(document.querySelectorAll('[name=login], [name=secret]')) && document.readyState === 'complete'`)
	p.Click("button")
	p.Awaits("eval")
	p.Awaits("ann")
	if at := p.Eval("location.pathname + location.search"); at != "/jobs?state=failed&who=all" {
		p.t.Errorf("ann comes back to %s", at)
	}
	if kept := p.Eval("JSON.stringify({...localStorage, ...sessionStorage}) + document.cookie"); strings.Contains(kept, "eyJ") {
		p.t.Error("a token is kept in the browser")
	}
	if got := p.Eval("fetch('/web/api/jobs/eval-1/cancel', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'}).then(a => a.status)"); got != "401" {
		p.t.Errorf("without her token ann's browser may cancel: %s", got)
	}
	p.judge("as ann")
}

// presses presses a key.
func (p *tab) presses(key string) {
	p.t.Helper()
	codes := map[string]int{"Enter": 13, "Escape": 27, "Tab": 9, "/": 191, "?": 191, "j": 74}
	text := key
	switch key {
	case "Enter":
		text = "\r"
	case "Escape", "Tab":
		text = ""
	}
	p.Key(key, codes[key], text, 0)
}

// until waits until an expression is true.
func (p *tab) until(what, expression string) {
	p.t.Helper()
	defer p.TellsOnFailure()
	chromiumtest.Patiently(p.t, what, func() bool { return p.Eval("Boolean("+expression+")") == "true" })
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
}
