//go:build unix

package door

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/relay"
)

func TestEachComesToTheirOwn(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.open()
	for entity, want := range map[string]string{"lab-0": "ann", "lab-1": "bob"} {
		want = "SSH of " + want + "\n"
		if got, err := n.dial(entity, relay.SSH+"/session-"+strings.Fields(want)[2]); got != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", entity, got, err, want)
		}
	}
	b := &browser{n: n}
	if status := b.login("lab-0-web", n.ticket("session-ann", "ann", time.Minute)); status != http.StatusNoContent {
		t.Fatalf("the ticket is answered with %d", status)
	}
	if status, text, header := b.do("GET", "/lab-0-web/lab?x=1", ""); status != 200 || text != "Lab of ann: GET /lab-0-web/lab " || header.Get("Set-Cookie") != "" {
		t.Errorf("got %d %q %v", status, text, header)
	}
	large := strings.Repeat("x", 300<<10)
	if status, text, _ := b.do("PUT", "/lab-0-web/api/contents/a", large, "Origin", "http://"+n.Addr()); status != 200 || !strings.HasSuffix(text, " "+large) {
		t.Errorf("an upload is answered with %d and %d bytes", status, len(text))
	}
	if status, _, _ := b.do("GET", "/lab-0-web/lab?gateway", ""); status != http.StatusServiceUnavailable {
		t.Errorf("502 of JupyterLab, which only the relay may say, is passed on as %d", status)
	}
	if status, _, header := b.do("POST", "/lab-0-web/dsvm/socket", "{}"); status != http.StatusNoContent || !strings.Contains(header.Get("Set-Cookie"), "; Path=/$hc/lab-0-web/;") {
		t.Errorf("the second cookie: %d %v", status, header)
	}
}

func TestNobodyGetsIn(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.open()
	for _, c := range []struct{ entity, suffix string }{
		{"lab-0", ""}, {"lab-0", "/"}, {"lab-0", "/rdp"}, {"lab-0", "/ssh"}, {"lab-0", "/ssh/session-bob"}, {"lab-0", "/ssh/session-ann/"}, {"lab-0", "/ssh/"}, {"lab-0", "/SSH"}, {"lab-0", "/ssh/session-ann?to=127.0.0.1:22"}, {"lab-0", "/127.0.0.1:22"}, {"lab-0-web", "/ssh"},
	} {
		if got, err := n.dial(c.entity, c.suffix); fault.CodeOf(err) != fault.Forbidden {
			t.Errorf("%s%s: got %q, %v", c.entity, c.suffix, got, err)
		}
	}
	_, stranger, _ := ed25519.GenerateKey(nil)
	used := n.ticket("session-ann", "ann", time.Minute)
	good := &browser{n: n}
	if status := good.login("lab-0-web", used); status != http.StatusNoContent {
		t.Fatalf("a good ticket is answered with %d", status)
	}
	now := time.Now()
	for name, ticket := range map[string]string{
		"a ticket a second time":        used,
		"the ticket of another session": n.ticket("session-bob", "bob", time.Minute),
		"another user's":                n.ticket("session-ann", "bob", time.Minute),
		"one that has ended":            n.ticket("session-ann", "ann", -time.Second),
		"one that lives too long":       n.ticket("session-ann", "ann", time.Hour),
		"one from before this door":     n.ticket("session-ann", "ann", 10*time.Second),
		"one without a nonce":           sign(n.signer, ticket{Session: "session-ann", User: "ann", Expires: now.Add(time.Minute).Unix()}),
		"one of another signer":         sign(stranger, ticket{Session: "session-ann", User: "ann", Expires: now.Add(time.Minute).Unix(), Nonce: "1"}),
		"half of one":                   used[:len(used)/2],
		"none":                          "",
		"a large one":                   strings.Repeat("x", 3000),
		"one that names a session":      "eyJzIjoic2Vzc2lvbi1hbm4ifQ.x",
	} {
		b := &browser{n: n}
		if status := b.login("lab-0-web", ticket); status != http.StatusForbidden || b.cookies != "" {
			t.Errorf("%s is answered with %d and cookie %q", name, status, b.cookies)
		}
	}
	of0, value, _ := strings.Cut(good.cookies, "=")
	for name, cookies := range map[string]string{
		"no cookie":                     "",
		"the cookie of another session": strings.Replace(good.cookies, of0, "dsvm_lab-1-web", 1),
		"another end":                   of0 + "=9" + value,
		"no value":                      of0 + "=",
	} {
		b := &browser{n: n, cookies: cookies}
		for _, path := range []string{"/lab-1-web/lab", "/lab-1-web/dsvm/socket", "/lab-1-web/dsvm/notice", "/lab-1-web/../lab-0-web/lab"} {
			if status, text, _ := b.do("POST", path, "", "Origin", "http://"+n.Addr()); status < 400 || strings.Contains(text, "Lab of") {
				t.Errorf("%s: %s is answered with %d %q", name, path, status, text)
			}
		}
	}
	for _, header := range []http.Header{
		{"Cookie": {good.cookies}},
		{"Cookie": {good.cookies}, "Origin": {"http://evil.example"}},
		{"Origin": {"http://" + n.Addr()}},
	} {
		c, answer, err := websocket.Dial(t.Context(), n.Address("lab-0-web")+"/api/kernels/1/channels", &websocket.DialOptions{HTTPHeader: header})
		if err == nil {
			c.CloseNow()
			t.Errorf("a WebSocket with %v got in", header)
		} else if answer == nil || answer.StatusCode != http.StatusForbidden {
			t.Errorf("a WebSocket with %v: %v", header, err)
		}
	}
}

// TestOnlyTheUsersSocket has another user's process listen at the Lab's path.
func TestOnlyTheUsersSocket(t *testing.T) {
	t.Parallel()
	n := start(t)
	f, err := readFile(n.file(0))
	if err != nil {
		t.Fatal(err)
	}
	f.UID++
	n.write(0, f)
	n.open()
	b := &browser{n: n}
	b.login("lab-0-web", n.ticket("session-ann", "ann", time.Minute))
	if status, text, _ := b.do("GET", "/lab-0-web/lab", ""); status != http.StatusServiceUnavailable {
		t.Errorf("got %d %q", status, text)
	}
}

func TestWhatIsTold(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.open()
	b := &browser{n: n}
	b.login("lab-0-web", n.ticket("session-ann", "ann", time.Minute))
	state := func() (s State) {
		text, err := os.ReadFile(strings.TrimSuffix(n.file(0), ".json") + stateSuffix)
		if err == nil {
			err = json.Unmarshal(text, &s)
		}
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return s
	}
	await(t, "input", func() bool { return !state().LastInput.IsZero() })
	c, _, err := websocket.Dial(t.Context(), n.Address("lab-0-web")+"/api/kernels/1/channels", &websocket.DialOptions{
		Subprotocols: []string{"v1.kernel.websocket.jupyter.org"},
		HTTPHeader:   http.Header{"Cookie": {b.cookies}, "Origin": {"http://" + n.Addr()}}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Subprotocol() != "v1.kernel.websocket.jupyter.org" {
		t.Errorf("the sub-protocol is %q", c.Subprotocol())
	}
	say := func(text string) {
		t.Helper()
		if err := c.Write(t.Context(), websocket.MessageBinary, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if kind, got, err := c.Read(t.Context()); err != nil || kind != websocket.MessageBinary || string(got) != text {
			t.Fatalf("got %q of type %s, %v", got, kind, err)
		}
	}
	before := state().LastInput
	say("\x01\x02" + `{"msg_type":"kernel_info_request"}`)
	await(t, "a browser", func() bool { return state().Jupyter == 1 && state().Relayed > 0 && state().Closed == "" })
	if at := state().LastInput; !at.Equal(before) {
		t.Error("what a page sends by itself counts as input")
	}
	say(`{"header":{"msg_type": "execute_request"}}`)
	await(t, "later input", func() bool { return state().LastInput.After(before) })
	c.CloseNow()
	await(t, "that the browser has gone", func() bool { return state().Jupyter == 0 })
	if err := os.Remove(n.file(0)); err != nil {
		t.Fatal(err)
	}
	n.awaitListeners(0, "lab-0", "lab-0-web")
	await(t, "that the state goes", func() bool { return state() == State{} })
}

// TestKilled kills the door as a process: another one lets the same people in, and a browser
// stays in.
func TestKilled(t *testing.T) {
	t.Parallel()
	n := start(t)
	dir := filepath.Join(n.dir, "doors")
	if err := Start(dir, "test", filepath.Join(n.dir, "log")); err != nil {
		t.Fatal(err)
	}
	n.awaitListeners(1)
	if err := Run(t.Context(), dir, slog.New(slog.DiscardHandler)); err != ErrLives {
		t.Errorf("a second door: %v", err)
	}
	b := &browser{n: n}
	b.login("lab-0-web", n.ticket("session-ann", "ann", time.Minute))
	kill(t, dir)
	n.awaitListeners(0)
	if err := Start(dir, "test", filepath.Join(n.dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(t, dir) })
	n.awaitListeners(1)
	if got, err := n.dial("lab-0", relay.SSH+"/session-ann"); err != nil || got != "SSH of ann\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if status, _, _ := b.do("GET", "/lab-0-web/lab", ""); status != 200 {
		t.Errorf("the browser is answered with %d", status)
	}
}

// kill kills the process that has the door of a folder.
func kill(t *testing.T, dir string) {
	t.Helper()
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range found {
		text, err := os.ReadFile(file)
		if err == nil && bytes.HasSuffix(text, []byte("\x00"+role+"\x00"+dir+"\x00")) {
			var pid int
			fmt.Sscanf(file, "/proc/%d/", &pid)
			p, err := os.FindProcess(pid)
			if err == nil {
				err = p.Kill()
			}
			if err != nil {
				t.Error(err)
			}
			await(t, "the end of the door", func() bool { return !Lives(dir) })
			return
		}
	}
	t.Skip("the processes of this system cannot be listed")
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte(`{"session":"1","user":"ann","uid":1,"ssh":"127.0.0.1:22","lab":"unix:/x"}`))
	f.Add([]byte(`{"session":"1","user":"ann","ssh":"10.0.0.1:22"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := parseFile(text)
		if err != nil {
			return
		}
		if network, address, err := target(file.SSH); err != nil || network == "tcp" && !strings.HasPrefix(address, "127.") && !strings.Contains(address, ":") {
			t.Errorf("taken: %q", file.SSH)
		}
	})
}

// TestSessionsShareAPlace has two sessions on one node: one listener is there for both, each
// gets to their own, and a later token is taken for both.
func TestSessionsShareAPlace(t *testing.T) {
	t.Parallel()
	n := start(t)
	ann, err := readFile(n.file(0))
	if err != nil {
		t.Fatal(err)
	}
	bob, err := readFile(n.file(1))
	if err != nil {
		t.Fatal(err)
	}
	bob.URL, bob.Token, bob.WebURL, bob.WebToken = ann.URL, ann.Token, ann.WebURL, ann.WebToken
	n.write(1, bob)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, filepath.Join(n.dir, "doors"), slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	n.awaitListeners(1, "lab-0", "lab-0-web")
	browsers := map[string]*browser{}
	for _, user := range []string{"ann", "bob", "ann", "bob"} {
		await(t, user+" to get in", func() bool { // the second one's file may still be read
			got, err := n.dial("lab-0", relay.SSH+"/session-"+user)
			if err == nil && got != "SSH of "+user+"\n" {
				t.Errorf("%s: got %q", user, got)
			}
			return err == nil
		})
		if b := browsers[user]; b == nil {
			browsers[user] = &browser{n: n}
			if status := browsers[user].login("lab-0-web", n.ticket("session-"+user, user, time.Minute)); status != http.StatusNoContent {
				t.Fatalf("%s: the ticket is answered with %d", user, status)
			}
		}
		if status, text, _ := browsers[user].do("GET", "/lab-0-web/lab", ""); status != 200 || !strings.HasPrefix(text, "Lab of "+user+":") {
			t.Errorf("%s: got %d %q", user, status, text)
		}
	}
	if got, err := n.dial("lab-0", relay.SSH+"/session-eve"); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("a session that is not here: got %q, %v", got, err)
	}
	// The end of one leaves the other, and the place.
	if err := os.Remove(n.file(0)); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of ann's", func() bool {
		_, err := n.dial("lab-0", relay.SSH+"/session-ann")
		return fault.CodeOf(err) == fault.Forbidden
	})
	if got, err := n.dial("lab-0", relay.SSH+"/session-bob"); got != "SSH of bob\n" || err != nil {
		t.Errorf("bob: got %q, %v", got, err)
	}
	if status, _, _ := browsers["ann"].do("GET", "/lab-0-web/lab", ""); status != http.StatusForbidden {
		t.Errorf("ann's browser after the end is answered with %d", status)
	}
}
