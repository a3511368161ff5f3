package doctor

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"
)

// Place says where the deployment is, for the commands that mend it.
type Place struct {
	Subscription, ResourceGroup, Location string // of the nodes
	Namespace                             string // of Service Bus, fully qualified; "" = a connection string is used
	TablesEndpoint                        string // "" = a connection string is used
	ClientID                              string // of the app's identity
}

// deployAgain mends what the template makes.
const deployAgain = "run `dsvm deploy` again with the same parameters: it makes what is missing and corrects what was changed"

// grant says how the app gets a role: from the template, or by a command. Azure refuses the
// template's assignment while another one gives the same role.
func (p Place) grant(role, scope string) string {
	return "run `dsvm deploy` again, which gives what is missing; or by hand, to be deleted before the next deployment: " +
		p.assign(role, scope)
}

// assign is the command that gives the app a role. scope is an id, or a command in $() that
// prints it.
func (p Place) assign(role, scope string) string {
	return fmt.Sprintf(`az role assignment create --assignee %s --role "%s" --scope "%s"`,
		cmp.Or(p.ClientID, "CLIENT_ID_OF_THE_APP"), role, scope)
}

// nodesGroup is the id of the resource group of the nodes.
func (p Place) nodesGroup() string {
	return "/subscriptions/" + p.Subscription + "/resourceGroups/" + p.ResourceGroup
}

// found prints the id of a resource by its type and name.
func found(kind, name string) string {
	return fmt.Sprintf("$(az resource list --resource-type %s --name %s --query [0].id -o tsv)", kind, name)
}

// mendBus says how the app gets its rights on Service Bus.
func (p Place) mendBus() string {
	if p.Namespace == "" {
		return "correct the setting ServiceBusConnection: its key needs Manage, Send and Listen"
	}
	name, _, _ := strings.Cut(p.Namespace, ".")
	return p.grant("Azure Service Bus Data Owner", found("Microsoft.ServiceBus/namespaces", name))
}

// mendTables says how the app gets its rights on the tables.
func (p Place) mendTables() string {
	if p.TablesEndpoint == "" {
		return "correct the setting TablesConnection"
	}
	return p.grantStorage("Storage Table Data Contributor", p.TablesEndpoint)
}

// grantStorage gives the app a role on the storage account at an address.
func (p Place) grantStorage(role, address string) string {
	account := "ACCOUNT"
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		account, _, _ = strings.Cut(u.Hostname(), ".")
	}
	return p.grant(role, found("Microsoft.Storage/storageAccounts", account))
}

// mendReading gives the app the right to read something of a region, which is one of the
// subscription.
func (p Place) mendReading(what string) string {
	return fmt.Sprintf("grant Microsoft.Compute/locations/%s/read on the subscription by a custom role, as the template does: %s",
		what, deployAgain)
}

// mendNodes says what to do about Azure's refusal of a scale set.
func (p Place) mendNodes(detail string) string {
	switch {
	case strings.Contains(detail, "LinkedAuthorizationFailed"):
		return "the app may make scale sets and not use the subnet or the identity that the sentence names: " +
			p.grant("Network Contributor", "SUBNET_ID") + "; " + p.assign("Managed Identity Operator", "NODE_IDENTITY_ID")
	case strings.Contains(detail, "AuthorizationFailed"):
		return p.grant("Virtual Machine Contributor", p.nodesGroup())
	case strings.Contains(detail, "MissingSubscriptionRegistration"):
		return "az provider register --namespace Microsoft.Compute --wait"
	case strings.Contains(detail, "ImageNotFound"), strings.Contains(detail, "DSVM_IMAGE"):
		return fmt.Sprintf("az vm image list --location %s --publisher microsoft-dsvm --all -o table, "+
			"then name one in the pool's `image` or in DSVM_IMAGE", p.Location)
	case strings.Contains(detail, "quota"):
		return fmt.Sprintf("az vm list-usage --location %s -o table shows what is used; ask for more under Quotas in the portal", p.Location)
	}
	return "correct what the sentence names in the pool's document or in the app's settings"
}
