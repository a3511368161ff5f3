package main

import (
	"encoding/json"
	"os"
	"testing"

	"dsvmpools/shared/chromiumtest"
	"dsvmpools/shared/job"
)

// TestPoolPage has a person look at pools, at what nodes did, at a node with its job, and at what is
// in trouble, in a real browser, on a large and a small screen.
func TestPoolPage(t *testing.T) {
	if os.Getenv(chromiumtest.Setting) == "" {
		t.Skip(chromiumtest.Setting + " names no Chromium")
	}
	i := startInstance(t, nil)
	axe, err := os.ReadFile(os.Getenv(axeSetting))
	if err != nil && os.Getenv(axeSetting) != "" {
		t.Fatal(err)
	}
	p := &tab{Page: chromiumtest.Start(t).Open("about:blank"), t: t, axe: string(axe)}
	p.Front()
	p.Listens()
	p.screen(1280, 800, "light")
	p.Visit(i.PageURL())
	p.Awaits("Trouble")
	p.Visit(i.URL + "/pools")
	p.Awaits("There are no pools yet")
	p.judge("no pools")
	p.Visit(i.URL + "/trouble")
	p.Awaits("Nothing needs a person now")
	p.judge("no trouble")

	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"min":0,"max":1},"idleTimeout":"10m"}`)
	document, err := json.Marshal(map[string]any{"id": "train-17", "pool": "cpu", "name": evilName, "command": []string{"sleep", "600"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.client.Submit(i.ctx, "train-17", document); err != nil {
		t.Fatal(err)
	}
	i.until("a running job", func() bool { j, err := i.client.Job(i.ctx, "train-17"); return err == nil && j.State == job.Running })
	p.Visit(i.URL + "/jobs") // the job is of nobody: the owner sees it nevertheless
	p.Awaits(evilName)
	p.Awaits("everybody's are shown")
	p.Eval(`(s => { s.value = 'mine'; s.dispatchEvent(new Event('change')) })([...document.querySelectorAll('select')].pop()); 1`)
	p.Awaits("You have no jobs yet")
	p.Visit(i.URL + "/pools")
	p.Awaits("1 busy")
	p.judge("pools")
	p.Visit(i.URL + "/pools/cpu")
	p.Awaits("Nodes now")
	p.Awaits("The same in a table")
	p.Eval(`document.querySelector('details summary').click(); 1`)
	p.Awaits("starting")
	p.judge("a pool")
	p.picture("page-pool")
	p.Eval(`[...document.querySelectorAll('th button')].find(b => b.textContent.includes('cpu')).click(); 1`)
	p.Awaits(evilName)
	p.judge("a node")
	p.Eval(`[...document.querySelectorAll('dialog button')].find(b => b.textContent.startsWith('Drain')).click(); 1`)
	p.Awaits("It takes no more jobs")
	p.judge("the dialog of draining")
	p.Eval(`[...document.querySelectorAll('dialog button')].find(b => b.textContent === 'Drain it').click(); 1`)
	p.Awaits("drain is asked for")
	i.until("a draining node", func() bool {
		nodes, err := i.client.Nodes(i.ctx, "cpu")
		return err == nil && len(nodes) == 1 && nodes[0].State == "draining"
	})
	p.screen(360, 740, "dark")
	p.Visit(i.URL + "/pools/cpu")
	p.Awaits("leaves when its jobs end")
	p.judge("a pool on a phone")
	p.picture("page-pool-phone")
	for _, said := range p.Said() {
		t.Errorf("the console says: %s", said)
	}
}
