package fleet

import (
	"crypto/rand"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"dsvmpools/shared/fault"
)

// Nothing here has ever made a real machine with Windows.

// checkWindows returns what the service would refuse about a model with Windows.
func (m Model) checkWindows() error {
	if m.License != "" && m.License != "Windows_Server" && m.License != "Windows_Client" {
		return fault.New(fault.Invalid, "license",
			"Azure knows no license %q of Windows; write Windows_Server or Windows_Client, or leave it out", m.License)
	}
	return nil
}

// windowsLogin is how an instance with Windows comes up. It installs no updates by itself, after
// which it would start again while people work there: a newer image has them.
//
// The administrator's password is random, and nobody learns it: it is in the body that makes the
// set, and nowhere else. A set keeps it for its life, so that no later body has one.
func (m Model) windowsLogin(out *armcompute.VirtualMachineScaleSetOSProfile, f form) {
	out.WindowsConfiguration = &armcompute.WindowsConfiguration{
		ProvisionVMAgent:       to.Ptr(true),
		EnableAutomaticUpdates: to.Ptr(false),
		PatchSettings:          &armcompute.PatchSettings{PatchMode: to.Ptr(armcompute.WindowsVMGuestPatchModeManual)},
	}
	if f.isNew {
		out.AdminPassword = to.Ptr(unknownPassword())
	}
}

// unknownPassword is one that Azure takes: 29 characters of all four kinds. 128 bits of it are
// random.
func unknownPassword() string { return rand.Text() + "-a7" }
