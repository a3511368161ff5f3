package main

import (
	_ "embed"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/chromiumtest"
	"dsvmpools/shared/job"
)

// moneyJudge answers the page's questions for usage and budgets with a month of many teams, hostile names, prices
// that are not known and two currencies: window.answers says how.
//
//go:embed testdata/money.js
var moneyJudge string

// TestMoneyPage has a person look at what a month has cost, in a real browser, on a large and a small screen: what an
// instance really says, and then what a large deployment would.
func TestMoneyPage(t *testing.T) {
	if os.Getenv(chromiumtest.Setting) == "" {
		t.Skip(chromiumtest.Setting + " names no Chromium")
	}
	i := startInstance(t, nil)
	axe, err := os.ReadFile(os.Getenv(axeSetting))
	if err != nil && os.Getenv(axeSetting) != "" {
		t.Fatal(err)
	}
	browser := chromiumtest.Start(t)
	p := &tab{browser.Open("about:blank"), t, string(axe)}
	p.Front()
	p.Listens()
	p.screen(1280, 800, "light")
	p.Visit(i.PageURL())
	p.Awaits("Money")
	p.Visit(i.URL + "/money")
	p.Awaits("Nothing was used in")
	p.Awaits("There are no budgets")
	p.judge("nothing used")

	p.seesRealMoney(i)
	p.Eval(moneyJudge)
	p.seesMuchMoney(i)
	for _, said := range p.Said() {
		t.Errorf("the console says: %s", said)
	}
}

// seesRealMoney has jobs cost something, and reads it in the page and in the file.
func (p *tab) seesRealMoney(i *instance) {
	p.t.Helper()
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"min":0,"max":1},"idleTimeout":"10m"}`)
	document, err := json.Marshal(map[string]any{"id": "train-17", "pool": "cpu", "team": "vision", "command": []string{"sleep", "600"}})
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := i.client.Submit(i.ctx, "train-17", document); err != nil {
		p.t.Fatal(err)
	}
	i.until("a running job", func() bool { j, err := i.client.Job(i.ctx, "train-17"); return err == nil && j.State == job.Running })
	if got := p.ask(`api.call('/budgets', {method: 'POST', body: {name: 'vision', scope: {team: 'vision'}, amount: '1000', currency: 'USD'}}).then(a => a.status)`); got != "200" {
		p.t.Fatalf("the budget: %s", got)
	}
	p.Visit(i.URL + "/money?by=team")
	p.Awaits("this month so far, at list prices")
	p.Awaits("team vision")
	p.until("the job's team with less than a cent, and never nothing", `[...document.querySelectorAll('tbody th')].some(th => th.textContent === 'vision' && th.nextSibling.textContent === '< 0.01')`)
	p.until("what nobody used", `[...document.querySelectorAll('tbody th')].some(th => th.textContent === 'not used by jobs')`)
	p.judge("a real month")

	folder := p.t.TempDir()
	p.Do("Page.setDownloadBehavior", chromiumtest.Params{"behavior": "allow", "downloadPath": folder})
	p.Click("main button:not(.plain)")
	name := filepath.Join(folder, "usage-"+time.Now().UTC().Format("2006-01")+"-team.csv")
	var text []byte
	chromiumtest.Patiently(p.t, "the file", func() bool {
		text, err = os.ReadFile(name)
		return err == nil && len(text) > 0
	})
	if first, _, _ := strings.Cut(string(text), "\r\n"); !strings.HasPrefix(first, "day,team,jobs,") || !strings.Contains(string(text), ",vision,1,") {
		p.t.Errorf("the file is\n%s", text)
	}
}

// seesMuchMoney looks from another view at a month of a large deployment, and at one that answers late, not at all, or refuses.
func (p *tab) seesMuchMoney(i *instance) {
	p.t.Helper()
	show := func(how, query string) {
		p.t.Helper()
		p.Eval("answers = '" + how + "'; history.pushState(null, '', '/money?" + query + "'); dispatchEvent(new PopStateEvent('popstate')); 1")
	}
	p.Eval("history.pushState(null, '', '/trouble'); dispatchEvent(new PopStateEvent('popstate')); 1")
	p.until("another view", `document.querySelector('h1').textContent === 'Trouble'`)
	show("much", "by=user&month=x")
	p.Awaits("1204.11 USD")
	p.Awaits("Without a known price: 3 jobs, 5 h of nodes")
	p.Awaits("77.00 EUR")
	p.Awaits(evilName)
	p.Awaits("3 others")
	p.Awaits("Its jobs wait until")
	p.until("the parts", `['Starting', 'Idle', 'Leaving', 'Free beside jobs'].every(w => [...document.querySelectorAll('.facts dt')].some(d => d.textContent === w))`)
	p.until("bars", `document.querySelectorAll('svg.bars rect').length > 50`)
	p.judge("a month")
	p.picture("page-money")
	p.Eval(`document.querySelectorAll('details summary').forEach(s => s.click()); 1`)
	p.until("a table of the same figures", `(t => t && t.tBodies[0].rows.length === 20 && t.tFoot.textContent.endsWith('1204.11'))(document.querySelector('details table'))`)
	p.judge("a month with its tables open")
	if n := p.Eval(`Math.max(asked.usage, asked.budgets) <= polls() ? '' : asked.usage + ' and ' + asked.budgets + ' of ' + polls()`); n != "" {
		p.t.Errorf("the page asks more than once in a minute for usage and budgets: %s", n)
	}
	p.screen(360, 740, "dark")
	p.judge("a month on a phone")
	p.Eval("scrollTo(0, 0); 1")
	p.picture("page-money-phone")
	p.screen(1280, 800, "light")
	show("unknown", "by=size")
	p.Awaits("what nodes cost beside them is not known")
	if shown := p.Eval(`document.querySelector('main').textContent`); strings.Contains(shown, "NaN") || strings.Contains(shown, "undefined") || strings.Contains(shown, "null") {
		p.t.Errorf("the page shows %s", shown)
	}
	p.judge("unknown amounts")
	show("late", "by=pool")
	p.Awaits("Still waiting for what the month has cost")
	p.judge("a late answer")
	show("401", "by=team")
	p.Awaits("Sign in again")
	p.judge("nobody is signed in any more")
	show("503", "by=user")
	p.Awaits("The app is busy")
	p.judge("an error")
}
