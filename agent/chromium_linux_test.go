package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// chromium is a browser under test, which is told what to do by the DevTools protocol
// (chromedevtools.github.io/devtools-protocol).
type chromium struct {
	tb     testing.TB
	socket *websocket.Conn
	last   int
	// chooser is the choice of a file that a page has asked for; 0 = none.
	chooser int
}

// page is a page of a browser.
type page struct {
	*chromium
	session string
	profile string // pages of one profile share their cookies
}

// startChromium starts the browser that DSVM_TEST_CHROMIUM names, and ends it with the test.
func startChromium(tb testing.TB) *chromium {
	tb.Helper()
	program := os.Getenv("DSVM_TEST_CHROMIUM")
	if program == "" {
		tb.Skip("DSVM_TEST_CHROMIUM names no Chromium")
	}
	dir, err := os.MkdirTemp("", "chromium")
	if err != nil {
		tb.Fatal(err)
	}
	// It has no sandbox (it may be run by root), and asks no server of its maker's for anything.
	cmd := exec.Command(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--window-size=1400,900", "--remote-debugging-port=0", "--user-data-dir="+dir, "about:blank")
	var said lockedBuffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &said, &said, 5*time.Second
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(dir)
	})
	var address string
	patiently(tb, "the browser's port", func() bool {
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
	return &chromium{tb: tb, socket: socket}
}

// patiently waits for what a browser does on a machine that is busy.
func patiently(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("waited in vain for %s", what)
		}
	}
}

// call calls a method, and reads its result. Leaving a page is agreed to.
func (c *chromium) call(session, method string, params, result any) {
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
			ID     int             `json:"id"`
			Method string          `json:"method"`
			Params json.RawMessage `json:"params"`
			Result json.RawMessage `json:"result"`
			Error  *struct {
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

type params map[string]any

// open opens a page of a profile of its own, without any cookie.
func (c *chromium) open(address string) *page {
	c.tb.Helper()
	var profile struct {
		ID string `json:"browserContextId"`
	}
	c.call("", "Target.createBrowserContext", params{}, &profile)
	return c.openTab(profile.ID, address)
}

// openTab opens another page of a profile.
func (c *chromium) openTab(profile, address string) *page {
	c.tb.Helper()
	var target struct {
		ID string `json:"targetId"`
	}
	c.call("", "Target.createTarget", params{"url": "about:blank", "browserContextId": profile}, &target)
	var attached struct {
		ID string `json:"sessionId"`
	}
	c.call("", "Target.attachToTarget", params{"targetId": target.ID, "flatten": true}, &attached)
	p := &page{c, attached.ID, profile}
	p.do("Page.enable", params{})
	// Only a page that believes that somebody looks at it takes keys and draws what it shows.
	p.do("Emulation.setFocusEmulationEnabled", params{"enabled": true})
	p.visit(address)
	return p
}

func (p *page) do(method string, params params) {
	p.tb.Helper()
	p.call(p.session, method, params, nil)
}

func (p *page) visit(address string) {
	p.tb.Helper()
	p.do("Page.navigate", params{"url": address})
}

// eval is what an expression of JavaScript says as a text; "" while it fails.
func (p *page) eval(expression string) string {
	p.tb.Helper()
	var out struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
	}
	p.call(p.session, "Runtime.evaluate", params{"expression": expression, "returnByValue": true, "awaitPromise": true}, &out)
	if out.Result.Value == nil {
		return ""
	}
	return fmt.Sprint(out.Result.Value)
}

// awaits waits until a page has a text.
func (p *page) awaits(text string) {
	p.tb.Helper()
	defer p.tellsOnFailure()
	patiently(p.tb, fmt.Sprintf("%q in the page", text), func() bool {
		return strings.Contains(p.eval("document.body.innerText"), text)
	})
}

// tellsOnFailure says what a page shows, if the test has failed.
func (p *page) tellsOnFailure() {
	if p.tb.Failed() {
		p.tb.Logf("the page is at %s and says\n%.2000s", p.eval("location.href"), p.eval("document.body.innerText"))
	}
}

// click clicks at the first visible element of a selector, when there is one.
func (p *page) click(selector string) {
	p.tb.Helper()
	var at string
	patiently(p.tb, selector+"; the page is "+p.eval("location.href"), func() bool {
		at = p.eval(fmt.Sprintf(`(() => { const e = [...document.querySelectorAll(%q)].find(e => e.offsetParent !== null && !e.disabled);
			if (!e) return ''; e.scrollIntoView({block: 'nearest'}); const r = e.getBoundingClientRect();
			return r.width ? (r.x + r.width / 2) + ' ' + (r.y + r.height / 2) : '' })()`, selector))
		return at != ""
	})
	var x, y float64
	if _, err := fmt.Sscan(at, &x, &y); err != nil {
		p.tb.Fatal(err)
	}
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		p.do("Input.dispatchMouseEvent", params{"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1})
	}
}

// chooses clicks at what asks for a file, and gives it one.
func (p *page) chooses(selector, file string) {
	p.tb.Helper()
	p.do("Page.setInterceptFileChooserDialog", params{"enabled": true})
	p.chooser = 0
	patiently(p.tb, "the choice of a file", func() bool {
		p.click(selector)
		return p.eval("1") != "" && p.chooser != 0
	})
	p.do("DOM.setFileInputFiles", params{"files": []string{file}, "backendNodeId": p.chooser})
}

// goesOffline takes the network from a page, as a laptop that sleeps does, or gives it back.
func (p *page) goesOffline(isOffline bool) {
	p.tb.Helper()
	p.do("Network.emulateNetworkConditions", params{"offline": isOffline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1})
}

// types types a text and Enter, with Shift (8) or without (0).
func (p *page) types(text string, modifiers int) {
	p.tb.Helper()
	p.do("Input.insertText", params{"text": text})
	p.key("Enter", 13, "\r", modifiers)
}

func (p *page) key(key string, code int, text string, modifiers int) {
	p.tb.Helper()
	event := params{"type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
	if text != "" {
		event["text"] = text
	}
	p.do("Input.dispatchKeyEvent", event)
	p.do("Input.dispatchKeyEvent", params{"type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers})
}
