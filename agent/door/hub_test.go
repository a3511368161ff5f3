//go:build unix

package door

import (
	"fmt"
	"net"
	"net/http"
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
	ann, stranger := &browser{n: n}, &browser{n: n}
	if status := ann.login("lab-0-web", n.ticket("session-ann", "ann", time.Minute)); status != http.StatusNoContent {
		t.Fatalf("the ticket is answered with %d", status)
	}
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
		if status, got, _ := stranger.do(c.method, "/lab-0-web/"+c.path, ""); status != http.StatusForbidden {
			t.Errorf("%s %s of a stranger: got %d %q", c.method, c.path, status, got)
		}
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
