package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvmpools/agent/door"
	localrelay "dsvmpools/local/relay"
	"dsvmpools/shared/chromiumtest"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/relay"
)

// labs is a node with sessions whose JupyterLab browsers reach through a relay.
type labs struct {
	*people
	doors   relay.Doors
	signer  ed25519.PrivateKey
	jupyter string // kind of it
}

// beginLabs begins one whose votes are counted so often.
func beginLabs(t *testing.T, votes time.Duration) *labs {
	t.Helper()
	cfg := sessionConfig(t)
	cfg.SessionVotes = votes
	cfg.Jupyter, cfg.ReportEvery = jupyter(t), 50*time.Millisecond
	const key = "a2V5"
	server, err := localrelay.Start(localrelay.Config{Addr: "127.0.0.1:0",
		Rules: []localrelay.Rule{{Name: relay.RuleListen, Key: key, Listen: true}, {Name: relay.RuleSend, Key: key, Send: true}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	at, err := relay.ParseNamespace("http://" + server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	_, signer, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l := &labs{people: beginPeople(t, cfg), signer: signer, jupyter: protocol.JupyterLab}
	l.doors = relay.Doors{Namespace: at, ListenKey: key, SendKey: key, Ensure: func(_ context.Context, name string, anonymous bool) error {
		_, err := server.Create(name, anonymous)
		return err
	}}
	return l
}

// begin begins a session with a JupyterLab, and waits until it answers.
func (l *labs) begin(n int64, user string, uid int) {
	l.tb.Helper()
	d, err := l.doors.Listen(l.tb.Context(), fmt.Sprintf("lab-%d", n))
	if err != nil {
		l.tb.Fatal(err)
	}
	item := l.session(n, user, uid)
	item.Assign.Memory = 0
	s := item.Assign.Session
	s.Jupyter, s.Door = l.jupyter, &d
	s.TicketKey = base64.StdEncoding.EncodeToString(l.signer.Public().(ed25519.PublicKey))
	l.work(item)
	l.started(n)
}

// login is the address by which a person comes in, once; see signTicket of shared/service.
func (l *labs) login(n int64, user string) string {
	l.tb.Helper()
	body, err := json.Marshal(map[string]any{"s": fmt.Sprintf("S%d", n), "u": user, "e": time.Now().Add(time.Minute).Unix(), "n": rand.Text()})
	if err != nil {
		l.tb.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString
	return l.doors.Login(fmt.Sprintf("lab-%d", n), fmt.Sprintf("S%d", n), text(body)+"."+text(ed25519.Sign(l.signer, body)))
}

// labAt is where JupyterLab is, by an address of login.
func labAt(login string) string {
	at, _, _ := strings.Cut(login, "dsvm/login?")
	return at
}

// lastState is what the node has reported last of a session.
func (l *labs) lastState(n int64) (last protocol.SessionState) {
	l.change(func() {
		if s := lastState(l.reports, n); s != nil {
			last = *s
		}
	})
	return last
}

// state is what the door says of a session.
func (l *labs) state(n int64) (s door.State) {
	l.tb.Helper()
	s.Closed = "it has said nothing"
	text, err := os.ReadFile(filepath.Join(l.cfg.InstanceDir, fmt.Sprintf("doors/%d.state.json", n)))
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil && !os.IsNotExist(err) {
		l.tb.Fatal(err)
	}
	return s
}

// A person opens JupyterLab by a ticket in a real browser, through the relay, and works there.
func TestBrowser(t *testing.T) {
	t.Parallel()
	l := beginLabs(t, 200*time.Millisecond)
	browser := chromiumtest.Start(t)
	l.begin(1, "ann", 200101)
	l.begin(2, "bob", 200102)
	for n := range int64(2) {
		chromiumtest.Patiently(t, "a door that is open", func() bool { return l.state(n+1).Closed == "" })
		l.votes(n+1, "JupyterLab answers", says("kernels", "idle: 0 of 0"))
	}
	login := l.login(1, "ann")
	ann := browser.Open(login)
	ann.Awaits("This opens the session of ann.")
	if hash := ann.Eval("location.hash"); hash != "" {
		t.Errorf("the ticket stays in the address: %s", hash)
	}
	ann.Click("#go")
	ann.Click(`.jp-LauncherCard[data-category="Notebook"]`)
	runs(t, ann, "kept = 6 * 7; print('it', 'is', kept)", "it is 42")
	chromiumtest.Patiently(t, "a WebSocket and input", func() bool { return l.state(1).Jupyter > 0 && !l.state(1).LastInput.IsZero() })

	// A terminal, in another workspace of the Lab.
	key := l.good(1)
	at := labAt(login)
	ann.Visit(at + "lab/workspaces/second")
	ann.Click(`.jp-LauncherCard[data-category="Other"][title*="terminal"]`)
	ann.Click(`.jp-Terminal .xterm-screen`)
	ann.Types("echo typed-$((1+1)) by $(id -un) >terminal.txt", 0)
	chromiumtest.Patiently(t, "what was typed in the terminal", func() bool {
		got, err := l.ssh(1, "ann", key, "cat terminal.txt")
		return err == nil && got == "typed-2 by ann"
	})

	// Once more, and as somebody else.
	again := browser.Open(login)
	again.Awaits("This opens the session of ann.")
	again.Click("#go")
	again.Awaits("this ticket is not valid here, or no more")
	bobs := labAt(l.login(2, "bob"))
	ann2 := l.copyCookie(ann, bobs)
	ann2.Visit(bobs + "lab")
	ann2.Awaits("open this session with `dsvm jupyter`")

	ann.Visit(at + "lab/tree/Untitled.ipynb")
	ann.Click(`.jp-Notebook .cm-content`)
	ann.Do("Page.reload", chromiumtest.Params{})
	runs(t, ann, "print('still', kept)", "still 42")

	// A second tab has the same notebook and kernel.
	second := browser.OpenTab(ann.Profile, at+"lab/workspaces/third/tree/Untitled.ipynb")
	runs(t, second, "print('here', 'too', kept)", "here too 42")

	// A laptop that sleeps, and wakes.
	second.Do("Network.enable", chromiumtest.Params{})
	second.GoesOffline(true)
	chromiumtest.Patiently(t, "a page without a network", func() bool { return second.Eval("fetch('api/status').then(() => 'there', () => 'away')") == "away" })
	second.GoesOffline(false)
	runs(t, second, "print('after', 'all', kept)", "after all 42")

	l.uploads(second, key)
}

// uploads uploads 50 MB, and compares what has come.
func (l *labs) uploads(p *chromiumtest.Page, key string) {
	l.tb.Helper()
	const size = 50 << 20
	content := make([]byte, size)
	rand.Read(content)
	file := filepath.Join(l.dir, "large.bin")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		l.tb.Fatal(err)
	}
	p.Chooses(`.jp-FileBrowser-toolbar [data-jp-item-name="uploader"] *`, file)
	p.Click(`.jp-Dialog .jp-mod-accept`) // it is large, says the Lab
	want := fmt.Sprintf("%x", sha256.Sum256(content))
	chromiumtest.Patiently(l.tb, "50 MB", func() bool {
		got, err := l.ssh(1, "ann", key, "sha256sum large.bin")
		return err == nil && strings.HasPrefix(got, want)
	})
}

// TestTabLeftAlone leaves a tab of JupyterLab alone: it is no vote, whatever it sends, and the
// warning and the end are shown in it. What a person does there is input.
func TestTabLeftAlone(t *testing.T) {
	t.Parallel()
	alone, votes := int64(16), 4*time.Second // a count of its own, since JupyterLab uses some of a processor for each request
	if os.Getenv("DSVM_LONG") != "" {
		alone = 100
	}
	l := beginLabs(t, votes)
	browser := chromiumtest.Start(t)
	l.begin(1, "ann", 200101)
	chromiumtest.Patiently(t, "a door that is open", func() bool { return l.state(1).Closed == "" })
	l.votes(1, "JupyterLab answers", says("kernels", "idle: 0 of 0"))
	login := l.login(1, "ann")
	ann := browser.Open(login)
	ann.Click("#go")
	ann.Click(`.jp-LauncherCard[data-category="Notebook"]`)
	runs(t, ann, "print('it', 'runs')", "it runs")

	// It loads again by itself, and Lab restores, connects and saves what it has.
	ann.Visit(labAt(login) + "lab/tree/Untitled.ipynb")
	saves := `performance.getEntriesByType('resource').filter(e => e.name.includes('lab/api/workspaces/')).length > 1`
	chromiumtest.Patiently(t, "that the place of the windows is saved", func() bool { return ann.Eval(saves) == "true" })
	before := l.state(1).LastInput
	ann.Do("Page.reload", chromiumtest.Params{})
	chromiumtest.Patiently(t, "that it is saved again", func() bool { return ann.Eval(saves) == "true" })
	chromiumtest.Patiently(t, "a session with a tab that is left alone", func() bool {
		s := l.lastState(1)
		return s.Idle >= alone && s.Connections["jupyter"] > 0 && !s.Unknown
	})
	if at := l.state(1).LastInput; !at.Equal(before) {
		t.Errorf("the tab has moved the input from %s to %s", before, at)
	}
	l.work(protocol.WorkItem{N: 2, Warn: &protocol.Warn{Target: 1, EndsIn: 900, Text: "nobody has <used> it"}})
	isTold(t, ann, " min: nobody has <used> it")
	ann.Click("#dsvm-notice button")
	moved := func(what string) {
		t.Helper()
		chromiumtest.Patiently(t, "that it is input: "+what, func() bool {
			asks(ann)
			return l.state(1).LastInput.After(before)
		})
		before = l.state(1).LastInput
	}
	moved("a click at the warning")
	chromiumtest.Patiently(t, "a session in use", func() bool { return l.lastState(1).Idle < alone })
	l.work(protocol.WorkItem{N: 3, Warn: &protocol.Warn{Target: 1}})
	isTold(t, ann, "") // it has gone
	ann.Click(`.jp-Notebook .cm-content`)
	moved("a click at a cell")
	ann.Key("a", 65, "a", 0)
	moved("a key in a cell")
	l.work(cancel(4, 1))
	isTold(t, ann, "This session has ended: asked to")
}

// asks has the script of a page speak with the door at once, as it does when the network comes back,
// and not in some seconds.
func asks(p *chromiumtest.Page) {
	p.Eval("dispatchEvent(new Event('online'))")
}

// isTold waits until a page shows a notice with a text; "" = none.
func isTold(tb testing.TB, p *chromiumtest.Page, text string) {
	tb.Helper()
	chromiumtest.Patiently(tb, fmt.Sprintf("the notice %q", text), func() bool {
		asks(p)
		said := p.Eval("document.querySelector('#dsvm-notice')?.innerText ?? ''")
		return text == "" && said == "" || text != "" && strings.Contains(said, text)
	})
}

// copyCookie gives a page of another browser the cookie of one session under the name of
// another's, as somebody may who has both.
func (l *labs) copyCookie(from *chromiumtest.Page, to string) *chromiumtest.Page {
	l.tb.Helper()
	var all struct {
		Cookies []struct {
			Name  string `json:"name"`
			Value string `json:"value"`
		} `json:"cookies"`
	}
	from.Call(from.Session, "Network.getCookies", chromiumtest.Params{}, &all)
	other := from.Open("about:blank")
	for _, c := range all.Cookies {
		if !strings.HasPrefix(c.Name, "dsvm_") {
			l.tb.Errorf("the browser has a cookie %q, which is JupyterLab's", c.Name)
			continue
		}
		other.Do("Network.setCookie", chromiumtest.Params{"name": "dsvm_lab-2-web", "value": c.Value, "url": to, "secure": true})
		return other
	}
	l.tb.Fatal("the browser has no cookie")
	return nil
}

// runs runs a text in the cell of an open notebook, until its output is there: what is typed
// before the Lab has made the cell is lost.
func runs(tb testing.TB, p *chromiumtest.Page, text, want string) {
	tb.Helper()
	defer p.TellsOnFailure()
	chromiumtest.Patiently(tb, "the output "+want, func() bool {
		// It is looked for first: to run the cell takes the output of its last run away.
		if strings.Contains(p.Eval("document.querySelector('.jp-Notebook')?.innerText ?? ''"), want) {
			return true
		}
		p.Click(`.jp-Notebook .cm-content`)
		if !strings.Contains(p.Eval("document.querySelector('.jp-Notebook .cm-content').innerText"), text) {
			p.Do("Input.dispatchKeyEvent", chromiumtest.Params{"type": "keyDown", "commands": []string{"selectAll"}})
			p.Do("Input.insertText", chromiumtest.Params{"text": text})
			return false
		}
		if !strings.Contains(p.Eval("document.querySelector('.jp-Notebook .jp-InputPrompt').innerText"), "*") {
			p.Key("Enter", 13, "\r", 2) // with Ctrl: runs the cell and stays there
		}
		return false
	})
}
