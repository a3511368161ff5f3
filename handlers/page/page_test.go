package page

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/wire"
)

// keys is the issuer of a test.
type keys map[string]string

func (k keys) Swap(_ context.Context, key string) (string, time.Time, error) {
	token, ok := k[key]
	switch {
	case key == "down":
		return "", time.Time{}, errors.New("no connection")
	case !ok:
		return "", time.Time{}, ErrKey
	}
	delete(k, key)
	return token, time.Now().Add(time.Hour), nil
}

func newPage(t *testing.T, cfg Config) *Page {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ask(p http.Handler, method, path, body string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result()
}

// Each address of the page is the same document, under a policy that lets nothing else in, and
// everything that it names is there.
func TestPageIsWhole(t *testing.T) {
	t.Parallel()
	p := newPage(t, Config{SignIn: wire.SignIn{Issuer: `https://login.example.com/"><script>`, ClientID: "c"}})
	var shell string
	for _, path := range []string{"/", "/jobs", "/jobs/a%20b", "/pools", "/money", "/trouble"} {
		answer := ask(p, "GET", path, "")
		text, _ := io.ReadAll(answer.Body)
		if shell == "" {
			shell = string(text)
		}
		if answer.StatusCode != 200 || string(text) != shell || answer.Header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: got %s, %d bytes, %v", path, answer.Status, len(text), answer.Header)
		}
		policy := answer.Header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self';", "connect-src 'self' https://login.example.com;",
			"frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%s: the policy %q lacks %s", path, policy, part)
			}
		}
	}
	if strings.Contains(shell, `"><script>`) {
		t.Error("the name of the issuer has become markup")
	}
	named := regexp.MustCompile(`(?:href|src)="(/[^"]*)"`).FindAllStringSubmatch(shell, -1)
	imported := regexp.MustCompile(`(?:import|from)\s*['"](\.[^'"]+)['"]`)
	if len(named) < 8 {
		t.Errorf("the document names %d files only", len(named))
	}
	for _, n := range named {
		answer := ask(p, "GET", n[1], "")
		text, _ := io.ReadAll(answer.Body)
		if answer.StatusCode != 200 || !strings.Contains(answer.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: got %s %v", n[1], answer.Status, answer.Header)
		}
		if !strings.HasSuffix(n[1], "js") {
			continue
		}
		for _, to := range imported.FindAllStringSubmatch(string(text), -1) {
			if path := filepath.Join(filepath.Dir(n[1]), to[1]); ask(p, "GET", path, "").StatusCode != 200 {
				t.Errorf("%s imports %s, which is not there", n[1], to[1])
			}
		}
	}
}

// A file comes compressed for who takes that, not at all for who has it, and not from another version.
func TestFilesComeOnce(t *testing.T) {
	t.Parallel()
	p := newPage(t, Config{})
	path := "/assets/" + p.hash + "/app.js"
	plain := ask(p, "GET", path, "")
	whole, _ := io.ReadAll(plain.Body)
	small := ask(p, "GET", path, "", "Accept-Encoding", "br, gzip")
	z, err := gzip.NewReader(small.Body)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := io.ReadAll(z); small.Header.Get("Content-Encoding") != "gzip" || !bytes.Equal(text, whole) {
		t.Errorf("compressed: got %d bytes, want %d, and %v", len(text), len(whole), small.Header)
	}
	if kind := plain.Header.Get("Content-Type"); plain.Header.Get("Content-Encoding") != "" || kind != scriptType {
		t.Errorf("plain: got %v", plain.Header)
	}
	if again := ask(p, "GET", path, "", "If-None-Match", plain.Header.Get("ETag")); again.StatusCode != 304 {
		t.Errorf("again: got %s", again.Status)
	}
	for path, status := range map[string]int{
		"/assets/0000000000000000/app.js": 404, "/assets/" + p.hash + "/none.js": 404, "/assets/" + p.hash + "/../page.go": 404,
		"/assets/" + p.hash + "/index.html": 404, "/assets/" + p.hash + "/vendor/vendor.json": 404, "/other": 404, "/web/other": 404,
		"//example.com/": 404, "///example.com": 404, "//jobs": 404, "/jobs//example.com": 200, "/favicon.ico": 200,
	} {
		if got := ask(p, "GET", path, ""); got.StatusCode != status {
			t.Errorf("%s: got %s, want %d", path, got.Status, status)
		}
	}
	if got := ask(p, "POST", "/", ""); got.StatusCode != 405 {
		t.Errorf("POST /: got %s, want 405", got.Status)
	}
}

// A key gives two halves of a token, once; and nothing to pages of other sites.
func TestLogin(t *testing.T) {
	t.Parallel()
	own := keys{"good": "head.claims.signature", "odd": "no-token"}
	p := newPage(t, Config{Keys: own})
	json := []string{"Content-Type", "application/json", "X-Forwarded-Host", "127.0.0.1:7071"}
	for _, c := range []struct {
		name, method, body string
		headers            []string
		status             int
	}{
		{"another site", "POST", `{"key":"good"}`, append([]string{"Sec-Fetch-Site", "cross-site"}, json...), 403},
		{"another port", "POST", `{"key":"good"}`, append([]string{"Origin", "http://127.0.0.1:8888"}, json...), 403},
		{"a form", "POST", `{"key":"good"}`, []string{"Content-Type", "text/plain"}, 400},
		{"no key", "POST", `{}`, json, 400},
		{"too long", "POST", `{"key":"` + strings.Repeat("x", maxLogin) + `"}`, json, 400},
		{"read", "GET", "", nil, 405},
		{"unknown", "POST", `{"key":"bad"}`, json, 401},
		{"an issuer that is down", "POST", `{"key":"down"}`, json, 503},
		{"no token", "POST", `{"key":"odd"}`, json, 503},
		{"good", "POST", `{"key":"good"}`, append([]string{"Origin", "http://127.0.0.1:7071", "Sec-Fetch-Site", "same-origin"}, json...), 200},
		{"again", "POST", `{"key":"good"}`, json, 401},
	} {
		got := ask(p, c.method, loginPath, c.body, c.headers...)
		text, _ := io.ReadAll(got.Body)
		if got.StatusCode != c.status {
			t.Errorf("%s: got %s %s, want %d", c.name, got.Status, text, c.status)
		}
		if c.status != 200 {
			if len(got.Cookies()) > 0 {
				t.Errorf("%s: got a cookie", c.name)
			}
			continue
		}
		cookie := got.Cookies()[0]
		if cookie.Value != "head.claims" || !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/web" ||
			!strings.Contains(string(text), `"proof":"signature"`) || strings.Contains(string(text), "claims") {
			t.Errorf("got %v and %s", cookie, text)
		}
	}
	if got := ask(newPage(t, Config{}), "POST", loginPath, `{"key":"good"}`, json...); got.StatusCode != 404 {
		t.Errorf("without keys: got %s, want 404", got.Status)
	}
}

// The libraries are byte for byte those that their makers have published. With DSVM_TEST_NPM=1 npm is asked for
// the packages; without it the hashes that are kept here are looked at.
func TestLibrariesAreTheirMakers(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("files/vendor/vendor.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct{ File, Package, Version, Path, License, SHA256, Integrity string }
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, v := range all {
		known[v.File] = true
		body, err := os.ReadFile("files/vendor/" + v.File)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != v.SHA256 {
			t.Errorf("%s is not as vendor.json says", v.File)
		}
		if _, err := os.Stat("files/vendor/licences/" + v.Package + ".txt"); err != nil {
			t.Errorf("%s has no licence: %v", v.File, err)
		}
		if os.Getenv("DSVM_TEST_NPM") != "1" {
			continue
		}
		dir := t.TempDir()
		npm := exec.CommandContext(t.Context(), "npm", "pack", "--silent", v.Package+"@"+v.Version)
		npm.Dir = dir
		out, err := npm.Output()
		if err != nil {
			t.Fatalf("npm pack %s: %v", v.Package, err)
		}
		tarball, err := os.ReadFile(filepath.Join(dir, strings.TrimSpace(string(out))))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha512.Sum512(tarball); "sha512-"+base64.StdEncoding.EncodeToString(sum[:]) != v.Integrity {
			t.Errorf("the package %s %s is not the one that vendor.json names", v.Package, v.Version)
		}
		published, err := exec.CommandContext(t.Context(), "tar", "-xzOf", filepath.Join(dir, strings.TrimSpace(string(out))), "package/"+v.Path).Output()
		if err != nil || !bytes.Equal(published, body) {
			t.Errorf("%s is not %s of the package (%v)", v.File, v.Path, err)
		}
	}
	found, err := filepath.Glob("files/vendor/*js")
	if err != nil || len(found) != len(known) {
		t.Errorf("got the libraries %v, and vendor.json has %d (%v)", found, len(known), err)
	}
}
