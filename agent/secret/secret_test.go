//go:build unix

package secret

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
)

const (
	suffix = "vault.test"
	tenant = "11111111-2222-3333-4444-555555555555"
	value  = "s3cret-%/of+the test"
)

// vaults plays the vaults of a cloud, by host name. It asks for a token as Key Vault does:
// the first request of a client has none, and the answer says where the client gets one.
type vaults struct {
	server *httptest.Server

	mu       sync.Mutex
	hosts    []string
	asked    int // requests with a token
	resource string
	answers  []answer // for the next requests with a token, before the usual one
}

type answer struct {
	status int
	body   string
}

func newVaults(t *testing.T) *vaults {
	t.Helper()
	v := &vaults{resource: "https://" + suffix}
	v.server = httptest.NewTLSServer(v)
	t.Cleanup(v.server.Close)
	return v
}

func (v *vaults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hosts = append(v.hosts, r.Host)
	w.Header().Set("Content-Type", "application/json")
	if r.Header.Get("Authorization") != "Bearer for "+v.resource+"/.default in "+tenant {
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.test/`+tenant+`", resource="`+v.resource+`"`)
		w.WriteHeader(http.StatusUnauthorized)
		w.Write([]byte(`{"error":{"code":"Unauthorized","message":"AKV10000: Request is missing a Bearer or PoP token."}}`))
		return
	}
	v.asked++
	if len(v.answers) > 0 {
		next := v.answers[0]
		v.answers = v.answers[1:]
		w.WriteHeader(next.status)
		w.Write([]byte(next.body))
		return
	}
	name, _ := strings.CutPrefix(strings.TrimSuffix(r.URL.Path, "/"), "/secrets/")
	if r.Method != http.MethodGet || r.URL.Query().Get("api-version") == "" || name != "hf-token" {
		w.WriteHeader(http.StatusNotFound)
		w.Write([]byte(`{"error":{"code":"SecretNotFound","message":"A secret with (name/id) was not found in this key vault."}}`))
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"value": value, "id": "https://" + r.Host + "/secrets/hf-token/1", "attributes": map[string]any{"enabled": true}})
}

// client reaches the vaults under all their names.
func (v *vaults) client() *http.Client {
	address := v.server.Listener.Addr().String()
	pool := v.server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "example.com"}, // as the server's certificate says
		DialContext: func(ctx context.Context, _, host string) (net.Conn, error) {
			if strings.HasPrefix(host, "nowhere.") {
				return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			}
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
	}}
}

// credential gives tokens that say what they are for.
type credential struct{}

func (credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "for " + strings.Join(o.Scopes, " ") + " in " + o.TenantID, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func reader(t *testing.T, cfg Config) *Reader {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestVault reads secrets with the real client, whose first request learns from the vault
// for what it needs a token.
func TestVault(t *testing.T) {
	t.Parallel()
	v := newVaults(t)
	r := reader(t, Config{Suffix: suffix, Credential: credential{}, Client: v.client()})
	for range 2 {
		got, err := r.ReadAll(t.Context(), map[string]string{"HF_TOKEN": "keyvault:acme-ml/hf-token", "AGAIN": "keyvault:ACME-ml/hf-token"})
		if err != nil {
			t.Fatal(err)
		}
		if got["HF_TOKEN"] != value || got["AGAIN"] != value || len(got) != 2 {
			t.Errorf("got %q", got)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.hosts) != 5 || slices.ContainsFunc(v.hosts, func(h string) bool { return h != "acme-ml."+suffix }) {
		t.Errorf("asked %v, want the vault's host once without a token and four times with one", v.hosts)
	}
}

// TestRefusals: each refusal has its cause, and a sentence with the command that mends it.
func TestRefusals(t *testing.T) {
	t.Parallel()
	forbidden := func(inner string) answer {
		return answer{http.StatusForbidden, `{"error":{"code":"Forbidden","message":"no","innererror":{"code":"` + inner + `"}}}`}
	}
	down := answer{http.StatusServiceUnavailable, `{"error":{"code":"ServiceUnavailable","message":"later"}}`}
	for _, c := range []struct {
		name, ref string
		answers   []answer
		resource  string
		cause     job.Cause
		says      string
	}{
		{"missing", "keyvault:acme-ml/none", nil, "", job.CauseSecret, "az keyvault secret set --vault-name acme-ml --name none"},
		{"no role", "keyvault:acme-ml/hf-token", []answer{forbidden("ForbiddenByRbac")}, "", job.CauseSecret,
			`az role assignment create --role "Key Vault Secrets User" --assignee the-client-id`},
		{"firewall", "keyvault:acme-ml/hf-token", []answer{forbidden("ForbiddenByFirewall")}, "", job.CauseSecret,
			"az keyvault network-rule add --name acme-ml"},
		{"disabled", "keyvault:acme-ml/hf-token", []answer{forbidden("SecretDisabled")}, "", job.CauseSecret, "--enabled true"},
		{"no vault of the name", "keyvault:nowhere/hf-token", nil, "", job.CauseSecret, "nowhere.vault.test"},
		{"down", "keyvault:acme-ml/hf-token", []answer{down, down, down}, "", job.CauseVault, "503 ServiceUnavailable"},
		{"no value", "keyvault:acme-ml/hf-token", []answer{{http.StatusOK, `{}`}}, "", job.CauseSecret, "has no value"},
		{"a zero byte", "keyvault:acme-ml/hf-token", []answer{{http.StatusOK, `{"value":"a\u0000b"}`}}, "", job.CauseSecret, "zero byte"},
		{"a token for somebody else", "keyvault:acme-ml/hf-token", nil, "https://vault.elsewhere", job.CauseVault, "challenge resource"},
		{"another host", "keyvault:evil.example/hf-token", nil, "", job.CauseDocument, "names no secret"},
		{"a way out", "keyvault:acme-ml/../hf-token", nil, "", job.CauseDocument, "names no secret"},
		{"the key of the deployment's share", "keyvault:acme-ml/acme-Share-Key", nil, "", job.CauseDocument, "no job may have"},
		{"the key of an account", "keyvault:acme-ml/share-key-acmedata", nil, "", job.CauseDocument, "no job may have"},
		{"the secret itself", "hunter2", nil, "", job.CauseDocument, "names no secret"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := newVaults(t)
			v.answers = c.answers
			if c.resource != "" {
				v.resource = c.resource
			}
			r := reader(t, Config{Suffix: suffix, Credential: credential{}, Client: v.client(), ClientID: "the-client-id"})
			got, err := r.ReadAll(t.Context(), map[string]string{"X": c.ref})
			var f startfault.Fault
			if !errors.As(err, &f) || f.Cause != c.cause || !strings.Contains(err.Error(), c.says) || got != nil {
				t.Errorf("got %v, %v; want the cause %s and %q", got, err, c.cause, c.says)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error quotes what may be a secret: %v", err)
			}
			for _, host := range v.hosts {
				if !strings.HasSuffix(host, "."+suffix) || strings.Count(host, ".") != 2 {
					t.Errorf("asked the host %s", host)
				}
			}
		})
	}
}

// TestFile reads secrets from a file of one machine.
func TestFile(t *testing.T) {
	t.Parallel()
	write := func(text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "secrets")
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name, path, says string
	}{
		{"yaml", write("acme-ml/hf-token: '"+value+"'\n", 0o600), ""},
		{"json", write(`{"acme-ml/hf-token": "`+value+`", "other/x": "y"}`, 0o400), ""},
		{"others may read it", write("acme-ml/hf-token: x\n", 0o640), "chmod 600"},
		{"not there", filepath.Join(t.TempDir(), "none"), "DSVM_SECRETS_FILE"},
		{"a folder", t.TempDir(), "chmod 600"},
		{"without it", write("acme-ml/other: x\n", 0o600), "add acme-ml/hf-token"},
		{"of another form", write("hunter2: [\n", 0o600), "write a line VAULT/SECRET"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := reader(t, Config{File: c.path, Credential: credential{}})
			got, err := r.ReadAll(t.Context(), map[string]string{"X": "keyvault:acme-ml/hf-token"})
			if c.says == "" {
				if err != nil || got["X"] != value {
					t.Errorf("got %q, %v", got, err)
				}
				return
			}
			if startfault.CauseOf(err, func(error) job.Cause { return "none" }) != job.CauseSecret || !strings.Contains(err.Error(), c.says) ||
				strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v; want %q, and nothing of the file", err, c.says)
			}
		})
	}
}

// TestSettings: a suffix that would lead elsewhere keeps the agent from starting, and a node
// with nowhere to read from says so.
func TestSettings(t *testing.T) {
	t.Parallel()
	for suffix, ok := range map[string]bool{"": true, "vault.usgovcloudapi.net": true, "vault.azure.net/x": false, "evil@host.net": false, "net": false} {
		if _, err := New(Config{Suffix: suffix}); (err == nil) != ok {
			t.Errorf("suffix %q: got %v, want it taken: %v", suffix, err, ok)
		}
	}
	r := reader(t, Config{})
	if got, err := r.ReadAll(t.Context(), nil); err != nil || got != nil {
		t.Errorf("no secrets: got %v, %v", got, err)
	}
	if _, err := r.ReadAll(t.Context(), map[string]string{"X": "keyvault:acme-ml/hf-token"}); err == nil || !strings.Contains(err.Error(), "DSVM_SECRETS_FILE") {
		t.Errorf("nowhere to read from: got %v", err)
	}
}
