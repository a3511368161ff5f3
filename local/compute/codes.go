//go:build unix

package compute

import (
	"net/http"
	"strings"
)

// code is an error code of the service, with its status and text. The text matters:
// callers use it to distinguish errors with the same code. failure fills in {size},
// {location} and {name}.
type code struct {
	status  int
	message string
}

// codes are the codes that an injected failure can answer with; docs/local.md lists them.
// The answer with any other code has status 409 and a short text.
var codes = map[string]code{
	"AllocationFailed": {
		409,
		"Allocation failed. We do not have sufficient capacity for the requested VM size in this region. Read more about " +
			"improving likelihood of allocation success at http://aka.ms/allocation-guidance",
	},
	"ZonalAllocationFailed": {
		409,
		"Allocation failed. We do not have sufficient capacity for the requested VM size in this zone. Read more about " +
			"improving likelihood of allocation success at http://aka.ms/allocation-guidance",
	},
	"OverconstrainedAllocationRequest": {
		409,
		"Allocation failed. VM(s) with the following constraints cannot be allocated, because the condition is too " +
			"restrictive. Please remove some constraints and try again. Constraints applied are:\n  - VM Size",
	},
	"OverconstrainedZonalAllocationRequest": {
		409,
		"Allocation failed. VM(s) with the following constraints cannot be allocated, because the condition is too " +
			"restrictive. Please remove some constraints and try again. Constraints applied are:\n  - Availability Zone\n  - VM " +
			"Size",
	},
	"SkuNotAvailable": {
		409,
		"The requested VM size for resource 'Following SKUs have failed for Capacity Restrictions: {size}' is currently not " +
			"available in location '{location}'. Please try another size or deploy to a different location or different zone. See " +
			"https://aka.ms/azureskunotavailable for details.",
	},
	"QuotaExceeded":       {400, "Operation could not be completed as it results in exceeding approved quota for {size} in {location}."},
	"OperationPreempted":  {409, "Operation execution has been preempted by a more recent operation."},
	"OperationNotAllowed": {409, "The operation is not allowed on the scale set '{name}' in its present state."},
	"Conflict": {
		409,
		"The request failed due to conflict with a concurrent request. To resolve it, please refer to " +
			"https://aka.ms/activitylog to get more details on the conflicting requests.",
	},
	"PreconditionFailed": {412, "The precondition given in one or more of the request headers evaluated to false."},
	"TooManyRequests":    {429, ""}, // in the form of Config.CloudRates; see throttled
	"SubscriptionRequestsThrottled": {
		429,
		"Number of requests for the subscription exceeded. Please try again after some seconds after additional tokens are " +
			"available. Refer to https://aka.ms/arm-throttling for additional information.",
	},
	"RetryableErrorDueToAnotherOperation": {
		429,
		"Operation on the resource '{name}' did not complete because another operation is in progress.",
	},
	"ResourceNotFound":       {404, "The Resource 'Microsoft.Compute/virtualMachineScaleSets/{name}' was not found."},
	"NotFound":               {404, "The entity was not found."},
	"ImageNotFound":          {404, "The platform image is not available. Verify that all fields in the storage profile are correct."},
	"InvalidParameter":       {400, "A parameter of the request is invalid."},
	"InsufficientSubnetSize": {400, "The subnet does not have enough capacity for the IP addresses of scale set '{name}'."},
	"NicReservedForAnotherVm": {
		400,
		"Nic(s) in request is reserved for another Virtual Machine for 180 seconds. Please provide another nic(s) or retry " +
			"after 180 seconds.",
	},
	"ReferencedResourceNotProvisioned": {
		409,
		"Cannot proceed with operation because a resource it uses is not in Succeeded state. Resource is in Failed state.",
	},
	"VMMarketplaceInvalidInput": {
		400,
		"Creating a virtual machine from a non Marketplace image does not need Plan information in the request.",
	},
	"MarketplacePurchaseEligibilityFailed": {400, "Marketplace purchase eligibility check returned errors."},
	"RequestDisallowedByPolicy":            {403, "Resource '{name}' was disallowed by policy."},
	"ScopeLocked": {
		409,
		"The scope cannot perform write operation because following scope(s) are locked. Please remove the lock and try again.",
	},
	"AuthorizationFailed": {
		403,
		"The client does not have authorization to perform the action over the scope, or the scope is invalid. If access was " +
			"recently granted, please refresh your credentials.",
	},
	"InvalidAuthenticationToken": {401, "The access token is invalid."},
	"LinkedAuthorizationFailed": {
		403,
		"The client has permission to perform action 'Microsoft.Compute/virtualMachineScaleSets/write' on scope '{name}'; however, it " +
			"does not have permission to perform action 'Microsoft.Network/virtualNetworks/subnets/join/action' on the linked scope(s).",
	},
	"MissingSubscriptionRegistration": {
		409,
		"The subscription is not registered to use namespace 'Microsoft.Compute'. See https://aka.ms/rps-not-found for how to " +
			"register subscriptions.",
	},
	"ReadOnlyDisabledSubscription": {
		409,
		"The subscription is disabled and therefore marked as read only. You cannot perform any write actions on this " +
			"subscription until it is re-enabled.",
	},
	"ResourceGroupNotFound": {404, "Resource group could not be found."},
	"PlatformImageNotFound": {404, "The platform image is not available. Verify that all fields in the storage profile are correct."},
	"InvalidResourceReference": {
		400,
		"A resource referenced by scale set '{name}' was not found. Please make sure that the referenced resource exists, and that " +
			"both resources are in the same region.",
	},
	"PublicIPCountLimitReached": {400, "Cannot create more than 10 public IP addresses for this subscription in this region."},
	"SubnetIsFull":              {400, "The subnet does not have enough capacity for the IP addresses of scale set '{name}'."},
	"PropertyChangeNotAllowed":  {409, "Changing a property of scale set '{name}' is not allowed."},
	"InternalServerError":       {500, "The server encountered an internal error. Please retry the request."},
	"ServiceUnavailable":        {503, "The service is unavailable."},
	"GatewayTimeout":            {504, "The gateway did not receive a response from 'Microsoft.Compute' within the specified time period."},
	"OSProvisioningTimedOut": {
		409,
		"OS Provisioning for VM '{name}' did not finish in the allotted time. The VM may still finish provisioning " +
			"successfully. Please check provisioning state later.",
	},
	"VMExtensionProvisioningError": {409, "VM has reported a failure when processing extension of VM '{name}'."},
	"VMStartTimedOut": {
		409,
		"VM '{name}' did not start in the allotted time. The VM may still start successfully. Please check the power state later.",
	},
	"InternalExecutionError": {409, "An internal execution error occurred. Please retry later."},
	// The text for all quotas. Their code is OperationNotAllowed.
	"quota": {
		409,
		"Operation could not be completed as it results in exceeding approved {quota} quota. Additional details - Deployment " +
			"Model: Resource Manager, Location: {location}, Current Limit: {limit}, Current Usage: {usage}, Additional Required: " +
			"{required}, (Minimum) New Limit Required: {new}. Submit a request for Quota increase at " +
			"https://aka.ms/ProdportalCRP/?#create/Microsoft.Support/Parameters/ by specifying parameters listed in the 'Details' " +
			"section for deployment to succeed.",
	},
}

// failure returns an error of the service. fill holds pairs: a placeholder and its text.
func failure(name string, fill ...string) *Failure {
	if name == "TooManyRequests" {
		return throttled("", 0)
	}
	c, known := codes[name]
	if !known {
		c = code{http.StatusConflict, "The request failed with " + name + "."}
	}
	return &Failure{Status: c.status, Code: name, Message: strings.NewReplacer(fill...).Replace(c.message)}
}
