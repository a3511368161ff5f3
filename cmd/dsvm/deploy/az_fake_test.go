package deploy

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The tests run this program as az, by a link of that name. Its state lies in files beside
// the link, so that it outlives each call as Azure does.
func TestMain(m *testing.M) {
	if strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe") == "az" {
		os.Exit(playAz(filepath.Dir(os.Args[0]), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// cloud is the subscription that the az of the tests speaks to.
type cloud struct {
	Groups      map[string]map[string]string // tags, by name
	Deployments map[string]json.RawMessage
	Parameters  map[string]map[string]json.RawMessage // of the deployments
	Providers   map[string]bool
	Blobs       map[string]string // content, by container/name
	Sets        map[string]int    // nodes
	Resources   []resource
	Roles       map[string]string // role name, by name
	Assignments map[string]string // role, by id
	App         string            // path of the zip that was uploaded
	Stopped     bool
	Settings    map[string]string // of the app
	KeyStates   []string          // of the reference to the share's key, until it is resolved
	Refreshed   int
	Looked      []string // parameters of calls that only look at what would change

	Actions     []string // that the caller may do
	NoImage     bool
	LateRights  int // calls on data that still fail for a right
	DeletedKeep []string
	AtWork      int // looks at a deployment that finds it at work
	Version     string

	Call   int    // number of calls
	DieAt  int    // the call that dies; 0 = none
	Before bool   // it dies before it has done anything
	Fail   string // words of the call that fails
	Fails  int    // how often; 0 = always
	Words  string // what it says then
	Calls  [][]string
}

func newCloud() *cloud {
	return &cloud{
		Groups: map[string]map[string]string{}, Deployments: map[string]json.RawMessage{}, Parameters: map[string]map[string]json.RawMessage{},
		Providers: map[string]bool{"Microsoft.Storage": true}, Blobs: map[string]string{}, Sets: map[string]int{}, Roles: map[string]string{},
		Assignments: map[string]string{}, Actions: []string{"*"}, Version: "2.91.0",
	}
}

const testSubscription = "11111111-2222-4333-8444-555555555555"

func playAz(dir string, args []string) int {
	file := filepath.Join(dir, "cloud.json")
	var c cloud
	if b, err := os.ReadFile(file); err != nil || json.Unmarshal(b, &c) != nil {
		fmt.Fprintln(os.Stderr, "the test has no cloud:", err)
		return 99
	}
	c.Call++
	c.Calls = append(c.Calls, args)
	save := func() {
		b, _ := json.Marshal(c)
		_ = os.WriteFile(file, b, 0o600)
	}
	dies := c.Call == c.DieAt
	if dies && c.Before {
		save()
		return 137
	}
	words := strings.Join(verbs(args), " ")
	if c.Fail != "" && words == c.Fail {
		if c.Fails--; c.Fails == 0 {
			c.Fail = ""
		}
		save()
		fmt.Fprintln(os.Stderr, "WARNING: something else\nERROR: "+c.Words)
		return 1
	}
	answer, complaint := c.answer(words, options(args))
	save()
	if dies {
		return 137
	}
	if complaint != "" {
		fmt.Fprintln(os.Stderr, "ERROR: "+complaint)
		return 3
	}
	if text, ok := answer.(string); ok {
		fmt.Print(text)
		return 0
	}
	b, _ := json.Marshal(answer)
	fmt.Println(string(b))
	return 0
}

// options are the values of a call by their options.
func options(args []string) map[string]string {
	all := map[string]string{}
	for i, arg := range args {
		if !strings.HasPrefix(arg, "--") {
			continue
		}
		var values []string
		for _, value := range args[i+1:] {
			if strings.HasPrefix(value, "--") {
				break
			}
			values = append(values, value)
		}
		all[arg] = strings.Join(values, " ")
	}
	return all
}

func (c *cloud) answer(words string, o map[string]string) (answer any, complaint string) {
	switch words {
	case "version":
		return map[string]string{"azure-cli": c.Version}, ""
	case "account show":
		return map[string]any{"id": testSubscription, "name": "Test", "state": "Enabled", "user": map[string]string{"name": "ann@example.com", "type": "user"}}, ""
	case "account get-access-token":
		claims := base64.RawURLEncoding.EncodeToString([]byte(`{"oid":"99999999-0000-4000-8000-000000000000"}`))
		return map[string]string{"accessToken": "e30." + claims + ".secretsignature"}, ""
	case "rest":
		if strings.Contains(o["--url"], "/config/configreferences/appsettings") {
			return c.keyReference(o["--method"], o["--url"])
		}
		return map[string]any{"value": []any{map[string]any{"actions": c.Actions, "notActions": []string{}}}}, ""
	case "provider list":
		list := []any{}
		for name, there := range c.Providers {
			state := "Registered"
			if !there {
				state = "NotRegistered"
			}
			list = append(list, map[string]string{"namespace": name, "registrationState": state})
		}
		return list, ""
	case "provider register":
		c.Providers[o["--namespace"]] = true
		return "", ""
	case "vm image show", "resource show":
		if c.NoImage {
			return nil, "(PlatformImageNotFound) The platform image is not available."
		}
		return "", ""
	case "vm list-skus":
		return []any{map[string]any{"name": "Standard_D2s_v5", "family": "standardDSv5Family", "restrictions": []any{}}}, ""
	case "vm list-usage":
		return []any{map[string]any{"currentValue": 3, "limit": "4", "name": map[string]string{"value": "standardDSv5Family"}}}, ""
	case "keyvault list-deleted":
		list := []any{}
		for _, name := range c.DeletedKeep {
			for _, begin := range []string{"kv-", "kd-"} {
				list = append(list, map[string]any{"name": begin + name, "properties": map[string]any{"location": "westeurope", "tags": map[string]string{"dsvmpools": name}}})
			}
		}
		return list, ""
	case "tag update":
		name := o["--resource-id"][strings.LastIndex(o["--resource-id"], "/")+1:]
		for _, pair := range strings.Fields(o["--tags"]) {
			key, value, _ := strings.Cut(pair, "=")
			c.Groups[name][key] = value
		}
		return "", ""
	}
	for _, part := range []func(string, map[string]string) (any, string, bool){c.deploys, c.uploads, c.lists, c.deletes} {
		if answer, complaint, ok := part(words, o); ok {
			return answer, complaint
		}
	}
	return nil, "'" + words + "' is misspelled or not recognized by the system."
}

func (c *cloud) deploys(words string, o map[string]string) (any, string, bool) {
	name := strings.TrimPrefix(o["--name"], "dsvmpools-")
	switch words {
	case "deployment sub show":
		if d, ok := c.Deployments[o["--name"]]; ok {
			if c.AtWork > 0 {
				c.AtWork--
				d = json.RawMessage(strings.Replace(string(d), `"Succeeded"`, `"Running"`, 1))
			}
			return d, "", true
		}
		return nil, "(DeploymentNotFound) Deployment could not be found.", true
	case "deployment sub what-if":
		b, err := os.ReadFile(strings.TrimPrefix(o["--parameters"], "@"))
		if err != nil {
			return nil, err.Error(), true
		}
		c.Looked = append(c.Looked, string(b))
		return "Resource changes: 61 to create.\n", "", true
	case "deployment sub cancel":
		c.AtWork = 0
		return "", "", true
	case "deployment sub create":
		if c.AtWork > 0 {
			return nil, "(DeploymentActive) Unable to edit or replace deployment: it is still active.", true
		}
		var file struct {
			Parameters map[string]struct{ Value json.RawMessage }
		}
		b, err := os.ReadFile(strings.TrimPrefix(o["--parameters"], "@"))
		if err != nil || json.Unmarshal(b, &file) != nil {
			return nil, "(InvalidTemplate) the parameters cannot be read", true
		}
		c.make(name, o["--name"], o["--location"], file.Parameters)
		return c.Deployments[o["--name"]], "", true
	case "deployment sub delete":
		if c.AtWork > 0 {
			return nil, "(DeploymentActive) Unable to delete deployment: it is still active.", true
		}
		delete(c.Deployments, o["--name"])
		return "", "", true
	case "group show":
		if tags, ok := c.Groups[o["--name"]]; ok {
			return map[string]any{"name": o["--name"], "tags": tags}, "", true
		}
		return nil, "(ResourceGroupNotFound) Resource group '" + o["--name"] + "' could not be found.", true
	}
	return nil, "", false
}

// make makes what the template would.
func (c *cloud) make(name, record, location string, values map[string]struct{ Value json.RawMessage }) {
	c.Groups[name], c.Groups[name+"-nodes"] = map[string]string{"dsvmpools": name}, map[string]string{"dsvmpools": name}
	c.Parameters[name] = map[string]json.RawMessage{}
	parameters := map[string]any{}
	if string(values[paramRecover].Value) == "true" {
		c.DeletedKeep = nil
	}
	c.Settings = map[string]string{"JOBS_QUEUE": "jobs", "SHARE_PATH": "/mounts/share"}
	for key, each := range values {
		c.Parameters[name][key] = each.Value
		parameters[key] = map[string]any{"value": each.Value}
		if key == paramExtra { // a secure one: the record does not have its value
			_ = json.Unmarshal(each.Value, &c.Settings)
			parameters[key] = map[string]any{"type": "SecureObject"}
		}
	}
	output := func(text string) any { return map[string]string{"value": text} }
	c.Deployments[record], _ = json.Marshal(map[string]any{"location": location, "properties": map[string]any{
		"provisioningState": "Succeeded", "parameters": parameters, "outputs": map[string]any{
			"functionUrl": output("https://fn.example"), "functionAppName": output("fn-" + name), "functionKeyCommand": output("az functionapp keys list"),
			"hostAccount": output(name + "h"), "shareAccount": output(name + "s"), "idleCost": output("About 10 US dollars a month"),
		}}})
	c.Resources = nil
	for _, kind := range []string{"Microsoft.KeyVault/vaults", "Microsoft.Storage/storageAccounts", "Microsoft.Web/serverfarms", "Microsoft.Web/sites"} {
		c.Resources = append(c.Resources, resource{ID: "/resourceGroups/" + name + "/" + kind + "/" + name + "h", Name: name + "h", Type: kind,
			Tags: map[string]string{"dsvmpools": name}})
	}
	c.Resources = append(c.Resources, resource{ID: "/resourceGroups/" + name + "/share", Name: name + "s", Type: "Microsoft.Storage/storageAccounts"})
	c.Roles["role-1"], c.Roles["role-2"] = "dsvmpools "+name+": join a subnet", "dsvmpools other: join a subnet"
	c.Assignments["/a1"], c.Assignments["/a2"] = "role-1", "role-2"
}

// keyReference answers what the platform of the app knows of the share's key, and looks
// again.
func (c *cloud) keyReference(method, url string) (any, string) {
	if method == "post" {
		c.Refreshed++
		c.KeyStates = c.KeyStates[1:]
		return "", ""
	}
	if !strings.Contains(url, "/sites/fn-") || !slices.ContainsFunc(references, func(r reference) bool { return strings.Contains(url, "/"+r.setting+"?") }) {
		return nil, "Not Found({})"
	}
	state := "Resolved"
	if len(c.KeyStates) > 0 {
		state = c.KeyStates[0]
	}
	return map[string]any{"properties": map[string]string{"status": state}}, ""
}

func (c *cloud) uploads(words string, o map[string]string) (any, string, bool) {
	blob := o["--container-name"] + "/" + o["--name"]
	switch words {
	case "storage blob exists", "storage blob upload":
		if c.LateRights > 0 {
			c.LateRights--
			return nil, "You do not have the required permissions needed to perform this operation.", true
		}
		if words == "storage blob exists" {
			return map[string]bool{"exists": c.Blobs[blob] != ""}, "", true
		}
		b, err := os.ReadFile(o["--file"])
		if err != nil {
			return nil, err.Error(), true
		}
		c.Blobs[blob] = string(b)
		return "", "", true
	case "functionapp deployment source config-zip":
		c.App, c.Stopped = o["--src"], false
		return "", "", true
	case "functionapp config appsettings list":
		list := []any{}
		for _, key := range slices.Sorted(maps.Keys(c.Settings)) {
			var shown any = c.Settings[key]
			if shown == "(hidden)" {
				shown = nil
			}
			list = append(list, map[string]any{"name": key, "slotSetting": false, "value": shown})
		}
		return list, "", true
	case "functionapp keys list":
		return map[string]any{"functionKeys": map[string]string{"default": "the-key"}}, "", true
	case "functionapp stop":
		c.Stopped = true
		return "", "", true
	}
	return nil, "", false
}

func (c *cloud) lists(words string, o map[string]string) (any, string, bool) {
	switch words {
	case "vmss list":
		list := []any{}
		for _, name := range slices.Sorted(maps.Keys(c.Sets)) {
			list = append(list, map[string]any{"id": "/sets/" + name, "name": name, "tags": map[string]string{"dsvmpools-pool": "cpu"}, "sku": map[string]any{"capacity": c.Sets[name]}})
		}
		return list, "", true
	case "resource list":
		return c.Resources, "", true
	case "role definition list":
		list := []any{}
		for name, role := range c.Roles {
			list = append(list, map[string]string{"name": name, "roleName": role})
		}
		return list, "", true
	case "role assignment list":
		list := []any{}
		for id, role := range c.Assignments {
			list = append(list, map[string]string{"id": id, "roleDefinitionId": "/roleDefinitions/" + role})
		}
		return list, "", true
	}
	return nil, "", false
}

func (c *cloud) deletes(words string, o map[string]string) (any, string, bool) {
	switch words {
	case "vmss delete":
		if !c.Stopped {
			return nil, "the app still runs and would make it again", true
		}
		delete(c.Sets, o["--name"])
	case "group delete":
		if _, ok := c.Groups[o["--name"]]; !ok {
			return nil, "(ResourceGroupNotFound) Resource group could not be found.", true
		}
		delete(c.Groups, o["--name"])
		if !strings.HasSuffix(o["--name"], "-nodes") {
			c.Resources = nil
		}
	case "resource delete":
		c.Resources = slices.DeleteFunc(c.Resources, func(r resource) bool { return r.ID == o["--ids"] })
	case "role assignment delete":
		delete(c.Assignments, o["--ids"])
	case "role definition delete":
		for _, role := range c.Assignments {
			if role == o["--name"] {
				return nil, "(RoleDefinitionHasAssignments) There are existing role assignments referencing role.", true
			}
		}
		delete(c.Roles, o["--name"])
	default:
		return nil, "", false
	}
	return "", "", true
}
