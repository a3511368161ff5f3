package deploy

import (
	"regexp"
	"strings"
)

// azureCode is how az and Azure name the code of an error: "(QuotaExceeded) ...",
// "Code: QuotaExceeded", {"code": "QuotaExceeded"}.
var azureCode = regexp.MustCompile(`(?m)^\(([A-Z]\w+)\)|\bCode:\s*([A-Z]\w+)|"[cC]ode":\s*"([A-Z]\w+)"|ErrorCode:\s*([A-Z]\w+)`)

// Codes that only wrap another one, which is the one to act on.
var wrapping = map[string]bool{
	"DeploymentFailed":           true,
	"InvalidTemplateDeployment":  true,
	"ResourceDeploymentFailure":  true,
	"BadRequest":                 true,
	"Conflict":                   true,
	"ResourceOperationFailure":   true,
	"MultipleErrorsOccurred":     true,
	"PreflightValidationChecks":  true,
	"DeploymentWhatIfFailed":     true,
	"InvalidRequestContent":      true,
	"DeploymentValidationFailed": true,
}

// codeOf is the innermost code that a text names; "" = it names none.
func codeOf(text string) (code string) {
	for _, m := range azureCode.FindAllStringSubmatch(text, -1) {
		if each := strings.Join(m[1:], ""); code == "" || wrapping[code] || !wrapping[each] {
			code = each
		}
	}
	return code
}

// mendings say what to do about the codes that a first deployment meets, in most cases as a
// command.
var mendings = []struct{ code, mending string }{
	{"AuthorizationFailed", "you lack a right: an Owner of the subscription has to run this, or has to give you the role: " +
		"az role assignment create --assignee YOU --role Owner --scope /subscriptions/ID"},
	{"LinkedAuthorizationFailed", "you lack a right on something that you named as existing (subnet, account, vault): " +
		"its owner has to give you the role Owner or User Access Administrator on it"},
	{"RoleAssignmentUpdateNotPermitted", "a role assignment of an earlier identity with this name is left: " +
		"az role assignment list --all shows it, without a principalName; az role assignment delete --ids ID removes it"},
	{"RoleAssignmentExists", "somebody has given that right by hand, and the template gives it under a name of its own: " +
		"az role assignment delete --ids ID takes back the one that the message names; then run this again"},
	{"PrincipalNotFound", "an identity that was made a moment ago is not known everywhere yet: run this again in some minutes; it continues"},
	{"RoleDefinitionDoesNotExist", "a role that was just made is not known everywhere yet: run this again in some minutes; it continues"},
	{"MissingSubscriptionRegistration", "register the provider that it names: az provider register --wait --namespace NAMESPACE"},
	{"SubscriptionNotRegistered", "register the provider that it names: az provider register --wait --namespace NAMESPACE"},
	{"ConflictError", "a deleted vault of this name is kept by Azure for 7 days: run this again with recoverVault=true"},
	{"VaultAlreadyExists", "a deleted vault of this name is kept by Azure for 7 days: run this again with recoverVault=true"},
	{"FlagMustBeSetForRestore", "the vault was deleted before: run this again with recoverVault=true"},
	{"StorageAccountAlreadyTaken", "somebody else has an account of this name: choose another name="},
	{"DeploymentActive", "another deployment of this name runs: wait for it, or end it: az deployment sub cancel --name DEPLOYMENT"},
	{"DeploymentQuotaExceeded", "the subscription keeps too many deployments: " +
		"az deployment sub list, then az deployment sub delete --name EACH"},
	{"InvalidDeploymentLocation", "this deployment was made in another region: use that one, or remove it first with dsvm destroy NAME"},
	{"InvalidResourceGroupLocation", "a resource group of this name is in another region: choose another name= or that location="},
	{"ResourceGroupBeingDeleted", "an earlier removal still goes on: run this again when az group exists --name NAME says false"},
	{"RequestDisallowedByPolicy", "a policy of the subscription forbids it: the message names the policy; " +
		"its owner has to exempt the resource group, or the parameters have to follow it (own network, account and vault are parameters)"},
	{"QuotaExceeded", "the quota does not suffice: ask for more at https://portal.azure.com/#view/Microsoft_Azure_Capacity/QuotaMenuBlade, " +
		"or choose another location="},
	{"SubscriptionIsOverQuotaForSku", "the subscription may have no app of this plan here: choose another location=; " +
		"az functionapp list-flexconsumption-locations shows them"},
	{"LocationNotAvailableForResourceType", "choose another location=; " +
		"az functionapp list-flexconsumption-locations shows where the app can be"},
	{"ReadOnlyDisabledSubscription", "the subscription is disabled, and may only be read: its owner has to enable it"},
	{"RoleDefinitionLimitExceeded", "the directory has too many roles of its own: az role definition list --custom-role-only shows them"},
	{"ExpiredAuthenticationToken", "sign in again: az login"},
	{"InvalidAuthenticationTokenTenant", "the subscription is of another directory: az login --tenant DIRECTORY"},
}

// Texts of az itself, which have no code.
var mendingTexts = []struct {
	text    *regexp.Regexp
	mending string
}{
	{regexp.MustCompile(`(?i)az login|AADSTS\d+|refresh token has expired`), "sign in: az login"},
	{regexp.MustCompile(`(?i)Connection(Error)?.*(refused|reset|aborted)|Max retries exceeded|Failed to (resolve|establish)`),
		"Azure cannot be reached from here: look at the network and at HTTPS_PROXY, then run this again; it continues"},
	{regexp.MustCompile(`(?i)CERTIFICATE_VERIFY_FAILED`),
		"a proxy that opens connections needs its certificate in REQUESTS_CA_BUNDLE"},
}

// mend says what to do about an error; "" = nothing better than the error itself is known.
func mend(code, text string) string {
	for _, m := range mendings {
		if m.code == code {
			return m.mending
		}
	}
	for _, m := range mendingTexts {
		if m.text.MatchString(text) {
			return m.mending
		}
	}
	return ""
}
