package identity_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/identity"
)

// swap swaps a key of the page at the issuer: the token, or the error.
func swap(t *testing.T, s *identity.Server, client, key string) (token, problem string) {
	t.Helper()
	reply, err := http.PostForm(s.URL()+"/token", url.Values{"grant_type": {"urn:dsvm:grant:page-key"}, "client_id": {client}, "code": {key}})
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	var said struct {
		Token string `json:"access_token"`
		Error string `json:"error"`
	}
	if err := json.NewDecoder(reply.Body).Decode(&said); err != nil {
		t.Fatal(err)
	}
	return said.Token, said.Error
}

// A key of the page becomes a token of the owner once, within a day, and only the owner gets one.
func TestPageKeys(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s, _ := start(t, func(c *identity.Config) { c.Now = func() time.Time { return now } })
	key := s.NewPageKey()
	token, problem := swap(t, s, s.Client(), key)
	who, err := app(t, s).Check(t.Context(), token)
	if err != nil || who.ID != s.Owner() {
		t.Errorf("got %v, %v, %q; want the owner", who, err, problem)
	}
	if _, problem := swap(t, s, s.Client(), key); problem != "invalid_grant" {
		t.Errorf("the key serves twice: %q", problem)
	}
	if _, problem := swap(t, s, "other", s.NewPageKey()); problem != "invalid_client" {
		t.Errorf("another application: got %q", problem)
	}
	late := s.NewPageKey()
	now = now.Add(25 * time.Hour)
	if _, problem := swap(t, s, s.Client(), late); problem != "invalid_grant" {
		t.Errorf("the key serves after a day: %q", problem)
	}
	now = time.Now()
	owner, _, err := s.OwnerToken()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		authorization string
		status        int
	}{{"", 401}, {"Bearer x", 401}, {owner, 401}, {"Bearer " + owner[:len(owner)-4] + "AAAA", 401}, {"Bearer " + owner, 200}} {
		r, err := http.NewRequest("POST", s.URL()+"/pagekey", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", c.authorization)
		reply, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		reply.Body.Close()
		if reply.StatusCode != c.status {
			t.Errorf("%.20q: got %s, want %d", c.authorization, reply.Status, c.status)
		}
	}
}

// The page may read discovery and tokens, a page of another origin nothing, and nobody
// may read the rest.
func TestPagesThatAskForTokens(t *testing.T) {
	t.Parallel()
	s, _ := start(t, nil)
	const own = "http://127.0.0.1:7071"
	s.AllowPages(own)
	for _, c := range []struct {
		path, origin string
		status       int
		allowed      string
	}{
		{"/.well-known/openid-configuration", own, 200, own},
		{"/.well-known/openid-configuration", "http://127.0.0.1:8888", 403, ""},
		{"/keys", own, 403, ""},
		{"/token", own, 405, own},
	} {
		r, err := http.NewRequest("GET", s.URL()+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", c.origin)
		r.Header.Set("Sec-Fetch-Site", "same-site")
		reply, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		reply.Body.Close()
		if got := reply.Header.Get("Access-Control-Allow-Origin"); reply.StatusCode != c.status || got != c.allowed {
			t.Errorf("%s from %s: got %s for %q, want %d for %q", c.path, c.origin, reply.Status, got, c.status, c.allowed)
		}
	}
	if strings.Contains(s.URL(), own) {
		t.Error("the issuer is the page's own origin, so the test shows nothing")
	}
}
