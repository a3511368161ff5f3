package deploy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/cmd/dsvm/pack"
)

// The whole way: an empty subscription, everything asked for, up to the first answer.
func TestDeploy(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *cloud) { c.LateRights = 3 })
	b.in, b.unanswered, b.denied = "tools\nwesteurope\ny\n", 2, 1
	code, out, said := b.run("deploy")
	if code != 0 {
		t.Fatalf("got exit code %d: %s", code, said)
	}
	c := b.cloud()
	for _, want := range []string{"https://fn.example", "About 10 US dollars", "dsvm destroy tools", "az functionapp keys list"} {
		if !strings.Contains(out, want) {
			t.Errorf("the end does not say %q: %s", want, out)
		}
	}
	sum := ""
	_ = json.Unmarshal(c.Parameters["tools"]["agentSha256"], &sum)
	if agent, _ := os.ReadFile(b.agent); len(sum) != 64 || c.Blobs["agent/"+sum] != string(agent) {
		t.Errorf("the agent with the SHA-256 %q is not uploaded under it", sum)
	}
	if c.App != b.app || c.Groups["tools"][versionTag] == "" {
		t.Errorf("got app %q, tags %v", c.App, c.Groups["tools"])
	}
	if got := string(c.Parameters["tools"]["deployers"]); got != `["99999999-0000-4000-8000-000000000000"]` {
		t.Errorf("got deployers %s", got)
	}
	if got := string(c.Parameters["tools"]["sshPublicKey"]); !strings.HasPrefix(got, `"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI`) {
		t.Errorf("got key %s", got)
	}
	for _, p := range providers {
		if !c.Providers[p] {
			t.Errorf("the provider %s is not registered", p)
		}
	}
	if !strings.Contains(said, "has 1 of 4 cpus free") {
		t.Errorf("nothing is said about the quota: %s", said)
	}
	calls := c.calls()
	whatIf, create := slices.Index(calls, "deployment sub what-if"), slices.Index(calls, "deployment sub create")
	if whatIf < 0 || create < whatIf || slices.Index(calls, "vm image show") > whatIf {
		t.Errorf("got the calls in the order %v", calls)
	}
	secrets(t, c, out+said)
}

// secrets fails if one is in an argument or in what was printed.
func secrets(t *testing.T, c *cloud, said string) {
	t.Helper()
	for _, call := range c.Calls {
		said += strings.Join(call, " ")
		for _, arg := range call {
			if strings.ContainsAny(arg, `"'%&^|<>!`) {
				t.Errorf("az would not get %q on Windows", arg)
			}
		}
	}
	for _, secret := range []string{"the-key", "secretsignature"} {
		if strings.Contains(said, secret) {
			t.Errorf("%q was shown: %s", secret, said)
		}
	}
}

// A second run needs the name alone, keeps what was said, uploads nothing twice, and has the
// agent there before the app hears of it.
func TestDeployAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	if code, _, said := b.run("deploy", "tools", "location=westeurope", "zones=1,2", "budgetPerMonth=100", "--yes"); code != 0 {
		t.Fatal(said)
	}
	first := b.cloud()
	b.change(func(*cloud) {})
	code, out, said := b.run("deploy", "tools", "--yes", "-o", "json")
	if code != 0 {
		t.Fatal(said)
	}
	var f finished
	if err := json.Unmarshal([]byte(out), &f); err != nil || f.URL != "https://fn.example" || f.Name != "tools" {
		t.Errorf("got %s, %v", out, err)
	}
	second := b.cloud()
	for name, want := range map[string]string{"zones": `["1","2"]`, "budgetPerMonth": "100", "sshPublicKey": string(first.Parameters["tools"]["sshPublicKey"])} {
		if got := string(second.Parameters["tools"][name]); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	if slices.Contains(second.calls(), "storage blob upload") {
		t.Error("the agent was uploaded twice")
	}
	if err := os.WriteFile(b.agent, append(mustRead(t, b.agent), 0), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(filepath.Dir(b.agent), pack.SumsFile)); err != nil {
		t.Fatal(err)
	}
	b.change(func(c *cloud) { c.Sets["dsvm-cpu"] = 3 })
	code, out, said = b.run("upgrade", "tools", "--check")
	for _, want := range []string{"parameter agentSha256: ", "pool cpu: dsvm-cpu has 3 to replace", "order: the agent's program"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("got %d, %s%s, want %q", code, out, said, want)
		}
	}
	if calls := b.cloud().calls(); slices.Contains(calls, "deployment sub create") || slices.Contains(calls, "storage blob upload") {
		t.Errorf("--check changed something: %v", calls)
	}
	b.change(func(*cloud) {})
	if code, _, said := b.run("upgrade", "tools", "--yes"); code != 0 || !strings.Contains(said, "3 to replace") {
		t.Errorf("got %d, %s", code, said)
	}
	calls := b.cloud().calls()
	if upload := slices.Index(calls, "storage blob upload"); upload < 0 || upload > slices.Index(calls, "deployment sub create") {
		t.Errorf("the agent comes after the template: %v", calls)
	}
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever call a run dies in, before or after Azure has done what it asked for: the next
// run ends well, and so does the removal.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	deploy := []string{"deploy", "tools", "location=westeurope", "--yes"}
	if code, _, said := b.run(deploy...); code != 0 {
		t.Fatal(said)
	}
	n := b.cloud().Call
	whole := b.cloud()
	for at := 1; at <= n; at++ {
		for _, before := range killsAt(at) {
			c := newCloud()
			c.DieAt, c.Before = at, before
			b.put(c)
			// A look at a key that fails is repeated within the run.
			b.run(deploy...)
			b.change(func(*cloud) {})
			if code, _, said := b.run(deploy...); code != 0 {
				t.Fatalf("died at call %d (before: %v): the next run says %s", at, before, said)
			}
			if got := b.cloud(); got.App == "" || len(got.Blobs) != 1 || got.Groups["tools"][versionTag] == "" {
				t.Errorf("died at call %d: got %+v", at, got)
			}
		}
	}
	whole.Sets["dsvm-cpu-1"], whole.Sets["dsvm-cpu-2"] = 2, 0
	whole.Call, whole.Calls = 0, nil
	b.put(whole)
	if code, _, said := b.run("destroy", "tools", "--yes"); code != 0 {
		t.Fatal(said)
	}
	n = b.cloud().Call
	for at := 1; at <= n; at++ {
		for _, before := range killsAt(at) {
			c := *whole
			c.DieAt, c.Before = at, before
			b.put(&c)
			b.run("destroy", "tools", "--yes")
			b.change(func(*cloud) {})
			if code, _, said := b.run("destroy", "tools", "--yes"); code != 0 {
				t.Fatalf("died at call %d (before: %v): the next run says %s", at, before, said)
			}
			isRemoved(t, b.cloud())
		}
	}
}

// killsAt is whether a run is killed before or after a call, or both in turn in a long run.
func killsAt(call int) []bool {
	if os.Getenv("DSVM_LONG") != "" {
		return []bool{true, false}
	}
	return []bool{call%2 == 0}
}

// isRemoved fails if more than the share is left, or if something of others went.
func isRemoved(t *testing.T, c *cloud) {
	t.Helper()
	if len(c.Sets) != 0 || len(c.Deployments) != 0 || c.Groups["tools-nodes"] != nil || len(c.Resources) != 1 || c.Resources[0].ID != "/resourceGroups/tools/share" {
		t.Errorf("left: sets %v, groups %v, resources %v, records %d", c.Sets, c.Groups, c.Resources, len(c.Deployments))
	}
	if c.Roles["role-1"] != "" || c.Roles["role-2"] == "" || c.Assignments["/a2"] == "" {
		t.Errorf("got the roles %v, given by %v", c.Roles, c.Assignments)
	}
}

func TestDestroy(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	if code, _, said := b.run("deploy", "tools", "location=westeurope", "--yes"); code != 0 {
		t.Fatal(said)
	}
	b.change(func(c *cloud) {
		c.Sets["dsvm-cpu"] = 3
		c.Resources = append(c.Resources, resource{ID: "/resourceGroups/toolshed/x", Name: "x", Type: "Microsoft.Web/sites"})
	})
	if code, _, said := b.run("destroy", "tools"); code != 2 || !strings.Contains(said, "add --yes") || !strings.Contains(said, "dsvm-cpu, 3 nodes") {
		t.Errorf("nobody there: got %d, %s", code, said)
	}
	b.in = "y\n"
	if code, _, said := b.run("destroy", "tools"); code != 1 || len(b.cloud().Sets) != 1 {
		t.Errorf("another name was typed: got %d, %s", code, said)
	}
	b.in = "tools\n"
	code, out, said := b.run("destroy", "tools")
	if code != 0 || !strings.Contains(out, "kept: /resourceGroups/tools/share") {
		t.Fatalf("got %d, %s%s", code, out, said)
	}
	b.change(func(c *cloud) {
		before := len(c.Resources)
		c.Resources = slices.DeleteFunc(c.Resources, func(r resource) bool { return r.ID == "/resourceGroups/toolshed/x" })
		if len(c.Resources) == before {
			t.Error("a resource of another group was deleted")
		}
	})
	isRemoved(t, b.cloud())
	if code, out, said := b.run("destroy", "tools"); code != 0 || !strings.Contains(said, "nothing is deployed") || !strings.Contains(out, "kept: /resourceGroups/tools/share") {
		t.Errorf("with the share alone: got %d, %s%s", code, out, said)
	}
	if code, _, said := b.run("destroy", "tools", "--with-share"); code != 0 || len(b.cloud().Resources) != 0 || b.cloud().Groups["tools"] != nil {
		t.Errorf("with the share: got %d, %s", code, said)
	}
	if code, _, said := b.run("destroy"); code != 2 || !strings.Contains(said, "takes the NAME of a deployment") {
		t.Errorf("without a name: got %d, %s", code, said)
	}
	if code, _, said := b.run("destroy", "tools"); code != 0 || !strings.Contains(said, "nothing is deployed") {
		t.Errorf("again: got %d, %s", code, said)
	}
	b.change(func(c *cloud) { c.Groups["other"] = map[string]string{} })
	if code, _, said := b.run("destroy", "other"); code != 1 || !strings.Contains(said, "does not carry the tag") {
		t.Errorf("a group of somebody else: got %d, %s", code, said)
	}
}

// Each failure says what mends it, before anything is made where that can be.
func TestDeployFails(t *testing.T) {
	t.Parallel()
	fail := func(call, words string) func(*cloud) { return func(c *cloud) { c.Fail, c.Words = call, words } }
	for _, tt := range []struct {
		name   string
		change func(*cloud)
		args   []string
		want   string
		code   int
		made   bool // the template was deployed
	}{
		{"nobody is signed in", fail("account show", "Please run 'az login' to setup account."), nil, "run `az login`, then this command again", 1, false},
		{"an old az", func(c *cloud) { c.Version = "2.50.1" }, nil, "az upgrade", 1, false},
		{"Contributor alone", func(c *cloud) {
			c.Actions = []string{"Microsoft.Compute/*", "Microsoft.Resources/*", "Microsoft.Web/*"}
		}, nil,
			"roleAssignments/write, Microsoft.Authorization/roleDefinitions/write is missing", 1, false},
		{"no image", func(c *cloud) { c.NoImage = true }, nil, "image=UbuntuHPC or image=Ubuntu2404", 2, false},
		{"an unknown image", nil, []string{"image=Debian"}, "write Ubuntu2404, UbuntuDSVM, UbuntuHPC", 2, false},
		{"a group of somebody else", func(c *cloud) { c.Groups["tools"] = map[string]string{} }, nil, "choose another name=", 1, false},
		{"no parameter", nil, []string{"colour=red"}, `no parameter "colour"; it has agentSha256, alertEmails`, 2, false},
		{"a wrong value", nil, []string{"shareAuth=nfs"}, `"key", "identity"`, 2, false},
		{"a wrong number", nil, []string{"maximumInstances=10"}, "at least 40 and at most 1000", 2, false},
		{"a wrong type", nil, []string{"gallery=maybe"}, "the parameter gallery is maybe; write true or false", 2, false},
		{"no object", nil, []string{"tags=vision"}, `write an object of JSON, such as {"key":"value"}`, 2, false},
		{"a long name", nil, []string{"name=averylongname"}, "between 3 and 11", 2, false},
		{"an odd name", nil, []string{"name=Tools-1"}, "begins with a letter", 2, false},
		{"quota of the plan", fail("deployment sub create", `{"code": "DeploymentFailed", "details": [{"code": "SubscriptionIsOverQuotaForSku"}]}`), nil,
			"list-flexconsumption-locations", 1, false},
		{"a vault that was deleted", fail("deployment sub create", "(FlagMustBeSetForRestore) An existing soft-deleted resource exists."), nil,
			"recoverVault=true", 1, false},
		{"the plan is shown and refused", fail("deployment sub what-if", "(RequestDisallowedByPolicy) policy x"), nil, "its owner has to exempt", 1, false},
		{"the upload fails", fail("storage blob upload", "the disk is full"), nil, "the disk is full", 1, true},
		{"the upload is never allowed", func(c *cloud) { c.LateRights = 1 << 30 }, nil, "gave up after 10m0s of waiting until the agent is uploaded: the right to write blobs", 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tt.change)
			code, _, said := b.run(append([]string{"deploy", "tools", "location=westeurope", "--yes"}, tt.args...)...)
			if code != tt.code || !strings.Contains(said, tt.want) {
				t.Errorf("got %d, %s, want %q", code, said, tt.want)
			}
			if made := len(b.cloud().Deployments) > 0; made != tt.made {
				t.Errorf("deployed: %v, want %v", made, tt.made)
			}
			secrets(t, b.cloud(), said)
		})
	}
}

// What az calls a failure of the app's health is waited for; an app that never answers is
// one.
func TestAppThatStartsLate(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *cloud) {
		c.Fail, c.Words = "functionapp deployment source config-zip", "Deployment was successful but the app appears to be unhealthy."
	})
	b.unanswered = 5
	if code, _, said := b.run("deploy", "tools", "location=westeurope", "--yes"); code != 0 || !strings.Contains(said, "status 503") {
		t.Errorf("got %d, %s", code, said)
	}
	b.unanswered = 1 << 30
	if code, _, said := b.run("deploy", "tools", "--yes"); code != 1 || !strings.Contains(said, "gave up after 15m0s of waiting") || !strings.Contains(said, "Application Insights") {
		t.Errorf("got %d, %s", code, said)
	}
}

// A deployment that an interrupted run has left at work is waited for, and ended when all
// is to be removed.
func TestDeploymentAtWork(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	if code, _, said := b.run("deploy", "tools", "location=westeurope", "--yes"); code != 0 {
		t.Fatal(said)
	}
	b.change(func(c *cloud) { c.AtWork = 3 })
	if code, _, said := b.run("deploy", "tools", "--yes"); code != 0 || !strings.Contains(said, "an earlier run has begun ends (0s): it is Running") {
		t.Errorf("got %d, %s", code, said)
	}
	b.change(func(c *cloud) { c.AtWork = 1 << 30 })
	if code, _, said := b.run("deploy", "tools", "--yes"); code != 1 || !strings.Contains(said, "gave up after 30m0s of waiting until the deployment that an earlier run has begun ends: it is Running") {
		t.Errorf("got %d, %s", code, said)
	}
	if code, _, said := b.run("destroy", "tools", "--yes"); code != 0 {
		t.Errorf("got %d, %s", code, said)
	}
	isRemoved(t, b.cloud())
}

// A budget keeps the month in which it was made, whatever a file leaves empty later.
func TestBudgetKeepsItsStart(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	if code, _, said := b.run("deploy", "tools", "location=westeurope", "budgetPerMonth=100", "--yes"); code != 0 {
		t.Fatal(said)
	}
	want := time.Now().UTC().Format(`"2006-01`) + `-01"`
	if got := string(b.cloud().Parameters["tools"]["budgetStart"]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	b.change(func(c *cloud) {
		for name, d := range c.Deployments {
			c.Deployments[name] = json.RawMessage(strings.ReplaceAll(string(d), want, `"2020-02-01"`))
		}
	})
	for _, again := range [][]string{{"budgetPerMonth=200"}, {"budgetStart="}} {
		if code, _, said := b.run(append([]string{"deploy", "tools", "--yes"}, again...)...); code != 0 {
			t.Fatal(said)
		}
		if got := string(b.cloud().Parameters["tools"]["budgetStart"]); got != `"2020-02-01"` {
			t.Errorf("%v: got %s", again, got)
		}
	}
	b = newBench(t, nil)
	if code, _, said := b.run("deploy", "tools", "location=westeurope", "--yes"); code != 0 {
		t.Fatal(said)
	}
	if got, set := b.cloud().Parameters["tools"]["budgetStart"]; set {
		t.Errorf("without a budget: got %s", got)
	}
}

// What goes while it is being removed is gone, and no failure.
func TestDestroyedMeanwhile(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"group delete", "vmss delete", "functionapp stop", "resource delete", "role definition delete"} {
		b := newBench(t, nil)
		if code, _, said := b.run("deploy", "tools", "location=westeurope", "--yes"); code != 0 {
			t.Fatal(said)
		}
		b.change(func(c *cloud) {
			c.Sets["dsvm-cpu"], c.Stopped = 1, true
			c.Fail, c.Words = call, "(ResourceNotFound) It was not found."
		})
		if code, _, said := b.run("destroy", "tools", "--yes"); code != 0 {
			t.Errorf("%s: got %d, %s", call, code, said)
		}
	}
}

// A vault that was deleted comes back with the deployment that it was of.
func TestVaultComesBack(t *testing.T) {
	t.Parallel()
	for keep, want := range map[string]string{"tools": "true", "other": ""} {
		b := newBench(t, func(c *cloud) {
			c.DeletedKeep = []string{keep}
			// What has failed before it brought the vault back does not hide it.
			c.Deployments["dsvmpools-tools"] = json.RawMessage(`{"location":"westeurope","properties":{"provisioningState":"Failed"}}`)
		})
		if code, _, said := b.run("deploy", "tools", "location=westeurope", "--yes"); code != 0 {
			t.Fatal(said)
		}
		for _, parameter := range []string{"recoverVault", "recoverKeys"} {
			if got := string(b.cloud().Parameters["tools"][parameter]); got != want {
				t.Errorf("%s of %s: got %q, want %q", parameter, keep, got, want)
			}
		}
		// It is there now, so that the next deployment asks for nothing.
		if code, _, said := b.run("deploy", "tools", "--yes"); code != 0 || b.cloud().Parameters["tools"]["recoverVault"] != nil || b.cloud().Parameters["tools"]["recoverKeys"] != nil {
			t.Errorf("the vault of %s, again: got %d, %s", keep, code, said)
		}
	}
}

// Parameters come from the file that lies beside the template, and from names and values.
func TestParameterFiles(t *testing.T) {
	t.Parallel()
	plain := filepath.Join(t.TempDir(), "p.json")
	if err := os.WriteFile(plain, []byte(`{"name": "tools", "location": "westeurope", "firstPoolSize": "Standard_D2s_v5", "users": ["a"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, nil)
	if code, _, said := b.run("deploy", "-p", "../../../infra/main.parameters.json", "-p", plain, "users=b,c", "alwaysReady=SubmitJob,function:NodeReport", "nodePublicIp=False", "--yes"); code != 0 {
		t.Fatal(said)
	}
	c := b.cloud()
	for name, want := range map[string]string{
		"alwaysReady":  `[{"instanceCount":1,"name":"function:SubmitJob"},{"instanceCount":1,"name":"function:NodeReport"}]`,
		"nodePublicIp": "false",
	} {
		if got := string(c.Parameters["tools"][name]); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	if got := string(c.Parameters["tools"]["users"]); got != `["b","c"]` || c.Parameters["tools"]["firstPoolSize"] != nil {
		t.Errorf("got %v", c.Parameters["tools"])
	}
}
