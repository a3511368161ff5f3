package infra_test

import (
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// roleNames are the built-in roles of Azure that the template gives, by id, from
// learn.microsoft.com/azure/role-based-access-control/built-in-roles.
var roleNames = map[string]string{
	"090c5cfd-751d-490a-894a-3ce6f1109419": "Azure Service Bus Data Owner",
	"4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0": "Azure Service Bus Data Receiver",
	"69a216fc-b8fb-44d8-bc22-1f3c2cd27a39": "Azure Service Bus Data Sender",
	"b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
	"ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
	"2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": "Storage Blob Data Reader",
	"974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
	"0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
	"a235d3ee-5935-4cfb-8cc5-a3303ad5995e": "Storage File Data SMB MI Admin",
	"9980e02c-c2be-4d73-94e8-173b1dc7cf3c": "Virtual Machine Contributor",
	"f1a07417-d97a-45cb-824c-7a7467783830": "Managed Identity Operator",
	"4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
	"12338af0-0e69-4776-bea7-57ae8d297424": "Key Vault Crypto User",
	"3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
	"acdd72a7-3385-48ef-bd42-f606fba81ae7": "Reader",
}

// rights are who has which role on what; the app's and the nodes' are all that there
// are. README.md says why.
var rights = map[string][]string{
	"new": {
		"app: Azure Service Bus Data Owner on namespaces",
		"app: Key Vault Crypto User on keys/ssh-ca",
		"app: Key Vault Secrets User on vaults",
		"app: Key Vault Secrets User on vaults/keys",
		"app: Managed Identity Operator on userAssignedIdentities/node",
		"app: Monitoring Metrics Publisher on components",
		"app: Storage Blob Data Owner on storageAccounts/host",
		"app: Storage Queue Data Contributor on storageAccounts/host",
		"app: Storage Table Data Contributor on storageAccounts/host",
		"app: Virtual Machine Contributor on resourceGroups/nodes",
		"app: join a subnet on subnets/nodes",
		"app: make entities of a relay on namespaces/relay",
		"app: read quotas and sizes on subscriptions",
		"node: Azure Service Bus Data Receiver on queues/work",
		"node: Azure Service Bus Data Sender on queues/node-events",
		"node: Key Vault Secrets User on vaults",
		"node: Storage Blob Data Reader on containers/agent",
		"node: delete a node on resourceGroups/nodes",
	},
	// beside those of `new`
	"identity": {"node: Storage File Data SMB MI Admin on storageAccounts/share"},
	"ways":     rightsOfWays,
	"own": append([]string{
		"app: Reader on galleries",
		"node: Storage File Data SMB MI Admin on storageAccounts/share",
		"others: Azure Service Bus Data Sender on queues/jobs",
		"others: Azure Service Bus Data Sender on queues/pools",
		"others: Storage Blob Data Contributor on containers/agent",
		"others: Storage Blob Data Contributor on containers/app",
	}, rightsOfWays...),
}

// rightsOfWays are those of the app in a deployment that lets people in beside the relay.
var rightsOfWays = []string{
	"app: lead to addresses of a network on virtualNetworks",
	"app: make load balancers on resourceGroups/nodes",
	"app: open nodes to people on networkSecurityGroups",
}

// ofSessions are the rights of `new` that a deployment without interactive pools lacks: `identity`.
var ofSessions = []string{
	"app: Key Vault Crypto User on keys/ssh-ca",
	"app: Key Vault Secrets User on vaults/keys",
	"app: make entities of a relay on namespaces/relay",
}

// scopeOf reads the scope of an assignment from its id, which is an expression where
// the name of the assignment is one.
var scopeOf = []*regexp.Regexp{
	regexp.MustCompile(`^\[extensionResourceId\('([^']+)'`),
	regexp.MustCompile(`^(/.*)/providers/Microsoft\.Authorization/roleAssignments/[^/]+$`),
	regexp.MustCompile(`^\[resourceId\('[^']+', '([^']+)', 'Microsoft\.Authorization/roleAssignments'`),
	regexp.MustCompile(`^\[subscriptionResourceId\('([^']+)', 'Microsoft\.Authorization/roleAssignments'`),
}

// scope is the kind of what an assignment is for, with its part in the deployment
// where there are several of the kind.
func scope(t *testing.T, id string) string {
	t.Helper()
	for i, form := range scopeOf {
		m := form.FindStringSubmatch(id)
		switch {
		case m == nil:
			continue
		case i == 2 && strings.HasSuffix(m[1], "-nodes"):
			return "resourceGroups/nodes"
		case i == 3:
			return "subscriptions"
		}
		kind, name := path.Base(path.Dir(m[1])), path.Base(m[1])
		switch kind {
		case "queues", "containers", "keys":
			return kind + "/" + name
		case "namespaces":
			if strings.HasPrefix(name, "relay-") {
				return kind + "/relay"
			}
		case "vaults":
			if strings.HasPrefix(name, "kd-") {
				return kind + "/keys"
			}
		case "subnets":
			return "subnets/nodes"
		case "userAssignedIdentities":
			return kind + "/" + name[strings.LastIndex(name, "-")+1:]
		case "storageAccounts":
			if strings.HasSuffix(name, "h") || name == "teamapps" {
				return kind + "/host"
			}
			return kind + "/share"
		}
		return kind
	}
	t.Fatalf("nothing here reads the scope of %s", id)
	return ""
}

// holder is who an assignment is for.
var holder = regexp.MustCompile(`userAssignedIdentities/id-[a-z0-9]+-(app|node)'`)

func assigned(t *testing.T, all []resource) (out []string) {
	t.Helper()
	custom := map[string]string{}
	for _, r := range ofType(all, "Microsoft.Authorization/roleDefinitions") {
		_, name, _ := strings.Cut(text(r.Properties, "roleName"), ": ")
		name, unique, _ := strings.Cut(name, " (")
		if len(unique) < 13 {
			t.Errorf("the name of the role %q is not unique in a directory", name)
		}
		custom[path.Base(r.ID)] = name
	}
	for _, r := range ofType(all, "Microsoft.Authorization/roleAssignments") {
		who := "others"
		if m := holder.FindStringSubmatch(text(r.Properties, "principalId")); m != nil {
			who = m[1]
			if text(r.Properties, "principalType") != "ServicePrincipal" {
				t.Errorf("%s: without its principalType Azure refuses an identity that it has only just made", r.ID)
			}
		}
		id := path.Base(text(r.Properties, "roleDefinitionId"))
		role := roleNames[id] + custom[id]
		if role == "" {
			t.Errorf("the role %s has no name here", id)
		}
		out = append(out, who+": "+role+" on "+scope(t, r.ID))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestRights: nobody gets a right that nobody reviewed, and none is lost.
func TestRights(t *testing.T) {
	t.Parallel()
	for name, all := range snapshots(t) {
		want := rights[name]
		if name != "new" {
			want = append(slices.Clone(want), rights["new"]...)
		}
		if name == "identity" {
			want = slices.DeleteFunc(want, func(right string) bool { return slices.Contains(ofSessions, right) })
		}
		slices.Sort(want)
		got := assigned(t, all)
		for _, right := range got {
			if !slices.Contains(want, right) {
				t.Errorf("%s: nobody reviewed the right: %s", name, right)
			}
		}
		for _, right := range want {
			if !slices.Contains(got, right) {
				t.Errorf("%s: missing: %s", name, right)
			}
		}
	}
}

// TestRightsAreExplained: the page has a row for each role, with its id.
func TestRightsAreExplained(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for id, name := range roleNames {
		if !regexp.MustCompile(`(?m)^\|.*` + regexp.QuoteMeta(name) + `.*` + id).Match(page) {
			t.Errorf("README.md has no row for %s, %s", name, id)
		}
	}
}

// actions are what the calls of a client of the resource manager need, by what
// makes the client, and who grants it in the template.
var actions = map[string]struct{ action, right string }{
	"NewVirtualMachineScaleSetsClient":   {"Microsoft.Compute/virtualMachineScaleSets/*", "app: Virtual Machine Contributor on resourceGroups/nodes"},
	"NewVirtualMachineScaleSetVMsClient": {"Microsoft.Compute/virtualMachineScaleSets/*", "app: Virtual Machine Contributor on resourceGroups/nodes"},
	"NewUsageClient":                     {"Microsoft.Compute/locations/usages/read", "app: read quotas and sizes on subscriptions"},
	"NewVirtualMachineSizesClient":       {"Microsoft.Compute/locations/vmSizes/read", "app: read quotas and sizes on subscriptions"},
}

// TestRightsOfCalls: each client of the resource manager that the code makes has a
// right in the template, and each action of a role of ours has its client.
func TestRightsOfCalls(t *testing.T) {
	t.Parallel()
	all := snapshots(t)["new"]
	granted := assigned(t, all)
	made := regexp.MustCompile(`\barm\w+\.(New\w+Client)\(`)
	seen := map[string]bool{}
	for _, m := range made.FindAllStringSubmatch(code(t, "../handlers", "../shared", "../agent"), -1) {
		need, ok := actions[m[1]]
		if !ok {
			t.Errorf("nothing here says which right %s needs", m[1])
			continue
		}
		seen[m[1]] = true
		if !slices.Contains(granted, need.right) {
			t.Errorf("%s needs the right: %s", m[1], need.right)
		}
	}
	for name := range actions {
		if !seen[name] {
			t.Errorf("the code does not call %s any more", name)
		}
	}
	own := map[string]bool{}
	for _, r := range ofType(slices.Concat(all, snapshots(t)["ways"]), "Microsoft.Authorization/roleDefinitions") {
		permissions, _ := r.Properties["permissions"].([]any)
		for _, p := range permissions {
			list, _ := at(p, "actions").([]any)
			for _, action := range list {
				own[action.(string)] = true
			}
		}
	}
	want := []string{
		"Microsoft.Compute/locations/usages/read", "Microsoft.Compute/locations/vmSizes/read",
		"Microsoft.Compute/virtualMachineScaleSets/virtualMachines/delete", // the agent's own instance
		// TestWaysNeedTheirRights
		"Microsoft.Network/loadBalancers/backendAddressPools/read", "Microsoft.Network/loadBalancers/backendAddressPools/write",
		"Microsoft.Network/loadBalancers/delete", "Microsoft.Network/loadBalancers/read", "Microsoft.Network/loadBalancers/write",
		"Microsoft.Network/networkSecurityGroups/securityRules/delete", "Microsoft.Network/networkSecurityGroups/securityRules/read",
		"Microsoft.Network/networkSecurityGroups/securityRules/write", "Microsoft.Network/publicIPAddresses/delete",
		"Microsoft.Network/publicIPAddresses/join/action", "Microsoft.Network/publicIPAddresses/read", "Microsoft.Network/publicIPAddresses/write",
		"Microsoft.Network/virtualNetworks/joinLoadBalancer/action", // asked for when addresses become backends
		"Microsoft.Network/virtualNetworks/subnets/join/action",     // asked for when a set is written
		"Microsoft.Relay/namespaces/hybridConnections/write",        // TestRelayIsWhereTheAppLooks
	}
	if got := slices.Sorted(maps.Keys(own)); !slices.Equal(got, want) {
		t.Errorf("the roles of this deployment allow %v, want %v", got, want)
	}
}
