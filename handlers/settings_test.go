package handlers

import (
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/boot"
)

// Everything that is wrong is said at once: who sets up an app waits a minute for every
// restart.
func TestReadSettingsNamesAllThatIsWrong(t *testing.T) {
	t.Parallel()
	wrong := map[string]string{
		"SHARE_PATH":               "",
		"DSVM_SSH_PUBLIC_KEY":      "-----BEGIN OPENSSH PRIVATE KEY-----",
		"DSVM_NODE_PUBLIC_IP":      "sometimes",
		"DSVM_SECURITY_TYPE":       "Standard",
		"DSVM_DEPLOYED_AT":         "yesterday",
		"DSVM_ZONES":               "1,west",
		"DSVM_AGENT_URL":           "https://a.blob.core.windows.net/agent/x?sig=secret",
		"DSVM_AGENT_SHA256":        "abc",
		"DSVM_NODE_CLIENT_ID":      "me",
		"DSVM_SHARE_AUTH":          "password",
		"DSVM_SHARE_NAME":          "dsvm",
		"DSVM_BOOT_DEADLINE":       "soon",
		"DSVM_REVIVE_AFTER":        "1m;2m",
		"DSVM_KEEP_FILES":          "long",
		"DSVM_LOG_BOUND":           "1Ki",
		"DSVM_DOOR_CERTIFICATE":    "/etc/door.pem",
		"DSVM_ALLOW_PRIVATE_HOSTS": "http://x",
		"DSVM_ISSUER":              "http://login.example.com",
		"DSVM_TENANT":              "contoso.com",
		"DSVM_ROLES":               "*=admin",
		"DSVM_KEY_ROLE":            "root",
		"DSVM_WAYS_FROM":           "203.0.113.0/24, 10.0.0.1/8",
		"DSVM_BALANCER_PORT":       "65535",
	}
	settings := goodSettings()
	for name, v := range wrong {
		settings[name] = v
	}
	_, err := ReadSettings(func(name string) string { return settings[name] })
	if err == nil {
		t.Fatal("no error")
	}
	for name := range wrong {
		if name == "DSVM_SHARE_NAME" {
			name = "DSVM_SHARE_ACCOUNT" // which is missing beside it
		}
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not in %q", name, err)
		}
	}
	if strings.Contains(err.Error(), "sig=secret") {
		t.Errorf("the error shows a signature: %v", err)
	}
}

func TestReadSettings(t *testing.T) {
	t.Parallel()
	settings := goodSettings()
	for name, v := range map[string]string{
		"DSVM_DEPLOYED_AT": "2026-11-28T06:00:00Z", "DSVM_ZONES": "1, 2", "DSVM_SECURITY_TYPE": "TrustedLaunch", "DSVM_NODE_PUBLIC_IP": "False",
		"DSVM_AGENT_URL": "https://a.blob.core.windows.net/agent/x", "DSVM_AGENT_SHA256": strings.Repeat("0f", 32),
		"DSVM_NODE_CLIENT_ID": "11111111-2222-3333-4444-555555555555", "DSVM_SHARE_ACCOUNT": "acme", "DSVM_SHARE_NAME": "s",
		"DSVM_SHARE_KEY_URL": "https://v.vault.azure.net/secrets/share-key", "DSVM_LOG_BOUND": "2Gi", "DSVM_DOOR_CERTIFICATE": "keyvault:contoso/door",
	} {
		settings[name] = v
	}
	s, err := ReadSettings(func(name string) string { return settings[name] })
	if err != nil {
		t.Fatal(err)
	}
	n := s.Nodes
	if !n.DeployedAt.Equal(time.Date(2026, 11, 28, 6, 0, 0, 0, time.UTC)) || !slices.Equal(n.Zones, []string{"1", "2"}) ||
		n.PublicIP || n.ShareAuth != shareByKey || !slices.Equal(s.ReviveAfter, reviveAfter) {
		t.Errorf("got %+v", n)
	}
	if data, err := boot.CloudInit(s.boot()); err != nil || !strings.Contains(string(data), `DSVM_LOG_BOUND=\"2Gi\"`) ||
		!strings.Contains(string(data), `DSVM_DOOR_CERTIFICATE=\"keyvault:contoso/door\"`) {
		t.Errorf("the bound of logs does not come to the nodes: %v", err)
	}
	s, err = ReadSettings(func(name string) string { return goodSettings()[name] })
	if err != nil || !s.Nodes.PublicIP {
		t.Errorf("without settings for nodes: %+v (%v), want a public address", s.Nodes, err)
	}
}
