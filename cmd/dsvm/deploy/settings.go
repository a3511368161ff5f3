package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"dsvmpools/cmd/dsvm/cli"
	"dsvmpools/infra"
)

// A deployment writes all settings of the app, so that one which somebody has added, such as
// the secret of a push rule, would be gone. What the app has beside the template's own is
// read and given to the template again. Values are in the memory of this program, in its
// file of parameters until az has read it, and nowhere else.

// setting is one of the app as az shows it.
type setting struct {
	Name  string
	Value *string
}

// refusedSettings begin names that the plan Flex Consumption refuses.
var refusedSettings = []string{"FUNCTIONS_WORKER_RUNTIME", "FUNCTIONS_EXTENSION_VERSION", "WEBSITE_RUN_FROM_PACKAGE", "WEBSITE_CONTENT"}

// keepSettings adds to extraSettings what the app has and the template does not set. What
// was named in a file of parameters comes first; null removes a setting.
func (r *run) keepSettings(ctx context.Context) error {
	named := map[string]json.RawMessage{}
	if given := r.parameters.values[paramExtra]; given != nil {
		if err := json.Unmarshal(given, &named); err != nil {
			return err // not reached: it was checked when it was set
		}
	}
	if err := checkSettings(named); err != nil {
		return err
	}
	app, err := r.findApp(ctx)
	if err != nil {
		return err
	}
	var kept []string
	var there []setting
	if app != "" {
		there, err = get[[]setting](ctx, r.az, "functionapp", "config", "appsettings", "list", "--resource-group", r.name(), "--name", app)
		if err != nil && !isMissing(err) {
			return err
		}
		if kept, err = keep(named, there); err != nil {
			return err
		}
	}
	if err := r.moveSettings(named, there); err != nil {
		return err
	}
	maps.DeleteFunc(named, func(_ string, value json.RawMessage) bool { return string(value) == "null" })
	if len(kept) > 0 {
		r.Say("settings of the app that are not the template's stay: %s", strings.Join(kept, ", "))
	}
	value, err := json.Marshal(named)
	if err != nil {
		return err
	}
	return r.parameters.set(paramExtra, value)
}

// parameterOf are the settings that have become parameters. A deployment of an earlier
// release has them among extraSettings.
var parameterOf = map[string]string{
	"DSVM_TENANT":   "signInTenant",
	"DSVM_AUDIENCE": "signInAudience",
	"DSVM_ISSUER":   "signInIssuer",
	"DSVM_ROLES":    "roles",
	"DSVM_KEY_ROLE": "keyRole",
}

// isSettingOf reports whether a parameter is one of these settings.
func isSettingOf(parameter string) bool {
	return slices.Contains(slices.Collect(maps.Values(parameterOf)), parameter)
}

// moveSettings gives the settings that have become parameters to these: those that are named,
// and those that the app has where nobody has named the parameter, now or at the last
// deployment. So people can still sign in after an upgrade.
func (r *run) moveSettings(named map[string]json.RawMessage, there []setting) error {
	for _, s := range there {
		parameter, isOne := parameterOf[s.Name]
		if _, isGiven := r.parameters.values[parameter]; !isOne || isGiven || s.Value == nil || *s.Value == "" {
			continue
		}
		if err := r.parameters.set(parameter, quote(*s.Value)); err != nil {
			return err
		}
	}
	for name, parameter := range parameterOf {
		value, isNamed := named[name]
		if !isNamed {
			continue
		}
		if string(value) == "null" {
			value = quote("")
		}
		if err := r.parameters.set(parameter, value); err != nil {
			return err
		}
		delete(named, name)
	}
	return nil
}

// keep adds to named the settings that are there and neither named nor the template's, and
// returns their names.
func keep(named map[string]json.RawMessage, there []setting) (kept []string, err error) {
	own := infra.Settings()
	for _, s := range there {
		_, isNamed := named[s.Name]
		switch {
		case isNamed || slices.Contains(own, s.Name):
		case s.Value == nil:
			return nil, fmt.Errorf("az does not show the value of the setting %s, which a deployment would remove; "+
				"name it in %s, or write null there", s.Name, paramExtra)
		default:
			named[s.Name] = quote(*s.Value)
			kept = append(kept, s.Name)
		}
	}
	slices.Sort(kept)
	return kept, nil
}

// checkSettings refuses what Azure would refuse after minutes. Values are not shown.
func checkSettings(named map[string]json.RawMessage) error {
	for _, name := range slices.Sorted(maps.Keys(named)) {
		var text *string
		if json.Unmarshal(named[name], &text) != nil {
			return cli.WrongUse("the setting %s in %s is no text; write it in quotes, or null to remove it", name, paramExtra)
		}
		if slices.ContainsFunc(refusedSettings, func(prefix string) bool { return strings.HasPrefix(strings.ToUpper(name), prefix) }) {
			return cli.WrongUse("the plan of the app refuses the setting %s in %s; leave it out", name, paramExtra)
		}
	}
	return nil
}

// findApp is the name of the app; "" = there is none. The record of a deployment that has
// failed does not name it.
func (r *run) findApp(ctx context.Context) (string, error) {
	if app := r.last.output("functionAppName"); app != "" {
		return app, nil
	}
	all, err := get[[]resource](ctx, r.az, "resource", "list", "--resource-group", r.name())
	if isMissing(err) {
		return "", nil
	}
	for _, res := range all {
		if strings.EqualFold(res.Type, typeSite) && res.Tags[deploymentTag] == r.name() {
			return res.Name, err
		}
	}
	return "", err
}

// masked is a secret object with its names alone.
func masked(value json.RawMessage) json.RawMessage {
	var all map[string]json.RawMessage
	if json.Unmarshal(value, &all) != nil {
		return quote("not shown")
	}
	for name := range all {
		all[name] = quote("not shown")
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err) // texts by names always have a form in JSON
	}
	return text
}

// reference is a setting whose value the app's platform reads from a vault.
type reference struct {
	setting string
	what    string // that it is
	without string // what does not work before
}

// references are those of the template.
var references = []reference{
	{"MOUNT_KEY", "the share's key", "logs and files of jobs do"},
	{"DSVM_RELAY_LISTEN_KEY", "the relay's key for nodes", "interactive pools do"},
	{"DSVM_RELAY_SEND_KEY", "the relay's key for people", "interactive pools do"},
}

// awaitKeys waits until the app's platform has read its keys from the vaults. The right to read
// them takes up to ten minutes to hold, and a reference that could not be read is looked at
// again only after a day, so the platform is asked to look now. No deployment fails for it: the
// rest works without them, and dsvm doctor looks at them, too.
func (r *run) awaitKeys(ctx context.Context) error {
	for _, key := range references {
		if key.setting != references[0].setting && string(r.parameters.values[paramInteractive]) == "false" {
			continue
		}
		if err := r.awaitKey(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) awaitKey(ctx context.Context, key reference) error {
	url := "/subscriptions/" + r.account.ID + "/resourceGroups/" + r.name() + "/providers/Microsoft.Web/sites/" +
		r.last.output("functionAppName") + "/config/configreferences/appsettings"
	call := func(method, what string) []string {
		return []string{"rest", "--method", method, "--url", url + what + "?api-version=2025-03-01"}
	}
	err := r.az.until(ctx, "the app has "+key.what+" from the vault", rightsBound, func(ctx context.Context) (look, error) {
		answer, err := get[struct{ Properties struct{ Status string } }](ctx, r.az, call("get", "/"+key.setting)...)
		if ctx.Err() != nil {
			return look{}, ctx.Err()
		}
		status := answer.Properties.Status
		if err != nil || status == "" {
			r.Say("note: Azure does not say whether the app has %s; `dsvm doctor` looks whether it works", key.what)
			return look{done: true}, nil
		}
		if status == "Resolved" {
			return look{done: true}, nil
		}
		_, err = r.az.run(ctx, append(call("post", "/refresh"), "--output", "none")...)
		why := "Azure answers " + status
		if err != nil {
			why += ", and refuses to look again"
		}
		return look{why: why}, ctx.Err()
	})
	if err != nil && ctx.Err() == nil {
		r.Say("note: %v; %s not work before: run this again later, or `dsvm doctor`", err, key.without)
		return nil
	}
	return err
}
