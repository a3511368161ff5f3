// Package chromiumtest has a real Chromium do what people do with a page, for the tests of several packages. It is
// told what to do by the DevTools protocol (chromedevtools.github.io/devtools-protocol).
package chromiumtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// Setting names a Chromium; without it the tests of a browser are skipped. `.ci/run` installs one.
const Setting = "DSVM_TEST_CHROMIUM"

// Browser is a browser under test.
type Browser struct {
	tb     testing.TB
	socket *websocket.Conn
	last   int
	// chooser is the choice of a file that a page has asked for; 0 = none.
	chooser int
	// said is what pages have written to the console and what was thrown in them, by session.
	said map[string][]string
}

// Page is a page of a browser.
type Page struct {
	*Browser
	Session string
	Profile string // pages of one profile share their cookies
}

// Start starts the browser that Setting names, and ends it with the test.
func Start(tb testing.TB) *Browser {
	tb.Helper()
	program := os.Getenv(Setting)
	if program == "" {
		tb.Skip(Setting + " names no Chromium")
	}
	dir, err := os.MkdirTemp("", "chromium")
	if err != nil {
		tb.Fatal(err)
	}
	// It has no sandbox (it may be run by root), and asks no server of its maker's for anything.
	cmd := exec.Command(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--window-size=1400,900", "--remote-debugging-port=0", "--user-data-dir="+dir, "about:blank")
	var said buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, 5*time.Second
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		os.RemoveAll(dir)
	})
	var address string
	Patiently(tb, "the browser's port", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "DevToolsActivePort"))
		port, path, isWhole := strings.Cut(strings.TrimSpace(string(text)), "\n")
		address = "ws://127.0.0.1:" + port + path
		return err == nil && isWhole
	})
	socket, _, err := websocket.Dial(tb.Context(), address, nil)
	if err != nil {
		tb.Fatalf("%v; the browser says\n%.2000s", err, said.String())
	}
	socket.SetReadLimit(-1)
	return &Browser{tb: tb, socket: socket, said: map[string][]string{}}
}

// Patiently waits for what a browser does on a machine that is busy.
func Patiently(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("waited in vain for %s", what)
		}
	}
}

// Call calls a method, and reads its result. Leaving a page is agreed to.
func (c *Browser) Call(session, method string, params, result any) {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(c.tb.Context(), time.Minute)
	defer cancel()
	send := func(method string, params any) int {
		c.last++
		m := map[string]any{"id": c.last, "method": method, "params": params}
		if session != "" {
			m["sessionId"] = session
		}
		if err := wsjson.Write(ctx, c.socket, m); err != nil {
			c.tb.Fatalf("%s: %v", method, err)
		}
		return c.last
	}
	for id := send(method, params); ; {
		var m struct {
			ID      int             `json:"id"`
			Session string          `json:"sessionId"`
			Method  string          `json:"method"`
			Params  json.RawMessage `json:"params"`
			Result  json.RawMessage `json:"result"`
			Error   *struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		if err := wsjson.Read(ctx, c.socket, &m); err != nil {
			c.tb.Fatalf("%s: %v", method, err)
		}
		switch {
		case m.Method == "Page.javascriptDialogOpening":
			send("Page.handleJavaScriptDialog", map[string]any{"accept": true})
		case m.Method == "Page.fileChooserOpened":
			var chooser struct {
				Node int `json:"backendNodeId"`
			}
			if err := json.Unmarshal(m.Params, &chooser); err != nil {
				c.tb.Fatal(err)
			}
			c.chooser = chooser.Node
		case isSaying(m.Method):
			c.said[m.Session] = append(c.said[m.Session], m.Method+" "+string(m.Params))
		case m.ID != id:
		case m.Error != nil && method == "Runtime.evaluate": // the page is on its way to another: there is no value
			return
		case m.Error != nil:
			c.tb.Fatalf("%s: %s", method, m.Error.Message)
		case result != nil:
			if err := json.Unmarshal(m.Result, result); err != nil {
				c.tb.Fatal(err)
			}
			return
		default:
			return
		}
	}
}

// Params are the parameters of a method.
type Params map[string]any

// Open opens a page of a profile of its own, without any cookie.
func (c *Browser) Open(address string) *Page {
	c.tb.Helper()
	var profile struct {
		ID string `json:"browserContextId"`
	}
	c.Call("", "Target.createBrowserContext", Params{}, &profile)
	return c.OpenTab(profile.ID, address)
}

// OpenTab opens another page of a profile.
func (c *Browser) OpenTab(profile, address string) *Page {
	c.tb.Helper()
	var target struct {
		ID string `json:"targetId"`
	}
	c.Call("", "Target.createTarget", Params{"url": "about:blank", "browserContextId": profile}, &target)
	var attached struct {
		ID string `json:"sessionId"`
	}
	c.Call("", "Target.attachToTarget", Params{"targetId": target.ID, "flatten": true}, &attached)
	p := &Page{c, attached.ID, profile}
	p.Do("Page.enable", Params{})
	// Only a page that believes that somebody looks at it takes keys and draws what it shows.
	p.Do("Emulation.setFocusEmulationEnabled", Params{"enabled": true})
	p.Visit(address)
	return p
}

// Do calls a method of the page that has no result.
func (p *Page) Do(method string, params Params) {
	p.tb.Helper()
	p.Call(p.Session, method, params, nil)
}

// Visit goes to an address.
func (p *Page) Visit(address string) {
	p.tb.Helper()
	p.Do("Page.navigate", Params{"url": address})
}

// Eval is what an expression of JavaScript says as a text; "" while it fails.
func (p *Page) Eval(expression string) string {
	p.tb.Helper()
	var out struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
	}
	p.Call(p.Session, "Runtime.evaluate", Params{"expression": expression, "returnByValue": true, "awaitPromise": true}, &out)
	if out.Result.Value == nil {
		return ""
	}
	return fmt.Sprint(out.Result.Value)
}

// Awaits waits until a page has a text.
func (p *Page) Awaits(text string) {
	p.tb.Helper()
	defer p.TellsOnFailure()
	Patiently(p.tb, fmt.Sprintf("%q in the page", text), func() bool {
		return strings.Contains(p.Eval("document.body.innerText"), text)
	})
}

// TellsOnFailure says what a page shows, if the test has failed.
func (p *Page) TellsOnFailure() {
	if p.tb.Failed() {
		p.tb.Logf("the page is at %s and says\n%.2000s", p.Eval("location.href"), p.Eval("document.body.innerText"))
	}
}

// Click clicks at the first visible element of a selector, when there is one.
func (p *Page) Click(selector string) {
	p.tb.Helper()
	var at string
	Patiently(p.tb, selector+"; the page is "+p.Eval("location.href"), func() bool {
		at = p.Eval(fmt.Sprintf(`(() => { const e = [...document.querySelectorAll(%q)].find(e => e.offsetParent !== null && !e.disabled);
			if (!e) return ''; e.scrollIntoView({block: 'nearest'}); const r = e.getBoundingClientRect();
			return r.width ? (r.x + r.width / 2) + ' ' + (r.y + r.height / 2) : '' })()`, selector))
		return at != ""
	})
	var x, y float64
	if _, err := fmt.Sscan(at, &x, &y); err != nil {
		p.tb.Fatal(err)
	}
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		p.Do("Input.dispatchMouseEvent", Params{"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1})
	}
}

// Chooses clicks at what asks for a file, and gives it one.
func (p *Page) Chooses(selector, file string) {
	p.tb.Helper()
	p.Do("Page.setInterceptFileChooserDialog", Params{"enabled": true})
	p.chooser = 0
	Patiently(p.tb, "the choice of a file", func() bool {
		p.Click(selector)
		return p.Eval("1") != "" && p.chooser != 0
	})
	p.Do("DOM.setFileInputFiles", Params{"files": []string{file}, "backendNodeId": p.chooser})
}

// GoesOffline takes the network from a page, as a laptop that sleeps does, or gives it back.
func (p *Page) GoesOffline(isOffline bool) {
	p.tb.Helper()
	p.Do("Network.emulateNetworkConditions", Params{"offline": isOffline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1})
}

// Types types a text and Enter, with Shift (8) or without (0).
func (p *Page) Types(text string, modifiers int) {
	p.tb.Helper()
	p.Do("Input.insertText", Params{"text": text})
	p.Key("Enter", 13, "\r", modifiers)
}

// Key presses a key; text is what it types, "" = nothing.
func (p *Page) Key(key string, code int, text string, modifiers int) {
	p.tb.Helper()
	event := Params{"type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
	if text != "" {
		event["text"] = text
	}
	p.Do("Input.dispatchKeyEvent", event)
	p.Do("Input.dispatchKeyEvent", Params{"type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers})
}

// Listens has the browser keep what the page writes to its console.
func (p *Page) Listens() {
	p.tb.Helper()
	p.Do("Runtime.enable", Params{})
	p.Do("Log.enable", Params{})
}

// Front brings the page before the others.
func (p *Page) Front() {
	p.tb.Helper()
	p.Do("Page.bringToFront", Params{})
}

// Said is what the page has written to its console, what was thrown in it, and what the browser has said of it, such as what
// its policy forbids. Listens comes first.
func (p *Page) Said() []string {
	p.tb.Helper()
	p.Eval("1") // what was said before comes before the answer
	return p.said[p.Session]
}

// Forgets forgets what was said after the first n.
func (p *Page) Forgets(n int) {
	p.tb.Helper()
	p.Eval("1")
	p.said[p.Session] = p.said[p.Session][:n]
}

func isSaying(method string) bool {
	return method == "Runtime.consoleAPICalled" || method == "Runtime.exceptionThrown" || method == "Log.entryAdded"
}

// Picture is the page as PNG: all of it, or what is in the window.
func (p *Page) Picture(isWhole bool) []byte {
	p.tb.Helper()
	var out struct{ Data []byte }
	p.Call(p.Session, "Page.captureScreenshot", Params{"format": "png", "captureBeyondViewport": isWhole}, &out)
	return out.Data
}

// buffer is what the browser writes, which may be read meanwhile.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(piece []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(piece)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
