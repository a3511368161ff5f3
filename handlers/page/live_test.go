package page

import (
	_ "embed"
	"net/http/httptest"
	"os"
	"testing"

	"dsvmpools/shared/chromiumtest"
)

//go:embed testdata/live.js
var judgeOfLive string

// How often a tab asks, by a clock of the test's own: the table in docs/page.md.
func TestHowOftenAPageAsks(t *testing.T) {
	if os.Getenv(chromiumtest.Setting) == "" {
		t.Skip(chromiumtest.Setting + " names no Chromium")
	}
	t.Parallel()
	p := newPage(t, Config{})
	server := httptest.NewServer(p)
	defer server.Close()
	tab := chromiumtest.Start(t).Open(server.URL + "/other") // no page: nothing else runs there
	tab.Awaits("There is no such page")
	tab.Eval(judgeOfLive)
	said := tab.Eval(`import('/assets/` + p.hash + `/live.js').then(judge).then(w => w.length ? w.join('\n') : 'good', e => 'it broke: ' + e.stack)`)
	if said != "good" {
		t.Errorf("the loop of a page:\n%s", said)
	}
}
