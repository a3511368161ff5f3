//go:build unix

package door

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/relay"
)

// rdp is a server of the node that counts who comes, and sends back what comes.
func (n node) rdp() (address string, came func() int) {
	n.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { l.Close() })
	count := make(chan int, 1)
	count <- 0
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			count <- <-count + 1
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String(), func() int {
		n := <-count
		count <- n
		return n
	}
}

func (n node) desktopTicket(session, user string) string {
	return sign(n.signer, ticket{Session: session, User: user, For: relay.TicketDesktop, Expires: time.Now().Add(time.Minute).Unix(),
		Nonce: fmt.Sprint(time.Now().UnixNano())})
}

// come connects to a place as a program does.
func (n node) come(entity, suffix, ticket string) (net.Conn, error) {
	n.t.Helper()
	headers := http.Header{}
	if ticket != "" {
		headers.Set(relay.TicketHeader, ticket)
	}
	return relay.DialWith(n.t.Context(), n.Address(entity)+suffix, n.Token(relay.RuleSend, key, entity, time.Now().Add(time.Minute)), headers)
}

func TestTheDesktopIsItsOwnersAlone(t *testing.T) {
	t.Parallel()
	n := start(t)
	address, came := n.rdp()
	f, err := readFile(n.file(0))
	if err != nil {
		t.Fatal(err)
	}
	f.Desktop = address
	n.write(0, f)
	n.open()

	c, err := n.come("lab-0", "/rdp/session-ann", n.desktopTicket("session-ann", "ann"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	await(t, "one connection in the state", func() bool {
		text, err := os.ReadFile(strings.TrimSuffix(n.file(0), ".json") + stateSuffix)
		return err == nil && strings.Contains(string(text), `"desktop":1`)
	})
	c.Close()

	used := n.desktopTicket("session-ann", "ann")
	if c, err = n.come("lab-0", "/rdp/session-ann", used); err != nil {
		t.Fatal(err)
	}
	c.Close()
	before := came()
	for name, try := range map[string]struct {
		entity, suffix, ticket string
		code                   fault.Code
	}{
		"a ticket a second time":   {"lab-0", "/rdp/session-ann", used, fault.Forbidden},
		"no ticket":                {"lab-0", "/rdp/session-ann", "", fault.Forbidden},
		"a ticket for JupyterLab":  {"lab-0", "/rdp/session-ann", n.ticket("session-ann", "ann", time.Minute), fault.Forbidden},
		"bob's ticket":             {"lab-0", "/rdp/session-ann", n.desktopTicket("session-bob", "bob"), fault.Forbidden},
		"bob with ann's session":   {"lab-0", "/rdp/session-ann", n.desktopTicket("session-ann", "bob"), fault.Forbidden},
		"a session of another one": {"lab-0", "/rdp/session-bob", n.desktopTicket("session-bob", "bob"), fault.Forbidden},
		"no session":               {"lab-0", "/rdp/", n.desktopTicket("session-ann", "ann"), fault.Forbidden},
		"another port":             {"lab-0", "/rdp/session-ann/22", n.desktopTicket("session-ann", "ann"), fault.Forbidden},
		"another path":             {"lab-0", "/vnc/session-ann", n.desktopTicket("session-ann", "ann"), fault.Forbidden},
		"with a query":             {"lab-0", "/rdp/session-ann?to=1", n.desktopTicket("session-ann", "ann"), fault.Forbidden},
		"before it has a desktop":  {"lab-1", "/rdp/session-bob", n.desktopTicket("session-bob", "bob"), fault.Throttled},
	} {
		if c, err := n.come(try.entity, try.suffix, try.ticket); err == nil {
			c.Close()
			t.Errorf("%s: came in", name)
		} else if fault.CodeOf(err) != try.code {
			t.Errorf("%s: %v, want %s", name, err, try.code)
		}
	}
	if got := came(); got != before {
		t.Errorf("%d who were refused came to the server", got-before)
	}
	// A ticket for the desktop opens no JupyterLab.
	b := &browser{n: n}
	if status := b.login("lab-0-web", n.desktopTicket("session-ann", "ann")); status != http.StatusForbidden {
		t.Errorf("a browser with a ticket for the desktop: got %d", status)
	}

	// The end of the session ends who is there.
	if c, err = n.come("lab-0", "/rdp/session-ann", n.desktopTicket("session-ann", "ann")); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := os.Remove(n.file(0)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(c) // it ends with the session, or the test does not
}

func TestADesktopIsOnThisMachine(t *testing.T) {
	t.Parallel()
	for at, ok := range map[string]bool{
		"127.0.0.1:3389": true, "[::1]:3389": true, "": true,
		"10.0.0.4:3389": false, "unix:/run/x": false, "localhost:3389": false, "3389": false,
	} {
		_, err := parseFile([]byte(`{"session":"s","user":"ann","ssh":"unix:/x","desktop":"` + at + `"}`))
		if (err == nil) != ok {
			t.Errorf("%q: %v", at, err)
		}
	}
}
