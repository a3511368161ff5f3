//go:build unix

package compute

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// maxCustomData of an instance, in bytes before encoding.
const maxCustomData = 65535

// maxOneGroup bounds a set that is one placement group.
const maxOneGroup = 100

// maxPrefix bounds the prefix of computer names, in characters.
const maxPrefix = 15

var upgradeModes = []string{"Manual", "Automatic", "Rolling"}

var (
	setName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}[A-Za-z0-9_]$|^[A-Za-z0-9]$`)
	sizeName = regexp.MustCompile(`^(?i)(Standard|Basic)_[A-Za-z0-9_-]+$`)
)

// model is the part of a scale set's resource that is checked. A missing part is empty.
type model struct {
	Location   string
	Tags       map[string]string
	Identity   json.RawMessage
	SKU        sku
	Zones      []string
	Properties struct {
		OrchestrationMode    string
		Overprovision        *bool
		SinglePlacementGroup *bool
		UpgradePolicy        struct{ Mode string }
	}
}

// profile is the part of a model's virtualMachineProfile that is checked.
type profile struct {
	StorageProfile struct {
		ImageReference imageReference
		OSDisk         struct {
			CreateOption     string
			Caching          string
			DeleteOption     string
			DiskSizeGB       int
			DiffDiskSettings struct{ Option, Placement string }
		}
	}
	OSProfile struct {
		ComputerNamePrefix   string
		AdminUsername        string
		AdminPassword        string
		CustomData           string // base64
		WindowsConfiguration *windows
		LinuxConfiguration   struct {
			DisablePasswordAuthentication bool
			SSH                           struct {
				PublicKeys []struct{ KeyData, Path string }
			}
		}
	}
	NetworkProfile struct {
		NetworkInterfaceConfigurations []networkInterface
	}
	UserData        string // base64
	SecurityProfile struct{ SecurityType string }
	Priority        string
	EvictionPolicy  string
	LicenseType     string
}

type imageReference struct{ ID, Publisher, Offer, SKU, Version string }

type networkInterface struct {
	Name       string
	Properties struct {
		Primary          bool
		DeleteOption     string
		IPConfigurations []struct {
			Name       string
			Properties struct {
				Subnet                       struct{ ID string }
				PublicIPAddressConfiguration *struct {
					Name string
					SKU  json.RawMessage
				}
			}
		}
	}
}

// requirement is a condition on a model, and the error if the model does not meet it.
type requirement struct {
	isMet  bool
	answer *Failure
}

// readModel reads and checks a scale set as the resource manager does before it accepts
// one. It returns the error of the first requirement that is not met.
func readModel(name string, body []byte) (*set, error) {
	var m model
	var parts struct{ Properties map[string]json.RawMessage }
	if err := json.Unmarshal(body, &parts); err != nil {
		return nil, malformed(err)
	}
	if len(parts.Properties) == 0 {
		return nil, invalid("properties", "they are missing.")
	}
	var p profile
	if err := json.Unmarshal(parts.Properties["virtualMachineProfile"], &p); err != nil {
		return nil, invalid("virtualMachineProfile", "it is missing or malformed.")
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, malformed(err)
	}
	network := networkRequirements(p.NetworkProfile.NetworkInterfaceConfigurations)
	all := slices.Concat(m.requirements(name), m.tagRequirements(), p.requirements(), p.loginRequirements(), p.diskRequirements(),
		p.windowsRequirements(), network)
	for _, r := range all {
		if !r.isMet {
			return nil, r.answer
		}
	}
	return &set{
		Name:       name,
		Location:   m.Location,
		Tags:       m.Tags,
		Identity:   m.Identity,
		SKU:        m.SKU,
		Zones:      m.Zones,
		Properties: parts.Properties,
	}, nil
}

func malformed(err error) *Failure {
	return refuse(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: %v", err)
}

func invalid(target, format string, args ...any) *Failure {
	return refuse(http.StatusBadRequest, "InvalidParameter", "Parameter '"+target+"': "+format, args...)
}

// requirements of the set as a whole.
func (m *model) requirements(name string) []requirement {
	props, capacity := m.Properties, m.SKU.Capacity
	isUniform := props.OrchestrationMode == "" || props.OrchestrationMode == "Uniform"
	isExact := props.Overprovision != nil && !*props.Overprovision
	spansGroups := props.SinglePlacementGroup != nil && !*props.SinglePlacementGroup
	return []requirement{
		{setName.MatchString(name), invalid("vmScaleSetName", "the name is not valid.")},
		{m.Location != "", refuse(http.StatusBadRequest, "LocationRequired", "The location property is required for this definition.")},
		{sizeName.MatchString(m.SKU.Name), invalid("sku.name", "a VM size is required.")},
		{capacity >= 0 && capacity <= maxInstances, invalid("sku.capacity", "it must be from 0 to %d.", maxInstances)},
		{isUniform, invalid("orchestrationMode", "the local compute has Uniform scale sets only.")},
		{isExact, invalid("overprovision", "the local compute creates what is asked for and nothing over; set it to false.")},
		{capacity <= maxOneGroup || spansGroups, invalid("singlePlacementGroup", "it must be false for more than %d instances.", maxOneGroup)},
		{isOneOf(props.UpgradePolicy.Mode, upgradeModes...), invalid("upgradePolicy.mode", "it is required for a Uniform scale set.")},
		{isIdentityValid(m.Identity), invalid("identity", "a user-assigned identity is named by its resource id.")},
	}
}

// requirements of each instance.
func (p *profile) requirements() []requirement {
	image, guest := p.StorageProfile.ImageReference, p.OSProfile
	hasImage := image.ID != "" || image.Publisher != "" && image.Offer != "" && image.SKU != "" && image.Version != ""
	hasOneImage := image.ID == "" || image.Publisher+image.Offer+image.SKU == ""
	hasPrefix := guest.ComputerNamePrefix != "" && len(guest.ComputerNamePrefix) <= maxPrefix
	isHostName := prefixForm.MatchString(guest.ComputerNamePrefix) && !digitsAlone.MatchString(guest.ComputerNamePrefix)
	canSignIn := guest.WindowsConfiguration != nil || guest.AdminPassword != "" || guest.LinuxConfiguration.DisablePasswordAuthentication
	data, err := base64.StdEncoding.DecodeString(guest.CustomData)
	user, userErr := base64.StdEncoding.DecodeString(p.UserData)
	return []requirement{
		{hasImage, invalid("imageReference", "publisher, offer, sku and version, or id, are required.")},
		{hasOneImage, invalid("imageReference", "id and publisher exclude each other.")},
		{p.StorageProfile.OSDisk.CreateOption == "FromImage", invalid("osDisk.createOption", "it must be FromImage.")},
		{hasPrefix, invalid("osProfile.computerNamePrefix", "1 to %d characters are required.", maxPrefix)},
		{isHostName, invalid("osProfile.computerNamePrefix", "it has a character that no host name may have, or digits alone.")},
		{guest.AdminUsername != "", invalid("osProfile.adminUsername", "it is required.")},
		{canSignIn, invalid("osProfile.adminPassword", "it is required unless password authentication is disabled.")},
		{isOneOf(p.Priority, "", "Regular", "Spot", "Low"), invalid("priority", "it must be Regular or Spot.")},
		{p.Priority != "Spot" || p.EvictionPolicy != "", invalid("evictionPolicy", "it is required for Spot.")},
		{userErr == nil && len(user) <= maxUserData, invalid("userData", "it must be base64 of at most %d bytes.", maxUserData)},
		{err == nil && len(data) <= maxCustomData, invalid("osProfile.customData", "it must be base64 of at most %d bytes.", maxCustomData)},
	}
}

// networkRequirements are those of an instance's network interfaces.
func networkRequirements(interfaces []networkInterface) []requirement {
	all := []requirement{{len(interfaces) > 0, invalid("networkProfile", "a network interface configuration is required.")}}
	for _, nic := range interfaces {
		isComplete := nic.Name != "" && len(nic.Properties.IPConfigurations) > 0
		all = append(all, requirement{isComplete, invalid("networkInterfaceConfigurations", "a name and an ipConfiguration are required.")})
		for _, ip := range nic.Properties.IPConfigurations {
			isID := strings.HasPrefix(strings.ToLower(ip.Properties.Subnet.ID), "/subscriptions/")
			all = append(all, requirement{isID, invalid("ipConfigurations.subnet", "the resource id of a subnet is required.")})
		}
	}
	return all
}

func isOneOf(value string, allowed ...string) bool { return slices.Contains(allowed, value) }

// isIdentityValid reports whether an identity is absent, the system's, or given by resource
// ids.
func isIdentityValid(raw json.RawMessage) bool {
	if len(raw) == 0 || string(raw) == "null" {
		return true
	}
	var i struct {
		Type                   string
		UserAssignedIdentities map[string]json.RawMessage
	}
	if json.Unmarshal(raw, &i) != nil {
		return false
	}
	for id := range i.UserAssignedIdentities {
		if !strings.HasPrefix(strings.ToLower(id), "/subscriptions/") {
			return false
		}
	}
	return strings.Contains(i.Type, "UserAssigned") == (len(i.UserAssignedIdentities) > 0)
}
