package httpapi_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"dsvmpools/handlers/httpapi"
	"dsvmpools/shared/wire"
)

// askedBy sends a GET as a page does, with headers by name.
func askedBy(h http.Handler, path string, headers map[string]string) *http.Response {
	r := httptest.NewRequest("GET", path, nil)
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// Who has an answer gets 304, who takes it compressed gets it so, and errors are as they were.
func TestAnswersThatAreAskedForAgain(t *testing.T) {
	t.Parallel()
	h := signedIn(t, nil)
	bearer := map[string]string{"Authorization": "Bearer ann"}
	const path = "/web/api/jobs?limit=100"
	first := askedBy(h, path, bearer)
	whole, _ := io.ReadAll(first.Body)
	tag := first.Header.Get("ETag")
	if first.StatusCode != 200 || tag == "" || first.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("got %s %v", first.Status, first.Header)
	}
	again := askedBy(h, path, map[string]string{"Authorization": "Bearer ann", "If-None-Match": tag})
	if text, _ := io.ReadAll(again.Body); again.StatusCode != 304 || len(text) > 0 {
		t.Errorf("again: got %s and %q", again.Status, text)
	}
	if other := askedBy(h, path, map[string]string{"If-None-Match": tag}); other.StatusCode != 401 {
		t.Errorf("nobody: got %s, want 401", other.Status)
	}
	small := askedBy(h, path, map[string]string{"Authorization": "Bearer ann", "Accept-Encoding": "gzip"})
	z, err := gzip.NewReader(small.Body)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := io.ReadAll(z); string(text) != string(whole) || small.ContentLength >= int64(len(whole)) {
		t.Errorf("compressed: got %d bytes that are %d, want %d", small.ContentLength, len(text), len(whole))
	}
	for _, takes := range []string{"gzip;q=0", "br", "identity"} {
		if plain := askedBy(h, path, map[string]string{"Authorization": "Bearer ann", "Accept-Encoding": takes}); plain.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: got %v", takes, plain.Header)
		}
	}
}

// The halves of a token open what the token opens, together alone and below /web alone.
func TestHalvesOfAToken(t *testing.T) {
	t.Parallel()
	h := signedIn(t, func(a *httpapi.Access) {
		of := a.Tokens.(passes)
		of["head.claims.signature"] = of["ann"]
	})
	const cookie = wire.PageCookie + "=head.claims"
	for _, c := range []struct {
		name, path string
		headers    map[string]string
		status     int
		says       string
	}{
		{"both", "/web/api/me", map[string]string{"Cookie": cookie, wire.PageHeader: "signature"}, 200, annID},
		{"the cookie", "/web/api/me", map[string]string{"Cookie": cookie}, 401, "signed in"},
		{"the signature", "/web/api/me", map[string]string{wire.PageHeader: "signature"}, 401, "signed in"},
		{"another signature", "/web/api/me", map[string]string{"Cookie": cookie, wire.PageHeader: "other"}, 401, "expired"},
		{"a bearer beside them", "/web/api/me", map[string]string{"Cookie": cookie, wire.PageHeader: "signature", "Authorization": "Bearer bob"}, 200, bobID},
		{"not below /web", "/api/me", map[string]string{"Cookie": cookie, wire.PageHeader: "signature"}, 200, "program"},
		{"another site", "/web/api/me", map[string]string{"Cookie": cookie, wire.PageHeader: "signature", "Sec-Fetch-Site": "cross-site"}, 403, "other sites"},
	} {
		got := askedBy(h, c.path, c.headers)
		if text, _ := io.ReadAll(got.Body); got.StatusCode != c.status || !strings.Contains(string(text), c.says) {
			t.Errorf("%s: got %s %s, want %d and %q", c.name, got.Status, text, c.status, c.says)
		}
	}
}
