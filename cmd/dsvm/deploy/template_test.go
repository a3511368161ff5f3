package deploy

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dsvmpools/infra"
)

// What is read from the template and what is given to it exists there: parameters, outputs,
// the tag and the names of roles by which a removal finds its own, and no resource is of a
// provider that is not registered.
func TestTemplateFits(t *testing.T) {
	t.Parallel()
	p, err := newParameters(infra.Template)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{paramName, paramLocation, paramKey, paramImage, paramAgent, paramDeployers, paramRecover, paramKeys, paramInteractive, paramTime}, modelParameters...) {
		if _, ok := p.declared[name]; !ok {
			t.Errorf("the template has no parameter %s", name)
		}
	}
	var template struct{ Outputs map[string]json.RawMessage }
	if err := json.Unmarshal(infra.Template, &template); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"functionUrl", "functionAppName", "functionKeyCommand", "hostAccount", "shareAccount", "idleCost"} {
		if template.Outputs[name] == nil {
			t.Errorf("the template has no output %s", name)
		}
	}
	text := string(infra.Template)
	for begin := range vaults {
		if !strings.Contains(text, "format('"+begin+"{0}', take(") {
			t.Errorf("the template has no vault whose name begins with %s", begin)
		}
	}
	for _, r := range references {
		if !regexp.MustCompile(`['"]` + r.setting + `['"][:,] .{0,60}@Microsoft\.KeyVault\(SecretUri=`).MatchString(text) {
			t.Errorf("%s is no reference to a vault", r.setting)
		}
	}
	for _, want := range []string{"createObject('" + deploymentTag + "', parameters('name'))", "/default/" + agentContainer + "'"} {
		if !strings.Contains(text, want) {
			t.Errorf("the template has no %s", want)
		}
	}
	roles := regexp.MustCompile(`"roleName": "([^"]*)"`).FindAllStringSubmatch(text, -1)
	if len(roles) < 3 {
		t.Errorf("only %d own roles were found", len(roles))
	}
	for _, role := range roles {
		if !strings.HasPrefix(role[1], "[format('dsvmpools {0}: ") {
			t.Errorf("a removal would not find the role %s", role[1])
		}
	}
	namespaces := map[string]bool{}
	for _, m := range regexp.MustCompile(`"type": "(Microsoft\.\w+)/`).FindAllStringSubmatch(text, -1) {
		namespaces[m[1]] = true
	}
	// These are registered in every subscription.
	for _, always := range []string{"Microsoft.Authorization", "Microsoft.Resources", "Microsoft.Consumption"} {
		delete(namespaces, always)
	}
	for _, name := range slices.Sorted(maps.Keys(namespaces)) {
		if !slices.Contains(providers, name) {
			t.Errorf("the template makes resources of %s, which nobody registers", name)
		}
	}
	if len(namespaces) < 8 {
		t.Errorf("only %v were found", namespaces)
	}
}
