package handlers

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"dsvmpools/shared/fleet"
	"dsvmpools/shared/relay"
	"dsvmpools/shared/sshca"
)

func TestDoorsOfSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, relay, listen, send string
		isThere                   bool
		wrong                     string
	}{
		{"none", "", "", "", false, ""},
		{"all", "https://contoso.servicebus.windows.net", "a", "b", true, ""},
		{"no key", "https://contoso.servicebus.windows.net", "", "b", false, "DSVM_RELAY_LISTEN_KEY"},
		{"no other key", "https://contoso.servicebus.windows.net", "a", "", false, "DSVM_RELAY_SEND_KEY"},
		{"no URL", "contoso", "a", "b", false, "DSVM_RELAY"},
		{"without TLS", "http://contoso.servicebus.windows.net", "a", "b", false, "DSVM_RELAY"},
	} {
		s, err := ReadSettings(func(name string) string {
			switch name {
			case "DSVM_RELAY":
				return c.relay
			case "DSVM_RELAY_LISTEN_KEY":
				return c.listen
			case "DSVM_RELAY_SEND_KEY":
				return c.send
			}
			return ""
		})
		said := strings.Contains(err.Error(), "DSVM_RELAY")
		if said != (c.wrong != "") || !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: got %v, want a word on %q", c.name, err, c.wrong)
		}
		if doors, err := s.Doors(fleet.StaticCredential("x")); c.wrong == "" && (err != nil || (doors != nil) != c.isThere) {
			t.Errorf("%s: got %v, %v", c.name, doors, err)
		}
	}
}

// People come in where there are a relay and a key that signs certificates.
func TestDoorsOfPeople(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := sshca.CreateFile(path); err != nil {
		t.Fatal(err)
	}
	at, err := relay.ParseNamespace("https://contoso.servicebus.windows.net")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		settings          Settings
		isThere, isBroken bool
	}{
		"nothing":     {Settings{}, false, false},
		"no relay":    {Settings{SSHCA: path}, false, false},
		"no key":      {Settings{Relay: at}, false, false},
		"a file":      {Settings{Relay: at, SSHCA: path}, true, false},
		"a vault":     {Settings{Relay: at, SSHCA: "https://v.vault.azure.net/keys/ssh-ca"}, true, false},
		"no file":     {Settings{Relay: at, SSHCA: path + "x"}, false, true},
		"not a vault": {Settings{Relay: at, SSHCA: "https://v.vault.azure.net/secrets/x"}, false, true},
	} {
		got, err := c.settings.doors(fleet.StaticCredential("x"), fleet.StaticCredential("x"))
		if (got != nil) != c.isThere || (err != nil) != c.isBroken {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

// The app makes its entities in the group that a setting names, or else in that of the nodes.
func TestGroupOfTheRelay(t *testing.T) {
	t.Parallel()
	for named, want := range map[string]string{"": "nodes", "platform": "platform"} {
		var called string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { called = r.URL.Path }))
		t.Cleanup(server.Close)
		at, err := relay.ParseNamespace("https://contoso.servicebus.windows.net")
		if err != nil {
			t.Fatal(err)
		}
		s := Settings{Subscription: "s", ResourceGroup: "nodes", RelayGroup: named, Relay: at, ResourceManager: server.URL}
		doors, err := s.Doors(fleet.StaticCredential("x"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := doors.Listen(t.Context(), "lab-01"); err != nil || !strings.Contains(called, "/resourceGroups/"+want+"/") {
			t.Errorf("%q: got %s, %v, want the group %s", named, called, err, want)
		}
	}
}
