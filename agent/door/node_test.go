//go:build unix

package door

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	localrelay "dsvmpools/local/relay"
	"dsvmpools/shared/relay"
)

const key = "a2V5"

// node is a relay and a folder with two sessions: of ann at lab-0 and of bob at lab-1.
type node struct {
	*localrelay.Server
	relay.Namespace
	t      testing.TB
	dir    string
	signer ed25519.PrivateKey
}

func start(t *testing.T) node {
	t.Helper()
	s, err := localrelay.Start(localrelay.Config{
		Addr:  "127.0.0.1:0",
		Rules: []localrelay.Rule{{Name: relay.RuleListen, Key: key, Listen: true}, {Name: relay.RuleSend, Key: key, Send: true}},
		Entities: []localrelay.Entity{{Name: "lab-0"}, {Name: "lab-0-web", Anonymous: true},
			{Name: "lab-1"}, {Name: "lab-1-web", Anonymous: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	at, err := relay.ParseNamespace("http://" + s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "door") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	public, signer, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	n := node{Server: s, Namespace: at, t: t, dir: dir, signer: signer}
	for i, user := range []string{"ann", "bob"} {
		n.sshd(user)
		n.lab(user)
		n.write(i, n.session(i, user, public))
	}
	return n
}

func (n node) session(i int, user string, public ed25519.PublicKey) File {
	entity, until := fmt.Sprintf("lab-%d", i), time.Now().Add(time.Hour)
	return File{
		Session: "session-" + user, User: user, UID: os.Getuid(),
		SSH: "unix:" + n.socket(user, "sshd"), Lab: "unix:" + n.socket(user, "lab"),
		URL: n.Address(entity), Token: n.Token(relay.RuleListen, key, entity, until),
		WebURL: n.Address(entity + "-web"), WebToken: n.Token(relay.RuleListen, key, entity+"-web", until),
		TicketKey: base64.StdEncoding.EncodeToString(public),
	}
}

func (n node) socket(user, what string) string { return filepath.Join(n.dir, user+"."+what) }

func (n node) file(i int) string { return filepath.Join(n.dir, "doors", fmt.Sprintf("%d.json", i)) }

func (n node) write(i int, f File) {
	n.t.Helper()
	text, err := json.Marshal(f)
	if err == nil {
		err = os.MkdirAll(filepath.Join(n.dir, "doors"), 0o700)
	}
	if err == nil {
		err = os.WriteFile(n.file(i)+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(n.file(i)+".new", n.file(i))
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// open runs the door until the test ends, and waits until all four entities have a listener.
func (n node) open() {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, filepath.Join(n.dir, "doors"), slog.New(slog.DiscardHandler)) }()
	n.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Error(err)
		}
	})
	n.awaitListeners(1)
}

func (n node) awaitListeners(each int, entities ...string) {
	n.t.Helper()
	if len(entities) == 0 {
		entities = []string{"lab-0", "lab-0-web", "lab-1", "lab-1-web"}
	}
	await(n.t, fmt.Sprintf("%d listeners at %v", each, entities), func() bool {
		for _, entity := range entities {
			if n.Listeners(entity) != each {
				return false
			}
		}
		return true
	})
}

func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// sshd says whose it is, and then sends back what comes.
func (n node) sshd(user string) {
	n.t.Helper()
	l, err := net.Listen("unix", n.socket(user, "sshd"))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintf(c, "SSH of %s\n", user)
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

// lab is a JupyterLab as the door must see it: it wants its own host, sets two cookies, and takes
// what changes something only with its token against other sites.
func (n node) lab(user string) {
	n.t.Helper()
	l, err := net.Listen("unix", n.socket(user, "lab"))
	if err != nil {
		n.t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		_, hasOurs := strings.CutPrefix(r.Header.Get("Cookie"), "dsvm_")
		if r.Host != "localhost" || origin != "" && origin != "http://localhost" || hasOurs {
			http.Error(w, "Blocking request", http.StatusForbidden)
			return
		}
		if strings.Contains(r.URL.Path, "/lab/page") || strings.HasSuffix(r.URL.Path, "/lab/api/page") {
			servePage(w, r)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/channels") || strings.Contains(r.URL.Path, "/terminals/") {
			c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"v1.kernel.websocket.jupyter.org"}})
			if err != nil {
				return
			}
			defer func() { _ = c.CloseNow() }()
			for {
				kind, text, err := c.Read(r.Context())
				if err != nil || c.Write(r.Context(), kind, text) != nil {
					return
				}
			}
		}
		if r.Method != http.MethodGet && (r.Header.Get("X-XSRFToken") != "token" || !strings.Contains(r.Header.Get("Cookie"), "_xsrf=token")) {
			http.Error(w, "'_xsrf' argument missing", http.StatusForbidden)
			return
		}
		w.Header().Add("Set-Cookie", "_xsrf=token; Path=/")
		w.Header().Add("Set-Cookie", "username-x=1; Path=/; HttpOnly")
		if r.URL.Query().Has("gateway") {
			w.WriteHeader(http.StatusBadGateway)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		fmt.Fprintf(w, "Lab of %s: %s %s %s", user, r.Method, r.URL.Path, body)
	})}
	go s.Serve(l)
	n.t.Cleanup(func() { s.Close() })
}

func (n node) ticket(session, user string, life time.Duration) string {
	return sign(n.signer, ticket{Session: session, User: user, Expires: time.Now().Add(life).Unix(), Nonce: fmt.Sprint(time.Now().UnixNano())})
}

func sign(signer ed25519.PrivateKey, t ticket) string {
	body, _ := json.Marshal(t)
	text := base64.RawURLEncoding.EncodeToString
	return text(body) + "." + text(ed25519.Sign(signer, body))
}

func (n node) dial(entity, suffix string) (string, error) {
	token := n.Token(relay.RuleSend, key, strings.TrimSuffix(entity, "-web"), time.Now().Add(time.Minute))
	c, err := relay.Dial(n.t.Context(), n.Address(entity)+suffix, token)
	if err != nil {
		return "", err
	}
	defer c.Close()
	line := make([]byte, len("SSH of ann\n"))
	_, err = io.ReadFull(c, line)
	return string(line), err
}

// browser is a client that has a cookie or none.
type browser struct {
	n       node
	cookies string
}

func (b *browser) do(method, path, body string, header ...string) (int, string, http.Header) {
	b.n.t.Helper()
	r, err := http.NewRequestWithContext(b.n.t.Context(), method, "http://"+b.n.Addr()+path, strings.NewReader(body))
	if err != nil {
		b.n.t.Fatal(err)
	}
	if b.cookies != "" {
		r.Header.Set("Cookie", b.cookies)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		b.n.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		b.n.t.Fatal(err)
	}
	return answer.StatusCode, string(text), answer.Header
}

// login shows a ticket, and keeps the cookie that it gets.
func (b *browser) login(entity, ticket string) int {
	b.n.t.Helper()
	status, _, header := b.do("POST", "/"+entity+"/dsvm/login", `{"ticket":"`+ticket+`"}`, "Origin", "http://"+b.n.Addr())
	if set := header.Get("Set-Cookie"); set != "" {
		b.cookies, _, _ = strings.Cut(set, ";")
		for _, want := range []string{"Path=/" + entity + "/;", "Secure", "HttpOnly", "SameSite=Strict"} {
			if !strings.Contains(set, want) {
				b.n.t.Errorf("the cookie %q lacks %s", set, want)
			}
		}
	}
	return status
}
