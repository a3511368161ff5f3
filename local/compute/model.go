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

var (
	setName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}[A-Za-z0-9_]$|^[A-Za-z0-9]$`)
	sizeName = regexp.MustCompile(`^(?i)(Standard|Basic)_[A-Za-z0-9_-]+$`)
)

// model is what is checked of a scale set's resource.
type model struct {
	Location   string
	Tags       map[string]string
	Identity   json.RawMessage
	SKU        *sku
	Properties map[string]json.RawMessage
}

type osProfile struct {
	ComputerNamePrefix string
	AdminUsername      string
	AdminPassword      string
	CustomData         string
	LinuxConfiguration *struct {
		DisablePasswordAuthentication bool
		SSH                           *struct {
			PublicKeys []struct{ KeyData, Path string }
		}
	}
}

type profile struct {
	StorageProfile struct {
		ImageReference *struct{ ID, Publisher, Offer, SKU, Version string }
		OSDisk         *struct {
			CreateOption string
			DiskSizeGB   int
		}
	}
	OSProfile      *osProfile
	NetworkProfile *struct {
		NetworkInterfaceConfigurations []struct {
			Name       string
			Properties struct {
				Primary          bool
				IPConfigurations []struct {
					Name       string
					Properties struct{ Subnet *struct{ ID string } }
				}
			}
		}
	}
	Priority       string
	EvictionPolicy string
}

// readModel checks the whole of a scale set as the resource manager does before
// it accepts it.
func readModel(name string, body []byte) (*set, error) {
	invalid := func(target, format string, args ...any) error {
		return refuse(http.StatusBadRequest, "InvalidParameter", "Parameter '"+target+"': "+format, args...)
	}
	malformed := func(err error) error {
		return refuse(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: %v", err)
	}
	var m model
	var props struct{ Properties json.RawMessage }
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, malformed(err)
	}
	if err := json.Unmarshal(body, &props); err != nil || len(props.Properties) == 0 {
		return nil, invalid("properties", "they are missing.")
	}
	var p profile
	if err := json.Unmarshal(m.Properties["virtualMachineProfile"], &p); err != nil {
		return nil, invalid("virtualMachineProfile", "it is missing or malformed.")
	}
	var rest struct {
		OrchestrationMode    string
		Overprovision        *bool
		SinglePlacementGroup *bool
		UpgradePolicy        struct{ Mode string }
	}
	if err := json.Unmarshal(props.Properties, &rest); err != nil {
		return nil, malformed(err)
	}
	image, osp, network := p.StorageProfile.ImageReference, p.OSProfile, p.NetworkProfile
	switch {
	case !setName.MatchString(name):
		return nil, invalid("vmScaleSetName", "the name is not valid.")
	case m.Location == "":
		return nil, refuse(http.StatusBadRequest, "LocationRequired", "The location property is required for this definition.")
	case m.SKU == nil || !sizeName.MatchString(m.SKU.Name):
		return nil, invalid("sku.name", "a VM size is required.")
	case m.SKU.Capacity < 0 || m.SKU.Capacity > maxInstances:
		return nil, invalid("sku.capacity", "it must be from 0 to %d.", maxInstances)
	case rest.OrchestrationMode != "" && rest.OrchestrationMode != "Uniform":
		return nil, invalid("orchestrationMode", "the local compute has Uniform scale sets only.")
	case rest.Overprovision == nil || *rest.Overprovision:
		return nil, invalid("overprovision", "the local compute creates what is asked for and nothing over; set it to false.")
	case m.SKU.Capacity > maxOneGroup && (rest.SinglePlacementGroup == nil || *rest.SinglePlacementGroup):
		return nil, invalid("singlePlacementGroup", "it must be false for more than %d instances.", maxOneGroup)
	case !slices.Contains([]string{"Manual", "Automatic", "Rolling"}, rest.UpgradePolicy.Mode):
		return nil, invalid("upgradePolicy.mode", "it is required for a Uniform scale set.")
	case image == nil || image.ID == "" && (image.Publisher == "" || image.Offer == "" || image.SKU == "" || image.Version == ""):
		return nil, invalid("imageReference", "publisher, offer, sku and version, or id, are required.")
	case image.ID != "" && image.Publisher+image.Offer+image.SKU != "":
		return nil, invalid("imageReference", "id and publisher exclude each other.")
	case p.StorageProfile.OSDisk == nil || p.StorageProfile.OSDisk.CreateOption != "FromImage":
		return nil, invalid("osDisk.createOption", "it must be FromImage.")
	case osp == nil || osp.ComputerNamePrefix == "" || len(osp.ComputerNamePrefix) > 15:
		return nil, invalid("osProfile.computerNamePrefix", "1 to 15 characters are required.")
	case osp.AdminUsername == "":
		return nil, invalid("osProfile.adminUsername", "it is required.")
	case osp.AdminPassword == "" && (osp.LinuxConfiguration == nil || !osp.LinuxConfiguration.DisablePasswordAuthentication):
		return nil, invalid("osProfile.adminPassword", "it is required unless password authentication is disabled.")
	case network == nil || len(network.NetworkInterfaceConfigurations) == 0:
		return nil, invalid("networkProfile", "a network interface configuration is required.")
	case !identityValid(m.Identity):
		return nil, invalid("identity", "a user-assigned identity is named by its resource id.")
	case p.Priority != "" && p.Priority != "Regular" && p.Priority != "Spot" && p.Priority != "Low":
		return nil, invalid("priority", "it must be Regular or Spot.")
	case p.Priority == "Spot" && p.EvictionPolicy == "":
		return nil, invalid("evictionPolicy", "it is required for Spot.")
	}
	for _, nic := range network.NetworkInterfaceConfigurations {
		if len(nic.Properties.IPConfigurations) == 0 || nic.Name == "" {
			return nil, invalid("networkInterfaceConfigurations", "a name and an ipConfiguration are required.")
		}
		for _, ip := range nic.Properties.IPConfigurations {
			if ip.Properties.Subnet == nil || !strings.HasPrefix(strings.ToLower(ip.Properties.Subnet.ID), "/subscriptions/") {
				return nil, invalid("ipConfigurations.subnet", "the resource id of a subnet is required.")
			}
		}
	}
	if data, err := base64.StdEncoding.DecodeString(osp.CustomData); err != nil || len(data) > maxCustomData {
		return nil, invalid("osProfile.customData", "it must be base64 of at most %d bytes.", maxCustomData)
	}
	st := &set{Name: name, Location: m.Location, Tags: m.Tags, Identity: m.Identity, SKU: *m.SKU, Properties: m.Properties}
	return st, nil
}

// identityValid checks that an identity is none, the system's, or named by
// resource ids.
func identityValid(raw json.RawMessage) bool {
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

// customData of the set's instances, decoded.
func (st *set) customData() []byte {
	var p profile
	if json.Unmarshal(st.Properties["virtualMachineProfile"], &p) != nil || p.OSProfile == nil {
		return nil
	}
	data, _ := base64.StdEncoding.DecodeString(p.OSProfile.CustomData)
	return data
}
