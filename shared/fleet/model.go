package fleet

import (
	"encoding/base64"
	"hash/fnv"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"dsvmpools/shared/fault"
)

// Tags of a scale set. All begin with TagPrefix, which labels of pools must not use.
const (
	TagPrefix = "dsvmpools-"
	// PoolTag marks a scale set, and each of its instances, with the pool it belongs to.
	PoolTag = TagPrefix + "pool"
	// ModelTag holds the hash of the model that was written last: see Model.Hash.
	ModelTag = TagPrefix + "model"
	// DeployedTag holds the time of the deployment that wrote the model, in RFC 3339.
	DeployedTag = TagPrefix + "deployed"
)

// TrustedLaunch is the one security type that a model may ask for. Standard is never
// sent: Azure refuses it where the feature UseStandardSecurityType is not registered.
const TrustedLaunch = "TrustedLaunch"

// Sizes of what an instance gets at its start, in bytes before encoding.
const (
	MaxCustomData = 65535    // of the service
	MaxUserData   = 64 << 10 // of the service
	maxTags       = 50       // of a resource; ours count too
	prefixHash    = 36 * 36 * 36 * 36 * 36 * 36 * 36 * 36
)

// Where an OS disk may be placed. The zero Placement is a managed disk.
const (
	CacheDisk    = "CacheDisk"    // ephemeral, in the cache of the size
	ResourceDisk = "ResourceDisk" // ephemeral, on the local disk of the size
)

// Image names a marketplace image, or one of one's own by ID.
type Image struct{ Publisher, Offer, SKU, Version, ID string }

// OSDisk is the disk that an instance starts from.
type OSDisk struct {
	GiB       int    // 0 = as large as the image
	Placement string // CacheDisk or ResourceDisk: ephemeral; "" = a managed Standard SSD
}

// Model is what all instances of a set have in common. It holds no secret.
type Model struct {
	Pool         string
	Size         string
	CPUs         int // that the size has; 0 = not known, and quotas are not looked at
	Region       string
	Image        Image
	Spot         bool
	OSDisk       OSDisk
	CustomData   []byte // cloud-init; readable by everybody who may read the model
	UserData     []byte // an instance reads it from its metadata endpoint; nil = none
	Tags         map[string]string
	SubnetID     string
	PublicIP     bool   // each instance has a public address of its own while it lives
	IdentityID   string // user-assigned identity of the nodes; "" = none
	AdminUser    string
	SSHPublicKey string // of AdminUser; required with Linux, since nobody signs in with a password
	Windows      bool   // else Linux
	License      string // of Windows, that the owner has already; "" = it is in the price
	SecurityType string // TrustedLaunch, without Secure Boot; "" = what Azure does by default

	AcceleratedNetworking bool     // only for sizes that have it
	Zones                 []string // nil = regional
	ProximityGroupID      string   // "" = none
	// Deployed is when the program that writes the model was deployed. A model of an older
	// deployment never replaces one of a newer deployment. Zero = not known, which is older
	// than every known time.
	Deployed time.Time
}

// check returns what the service would refuse about the model, or would accept and then
// start useless instances with.
func (m Model) check() error {
	switch {
	case m.Windows && m.checkWindows() != nil:
		return m.checkWindows()
	case !m.Windows && m.SSHPublicKey == "":
		return fault.New(fault.Invalid, "DSVM_SSH_PUBLIC_KEY",
			"Azure refuses a Linux machine without a password and without an SSH key; set DSVM_SSH_PUBLIC_KEY")
	case m.SecurityType != "" && m.SecurityType != TrustedLaunch:
		return fault.New(fault.Invalid, "DSVM_SECURITY_TYPE",
			"the security type %q is not supported; write TrustedLaunch, or leave DSVM_SECURITY_TYPE empty", m.SecurityType)
	case len(m.CustomData) > MaxCustomData:
		return fault.New(fault.Invalid, "", "the custom data of a node has %d bytes; Azure takes at most %d", len(m.CustomData), MaxCustomData)
	case len(m.UserData) > MaxUserData:
		return fault.New(fault.Invalid, "setup",
			"the setup and the shares of the pool have %d bytes as user data of its nodes; Azure takes at most %d: move the script to the share",
			len(m.UserData), MaxUserData)
	case len(m.tags())+2 > maxTags: // the model's and the deployment's are added
		return fault.New(fault.Invalid, "labels", "the pool has %d labels; Azure takes %d: name fewer labels", len(m.Tags), maxTags-3)
	}
	return nil
}

// form says how Azure takes the properties on which its documents and its answers differ.
type form struct {
	addressSKU bool // the instances' public addresses name their SKU
	isNew      bool // the body makes the set
}

// build is the scale set's resource: Uniform, spread as far as possible, and left alone
// by everything that would change its number of instances or reimage them without the
// knowledge of the pool. With its disks and network interfaces an instance of a Uniform
// set always deletes what it has, so no deleteOption is sent, which Azure documents for
// Flexible sets only.
func (m Model) build(set string, capacity int, f form) armcompute.VirtualMachineScaleSet {
	out := m.body(set, f)
	out.SKU.Capacity = to.Ptr(int64(capacity))
	out.Tags[ModelTag] = to.Ptr(m.Hash(set))
	if !m.Deployed.IsZero() {
		out.Tags[DeployedTag] = to.Ptr(m.Deployed.UTC().Format(time.RFC3339))
	}
	return out
}

// body is the resource without its capacity and without what marks who wrote it.
func (m Model) body(set string, f form) armcompute.VirtualMachineScaleSet {
	out := armcompute.VirtualMachineScaleSet{
		Location: to.Ptr(m.Region),
		Tags:     m.tags(),
		SKU:      &armcompute.SKU{Name: to.Ptr(m.Size), Tier: to.Ptr("Standard")},
		Properties: &armcompute.VirtualMachineScaleSetProperties{
			OrchestrationMode:        to.Ptr(armcompute.OrchestrationModeUniform),
			SinglePlacementGroup:     to.Ptr(false),
			PlatformFaultDomainCount: to.Ptr[int32](1),
			Overprovision:            to.Ptr(false),
			UpgradePolicy:            &armcompute.UpgradePolicy{Mode: to.Ptr(armcompute.UpgradeModeManual)},
			VirtualMachineProfile:    m.profile(set, f),
		},
	}
	if m.IdentityID != "" {
		out.Identity = &armcompute.VirtualMachineScaleSetIdentity{Type: to.Ptr(armcompute.ResourceIdentityTypeUserAssigned),
			UserAssignedIdentities: map[string]*armcompute.UserAssignedIdentitiesValue{m.IdentityID: {}}}
	}
	for _, zone := range m.Zones {
		out.Zones = append(out.Zones, to.Ptr(zone))
	}
	if m.ProximityGroupID != "" {
		out.Properties.ProximityPlacementGroup = &armcompute.SubResource{ID: to.Ptr(m.ProximityGroupID)}
	}
	return out
}

// tags are those of the pool's labels and the one of the pool.
func (m Model) tags() map[string]*string {
	tags := map[string]*string{PoolTag: to.Ptr(m.Pool)}
	for k, v := range m.Tags {
		if !strings.HasPrefix(strings.ToLower(k), TagPrefix) {
			tags[k] = to.Ptr(v)
		}
	}
	return tags
}

func (m Model) profile(set string, f form) *armcompute.VirtualMachineScaleSetVMProfile {
	p := &armcompute.VirtualMachineScaleSetVMProfile{
		StorageProfile: m.storage(),
		OSProfile:      m.login(set, f),
		LicenseType:    ptr(m.License),
		NetworkProfile: m.network(f),
		UserData:       encoded(m.UserData),
		// Managed storage costs nothing: no storage account is named.
		DiagnosticsProfile: &armcompute.DiagnosticsProfile{BootDiagnostics: &armcompute.BootDiagnostics{Enabled: to.Ptr(true)}},
	}
	if m.SecurityType == TrustedLaunch {
		// With Secure Boot, the unsigned GPU modules of Data Science VMs do not load.
		p.SecurityProfile = &armcompute.SecurityProfile{
			SecurityType: to.Ptr(armcompute.SecurityTypesTrustedLaunch),
			UefiSettings: &armcompute.UefiSettings{SecureBootEnabled: to.Ptr(false), VTpmEnabled: to.Ptr(true)},
		}
	}
	if m.Spot {
		p.Priority = to.Ptr(armcompute.VirtualMachinePriorityTypesSpot)
		p.EvictionPolicy = to.Ptr(armcompute.VirtualMachineEvictionPolicyTypesDelete)
		p.BillingProfile = &armcompute.BillingProfile{MaxPrice: to.Ptr(-1.0)} // up to the regular price: never evicted for money
	}
	return p
}

// login is the names of the instances and who administers them.
func (m Model) login(set string, f form) *armcompute.VirtualMachineScaleSetOSProfile {
	out := &armcompute.VirtualMachineScaleSetOSProfile{
		ComputerNamePrefix: to.Ptr(computerPrefix(set)),
		AdminUsername:      to.Ptr(m.AdminUser),
		CustomData:         encoded(m.CustomData),
	}
	if m.Windows {
		m.windowsLogin(out, f)
		return out
	}
	out.LinuxConfiguration = &armcompute.LinuxConfiguration{
		DisablePasswordAuthentication: to.Ptr(true),
		SSH: &armcompute.SSHConfiguration{PublicKeys: []*armcompute.SSHPublicKey{{
			KeyData: to.Ptr(m.SSHPublicKey),
			Path:    to.Ptr("/home/" + m.AdminUser + "/.ssh/authorized_keys"),
		}}},
	}
	return out
}

// storage is the image and the OS disk. An ephemeral disk lies on the machine's own disk
// and costs nothing; the service wants it cached for reading only.
func (m Model) storage() *armcompute.VirtualMachineScaleSetStorageProfile {
	disk := &armcompute.VirtualMachineScaleSetOSDisk{CreateOption: to.Ptr(armcompute.DiskCreateOptionTypesFromImage)}
	if m.OSDisk.GiB > 0 {
		disk.DiskSizeGB = to.Ptr(int32(min(m.OSDisk.GiB, math.MaxInt32)))
	}
	if m.OSDisk.Placement != "" {
		disk.Caching = to.Ptr(armcompute.CachingTypesReadOnly)
		disk.DiffDiskSettings = &armcompute.DiffDiskSettings{
			Option:    to.Ptr(armcompute.DiffDiskOptionsLocal),
			Placement: to.Ptr(armcompute.DiffDiskPlacement(m.OSDisk.Placement)),
		}
	} else {
		disk.Caching = to.Ptr(armcompute.CachingTypesReadWrite)
		disk.ManagedDisk = &armcompute.VirtualMachineScaleSetManagedDiskParameters{
			StorageAccountType: to.Ptr(armcompute.StorageAccountTypesStandardSSDLRS),
		}
	}
	return &armcompute.VirtualMachineScaleSetStorageProfile{
		ImageReference: &armcompute.ImageReference{
			ID:        ptr(m.Image.ID),
			Publisher: ptr(m.Image.Publisher),
			Offer:     ptr(m.Image.Offer),
			SKU:       ptr(m.Image.SKU),
			Version:   ptr(m.Image.Version),
		},
		OSDisk: disk,
	}
}

// network is one interface in the subnet. The rules of the network are the subnet's: no
// security group is named here, which would need another right.
func (m Model) network(f form) *armcompute.VirtualMachineScaleSetNetworkProfile {
	ip := &armcompute.VirtualMachineScaleSetIPConfigurationProperties{
		Primary: to.Ptr(true),
		Subnet:  &armcompute.APIEntityReference{ID: to.Ptr(m.SubnetID)},
	}
	if m.PublicIP {
		address := &armcompute.VirtualMachineScaleSetPublicIPAddressConfiguration{
			Name:       to.Ptr("address"),
			Properties: &armcompute.VirtualMachineScaleSetPublicIPAddressConfigurationProperties{},
		}
		if f.addressSKU {
			address.SKU = &armcompute.PublicIPAddressSKU{
				Name: to.Ptr(armcompute.PublicIPAddressSKUNameStandard),
				Tier: to.Ptr(armcompute.PublicIPAddressSKUTierRegional),
			}
		}
		ip.PublicIPAddressConfiguration = address
	}
	nic := &armcompute.VirtualMachineScaleSetNetworkConfigurationProperties{
		Primary:          to.Ptr(true),
		IPConfigurations: []*armcompute.VirtualMachineScaleSetIPConfiguration{{Name: to.Ptr("ip"), Properties: ip}},
	}
	if m.AcceleratedNetworking {
		nic.EnableAcceleratedNetworking = to.Ptr(true)
	}
	return &armcompute.VirtualMachineScaleSetNetworkProfile{
		NetworkInterfaceConfigurations: []*armcompute.VirtualMachineScaleSetNetworkConfiguration{{Name: to.Ptr("nic"), Properties: nic}},
	}
}

// computerPrefix is the prefix of the instances' host names: `d` and 8 digits of a hash
// of the set's name. Names of sets begin alike, so their own first characters would give
// the hosts of two sets in one network the same names. Windows takes 9 characters.
func computerPrefix(set string) string {
	h := fnv.New64a()
	h.Write([]byte(strings.ToLower(set)))
	digits := strconv.FormatUint(h.Sum64()%prefixHash, 36)
	return "d" + strings.Repeat("0", 8-len(digits)) + digits
}

// ptr leaves empty fields out.
func ptr(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// encoded is data as the resource manager takes it; nothing for no data.
func encoded(data []byte) *string { return ptr(base64.StdEncoding.EncodeToString(data)) }
