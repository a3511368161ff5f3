package infra_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dsvmpools/infra"
)

// The compiler does not judge the values of open enums, nor durations. values has
// all that the template may write, by property, with the source of each list: the
// specification of the service in github.com/Azure/azure-rest-api-specs, or a page of
// Microsoft's where the specification has plain text.
var values = map[string][]string{
	// authorization: PrincipalType; Group and User are those that Azure finds itself.
	"Microsoft.Authorization/roleAssignments.principalType": {"ServicePrincipal"},
	"Microsoft.Authorization/roleDefinitions.type":          {"CustomRole"},
	// consumption: CategoryType, TimeGrainType, OperatorType, ThresholdType.
	"Microsoft.Consumption/budgets.category":                      {"Cost"},
	"Microsoft.Consumption/budgets.timeGrain":                     {"Monthly", "Quarterly", "Annually"},
	"Microsoft.Consumption/budgets.notifications.*.operator":      {"EqualTo", "GreaterThan", "GreaterThanOrEqualTo"},
	"Microsoft.Consumption/budgets.notifications.*.thresholdType": {"Actual", "Forecasted"},
	// monitor: Application_Type; MetricAlertCriteria; Operator; AggregationTypeEnum.
	"Microsoft.Insights/components.Application_Type":                         {"web", "other"},
	"Microsoft.Insights/components.kind":                                     {"web"},
	"Microsoft.Insights/metricAlerts.criteria.odata.type":                    {"Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria"},
	"Microsoft.Insights/metricAlerts.criteria.allOf[].criterionType":         {"StaticThresholdCriterion"},
	"Microsoft.Insights/metricAlerts.criteria.allOf[].operator":              {"GreaterThan", "GreaterThanOrEqual", "LessThan", "LessThanOrEqual", "Equals"},
	"Microsoft.Insights/metricAlerts.criteria.allOf[].timeAggregation":       {"Average", "Count", "Minimum", "Maximum", "Total"},
	"Microsoft.Insights/metricAlerts.criteria.allOf[].dimensions[].operator": {"Include", "Exclude"},
	// monitor's page of supported metrics and dimensions.
	"Microsoft.Insights/metricAlerts.criteria.allOf[].dimensions[].name": {"EntityName"},
	"Microsoft.Insights/metricAlerts.criteria.allOf[].metricName": {
		"ActiveMessages", "DeadletteredMessages", "IncomingMessages", "requests/failed",
	},
	"Microsoft.Insights/metricAlerts.criteria.allOf[].metricNamespace": {"Microsoft.ServiceBus/namespaces", "microsoft.insights/components"},
	// monitor's page of supported resource logs.
	"Microsoft.Insights/diagnosticSettings.logs[].category": {"AuditEvent", "OperationalLogs"},
	// keyvault: CreateMode, SkuFamily, SkuName.
	"Microsoft.KeyVault/vaults.createMode":          {"default", "recover"},
	"Microsoft.KeyVault/vaults.publicNetworkAccess": {"Enabled"},
	"Microsoft.KeyVault/vaults.sku.family":          {"A"},
	"Microsoft.KeyVault/vaults.sku.name":            {"standard", "premium"},
	// keyvault: JsonWebKeyType, JsonWebKeyCurveName, JsonWebKeyOperation.
	"Microsoft.KeyVault/vaults/keys.kty":       {"EC"},
	"Microsoft.KeyVault/vaults/keys.curveName": {"P-256"},
	"Microsoft.KeyVault/vaults/keys.keyOps[]":  {"sign"},
	// relay: SkuName, SkuTier, AccessRights.
	"Microsoft.Relay/namespaces.sku.name":                    {"Standard"},
	"Microsoft.Relay/namespaces.sku.tier":                    {"Standard"},
	"Microsoft.Relay/namespaces/authorizationRules.rights[]": {"Listen", "Send"},
	// network: SecurityRuleAccess, SecurityRuleDirection, SecurityRuleProtocol.
	"Microsoft.Network/networkSecurityGroups.securityRules[].properties.access":         {"Allow", "Deny"},
	"Microsoft.Network/networkSecurityGroups.securityRules[].properties.direction":      {"Inbound", "Outbound"},
	"Microsoft.Network/networkSecurityGroups.securityRules[].properties.protocol":       {"*", "Tcp", "Udp", "Icmp"},
	"Microsoft.Network/virtualNetworks.subnets[].properties.serviceEndpoints[].service": {"Microsoft.Storage"},
	// operationalinsights: WorkspaceSkuNameEnum.
	"Microsoft.OperationalInsights/workspaces.sku.name": {"PerGB2018"},
	// servicebus: SkuName, TlsVersion.
	"Microsoft.ServiceBus/namespaces.minimumTlsVersion": {"1.2", "1.3"},
	"Microsoft.ServiceBus/namespaces.sku.name":          {"Standard", "Premium"}, // Basic has no sessions
	"Microsoft.ServiceBus/namespaces.sku.tier":          {"Standard", "Premium"},
	// storage: AccessTier, Kind, MinimumTlsVersion, SkuName, PublicAccess, ShareAccessTier, EnabledProtocols;
	// SmbSetting is text, its words are in the descriptions.
	"Microsoft.Storage/storageAccounts.accessTier":                                                    {"Hot", "Cool"},
	"Microsoft.Storage/storageAccounts.kind":                                                          {"StorageV2"},
	"Microsoft.Storage/storageAccounts.minimumTlsVersion":                                             {"TLS1_2", "TLS1_3"},
	"Microsoft.Storage/storageAccounts.sku.name":                                                      {"Standard_LRS", "Standard_ZRS", "Standard_GRS", "Standard_GZRS"},
	"Microsoft.Storage/storageAccounts.azureFilesIdentityBasedAuthentication.directoryServiceOptions": {"None"},
	"Microsoft.Storage/storageAccounts/blobServices/containers.publicAccess":                          {"None"},
	"Microsoft.Storage/storageAccounts/fileServices.protocolSettings.smb.authenticationMethods":       {"NTLMv2;Kerberos"},
	"Microsoft.Storage/storageAccounts/fileServices.protocolSettings.smb.channelEncryption":           {"AES-128-GCM;AES-256-GCM"},
	"Microsoft.Storage/storageAccounts/fileServices.protocolSettings.smb.versions":                    {"SMB3.1.1"},
	"Microsoft.Storage/storageAccounts/fileServices/shares.accessTier":                                {"TransactionOptimized", "Hot", "Cool", "Premium"},
	"Microsoft.Storage/storageAccounts/fileServices/shares.enabledProtocols":                          {"SMB"},
	// web: ManagedServiceIdentityType, AuthenticationType, FunctionsDeploymentStorageType, RuntimeName, and the
	// stack file custom.json of Flex Consumption for the runtime's version.
	"Microsoft.Web/serverfarms.kind":                                               {"functionapp"},
	"Microsoft.Web/serverfarms.sku.name":                                           {"FC1"},
	"Microsoft.Web/serverfarms.sku.tier":                                           {"FlexConsumption"},
	"Microsoft.Web/sites.kind":                                                     {"functionapp,linux"},
	"Microsoft.Web/sites.identity.type":                                            {"UserAssigned"},
	"Microsoft.Web/sites.siteConfig.minTlsVersion":                                 {"1.2", "1.3"},
	"Microsoft.Web/sites.functionAppConfig.runtime.name":                           {"custom"},
	"Microsoft.Web/sites.functionAppConfig.runtime.version":                        {"1.0"},
	"Microsoft.Web/sites.functionAppConfig.deployment.storage.type":                {"blobContainer"},
	"Microsoft.Web/sites.functionAppConfig.deployment.storage.authentication.type": {"UserAssignedIdentity"},
	"Microsoft.Web/sites/config.share.type":                                        {"AzureFiles"},
	"Microsoft.Web/sites/config.share.protocol":                                    {"Smb"},
}

// free are properties whose strings are names, ids, addresses or sentences, by the
// end of their path; durations are judged by TestDurations.
var free = []string{
	".principalId", ".roleDefinitionId", ".assignableScopes[]", ".description", ".actions[]", ".roleName", ".contactEmails[]",
	".startDate", ".emailAddress", ".emailReceivers[].name", ".groupShortName", ".WorkspaceResourceId", ".workspaceId", ".actionGroupId",
	".dimensions[].values[]", ".allOf[].name", ".scopes[]", ".tenantId", ".contentType", "vaults/secrets.value", ".securityRules[].name",
	".destinationAddressPrefix", ".destinationPortRange", ".sourceAddressPrefix", ".sourcePortRange", ".addressPrefixes[]",
	".subnets[].name", ".addressPrefix", ".networkSecurityGroup.id", ".userAssignedIdentityResourceId", ".storage.value",
	".alwaysReady[].name", ".keyVaultReferenceIdentity", ".serverFarmId",
	".share.accountName", ".share.shareName", ".share.mountPath", ".share.accessKey",
}

// someOf are objects with names of their own, whose names do not count.
var someOf = regexp.MustCompile(`(\.notifications)\.\w+`)

// eachString calls visit for every string below v.
func eachString(path string, v any, visit func(path, value string)) {
	switch v := v.(type) {
	case map[string]any:
		for key, below := range v {
			eachString(path+"."+key, below, visit)
		}
	case []any:
		for _, below := range v {
			eachString(path+"[]", below, visit)
		}
	case string:
		visit(someOf.ReplaceAllString(path, "$1.*"), v)
	}
}

// eachValue calls visit for every string of a resource's body, but for the
// settings of the app, which TestSettings judges.
func eachValue(r resource, visit func(path, value string)) {
	if strings.HasSuffix(r.Name, "/appsettings") {
		return
	}
	eachString(r.Type, r.Properties, visit)
	eachString(r.Type+".sku", r.SKU, visit)
	eachString(r.Type+".identity.type", r.Identity["type"], visit)
	if r.Kind != "" {
		visit(r.Type+".kind", r.Kind)
	}
}

func TestValuesOfEnums(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for name, all := range snapshots(t) {
		for _, r := range all {
			eachValue(r, func(path, value string) {
				allowed, judged := values[path]
				seen[path] = true
				isFree := slices.ContainsFunc(free, func(end string) bool { return strings.HasSuffix(path, end) })
				switch {
				case judged && !slices.Contains(allowed, value):
					t.Errorf("%s: %s: %s is %q; it may be %q", name, r.Name, path, value, allowed)
				case !judged && !isFree && !isDuration(path):
					t.Errorf("%s: %s: nothing judges %s (%q): list its values, or that it is free", name, r.Name, path, value)
				}
			})
		}
	}
	for path := range values {
		if !seen[path] {
			t.Errorf("the template has no %s", path)
		}
	}
}

// durations are the properties that are durations of ISO 8601, with the longest
// that the service takes, in seconds; 0 = no limit that we could reach.
var durations = map[string]int{
	"Microsoft.ServiceBus/namespaces/queues.lockDuration":             5 * 60,
	"Microsoft.ServiceBus/namespaces/queues.defaultMessageTimeToLive": 0,
	"Microsoft.Insights/metricAlerts.evaluationFrequency":             60 * 60,
	"Microsoft.Insights/metricAlerts.windowSize":                      24 * 60 * 60,
}

func isDuration(path string) bool { _, ok := durations[path]; return ok }

var iso8601 = regexp.MustCompile(`^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$`)

// seconds reads a duration of ISO 8601 of days and less.
func seconds(s string) (int, error) {
	m := iso8601.FindStringSubmatch(s)
	if m == nil || strings.HasSuffix(s, "P") || strings.HasSuffix(s, "T") {
		return 0, fmt.Errorf("%q is no duration such as PT5M or P14D", s)
	}
	total := 0
	for i, unit := range []int{24 * 60 * 60, 60 * 60, 60, 1} {
		n := 0
		if m[i+1] != "" {
			if _, err := fmt.Sscan(m[i+1], &n); err != nil {
				return 0, err
			}
		}
		total += n * unit
	}
	return total, nil
}

func TestSeconds(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"PT5M": 300, "P14D": 14 * 86400, "P1DT1H2M3S": 90123, "5M": -1, "P": -1, "PT": -1, "P5M": -1, "PT5": -1} {
		got, err := seconds(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%s: got %d, want %d", text, got, want)
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for name, all := range snapshots(t) {
		for _, r := range all {
			eachValue(r, func(path, value string) {
				most, ok := durations[path]
				if !ok {
					return
				}
				seen[path] = true
				got, err := seconds(value)
				switch {
				case err != nil:
					t.Errorf("%s: %s: %s: %v", name, r.Name, path, err)
				case got <= 0 || most > 0 && got > most:
					t.Errorf("%s: %s: %s is %s; it may be %d seconds at most", name, r.Name, path, value, most)
				}
			})
		}
	}
	for path := range durations {
		if !seen[path] {
			t.Errorf("the template has no %s", path)
		}
	}
}

// names are what Azure takes as names, from its page of resource name rules.
var names = map[string]*regexp.Regexp{
	"Microsoft.Storage/storageAccounts":                     regexp.MustCompile(`^[a-z0-9]{3,24}$`),
	"Microsoft.KeyVault/vaults":                             regexp.MustCompile(`^[a-zA-Z](-?[a-zA-Z0-9]){2,23}$`),
	"Microsoft.Relay/namespaces":                            regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]{4,48}[a-zA-Z0-9]$`),
	"Microsoft.ServiceBus/namespaces":                       regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]{4,48}[a-zA-Z0-9]$`),
	"Microsoft.Web/sites":                                   regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9-]{0,58}[a-zA-Z0-9]$`),
	"Microsoft.Compute/galleries":                           regexp.MustCompile(`^[a-zA-Z0-9._]{1,80}$`),
	"Microsoft.Web/serverfarms":                             regexp.MustCompile(`^[a-zA-Z0-9-]{1,60}$`),
	"Microsoft.Storage/storageAccounts/fileServices/shares": regexp.MustCompile(`^[^/]+/default/[a-z0-9](-?[a-z0-9]){2,62}$`),
}

// TestNames: the snapshot `own` has a name of the greatest length.
func TestNames(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for name, all := range snapshots(t) {
		for _, r := range all {
			if rule, ok := names[r.Type]; ok && !rule.MatchString(r.Name) {
				t.Errorf("%s: %s: Azure does not take the name %q", name, r.Type, r.Name)
			}
			if other, ok := seen[name+r.ID]; ok && !strings.HasPrefix(r.ID, "[") {
				t.Errorf("%s: two resources have the id %s: %s", name, r.ID, other)
			}
			seen[name+r.ID] = r.Name
		}
	}
}

// untagged are types that take no tags.
var untagged = map[string]bool{
	"Microsoft.Authorization/roleAssignments": true, "Microsoft.Authorization/roleDefinitions": true, "Microsoft.Consumption/budgets": true,
	"Microsoft.Insights/diagnosticSettings": true,
}

// TestTags: what a person finds in the portal says which deployment it belongs to.
func TestTags(t *testing.T) {
	t.Parallel()
	for name, all := range snapshots(t) {
		deployment := all[0].Name
		for _, r := range all {
			isChild := strings.Count(r.Type, "/") > 1
			if untagged[r.Type] || isChild {
				continue
			}
			if r.Tags["dsvmpools"] != deployment {
				t.Errorf("%s: %s %s has the tags %v", name, r.Type, r.Name, r.Tags)
			}
		}
	}
}

// secretWords are in names of what nobody passes to a template or reads from its
// outputs.
var secretWords = regexp.MustCompile(`(?i)password|secret|token|accountkey|connectionstring|sas$`)

func TestNoSecretsInParametersOrOutputs(t *testing.T) {
	t.Parallel()
	tmpl := readTemplate(t)
	for _, name := range slices.Sorted(maps.Keys(tmpl.Parameters)) {
		isSecret := strings.HasPrefix(strings.ToLower(tmpl.Parameters[name].Type), "secure")
		if secretWords.MatchString(name) || isSecret && name != "extraSettings" {
			t.Errorf("parameter %s looks like a secret; a key is read inside the template and kept in the vault", name)
		}
	}
	// People put secrets there, whatever is said; records of deployments show what is not secure.
	secure := regexp.MustCompile(`(?i)"extraSettings":\s*\{\s*"type":\s*"secureObject"`)
	if found := secure.FindAll(infra.Template, -1); len(found) != 2 {
		t.Errorf("extraSettings is a secure parameter %d times, want it in the template and in the module of the app", len(found))
	}
	for name, output := range tmpl.Outputs {
		value := fmt.Sprint(output.Value)
		if secretWords.MatchString(name) || strings.Contains(value, "listKeys") || strings.Contains(value, "onnectionString") {
			t.Errorf("output %s: %s", name, value)
		}
	}
}

// TestKeysStayInTheVault: listKeys is evaluated for the vault's secret alone.
func TestKeysStayInTheVault(t *testing.T) {
	t.Parallel()
	for name, all := range snapshots(t) {
		found := 0
		for _, r := range all {
			eachString(r.Type, r.Properties, func(path, value string) {
				if !strings.Contains(value, "listKeys") {
					return
				}
				found++
				if path != "Microsoft.KeyVault/vaults/secrets.value" {
					t.Errorf("%s: %s of %s is made from a key", name, path, r.Name)
				}
			})
		}
		want := 3 // of the share's account, and of the relay's two rules
		if name == "identity" {
			want = 1 // it has no relay
		}
		if found != want {
			t.Errorf("%s: %d values are made from keys, not %d", name, found, want)
		}
	}
}
