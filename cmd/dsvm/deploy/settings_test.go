package deploy

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsvmpools/infra"
)

// What somebody has added to the app's settings survives the next deployment, whether the
// last one succeeded or not, and is shown nowhere.
func TestSettingsStay(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	if code, _, said := b.run("deploy", "tools", "location=westeurope", "--yes"); code != 0 {
		t.Fatal(said)
	}
	b.change(func(c *cloud) {
		c.Settings["GITHUB_PUSH_SECRET"], c.Settings["EMPTY"], c.Settings["JOBS_QUEUE"] = "by-hand-1", "", "of-an-older-template"
	})
	if code, _, said := b.run("deploy", "tools", "--yes"); code != 0 || !strings.Contains(said, "stay: EMPTY, GITHUB_PUSH_SECRET\n") {
		t.Fatalf("got %d, %s", code, said)
	}
	c := b.cloud()
	want := map[string]string{"GITHUB_PUSH_SECRET": "by-hand-1", "EMPTY": "", "JOBS_QUEUE": "jobs", "SHARE_PATH": "/mounts/share"}
	if !maps.Equal(c.Settings, want) {
		t.Errorf("got %v, want %v", c.Settings, want)
	}
	hidden(t, c, "")

	// A deployment that has failed leaves a record without outputs.
	b.change(func(c *cloud) {
		c.Deployments["dsvmpools-tools"] = json.RawMessage(`{"location":"westeurope","properties":{"provisioningState":"Failed"}}`)
	})
	file := filepath.Join(t.TempDir(), "p.json")
	if err := os.WriteFile(file, []byte(`{"extraSettings": {"EMPTY": null, "TOKEN": "by-file-2"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, said := b.run("deploy", "tools", "location=westeurope", "-p", file, "--yes")
	c = b.cloud()
	want = map[string]string{"GITHUB_PUSH_SECRET": "by-hand-1", "TOKEN": "by-file-2", "JOBS_QUEUE": "jobs", "SHARE_PATH": "/mounts/share"}
	if code != 0 || !maps.Equal(c.Settings, want) {
		t.Errorf("got %d, %v, want %v: %s", code, c.Settings, want, said)
	}
	hidden(t, c, out+said)
	b.change(func(c *cloud) {})
	if code, out, said := b.run("upgrade", "tools", "-p", file, "--check"); code != 0 || strings.Contains(out+said, "by-file-2") {
		t.Errorf("got %d, %s%s", code, out, said)
	}
}

// hidden fails if a secret of TestSettingsStay is an argument, or was said, or was in the
// parameters of a call that only looks.
func hidden(t *testing.T, c *cloud, said string) {
	t.Helper()
	for _, call := range c.Calls {
		said += strings.Join(call, " ")
	}
	said += strings.Join(c.Looked, " ")
	for _, secret := range []string{"by-hand-1", "by-file-2"} {
		if strings.Contains(said, secret) {
			t.Errorf("%q was shown: %s", secret, said)
		}
	}
	if len(c.Looked) == 0 || !strings.Contains(c.Looked[len(c.Looked)-1], "GITHUB_PUSH_SECRET") {
		t.Errorf("what would change is not asked with the names of settings: %v", c.Looked)
	}
}

// What may not be set, or would be lost, is said before anything is changed, without values.
func TestSettingsThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, file, arg, says string }{
		{"on the command line", `{}`, `extraSettings={"A":"secret-3"}`, "write it into a file"},
		{"no text", `{"extraSettings": {"A": ["secret-3"]}}`, "--yes", "the setting A in extraSettings is no text"},
		{"no object", `{"extraSettings": "secret-3"}`, "--yes", "write an object of JSON"},
		{"a setting that the plan refuses", `{"extraSettings": {"website_contentshare": "secret-3"}}`, "--yes", "the plan of the app refuses"},
		{"a value that az hides", `{}`, "--yes", "does not show the value of the setting HIDDEN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			if code, _, said := b.run("deploy", "tools", "location=westeurope", "--yes"); code != 0 {
				t.Fatal(said)
			}
			b.change(func(c *cloud) { c.Settings["HIDDEN"] = "(hidden)" })
			file := filepath.Join(t.TempDir(), "p.json")
			if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			code, out, said := b.run("deploy", "tools", "-p", file, "--yes", c.arg)
			if code == 0 || !strings.Contains(said, c.says) || strings.Contains(out+said, "secret-3") {
				t.Errorf("got %d, %s%s, want %q", code, out, said, c.says)
			}
			for _, call := range b.cloud().calls() {
				if call == "deployment sub create" {
					t.Error("something was deployed")
				}
			}
		})
	}
}

// Settings of sign-in that an earlier release had among extraSettings, or somebody has set by hand,
// become parameters, and stay until somebody removes them.
func TestSignInStays(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	file := filepath.Join(t.TempDir(), "p.json")
	deploy := func(text string, args ...string) map[string]json.RawMessage {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, said := b.run(append([]string{"deploy", "tools", "location=westeurope", "-p", file, "--yes"}, args...)...)
		if code != 0 {
			t.Fatal(said)
		}
		return b.cloud().Parameters["tools"]
	}
	for _, c := range []struct{ name, file, arg, tenant, roles string }{
		{"as parameters", `{"roles": "*=reader"}`, "signInTenant=t1", `"t1"`, `"*=reader"`},
		{"named no more", `{}`, "keyRole=user", `"t1"`, `"*=reader"`},
		{"as settings", `{"extraSettings": {"DSVM_TENANT": "t2"}}`, "keyRole=user", `"t2"`, `"*=reader"`},
		{"removed", `{"extraSettings": {"DSVM_TENANT": null}}`, "roles=", `""`, `""`},
	} {
		got := deploy(c.file, c.arg)
		if string(got["signInTenant"]) != c.tenant || string(got["roles"]) != c.roles || string(got["extraSettings"]) != "{}" {
			t.Errorf("%s: got %s, want %s and %s", c.name, got, c.tenant, c.roles)
		}
	}
	b.change(func(c *cloud) { c.Settings["DSVM_TENANT"], c.Settings["DSVM_ROLES"] = "by-hand", "*=user" })
	if got := deploy(`{}`); string(got["signInTenant"]) != `"by-hand"` || string(got["roles"]) != `"*=user"` {
		t.Errorf("by hand: got %s", got)
	}
	for setting, parameter := range parameterOf {
		if !strings.Contains(string(infra.Template), "\""+setting+"\": \"[parameters('"+parameter+"')]\"") {
			t.Errorf("the template does not set %s from %s", setting, parameter)
		}
	}
}

// The platform reads the share's key once, perhaps before it may: it is told to look again.
func TestShareKeyIsAwaited(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *cloud) { c.KeyStates = []string{"AccessToKeyVaultDenied", "Initialized"} })
	if code, _, said := b.run("deploy", "tools", "location=westeurope", "--yes"); code != 0 || !strings.Contains(said, "Azure answers AccessToKeyVaultDenied") {
		t.Errorf("got %d, %s", code, said)
	}
	if c := b.cloud(); c.Refreshed != 2 {
		t.Errorf("the platform was told to look again %d times, want 2", c.Refreshed)
	}
	b = newBench(t, func(c *cloud) { c.KeyStates = []string{""} })
	if code, _, said := b.run("deploy", "tools", "location=westeurope", "--yes"); code != 0 || !strings.Contains(said, "does not say whether the app has") {
		t.Errorf("an unknown answer: got %d, %s", code, said)
	}
}

// What Azure has just made is not known everywhere at once: that ends no deployment.
func TestDeployIsPatient(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		words     string
		fails, as int
	}{
		{"(PrincipalNotFound) Principal x does not exist in the directory y.", 2, 0},
		{"(RoleDefinitionDoesNotExist) The specified role definition with ID 'x' does not exist.", 9, 1},
		{"(InvalidTemplate) no", 2, 1},
	} {
		b := newBench(t, func(cl *cloud) { cl.Fail, cl.Fails, cl.Words = "deployment sub create", c.fails, c.words })
		if code, _, said := b.run("deploy", "tools", "location=westeurope", "--yes"); (code != 0) != (c.as != 0) {
			t.Errorf("%s, %d times: got exit code %d: %s", c.words, c.fails, code, said)
		}
	}
}

// A region has one spelling, since names are derived from it.
func TestRegionIsSpelledAsAzureDoes(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	if code, _, said := b.run("deploy", "tools", "location=West Europe", "--yes"); code != 0 {
		t.Fatal(said)
	}
	if got := string(b.cloud().Parameters["tools"]["location"]); got != `"westeurope"` {
		t.Errorf("got %s", got)
	}
}
