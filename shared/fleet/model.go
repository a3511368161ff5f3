package fleet

import (
	"encoding/base64"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
)

// PoolTag marks a scale set, and each of its instances, with the pool it
// belongs to.
const PoolTag = "dsvmpools-pool"

// osDiskGiB is what a Data Science VM image needs at least.
const osDiskGiB = 150

// maxPrefix bounds the prefix of computer names.
const maxPrefix = 15

// Image names a marketplace image, or one of one's own by ID.
type Image struct{ Publisher, Offer, SKU, Version, ID string }

// Model is what all instances of a set have in common. It holds no secret.
type Model struct {
	Pool         string
	Size         string
	CPUs         int // that the size has; 0 = not known, and quotas are not looked at
	Region       string
	Image        Image
	Spot         bool
	CustomData   []byte // cloud-init; readable by everybody who may read the model
	Tags         map[string]string
	SubnetID     string
	IdentityID   string // user-assigned identity of the nodes; "" = none
	AdminUser    string
	SSHPublicKey string // "" = nobody logs in with a key
}

// build is the scale set's resource: Uniform, spread as far as possible, and
// left alone by everything that would change its number of instances or
// reimage them without the knowledge of the pool.
func (m Model) build(set string, capacity int) armcompute.VirtualMachineScaleSet {
	tags := map[string]*string{PoolTag: to.Ptr(m.Pool)}
	for k, v := range m.Tags {
		if k != PoolTag {
			tags[k] = to.Ptr(v)
		}
	}
	out := armcompute.VirtualMachineScaleSet{
		Location: to.Ptr(m.Region),
		Tags:     tags,
		SKU:      &armcompute.SKU{Name: to.Ptr(m.Size), Tier: to.Ptr("Standard"), Capacity: to.Ptr(int64(capacity))},
		Properties: &armcompute.VirtualMachineScaleSetProperties{
			OrchestrationMode:        to.Ptr(armcompute.OrchestrationModeUniform),
			SinglePlacementGroup:     to.Ptr(false),
			PlatformFaultDomainCount: to.Ptr[int32](1),
			Overprovision:            to.Ptr(false),
			UpgradePolicy:            &armcompute.UpgradePolicy{Mode: to.Ptr(armcompute.UpgradeModeManual)},
			VirtualMachineProfile:    m.profile(set),
		},
	}
	if m.IdentityID != "" {
		out.Identity = &armcompute.VirtualMachineScaleSetIdentity{Type: to.Ptr(armcompute.ResourceIdentityTypeUserAssigned),
			UserAssignedIdentities: map[string]*armcompute.UserAssignedIdentitiesValue{m.IdentityID: {}}}
	}
	return out
}

func (m Model) profile(set string) *armcompute.VirtualMachineScaleSetVMProfile {
	image := &armcompute.ImageReference{
		ID:        ptr(m.Image.ID),
		Publisher: ptr(m.Image.Publisher),
		Offer:     ptr(m.Image.Offer),
		SKU:       ptr(m.Image.SKU),
		Version:   ptr(m.Image.Version),
	}
	p := &armcompute.VirtualMachineScaleSetVMProfile{
		StorageProfile: &armcompute.VirtualMachineScaleSetStorageProfile{
			ImageReference: image,
			OSDisk: &armcompute.VirtualMachineScaleSetOSDisk{
				CreateOption: to.Ptr(armcompute.DiskCreateOptionTypesFromImage),
				DiskSizeGB:   to.Ptr[int32](osDiskGiB),
				Caching:      to.Ptr(armcompute.CachingTypesReadWrite),
				DeleteOption: to.Ptr(armcompute.DiskDeleteOptionTypesDelete),
				ManagedDisk: &armcompute.VirtualMachineScaleSetManagedDiskParameters{
					StorageAccountType: to.Ptr(armcompute.StorageAccountTypesStandardSSDLRS),
				},
			},
		},
		OSProfile: &armcompute.VirtualMachineScaleSetOSProfile{
			ComputerNamePrefix: to.Ptr(set[:min(len(set), maxPrefix)]),
			AdminUsername:      to.Ptr(m.AdminUser),
			CustomData:         ptr(base64.StdEncoding.EncodeToString(m.CustomData)),
			LinuxConfiguration: &armcompute.LinuxConfiguration{DisablePasswordAuthentication: to.Ptr(true)},
		},
		NetworkProfile: &armcompute.VirtualMachineScaleSetNetworkProfile{
			NetworkInterfaceConfigurations: []*armcompute.VirtualMachineScaleSetNetworkConfiguration{{
				Name: to.Ptr("nic"),
				Properties: &armcompute.VirtualMachineScaleSetNetworkConfigurationProperties{
					Primary:      to.Ptr(true),
					DeleteOption: to.Ptr(armcompute.DeleteOptionsDelete),
					IPConfigurations: []*armcompute.VirtualMachineScaleSetIPConfiguration{{
						Name: to.Ptr("ip"),
						Properties: &armcompute.VirtualMachineScaleSetIPConfigurationProperties{
							Primary: to.Ptr(true),
							Subnet:  &armcompute.APIEntityReference{ID: to.Ptr(m.SubnetID)},
						},
					}},
				},
			}},
		},
	}
	if m.SSHPublicKey != "" {
		p.OSProfile.LinuxConfiguration.SSH = &armcompute.SSHConfiguration{PublicKeys: []*armcompute.SSHPublicKey{{
			KeyData: to.Ptr(m.SSHPublicKey), Path: to.Ptr("/home/" + m.AdminUser + "/.ssh/authorized_keys")}}}
	}
	if m.Spot {
		p.Priority = to.Ptr(armcompute.VirtualMachinePriorityTypesSpot)
		p.EvictionPolicy = to.Ptr(armcompute.VirtualMachineEvictionPolicyTypesDelete)
		p.BillingProfile = &armcompute.BillingProfile{MaxPrice: to.Ptr(-1.0)} // up to the regular price: never evicted for money
	}
	return p
}

// ptr leaves empty fields out.
func ptr(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
