package identity_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/oauth2"

	"dsvmpools/local/identity"
	"dsvmpools/shared/caller"
	"dsvmpools/shared/signin"
)

const secret = "correct horse"

func hash(t *testing.T) string {
	t.Helper()
	b, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// start starts an issuer with ann, who is in vision.
func start(t *testing.T, change func(*identity.Config)) (*identity.Server, identity.Config) {
	t.Helper()
	dir := t.TempDir()
	cfg := identity.Config{Addr: "127.0.0.1:0", Path: filepath.Join(dir, "issuer.json"), Users: filepath.Join(dir, "users"),
		Owner: "owner@local", Log: slog.New(slog.DiscardHandler), Interval: time.Millisecond}
	if err := os.WriteFile(cfg.Users, []byte("# people\nann@local:"+hash(t)+":vision\nbob@local:"+hash(t)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&cfg)
	}
	s, err := identity.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, cfg
}

// app is how the app checks tokens of the issuer.
func app(t *testing.T, s *identity.Server) *signin.Checker {
	t.Helper()
	c, err := signin.New(signin.Config{Issuer: s.URL(), Audiences: []string{s.Client()}, Tenant: s.Tenant()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// client is golang.org/x/oauth2, which knows nothing of this issuer.
func client(s *identity.Server) *oauth2.Config {
	return &oauth2.Config{ClientID: s.Client(), Scopes: []string{"access", "offline_access"}, Endpoint: oauth2.Endpoint{
		AuthURL: s.URL() + "/authorize", TokenURL: s.URL() + "/token", DeviceAuthURL: s.URL() + "/devicecode", AuthStyle: oauth2.AuthStyleInParams}}
}

// signIn fills in a form as a browser does.
func signIn(t *testing.T, address string, fields url.Values, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest("POST", address, strings.NewReader(fields.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	web := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	reply, err := web.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	body, _ := io.ReadAll(reply.Body)
	return reply, string(body)
}

func TestDeviceCode(t *testing.T) {
	t.Parallel()
	s, cfg := start(t, nil)
	c, checker := client(s), app(t, s)
	c.Scopes = append(c.Scopes, "openid")
	code, err := c.DeviceAuth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	var token *oauth2.Token
	go func() {
		var err error
		code.Interval = 1
		token, err = c.DeviceAccessToken(t.Context(), code)
		done <- err
	}()
	for name, f := range map[string]url.Values{
		"another secret": {"user_code": {code.UserCode}, "login": {"ann@local"}, "secret": {"x"}},
		"nobody":         {"user_code": {code.UserCode}, "login": {"eve@local"}, "secret": {secret}},
		"another code":   {"user_code": {"BBBB-BBBB"}, "login": {"ann@local"}, "secret": {secret}},
		"the owner":      {"user_code": {code.UserCode}, "login": {"owner@local"}, "secret": {""}},
	} {
		if reply, body := signIn(t, s.URL()+"/device", f); reply.StatusCode < 400 {
			t.Errorf("%s: got %d %s", name, reply.StatusCode, body)
		}
	}
	good := url.Values{"user_code": {strings.ToLower(code.UserCode)}, "login": {"ann@local"}, "secret": {secret}}
	if reply, body := signIn(t, code.VerificationURI, good, "Origin", "http://evil.example"); reply.StatusCode != 403 {
		t.Errorf("a page of another site: got %d %s", reply.StatusCode, body)
	}
	if reply, body := signIn(t, code.VerificationURI, good, "Origin", s.URL()); reply.StatusCode != 200 {
		t.Fatalf("got %d %s", reply.StatusCode, body)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	p, err := checker.Check(t.Context(), token.AccessToken)
	if err != nil || p.Login != "ann@local" || !slices.Equal(p.Groups, []string{"vision"}) || !caller.IsSubject(p.ID) {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := checker.Check(t.Context(), token.RefreshToken); err == nil {
		t.Error("a refresh token opens the app")
	}
	identity, _ := token.Extra("id_token").(string)
	if _, err := checker.Check(t.Context(), identity); err == nil || identity == "" {
		t.Errorf("an identity token of %d bytes opens the app, or there is none", len(identity))
	}
	if _, err := c.DeviceAccessToken(t.Context(), code); err == nil {
		t.Error("a device code serves twice")
	}
	// The refresh token serves until the secret is another one.
	token.Expiry = time.Now().Add(-time.Hour)
	again, err := c.TokenSource(t.Context(), token).Token()
	if err != nil {
		t.Fatal(err)
	}
	if q, err := checker.Check(t.Context(), again.AccessToken); err != nil || q.ID != p.ID {
		t.Errorf("refreshed: got %+v, %v", q, err)
	}
	if err := os.WriteFile(cfg.Users, []byte("ann@local:"+hash(t)+":vision\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(cfg.Users, time.Time{}, time.Now().Add(time.Minute))
	again.Expiry = time.Now().Add(-time.Hour)
	if _, err := c.TokenSource(t.Context(), again).Token(); err == nil {
		t.Error("the refresh token of a former secret serves")
	}
}

func TestAuthorizationCode(t *testing.T) {
	t.Parallel()
	s, _ := start(t, nil)
	c := client(s)
	c.RedirectURL = "http://127.0.0.1:9/back"
	verifier := oauth2.GenerateVerifier()
	address := c.AuthCodeURL("the-state", oauth2.S256ChallengeOption(verifier))
	page, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	page.Body.Close()
	enter := func() string {
		reply, body := signIn(t, address, url.Values{"login": {"ann@local"}, "secret": {secret}})
		back, err := url.Parse(reply.Header.Get("Location"))
		if err != nil || reply.StatusCode != 303 || back.Host != "127.0.0.1:9" || back.Query().Get("state") != "the-state" {
			t.Fatalf("got %d %v %s", reply.StatusCode, reply.Header, body)
		}
		return back.Query().Get("code")
	}
	code := enter()
	if _, err := c.Exchange(t.Context(), code, oauth2.VerifierOption(oauth2.GenerateVerifier())); err == nil {
		t.Error("another verifier gets a token")
	}
	if _, err := c.Exchange(t.Context(), code, oauth2.VerifierOption(verifier)); err == nil {
		t.Error("a code that was tried serves")
	}
	code = enter()
	token, err := c.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := app(t, s).Check(t.Context(), token.AccessToken); err != nil || p.Login != "ann@local" {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := c.Exchange(t.Context(), code, oauth2.VerifierOption(verifier)); err == nil {
		t.Error("a code serves twice")
	}
	for name, change := range map[string][2]string{
		"another machine": {"redirect_uri", "http://evil.example:80/"}, "a name that begins so": {"redirect_uri", "http://127.0.0.1.evil.example:80/"},
		"a user before it": {"redirect_uri", "http://127.0.0.1:80@evil.example/"}, "a script": {"redirect_uri", "javascript:alert(1)"},
		"no challenge": {"code_challenge", ""}, "a plain one": {"code_challenge_method", "plain"}, "another application": {"client_id", "x"},
	} {
		u, _ := url.Parse(address)
		q := u.Query()
		q.Set(change[0], change[1])
		u.RawQuery = q.Encode()
		if reply, body := signIn(t, u.String(), url.Values{"login": {"ann@local"}, "secret": {secret}}); reply.StatusCode != 400 || reply.Header.Get("Location") != "" {
			t.Errorf("%s: got %d %s", name, reply.StatusCode, body)
		}
	}
}

// A login that is tried too often is closed for a minute, for its owner too, and others are not.
func TestTooManyTries(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s, _ := start(t, func(c *identity.Config) { c.Now = func() time.Time { return now } })
	try := func(login, secret string) string {
		_, body := signIn(t, s.URL()+"/device", url.Values{"user_code": {"x"}, "login": {login}, "secret": {secret}})
		return body
	}
	for range 5 {
		try("ann@local", "guess")
	}
	if body := try("ann@local", secret); !strings.Contains(body, "too often") {
		t.Errorf("got %s", body)
	}
	if body := try("bob@local", secret); !strings.Contains(body, "no such code") {
		t.Errorf("bob: got %s", body)
	}
	now = now.Add(time.Minute)
	if body := try("ann@local", secret); !strings.Contains(body, "no such code") {
		t.Errorf("a minute later: got %s", body)
	}
}

// The owner's token needs no secret and is not to be had over the network; names and keys stay
// when the issuer starts again, and nobody else may read them.
func TestOwner(t *testing.T) {
	t.Parallel()
	s, cfg := start(t, nil)
	token, until, err := s.OwnerToken()
	if err != nil || time.Until(until) < time.Hour {
		t.Fatalf("got %v, %v", until, err)
	}
	p, err := app(t, s).Check(t.Context(), token)
	if err != nil || p.Login != "owner@local" || !slices.Equal(p.Groups, []string{identity.OwnerGroup}) {
		t.Errorf("got %+v, %v", p, err)
	}
	if at, err := os.Stat(cfg.Path); err != nil || at.Mode().Perm() != 0o600 {
		t.Errorf("the keys have mode %v, %v", at.Mode(), err)
	}
	s.Close()
	cfg.Addr = s.Addr()
	again, err := identity.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if q, err := app(t, again).Check(t.Context(), token); err != nil || q.ID != p.ID {
		t.Errorf("after a start: got %+v, %v", q, err)
	}
}

func TestFileOfPeople(t *testing.T) {
	t.Parallel()
	good := hash(t)
	for name, text := range map[string]string{
		"a secret in clear": "ann@local:hunter2", "no hash": "ann@local", "the owner's group": "ann@local:" + good + ":owner",
		"twice": "ann:" + good + "\nann:" + good, "a login of spaces": "a b:" + good, "too many parts": "ann:" + good + ":a:b",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "users")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := identity.Start(identity.Config{Addr: "127.0.0.1:0", Path: filepath.Join(dir, "i"), Users: path, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			s.Close()
			t.Errorf("%s is taken", name)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows a secret: %v", name, err)
		}
	}
}

// What is not asked for rightly gets an error of OAuth, and never a token.
func TestTokenEndpointRefuses(t *testing.T) {
	t.Parallel()
	s, _ := start(t, nil)
	sum := sha256.Sum256([]byte("x"))
	for name, f := range map[string]url.Values{
		"nothing":             {},
		"another application": {"client_id": {"x"}, "grant_type": {"refresh_token"}},
		"a secret":            {"client_id": {s.Client()}, "grant_type": {"password"}, "username": {"ann@local"}, "password": {secret}},
		"as a program":        {"client_id": {s.Client()}, "grant_type": {"client_credentials"}},
		"no device code":      {"client_id": {s.Client()}, "grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}},
		"no code":             {"client_id": {s.Client()}, "grant_type": {"authorization_code"}, "code_verifier": {"x"}},
		"a challenge":         {"client_id": {s.Client()}, "grant_type": {"authorization_code"}, "code": {base64.RawURLEncoding.EncodeToString(sum[:])}},
		"a foreign refresh":   {"client_id": {s.Client()}, "grant_type": {"refresh_token"}, "refresh_token": {"eyJhbGciOiJub25lIn0.e30."}},
		"a large one":         {"client_id": {s.Client()}, "grant_type": {"refresh_token"}, "refresh_token": {strings.Repeat("a", 1<<20)}},
	} {
		if reply, body := signIn(t, s.URL()+"/token", f); reply.StatusCode < 400 || strings.Contains(body, "access_token") {
			t.Errorf("%s: got %d %s", name, reply.StatusCode, body)
		}
	}
	owner, _, err := s.OwnerToken()
	if err != nil {
		t.Fatal(err)
	}
	if reply, _ := signIn(t, s.URL()+"/token", url.Values{"client_id": {s.Client()}, "grant_type": {"refresh_token"}, "refresh_token": {owner}}); reply.StatusCode != 400 {
		t.Errorf("an access token refreshes: %d", reply.StatusCode)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := app(t, s).Check(ctx, owner); errors.Is(err, context.Canceled) {
		t.Error("keys are read for all, whoever has gone")
	}
}
