package fleet

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"dsvmpools/shared/fault"
)

// Each answer that only an operator can mend says what to do, in whatever form it comes:
// refused at once, as the failure of an operation (whose status is 200), or inside another
// error.
func TestAnswersThatAnOperatorMends(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status        int
		code, message string
		want          fault.Code
		do            string // part of the sentence
	}{
		{409, "MissingSubscriptionRegistration", "The subscription is not registered to use namespace 'Microsoft.Network'. See https://aka.ms/rps-not-found",
			fault.Invalid, "run `az provider register --namespace Microsoft.Network --wait`"},
		{409, "MissingSubscriptionRegistration", "", fault.Invalid, "--namespace Microsoft.Compute"},
		{400, "PublicIPCountLimitReached", "Cannot create more than 10 public IP addresses for this subscription in this region.", fault.NoQuota, "DSVM_NODE_PUBLIC_IP=false"},
		{400, "IPv4BasicSkuPublicIpCountLimitReached", "Cannot create more than 0 IPv4 Basic SKU public IP addresses.", fault.Invalid, "DSVM_NODE_PUBLIC_IP=false"},
		{400, "SubnetIsFull", "Subnet nodes with address prefix 10.0.0.0/28 does not have enough capacity for 12 IP addresses.", fault.NoQuota, "larger subnet"},
		{404, "ResourceGroupNotFound", "Resource group 'x' could not be found.", fault.Invalid, "az group create"},
		{404, "PlatformImageNotFound", "The platform image 'microsoft-dsvm:ubuntu-2204:2204-gen2:latest' is not available.", fault.Invalid, "DSVM_IMAGE"},
		{404, "ImageNotFound", "", fault.Invalid, "az vm image list"},
		{409, "ReadOnlyDisabledSubscription", "The subscription is disabled and therefore marked as read only.", fault.Invalid, "enable the subscription"},
		{400, "InvalidResourceReference", "Resource /subscriptions/s/subnets/n referenced by resource x was not found.", fault.Invalid, "DSVM_SUBNET_ID"},
		{403, "LinkedAuthorizationFailed", "The client has permission to perform action 'write', however it does not have permission 'join/action' on the linked scope.",
			fault.Invalid, "Network Contributor"},
		{403, "AuthorizationFailed", "", fault.Invalid, "Virtual Machine Contributor"},
		{403, "RequestDisallowedByPolicy", "", fault.Invalid, "exemption"},
		{409, "ScopeLocked", "", fault.Invalid, "remove the lock"},
		{400, "InvalidParameter", "The specified disk size 30 GB is smaller than the size of the corresponding disk in the VM image: 150 GB.", fault.Invalid, "DSVM_OS_DISK_GIB"},
		{400, "BadRequest", "The VM size 'Standard_ND96asr_v4' is not supported for creation of VMs with 'TrustedLaunch' security type.", fault.Invalid, "DSVM_SECURITY_TYPE empty"},
		{400, "InvalidParameter", "Use of Trusted Launch setting is not supported for the provided image.", fault.Invalid, "DSVM_SECURITY_TYPE empty"},
		{400, "InvalidParameter", "The value 'Standard' is not available until the feature 'Microsoft.Compute/UseStandardSecurityType' is registered.",
			fault.Invalid, "DSVM_SECURITY_TYPE=TrustedLaunch"},
		{409, "OperationNotAllowed", "OS disk of Ephemeral VM with size greater than 75 GB is not allowed for VM size Standard_D2ads_v5.", fault.Invalid, "DSVM_EPHEMERAL_DISK=false"},
		{400, "InvalidParameter", "Authentication using either SSH or by user name and password must be enabled in Linux profile.", fault.Invalid, "DSVM_SSH_PUBLIC_KEY"},
		{400, "InvalidTagNameCharacters", "The following tag names are invalid: 'a<b'.", fault.Invalid, "labels"},
		{400, "VMSizeIsNotPermittedToEnableAcceleratedNetworking", "", fault.Invalid, "another size"},
		{400, "AvailabilityZoneNotSupported", "", fault.Invalid, "DSVM_ZONES"},
		{404, "SubscriptionNotFound", "", fault.Invalid, "AZURE_SUBSCRIPTION_ID"},
		{400, "MarketplacePurchaseEligibilityFailed", "", fault.Invalid, "purchase plan"},
	} {
		inner := fmt.Sprintf(`{"code":%q,"message":%q}`, c.code, c.message)
		for name, answer := range map[string]error{
			"at once":              answered(c.status, `{"error":`+inner+`}`),
			"as a failed one":      answered(200, `{"status":"Failed","error":`+inner+`}`),
			"inside an unknown":    answered(409, `{"error":{"code":"ResourceDeploymentFailure","message":"x","details":[`+inner+`]}}`),
			"inside a general one": answered(200, `{"status":"Failed","error":{"code":"BadRequest","message":"x","details":[`+inner+`]}}`),
		} {
			var got *fault.Error
			if !errors.As(classify(answer), &got) {
				t.Fatalf("%s: got no fault", c.code)
			}
			if got.Code != c.want || !strings.Contains(got.Message, c.do) || !strings.Contains(got.Message, c.code) ||
				strings.HasSuffix(got.Message, ".") {
				t.Errorf("%s %s: got %s %q, want %s with %q", c.code, name, got.Code, got.Message, c.want, c.do)
			}
		}
	}
}

// What passes by itself, or only another call can find out, is not an operator's.
func TestAnswersThatPass(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status        int
		code, message string
		want          fault.Code
	}{
		{409, "OperationNotAllowed", "the set is being deleted", fault.Conflict},
		{400, "NicReservedForAnotherVm", "", fault.Conflict},
		{409, "ReferencedResourceNotProvisioned", "", fault.Conflict},
		{409, "PropertyChangeNotAllowed", "Changing property 'zones' is not allowed.", fault.Immutable},
		{200, "OSProvisioningTimedOut", "", fault.Internal},
		{200, "NetworkingInternalOperationError", "", fault.Internal},
	} {
		err := classify(answered(c.status, fmt.Sprintf(`{"error":{"code":%q,"message":%q}}`, c.code, c.message)))
		if got := fault.CodeOf(err); got != c.want {
			t.Errorf("%s: got %s, want %s", c.code, got, c.want)
		}
	}
}
