package door_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"dsvmpools/shared/door"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	plain := door.Door{}
	public := door.Door{Hosts: []string{"tunnel.example", "own.example:8443"}}
	pages := door.Door{Pages: true}
	domain := door.Door{Domain: ".table.core.example"}
	behind := door.Door{Forwarded: true}
	cloud := door.Door{AnyHost: true, Forwarded: true}
	for _, tt := range []struct {
		name   string
		door   door.Door
		method string
		host   string
		header string // name: value, parted by |
		in     bool
	}{
		{"loopback", plain, "POST", "127.0.0.1:7001", "", true},
		{"localhost", plain, "POST", "LocalHost:7001", "", true},
		{"IPv6", plain, "POST", "[::1]:7001", "", true},
		{"another address of loopback", plain, "POST", "127.0.0.2:7001", "", true},
		{"an address of another machine", plain, "POST", "10.0.0.1:7001", "", false},
		{"a port that is forwarded", plain, "GET", "localhost:7002", "", true},
		{"no port", plain, "GET", "127.0.0.1", "", true},
		{"no host", plain, "GET", "", "", false},
		{"a renamed site", plain, "GET", "evil.example:7001", "", false},
		{"a renamed site without a port", plain, "GET", "evil.example", "", false},
		{"a name that begins like loopback", plain, "GET", "127.0.0.1.evil.example:7001", "", false},
		{"a name that ends like localhost", plain, "GET", "evil.localhost:7001", "", false},
		{"all interfaces", plain, "GET", "0.0.0.0:7001", "", false},
		{"a public host", public, "POST", "Tunnel.example", "", true},
		{"a public host with its port", public, "POST", "own.example:8443", "", true},
		{"a public host on another port", public, "POST", "tunnel.example:81", "", false},
		{"the service's own domain", domain, "POST", "a.Table.Core.example", "", true},
		{"one that ends like it", domain, "POST", "eviltable.core.example", "", false},
		{"one that goes on", domain, "POST", "a.table.core.example.evil.example", "", false},
		{"another site", plain, "GET", "127.0.0.1:7001", "Origin: http://evil.example", false},
		{"another port of loopback", plain, "POST", "127.0.0.1:7001", "Origin: http://127.0.0.1:9", false},
		{"a sandboxed page", plain, "POST", "127.0.0.1:7001", "Origin: null", false},
		{"a file", plain, "POST", "127.0.0.1:7001", "Origin: file://", false},
		{"an extension", plain, "POST", "127.0.0.1:7001", "Origin: chrome-extension://127.0.0.1:7001", false},
		{"itself, as clients of WebSockets say", plain, "GET", "127.0.0.1:7001", "Origin: http://127.0.0.1:7001", true},
		{"an image on another site", plain, "GET", "127.0.0.1:7001", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: no-cors|Sec-Fetch-Dest: image", false},
		{"another port as a browser says it", plain, "GET", "127.0.0.1:7001", "Sec-Fetch-Site: same-site", false},
		{"the address bar", plain, "GET", "127.0.0.1:7001", "Sec-Fetch-Site: none|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", true},
		{"a link from elsewhere", plain, "GET", "127.0.0.1:7001", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", false},
		{"a link to a page", pages, "GET", "127.0.0.1:7001", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", true},
		{"a link to a renamed page", pages, "GET", "evil.example:7001", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", false},
		{"a frame", pages, "GET", "127.0.0.1:7001", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: iframe", false},
		{"a form from elsewhere", pages, "POST", "127.0.0.1:7001", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document|Origin: http://evil.example", false},
		{"the page itself", pages, "POST", "127.0.0.1:7001", "Sec-Fetch-Site: same-origin|Sec-Fetch-Mode: cors|Origin: http://127.0.0.1:7001", true},
		{"behind the Functions host", behind, "POST", "127.0.0.1:5", "X-Forwarded-Host: app.example|Origin: https://app.example", true},
		{"behind it, from elsewhere", behind, "POST", "127.0.0.1:5", "X-Forwarded-Host: app.example|Origin: https://evil.example", false},
		{"past it, by a renamed site that forges", behind, "POST", "evil.example:5", "X-Forwarded-Host: evil.example|Origin: http://evil.example:5", false},
		{"a forged header where nothing is in front", plain, "POST", "127.0.0.1:7001", "X-Forwarded-Host: evil.example|Origin: http://evil.example", false},
		{"a host that passes Host on", cloud, "POST", "app.example", "", true},
		{"there, from elsewhere", cloud, "POST", "app.example", "Origin: http://evil.example", false},
	} {
		r := httptest.NewRequest(tt.method, "/", nil)
		r.Host = tt.host
		for h := range strings.SplitSeq(tt.header, "|") {
			if name, value, ok := strings.Cut(h, ": "); ok {
				r.Header.Set(name, value)
			}
		}
		if why := tt.door.Check(r); (why == nil) != tt.in || why != nil && (why.Status != http.StatusForbidden || why.Reason == "") {
			t.Errorf("%s: got %+v, want in=%v", tt.name, why, tt.in)
		}
	}
}

func TestPlainBody(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method, kind, body string
		in                 bool
	}{
		{"POST", "application/json", "{}", true},
		{"POST", "application/json; charset=utf-8", "{}", true},
		{"PUT", "application/yaml", "a: b", true},
		{"PATCH", "application/json", "{}", true},
		{"POST", "multipart/mixed; boundary=x", "x", true},
		{"POST", "", "", true},
		{"DELETE", "", "", true},
		{"GET", "text/plain", "x", true},
		{"POST", "text/plain", "{}", false},
		{"POST", "Text/Plain;charset=UTF-8", "{}", false},
		{"POST", "text/plain", "", false},
		{"POST", "application/x-www-form-urlencoded", "{}", false},
		{"POST", "multipart/form-data; boundary=x", "{}", false},
		{"DELETE", "text/plain", "{}", false},
		{"POST", "", "{}", true}, // a page sends this only with Origin
	} {
		r := httptest.NewRequest(tt.method, "/", strings.NewReader(tt.body))
		if tt.kind != "" {
			r.Header.Set("Content-Type", tt.kind)
		}
		why := door.PlainBody(r)
		if (why == nil) != tt.in || why != nil && why.Status != http.StatusUnsupportedMediaType {
			t.Errorf("%s %q %q: got %+v, want in=%v", tt.method, tt.kind, tt.body, why, tt.in)
		}
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	reached := 0
	h := door.Door{}.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }), true)
	for _, tt := range []struct {
		host, kind string
		status     int
	}{{"127.0.0.1:1", "application/json", 200}, {"127.0.0.1:1", "text/plain", 415}, {"evil.example:1", "application/json", 403}} {
		r := httptest.NewRequest("POST", "/", strings.NewReader("{}"))
		r.Host = tt.host
		r.Header.Set("Content-Type", tt.kind)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.status || tt.status != 200 && (w.Header().Get("Connection") != "close" || w.Body.Len() < 10) {
			t.Errorf("%s %s: got %d %q", tt.host, tt.kind, w.Code, w.Body)
		}
	}
	if reached != 1 {
		t.Errorf("%d requests got through, want 1", reached)
	}
}
