package fleet

import (
	"regexp"
	"slices"
	"strings"

	"dsvmpools/shared/fault"
)

// meaning is what an answer of Azure means for a pool. Whatever only an operator can mend
// is Invalid, or NoQuota where nodes that leave make room, and says what to do.
type meaning struct {
	code fault.Code
	do   string // for people: what mends it; "" = the answer says enough, or nothing has to be done
}

// What an operator does about answers of one cause.
const (
	doImage = "name another image in the pool or in DSVM_IMAGE; " +
		"`az vm image list --location REGION --publisher PUBLISHER --offer OFFER --all` shows what there is"
	doSubnet  = "give the nodes a larger subnet, or lower `nodes.max` of the pools"
	doAddress = "ask for more public addresses under Quotas in the portal, or set DSVM_NODE_PUBLIC_IP=false " +
		"and give the subnet another way out, such as a NAT gateway"
	doRights = "give the app's identity the role Virtual Machine Contributor on the resource group of the nodes, " +
		"and try again after some minutes"
	doLinked = "give the app's identity the role Network Contributor on the subnet in DSVM_SUBNET_ID " +
		"and the role Managed Identity Operator on the identity in DSVM_NODE_IDENTITY_ID, and try again after some minutes"
	doRefer    = "see that DSVM_SUBNET_ID, DSVM_NODE_IDENTITY_ID and DSVM_PROXIMITY_GROUP_ID name what exists in the region AZURE_LOCATION"
	doGroup    = "make the resource group with `az group create`, or correct AZURE_RESOURCE_GROUP"
	doFast     = "name another size in the pool: this one has no accelerated networking"
	doZones    = "correct DSVM_ZONES, or name sizes in the pool that the zones have"
	doLabels   = "correct the labels of the pool"
	doPolicy   = "ask the owner of the policy for an exemption for the resource group of the nodes"
	doLock     = "remove the lock from the resource group of the nodes"
	doEnable   = "enable the subscription again in the portal"
	doSignIn   = "see that AZURE_CLIENT_ID names the app's identity and that the identity exists"
	doDisk     = "set DSVM_OS_DISK_GIB to at least the size of the image, or remove it"
	doLocal    = "set DSVM_EPHEMERAL_DISK=false, or name sizes in the pool with a larger local disk"
	doTrusted  = "leave DSVM_SECURITY_TYPE empty, or name sizes and an image in the pool that support TrustedLaunch"
	doStandard = "set DSVM_SECURITY_TYPE=TrustedLaunch"
	doKey      = "set DSVM_SSH_PUBLIC_KEY to the text of a file such as id_ed25519.pub"
	doTerms    = "name an image in the pool that needs no purchase plan"
	doBasic    = "set DSVM_NODE_PUBLIC_IP=false and give the subnet another way out, such as a NAT gateway: " +
		"Azure makes no Basic addresses any more"
)

// meanings of the codes of the resource manager, of Compute and of Network. They come as
// an answer, as the failure of an operation (whose status is 200), or inside another one.
var meanings = map[string]meaning{
	"AllocationFailed":                      {fault.NoCapacity, ""},
	"ZonalAllocationFailed":                 {fault.NoCapacity, ""},
	"SkuNotAvailable":                       {fault.NoCapacity, ""},
	"OverconstrainedAllocationRequest":      {fault.NoCapacity, ""},
	"OverconstrainedZonalAllocationRequest": {fault.NoCapacity, ""},

	"QuotaExceeded": {fault.NoQuota, "ask for a higher limit under Quotas in the portal"},
	// A subnet and the addresses of a region are limits that leaving nodes make room in.
	"SubnetIsFull":                             {fault.NoQuota, doSubnet},
	"InsufficientSubnetSize":                   {fault.NoQuota, doSubnet},
	"PublicIPCountLimitReached":                {fault.NoQuota, doAddress},
	"IPv4StandardSkuPublicIpCountLimitReached": {fault.NoQuota, doAddress},
	"IPv4BasicSkuPublicIpCountLimitReached":    {fault.Invalid, doBasic}, // the limit is none since Basic addresses ended

	"TooManyRequests":                     {fault.Throttled, ""},
	"SubscriptionRequestsThrottled":       {fault.Throttled, ""},
	"RetryableErrorDueToAnotherOperation": {fault.Throttled, ""},

	"PreconditionFailed":      {fault.Conflict, ""},
	"Conflict":                {fault.Conflict, ""},
	"NicReservedForAnotherVm": {fault.Conflict, ""}, // for 180 s
	"OperationPreempted":      {fault.Preempted, ""},
	"ResourceNotFound":        {fault.NotFound, ""},
	"NotFound":                {fault.NotFound, ""},

	"PropertyChangeNotAllowed": {fault.Immutable, ""},
	"InvalidResourceLocation":  {fault.Immutable, ""}, // a set of this name is in another region

	"MissingSubscriptionRegistration":     {fault.Invalid, "run `az provider register --namespace NAMESPACE --wait`"},
	"SubscriptionNotRegisteredForFeature": {fault.Invalid, "run `az feature register` for the feature that the answer names"},
	"NoRegisteredProviderFound":           {fault.Invalid, "correct AZURE_LOCATION"},
	"LocationNotAvailableForResourceType": {fault.Invalid, "correct AZURE_LOCATION"},
	"ReadOnlyDisabledSubscription":        {fault.Invalid, doEnable},
	"SubscriptionNotFound":                {fault.Invalid, "correct AZURE_SUBSCRIPTION_ID"},
	"InvalidSubscriptionId":               {fault.Invalid, "correct AZURE_SUBSCRIPTION_ID"},
	"ResourceGroupNotFound":               {fault.Invalid, doGroup},
	"ResourceGroupBeingDeleted":           {fault.Invalid, doGroup},

	"PlatformImageNotFound":                {fault.Invalid, doImage},
	"ImageNotFound":                        {fault.Invalid, doImage},
	"GalleryImageNotFound":                 {fault.Invalid, doImage},
	"ArtifactNotFound":                     {fault.Invalid, doImage},
	"VMMarketplaceInvalidInput":            {fault.Invalid, doTerms},
	"MarketplacePurchaseEligibilityFailed": {fault.Invalid, doTerms},
	"ResourcePurchaseValidationFailed":     {fault.Invalid, doTerms},

	"InvalidResourceReference":   {fault.Invalid, doRefer},
	"LinkedInvalidPropertyId":    {fault.Invalid, doRefer},
	"ReferencedResourceNotFound": {fault.Invalid, doRefer},
	"FailedIdentityOperation":    {fault.Invalid, doRefer},

	"AuthorizationFailed":        {fault.Invalid, doRights},
	"LinkedAuthorizationFailed":  {fault.Invalid, doLinked},
	"InvalidAuthenticationToken": {fault.Invalid, doSignIn},
	"AuthenticationFailed":       {fault.Invalid, doSignIn},
	"RequestDisallowedByPolicy":  {fault.Invalid, doPolicy},
	"RequestDisallowedByAzure":   {fault.Invalid, "name other sizes in the pool, or another region for the deployment"},
	"ScopeLocked":                {fault.Invalid, doLock},

	"AvailabilityZoneNotSupported":                      {fault.Invalid, doZones},
	"LocationNotSupportAvailabilityZones":               {fault.Invalid, doZones},
	"VMSizeIsNotPermittedToEnableAcceleratedNetworking": {fault.Invalid, doFast},
	"InvalidTagNameCharacters":                          {fault.Invalid, doLabels},
	"InvalidTagName":                                    {fault.Invalid, doLabels},
	"InvalidTag":                                        {fault.Invalid, doLabels},
	"BadRequest":                                        {fault.Invalid, ""},
	"Forbidden":                                         {fault.Invalid, doRights},
}

// texts distinguish answers whose code alone says little. The first one whose text is in
// the message decides, whatever the code.
var texts = []struct {
	text string // in small letters
	meaning
}{
	{"usestandardsecuritytype", meaning{fault.Invalid, doStandard}},
	{"trustedlaunch", meaning{fault.Invalid, doTrusted}},
	{"trusted launch", meaning{fault.Invalid, doTrusted}},
	{"ephemeral", meaning{fault.Invalid, doLocal}},
	{"diffdisk", meaning{fault.Invalid, doLocal}},
	{"is smaller than the size of the corresponding disk in the vm image", meaning{fault.Invalid, doDisk}},
	{"authentication using either ssh or by user name and password must be enabled", meaning{fault.Invalid, doKey}},
	{"linuxconfiguration.ssh", meaning{fault.Invalid, doKey}},
}

// generalCodes are those under which Azure answers many different things.
var generalCodes = []string{"InvalidParameter", "InvalidRequestContent", "InvalidRequestFormat", "BadRequest", "OperationNotAllowed"}

// meaningOf finds what a code with its message means. known is false for a code that means
// nothing here. certain is false for a code under which Azure answers many different
// things, if the message is none of texts.
func meaningOf(code, message string) (m meaning, known, certain bool) {
	small := strings.ToLower(message)
	general := slices.Contains(generalCodes, code)
	for _, t := range texts {
		if general && strings.Contains(small, t.text) {
			return t.meaning, true, true
		}
	}
	if m, known := meanings[code]; known {
		return m, true, !general
	}
	switch {
	case code == "OperationNotAllowed" && strings.Contains(small, "quota"):
		return meaning{fault.NoQuota, ""}, true, true // the message names the limit and where to ask for more
	case strings.HasSuffix(code, "LimitReached"), strings.HasSuffix(code, "QuotaExceeded"):
		return meaning{fault.NoQuota, "ask for a higher limit under Quotas in the portal"}, true, true
	case strings.HasPrefix(code, "Invalid"):
		return meaning{fault.Invalid, ""}, true, !general
	}
	return meaning{}, false, false
}

// namespace is a provider's in a message.
var namespace = regexp.MustCompile(`Microsoft\.[A-Za-z.]*[A-Za-z]`)

// sentence is the answer for people: what Azure said, and what mends it.
func sentence(d detail, do string) string {
	said := strings.TrimSpace("Azure answered " + d.Code + ": " + d.Message)
	if do == "" {
		return said
	}
	if name := namespace.FindString(d.Message); name != "" {
		do = strings.ReplaceAll(do, "NAMESPACE", name)
	}
	do = strings.ReplaceAll(do, "NAMESPACE", "Microsoft.Compute")
	return strings.TrimRight(said, ".: ") + "; " + do
}
