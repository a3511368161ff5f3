package identity

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// No test runs beside another one: azidentity reads the environment of the process.

func lookUp(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

// TestManagedIdentityIsPinned asks for a token where nothing but `az` would give one: it
// must not be asked.
func TestManagedIdentityIsPinned(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the program in the place of az is a shell script")
	}
	for name, c := range map[string]struct {
		env     map[string]string
		onAzure bool
		fails   bool
	}{
		"on a node":        {onAzure: true, fails: true},
		"by the setting":   {env: map[string]string{TokenCredentials: "managedidentitycredential"}, fails: true},
		"by Functions":     {env: map[string]string{"IDENTITY_ENDPOINT": "set below"}},
		"which of several": {env: map[string]string{"IDENTITY_ENDPOINT": "set below", ClientID: "11111111-2222-3333-4444-555555555555"}},
		"a developer":      {env: map[string]string{TokenCredentials: "AzureCLICredential"}},
	} {
		t.Run(name, func(t *testing.T) {
			var clientID string
			asked := false
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked, clientID = true, r.URL.Query().Get("client_id")
				if c.fails {
					w.WriteHeader(http.StatusForbidden)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				w.Write([]byte(`{"access_token":"t","expires_on":"4102444800","resource":"x","token_type":"Bearer"}`))
			}))
			defer server.Close()
			dir := t.TempDir()
			mark := filepath.Join(dir, "asked")
			script := "#!/bin/sh\ntouch " + mark + "\n" +
				`echo '{"accessToken":"of a person","expires_on":4102444800,"expiresOn":"2100-01-01 00:00:00.000000","tokenType":"Bearer"}'` + "\n"
			if err := os.WriteFile(filepath.Join(dir, "az"), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			t.Setenv("IDENTITY_ENDPOINT", server.URL)
			t.Setenv("IDENTITY_HEADER", "h")
			env := map[string]string{}
			for k, v := range c.env {
				if env[k] = v; k == "IDENTITY_ENDPOINT" {
					env[k] = server.URL
				}
				t.Setenv(k, env[k])
			}
			credential, err := New(lookUp(env), c.onAzure)
			if err != nil {
				t.Fatal(err)
			}
			// One of its own: MSAL keeps tokens of managed identities for the whole process.
			scope := "https://" + strings.ReplaceAll(name, " ", "-") + ".example/.default"
			_, err = credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}})
			if (err != nil) != c.fails {
				t.Errorf("a token was asked for: got the error %v, want one: %v", err, c.fails)
			}
			_, missing := os.Stat(mark)
			developer := c.env[TokenCredentials] == "AzureCLICredential"
			if azAsked := missing == nil; azAsked != developer {
				t.Errorf("az was asked: got %v, want %v", azAsked, developer)
			}
			if asked == developer {
				t.Errorf("the managed identity was asked: got %v, want %v", asked, !developer)
			}
			if clientID != c.env[ClientID] {
				t.Errorf("the identity asked for is %q, want %q", clientID, c.env[ClientID])
			}
		})
	}
}

// TestMetadataEndpointIsAsked: on a node the token comes from the metadata endpoint, for
// the identity of the setting.
func TestMetadataEndpointIsAsked(t *testing.T) {
	for _, name := range []string{"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "MSI_SECRET", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT"} {
		if v, ok := os.LookupEnv(name); ok {
			t.Skipf("%s is set to %q, so that azidentity asks elsewhere", name, v)
		}
	}
	var got *http.Request
	options := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: policy.ClientOptions{Transport: transport(func(r *http.Request) (*http.Response, error) {
		got = r
		answer := httptest.NewRecorder()
		answer.Header().Set("Content-Type", "application/json")
		answer.WriteString(`{"access_token":"t","expires_in":"3600","expires_on":"4102444800","resource":"x","token_type":"Bearer"}`)
		return answer.Result(), nil
	})}}
	const id = "11111111-2222-3333-4444-555555555555"
	credential, err := newManaged(id, options)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://servicebus.azure.net/.default"}}); err != nil {
		t.Fatal(err)
	}
	if got == nil || got.URL.Host != "169.254.169.254" || got.URL.Query().Get("client_id") != id || got.Header.Get("Metadata") != "true" {
		t.Errorf("the request for the token is %+v; want one to the metadata endpoint for %s", got, id)
	}
	if strings.Contains(got.URL.RawQuery, ".default") {
		t.Errorf("the query is %s; want a resource, not a scope", got.URL.RawQuery)
	}
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) Do(r *http.Request) (*http.Response, error) { return t(r) }
