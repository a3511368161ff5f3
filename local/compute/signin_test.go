//go:build unix

package compute_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/compute"
	"dsvmpools/local/internal/tlsport"
)

// secured starts a server with a certificate, and returns a client that trusts it alone.
func secured(t *testing.T) (*compute.Server, *http.Client) {
	t.Helper()
	dir := t.TempDir()
	certificate, err := tlsport.OwnCertificate(filepath.Join(dir, "own.pem"), "127.0.0.1:1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := config(dir, "127.0.0.1:1", "plain")
	c.TLS = tlsport.Config(certificate)
	s := launch(t, c)
	trusted := x509.NewCertPool()
	trusted.AddCert(certificate.Leaf)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}
	t.Cleanup(transport.CloseIdleConnections)
	return s, &http.Client{Transport: transport, Timeout: time.Minute}
}

// TestSignIn signs in as az does: it finds the cloud, the address of the tokens, gets one
// with the password, and asks for subscriptions and groups with it.
func TestSignIn(t *testing.T) {
	t.Parallel()
	s, client := secured(t)
	read := func(r *http.Response, err error, into any) *http.Response {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(body, into)
		}
		if err != nil {
			t.Fatalf("got %s %s: %v", r.Status, body, err)
		}
		return r
	}
	var cloud struct {
		ResourceManager string
		Authentication  struct{ LoginEndpoint string }
	}
	r, err := client.Get(s.SecureURL() + "/metadata/endpoints?api-version=2022-09-01")
	read(r, err, &cloud)
	if cloud.ResourceManager != s.SecureURL() || cloud.Authentication.LoginEndpoint != s.SecureURL() {
		t.Fatalf("got the cloud %+v, want everything at %s", cloud, s.SecureURL())
	}
	var authority struct {
		Issuer        string
		TokenEndpoint string `json:"token_endpoint"`
	}
	r, err = client.Get(cloud.Authentication.LoginEndpoint + "/tenant/v2.0/.well-known/openid-configuration")
	read(r, err, &authority)
	if authority.Issuer != s.SecureURL()+"/tenant/v2.0" || !strings.HasPrefix(authority.TokenEndpoint, s.SecureURL()+"/tenant/") {
		t.Fatalf("got %+v", authority)
	}
	form := func(kind, secret string) url.Values {
		return url.Values{"grant_type": {kind}, "client_id": {"dsvm"}, "client_secret": {secret}}
	}
	var got struct {
		Error       string
		TokenType   string `json:"token_type"`
		AccessToken string `json:"access_token"`
	}
	r, err = client.PostForm(authority.TokenEndpoint, form("client_credentials", "wrong"))
	if r = read(r, err, &got); r.StatusCode != http.StatusUnauthorized || got.Error != "invalid_client" || got.AccessToken != "" {
		t.Errorf("a wrong secret: got %d %+v", r.StatusCode, got)
	}
	r, err = client.PostForm(authority.TokenEndpoint, form("device_code", token))
	if r = read(r, err, &got); r.StatusCode != http.StatusBadRequest || got.Error != "unsupported_grant_type" || got.AccessToken != "" {
		t.Errorf("another way to sign in: got %d %+v", r.StatusCode, got)
	}
	r, err = client.PostForm(authority.TokenEndpoint, form("client_credentials", token))
	if r = read(r, err, &got); r.StatusCode != http.StatusOK || got.TokenType != "Bearer" {
		t.Fatalf("got %d %+v", r.StatusCode, got)
	}
	ask := func(path string, into any) *http.Response {
		t.Helper()
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.SecureURL()+path+"?api-version=2022-12-01", nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Authorization", "Bearer "+got.AccessToken)
		r, err := client.Do(q)
		return read(r, err, into)
	}
	var list struct {
		Value []struct{ SubscriptionID, Name string }
	}
	if ask("/subscriptions", &list); len(list.Value) != 1 || list.Value[0].SubscriptionID != subscription {
		t.Errorf("got the subscriptions %+v", list)
	}
	if ask("/subscriptions/"+subscription+"/resourcegroups", &list); len(list.Value) != 1 || list.Value[0].Name != group {
		t.Errorf("got the groups %+v", list)
	}
	got.AccessToken = "wrong"
	var failure struct{ Error struct{ Code string } }
	if r := ask("/subscriptions", &failure); r.StatusCode != http.StatusUnauthorized || failure.Error.Code != "InvalidAuthenticationToken" {
		t.Errorf("a wrong token: got %d %+v", r.StatusCode, failure)
	}
}

// TestLinksKeepTheScheme makes a change by https: a client sends its token to the address of
// the operation, and must find https there too.
func TestLinksKeepTheScheme(t *testing.T) {
	t.Parallel()
	s, client := secured(t)
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.SecureURL()+setPath+"cpu?api-version=1", strings.NewReader(resource(0)))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+token)
	q.Header.Set("Content-Type", "application/json")
	r, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if got := r.Header.Get("Azure-AsyncOperation"); r.StatusCode != http.StatusCreated || !strings.HasPrefix(got, s.SecureURL()+"/") {
		t.Errorf("got %s and the operation %q, want it below %s", r.Status, got, s.SecureURL())
	}
}
