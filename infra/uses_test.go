package infra_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/robfig/cron/v3"

	"dsvmpools"
	"dsvmpools/handlers"
	"dsvmpools/infra"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store"
)

// readByHost are settings that the template sets for others than the app's own code.
var readByHost = map[string]string{
	"AzureWebJobsStorage__accountName":          "the Functions host: leases, keys, state of timers",
	"AzureWebJobsStorage__credential":           "the Functions host",
	"AzureWebJobsStorage__clientId":             "the Functions host",
	"AzureFunctionsWebHost__hostid":             "the Functions host: the name by which timers lock",
	"AzureWebJobsDisableHomepage":               "the Functions host: / is the app's",
	"APPLICATIONINSIGHTS_CONNECTION_STRING":     "the Functions host: where telemetry goes",
	"APPLICATIONINSIGHTS_AUTHENTICATION_STRING": "the Functions host: with which identity",
	"ServiceBusConnection__credential":          "triggers of the Functions host",
	"ServiceBusConnection__clientId":            "triggers of the Functions host",
	"MOUNT_KEY":                                 "the platform: the mount refers to it",
	"AZURE_CLIENT_ID":                           "azidentity: the one identity of the app",
	"AZURE_TOKEN_CREDENTIALS":                   "azidentity: no other credential is tried",
}

// leftOut are settings that the app reads and the template does not set: keys, which
// no deployment has, and times whose defaults are right. extraSettings sets any.
var leftOut = map[string]string{
	"DSVM_PRICES_ENDPOINT":            "the price list of the public cloud",
	"DSVM_PRICE_FACTOR":               "a discount, which is nobody's default",
	"ServiceBusConnection":            "a key",
	"TablesConnection":                "a key",
	"DSVM_ARM_TOKEN":                  "a key of a local resource manager",
	"AZURE_RESOURCE_MANAGER_ENDPOINT": "another cloud",
	"DSVM_ALLOW_PRIVATE_HOSTS":        "a team's own Git host",
	"DSVM_OS_DISK_GIB":                "the image says how large its disk is",
	"DSVM_PAGE_KEYS":                  "only `dsvm up`; people in Azure sign in at an issuer",
	"DSVM_SESSIONS_FOR":               "only `dsvm up` without root, where all sessions are of one account",
	"DSVM_EPHEMERAL_DISK":             "the way out where Azure refuses the disk of a size",
	"DSVM_FLEET_POLL":                 "a time", "DSVM_BOOT_DEADLINE": "a time", "DSVM_DELETE_AGAIN": "a time", "DSVM_MISSING_FOR": "a time",
	"DSVM_SILENT_AFTER": "a time", "DSVM_RESEND_AFTER": "a time", "DSVM_ASSIGNED_FOR": "a time", "DSVM_AHEAD_FOR": "a time", "DSVM_REMEMBER_GONE": "a time",
	"DSVM_LEDGER_INTERVAL": "a time", "DSVM_LEDGER_DELAY": "a time", "DSVM_SHARE_HALF_LIFE": "a time", "DSVM_ROLL_WITHIN": "a time", "DSVM_UNKNOWN_POOL_AGAIN": "a time",
	"DSVM_REVIVE_AFTER": "a time", "DSVM_KEEP_FINISHED": "a time", "DSVM_KEEP_FILES": "a time", "DSVM_KEEP_IDS": "a time",
	"DSVM_KEEP_LEDGER": "a time", "DSVM_KEEP_TREES": "a time", "DSVM_KEEP_AUDIT": "a time",
	"DSVM_CLIENT_ID": "its default is right", "DSVM_SCOPE": "its default is right", "WEBSITE_AUTH_ENABLED": "the platform's",
	"DSVM_BALANCER_PORT":  "its default is right, and for root alone on one machine",
	"DSVM_LOG_BOUND":      "its default is right",
	"DSVM_SYNC_MAX_BYTES": "its default is right", "DSVM_SYNC_MAX_FILES": "its default is right",
}

// readNames are the settings that ReadSettings asks for, whatever the others say.
func readNames(t *testing.T, template map[string]any) map[string]bool {
	t.Helper()
	asked := map[string]bool{}
	if _, err := handlers.ReadSettings(func(name string) string {
		asked[name] = true
		value, _ := template[name].(string)
		return value
	}); err != nil {
		t.Fatalf("the app refuses the template's settings: %v", err)
	}
	return asked
}

// appSettings are those of one snapshot, as the app would read them in Azure.
func appSettings(t *testing.T, all []resource) map[string]any {
	t.Helper()
	for _, r := range ofType(all, "Microsoft.Web/sites/config") {
		if path.Base(r.Name) != "appsettings" {
			continue
		}
		set := map[string]any{}
		for name, value := range settingsOf(t, r) {
			set[name] = resolve(t, value)
		}
		return set
	}
	t.Fatal("the app has no settings")
	return nil
}

// settingsOf are the settings of the app by name, each as plain text or an expression in
// brackets. Since extraSettings may hold secrets, a snapshot has the union of all as one
// expression: union(createObject(...), parameters('extraSettings'), createObject(...)).
func settingsOf(t *testing.T, r resource) map[string]string {
	t.Helper()
	parts := arguments(t, r.Expression, "union")
	if len(parts) != 3 || parts[1] != "parameters('extraSettings')" {
		t.Fatalf("the settings are %q: they are those of the app, extraSettings, and those of the host, in this order", parts)
	}
	set := map[string]string{}
	for _, part := range []string{parts[0], parts[2]} {
		pairs := arguments(t, part, "createObject")
		for i := 0; i+1 < len(pairs); i += 2 {
			name, value := strings.Trim(pairs[i], "'"), pairs[i+1]
			if set[name] != "" {
				t.Errorf("%s is set twice", name)
			}
			if text, isText := strings.CutPrefix(value, "'"); isText {
				set[name] = strings.TrimSuffix(text, "'")
			} else {
				set[name] = "[" + value + "]"
			}
		}
	}
	return set
}

// arguments are those of a call of a function.
func arguments(t *testing.T, call, function string) (all []string) {
	t.Helper()
	inner, ok := strings.CutPrefix(strings.TrimSuffix(strings.TrimPrefix(call, "["), "]"), function+"(")
	if !ok || !strings.HasSuffix(inner, ")") {
		t.Fatalf("%.100q is no call of %s", call, function)
	}
	depth, quoted, begin := 0, false, 0
	inner = strings.TrimSuffix(inner, ")")
	for i, c := range inner {
		switch {
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(' || c == '[':
			depth++
		case c == ')' || c == ']':
			depth--
		case c == ',' && depth == 0:
			all, begin = append(all, inner[begin:i]), i+2
		}
	}
	return append(all, inner[begin:])
}

// TestSettingNames: Settings are those that the app gets from the template.
func TestSettingNames(t *testing.T) {
	t.Parallel()
	for snapshot, all := range snapshots(t) {
		for _, r := range ofType(all, "Microsoft.Web/sites/config") {
			if path.Base(r.Name) != "appsettings" {
				continue
			}
			want := slices.Sorted(maps.Keys(settingsOf(t, r)))
			if got := infra.Settings(); !slices.Equal(got, want) || len(got) == 0 {
				t.Errorf("%s: got %v, want %v", snapshot, got, want)
			}
		}
	}
}

// known are expressions that only Azure evaluates, with what it would make of them.
var known = []struct {
	expression *regexp.Regexp
	value      string
}{
	{
		regexp.MustCompile(`split\(split\(reference\('[^']*/([^'/]+)', '[^']*'\)\.serviceBusEndpoint, '//'\)\[1\], ':'\)\[0\]`),
		"'$1.servicebus.windows.net'",
	},
	{regexp.MustCompile(`reference\('[^']*', '[^']*'\)\.clientId`), "'00000000-0000-0000-0000-0000000000c1'"},
	{regexp.MustCompile(`reference\('[^']*', '[^']*'\)\.ConnectionString`), "'InstrumentationKey=00000000-0000-0000-0000-0000000000c2'"},
	{regexp.MustCompile(`reference\('[^']*/([^'/]+)', '[^']*'\)\.defaultHostName`), "'$1.azurewebsites.net'"},
	{regexp.MustCompile(`environment\(\)\.suffixes\.storage`), "'core.windows.net'"},
	{regexp.MustCompile(`environment\(\)\.suffixes\.keyvaultDns`), "'.vault.azure.net'"},
}

// formatCall is a call whose arguments are plain text.
var formatCall = regexp.MustCompile(`format\(('[^']*'(?:, '[^']*')*)\)`)

// resolve evaluates an expression of a setting; other text stays as it is.
func resolve(t *testing.T, value string) string {
	t.Helper()
	inner, ok := strings.CutPrefix(value, "[")
	if !ok {
		return value
	}
	inner = strings.TrimSuffix(inner, "]")
	for _, k := range known {
		inner = k.expression.ReplaceAllString(inner, k.value)
	}
	for formatCall.MatchString(inner) {
		inner = formatCall.ReplaceAllStringFunc(inner, func(call string) string {
			args := strings.Split(strings.Trim(formatCall.FindStringSubmatch(call)[1], "'"), "', '")
			text := args[0]
			for i, arg := range args[1:] {
				text = strings.ReplaceAll(text, fmt.Sprintf("{%d}", i), arg)
			}
			return "'" + text + "'"
		})
	}
	if strings.Count(inner, "'") != 2 {
		t.Fatalf("nothing here evaluates %s", inner)
	}
	return strings.Trim(inner, "'")
}

// percent is a setting that a binding names.
var percent = regexp.MustCompile(`%([A-Za-z0-9_]+)%`)

// bindings calls visit for the text of every function.json.
func bindings(t *testing.T, visit func(function, text string)) {
	t.Helper()
	err := fs.WalkDir(dsvmpools.Files, "functions", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(dsvmpools.Files, name)
		visit(path.Base(path.Dir(name)), string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// code is the text of the Go files below the folders, without tests.
func code(t *testing.T, dirs ...string) string {
	t.Helper()
	var text strings.Builder
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
				return err
			}
			b, err := os.ReadFile(file)
			text.Write(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return text.String()
}

// TestSettings: what the app and its bindings read is set or left out for a reason,
// and nothing is set that nobody reads.
func TestSettings(t *testing.T) {
	t.Parallel()
	named := map[string]bool{}
	bindings(t, func(_, text string) {
		for _, m := range percent.FindAllStringSubmatch(text, -1) {
			named[m[1]] = true
		}
	})
	page, err := os.ReadFile("../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	app := code(t, "../handlers", "../shared")
	for snapshot, all := range snapshots(t) {
		set := appSettings(t, all)
		asked := readNames(t, set)
		for name := range asked {
			if _, ok := set[name]; !ok && leftOut[name] == "" {
				t.Errorf("%s: the app reads %s, which the template does not set; set it, or say why not", snapshot, name)
			}
		}
		for name := range named {
			if value, _ := set[name].(string); value == "" {
				t.Errorf("%s: a binding names %%%s%%, which the template does not set: its function would not start", snapshot, name)
			}
		}
		for name := range set {
			if !asked[name] && !named[name] && readByHost[name] == "" && !strings.Contains(app, `"`+name+`"`) {
				t.Errorf("%s: the template sets %s, which nobody reads", snapshot, name)
			}
		}
		for name := range set {
			if readByHost[name] == "" && !strings.Contains(string(page), "`"+name+"`") {
				t.Errorf("%s: docs/settings.md does not explain %s", snapshot, name)
			}
		}
		for name := range leftOut {
			if !asked[name] {
				t.Errorf("the app does not read %s, which the test leaves out", name)
			}
		}
		for name := range readByHost {
			if _, ok := set[name]; !ok {
				t.Errorf("%s: the template does not set %s for %s", snapshot, name, readByHost[name])
			}
		}
	}
}

// TestConnections: the connection that bindings name is there, with an identity.
func TestConnections(t *testing.T) {
	t.Parallel()
	set := appSettings(t, snapshots(t)["new"])
	connection := regexp.MustCompile(`"connection":\s*"(\w+)"`)
	found := 0
	bindings(t, func(function, text string) {
		for _, m := range connection.FindAllStringSubmatch(text, -1) {
			found++
			for _, part := range []string{"fullyQualifiedNamespace", "credential", "clientId"} {
				if value, _ := set[m[1]+"__"+part].(string); value == "" {
					t.Errorf("%s: the template does not set %s__%s", function, m[1], part)
				}
			}
		}
	})
	if found == 0 {
		t.Error("no binding has a connection")
	}
}

// TestSchedules: the six timers have schedules of six fields that can be read, and
// none ticks more often than each minute, so that an idle month stays within the grant.
func TestSchedules(t *testing.T) {
	t.Parallel()
	parse := cron.NewParser(cron.Second | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	set := appSettings(t, snapshots(t)["new"])
	found := 0
	bindings(t, func(function, text string) {
		if !strings.Contains(text, "timerTrigger") {
			return
		}
		found++
		m := percent.FindStringSubmatch(text)
		if m == nil {
			t.Errorf("%s: its schedule is no setting", function)
			return
		}
		schedule, _ := set[m[1]].(string)
		if _, err := parse.Parse(schedule); err != nil {
			t.Errorf("%s: %s: %v", function, m[1], err)
		}
		if second, _, _ := strings.Cut(schedule, " "); !regexp.MustCompile(`^\d+$`).MatchString(second) {
			t.Errorf("%s: %s is %q: more than once a minute", function, m[1], schedule)
		}
	})
	if found != 6 {
		t.Errorf("%d timers, want 6", found)
	}
}

// TestQueues: the queues of the template are those that the code names, and the
// settings name them, too. What they hold for a message is compared in package local.
func TestQueues(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"JOBS_QUEUE": bus.DefaultQueues.Jobs, "POOLS_QUEUE": bus.DefaultQueues.Pools, "POOL_EVENTS_QUEUE": bus.DefaultQueues.PoolEvents,
		"NODE_EVENTS_QUEUE": bus.DefaultQueues.NodeEvents, "WORK_QUEUE": bus.DefaultQueues.Work, "REJECTED_QUEUE": bus.DefaultQueues.Rejected,
	}
	for snapshot, all := range snapshots(t) {
		var made []string
		for _, r := range ofType(all, "Microsoft.ServiceBus/namespaces/queues") {
			made = append(made, path.Base(r.Name))
		}
		slices.Sort(made)
		if named := slices.Sorted(maps.Values(want)); !slices.Equal(made, named) {
			t.Errorf("%s: the template makes the queues %v, the code names %v", snapshot, made, named)
		}
		set := appSettings(t, all)
		for setting, name := range want {
			if set[setting] != name {
				t.Errorf("%s: %s is %v, want %s", snapshot, setting, set[setting], name)
			}
		}
	}
}

// TestImage: the image that nodes have without a word about it is the same one in the
// template and in the code.
func TestImage(t *testing.T) {
	t.Parallel()
	text, _ := readTemplate(t).Parameters["image"].DefaultValue.(string)
	image, err := pool.ParseImage("image", text)
	if want := (pool.Image{Name: pool.DefaultImageName}).Full(); err != nil || image.Full() != want {
		t.Errorf("the template's image is %q (%v), that of the code %s", text, err, want.String())
	}
}

// TestTables: the template makes the tables of package store, and no others.
func TestTables(t *testing.T) {
	t.Parallel()
	want := slices.Sorted(slices.Values(store.Tables()))
	for snapshot, all := range snapshots(t) {
		var made []string
		for _, r := range ofType(all, "Microsoft.Storage/storageAccounts/tableServices/tables") {
			made = append(made, path.Base(r.Name))
		}
		slices.Sort(made)
		if !slices.Equal(made, want) {
			t.Errorf("%s: the template makes the tables %v, the code uses %v", snapshot, made, want)
		}
	}
}

// TestMount: the app's share is where the app looks for it, and nodes are told the
// same account and share.
func TestMount(t *testing.T) {
	t.Parallel()
	for snapshot, all := range snapshots(t) {
		set := appSettings(t, all)
		for _, r := range ofType(all, "Microsoft.Web/sites/config") {
			if path.Base(r.Name) != "azurestorageaccounts" {
				continue
			}
			for setting, got := range map[string]string{
				"SHARE_PATH": text(r.Properties, "share", "mountPath"), "DSVM_SHARE_ACCOUNT": text(r.Properties, "share", "accountName"),
				"DSVM_SHARE_NAME": text(r.Properties, "share", "shareName"),
			} {
				if set[setting] != got || got == "" {
					t.Errorf("%s: %s is %v, the mount has %q", snapshot, setting, set[setting], got)
				}
			}
			if key := text(r.Properties, "share", "accessKey"); key != "@AppSettingRef(MOUNT_KEY)" {
				t.Errorf("%s: the key of the mount is %q, not a reference to a setting", snapshot, key)
			}
			if value, _ := set["MOUNT_KEY"].(string); !strings.Contains(value, "@Microsoft.KeyVault(SecretUri=") {
				t.Errorf("%s: MOUNT_KEY is %q, not a reference to the vault", snapshot, value)
			}
		}
	}
}

// TestNothingComesIn: of all that could reach a node, only nodes do; nodes listen for
// nobody else, and everything that they and the app connect to is outgoing.
func TestNothingComesIn(t *testing.T) {
	t.Parallel()
	for _, guard := range ofType(snapshots(t)["new"], "Microsoft.Network/networkSecurityGroups") {
		rules, _ := guard.Properties["securityRules"].([]any)
		denies := false
		for _, rule := range rules {
			p := at(rule, "properties")
			from, to := text(p, "sourceAddressPrefix"), text(p, "destinationAddressPrefix")
			switch {
			case text(p, "direction") != "Inbound":
				t.Errorf("the rule %s stops nodes on their way out", text(rule, "name"))
			case text(p, "access") == "Deny":
				denies = denies || from == "*" && to == "*" && text(p, "destinationPortRange") == "*" && text(p, "protocol") == "*"
			case from != to || strings.HasSuffix(from, "/0") || !strings.Contains(from, "/"):
				t.Errorf("the rule %s lets %s in to %s", text(rule, "name"), from, to)
			}
		}
		if !denies {
			t.Error("no rule denies what no other rule allows: Azure would let the whole virtual network in")
		}
	}
	for _, network := range ofType(snapshots(t)["new"], "Microsoft.Network/virtualNetworks") {
		subnets, _ := network.Properties["subnets"].([]any)
		for _, subnet := range subnets {
			if at(subnet, "properties", "defaultOutboundAccess") != false || text(subnet, "properties", "networkSecurityGroup", "id") == "" {
				t.Errorf("subnet %s is not private, or has no guard", text(subnet, "name"))
			}
		}
	}
}
