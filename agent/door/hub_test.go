//go:build unix

package door

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// hub is a JupyterHub of a user's, which gives a cookie of the name that JupyterLab gives, too.
func (n node) hub(user string) {
	n.t.Helper()
	l, err := net.Listen("unix", n.socket(user, "hub"))
	if err != nil {
		n.t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "_xsrf", Value: "of-the-hub", Path: "/lab-0-web/hub/"})
		fmt.Fprintf(w, "Hub of %s: %s %s with %q", user, r.Method, r.URL.Path, r.Header.Get("X-Xsrftoken"))
	})}
	go func() { _ = s.Serve(l) }()
	n.t.Cleanup(func() { s.Close() })
}

// The door is the proxy of a hub: it goes by the path, and keeps the cookies of both apart.
func TestHubAndItsLab(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.hub("ann")
	f, err := readFile(n.file(0))
	if err != nil {
		t.Fatal(err)
	}
	f.Hub = "unix:" + n.socket("ann", "hub")
	n.write(0, f)
	n.open()
	ann, stranger, bob := &browser{n: n}, &browser{n: n}, &browser{n: n}
	if status := ann.login("lab-0-web", n.ticket("session-ann", "ann", time.Minute)); status != http.StatusNoContent {
		t.Fatalf("the ticket is answered with %d", status)
	}
	if status := bob.login("lab-1-web", n.ticket("session-bob", "bob", time.Minute)); status != http.StatusNoContent {
		t.Fatalf("bob's ticket is answered with %d", status)
	}
	bob.cookies = strings.Replace(bob.cookies, "lab-1-web", "lab-0-web", 1) // under the name of the other session's
	for _, c := range []struct{ method, path, want string }{
		{"GET", "hub/home", `Hub of ann: GET /lab-0-web/hub/home with ""`},
		{"GET", "user/ann/api/status", "Lab of ann: GET /lab-0-web/user/ann/api/status "},
		{"POST", "hub/api/users/ann/server", `Hub of ann: POST /lab-0-web/hub/api/users/ann/server with "of-the-hub"`},
		{"PUT", "user/ann/api/contents/x", "Lab of ann: PUT /lab-0-web/user/ann/api/contents/x "}, // by a token of its own
		{"GET", "user/bob/lab", `Hub of ann: GET /lab-0-web/user/bob/lab with "token"`},           // a cookie of JupyterLab for every path
	} {
		status, got, header := ann.do(c.method, "/lab-0-web/"+c.path, "")
		if status != http.StatusOK || got != c.want || header.Get("Set-Cookie") != "" {
			t.Errorf("%s %s: got %d %q %v", c.method, c.path, status, got, header)
		}
		for name, other := range map[string]*browser{"a stranger": stranger, "bob": bob} {
			if status, got, _ := other.do(c.method, "/lab-0-web/"+c.path, ""); status != http.StatusForbidden {
				t.Errorf("%s %s of %s: got %d %q", c.method, c.path, name, status, got)
			}
		}
	}
	// No path leads to another session.
	for _, path := range []string{"hub/../../lab-1-web/api/status", "user/ann/../../../lab-1-web/api/status", "hub/%2e%2e/%2e%2e/lab-1-web/api/status",
		"user/bob/api/status", "/lab-1-web/api/status"} {
		if status, got, _ := ann.do("GET", "/lab-0-web/"+path, ""); strings.Contains(got, "of bob") {
			t.Errorf("%s leads ann to bob's: %d %q", path, status, got)
		}
	}
}

// A page that comes before its hub asks again by itself, and what is no page is told once.
func TestPageWaitsForItsHub(t *testing.T) {
	t.Parallel()
	n := start(t)
	f, err := readFile(n.file(0))
	if err != nil {
		t.Fatal(err)
	}
	f.Hub = "unix:" + n.socket("ann", "hub")
	n.write(0, f)
	n.open()
	ann := &browser{n: n}
	if status := ann.login("lab-0-web", n.ticket("session-ann", "ann", time.Minute)); status != http.StatusNoContent {
		t.Fatalf("the ticket is answered with %d", status)
	}
	for dest, want := range map[string]string{"document": "3", "empty": ""} {
		status, got, header := ann.do("GET", "/lab-0-web/lab", "", "Sec-Fetch-Dest", dest)
		if status != http.StatusServiceUnavailable || !strings.HasPrefix(got, "JupyterHub does not answer") || header.Get("Refresh") != want {
			t.Errorf("for %s: got %d %q %v", dest, status, got, header)
		}
	}
	n.hub("ann")
	if status, got, _ := ann.do("GET", "/lab-0-web/lab", "", "Sec-Fetch-Dest", "document"); status != http.StatusOK || !strings.HasPrefix(got, "Hub of ann") {
		t.Errorf("when it is there: got %d %q", status, got)
	}
}

func TestPathsOfAHub(t *testing.T) {
	t.Parallel()
	s := &session{}
	s.file.Store(&File{User: "ann", Hub: "unix:/hub.sock", Lab: "unix:/lab.sock"})
	w := &web{s: s, entity: "lab-0-web"}
	for path, want := range map[string]string{
		"/lab-0-web/user/ann/lab": "localhost", "/lab-0-web/user/ann": hubHost, "/lab-0-web/user/anna/lab": hubHost,
		"/lab-0-web/hub/home": hubHost, "/lab-0-web/": hubHost,
	} {
		if got := w.hostOf(path); got != want {
			t.Errorf("%s goes to %s", path, got)
		}
	}
	for rest, want := range map[string]bool{
		"user/ann/lab/tree/x": true, "user/ann/api/contents": false, "hub/home": true, "user/bob/lab": false,
	} {
		if got := w.isPage(rest); got != want {
			t.Errorf("%s is a page: %v", rest, got)
		}
	}
}
