//go:build unix

package compute

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
)

// maxCustomData of an instance, in bytes before encoding.
const maxCustomData = 65535

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

type profile struct {
	StorageProfile struct {
		ImageReference *struct{ ID, Publisher, Offer, SKU, Version string }
		OSDisk         *struct {
			CreateOption string
			DiskSizeGB   int
		}
	}
	OSProfile *struct {
		ComputerNamePrefix string
		AdminUsername      string
		AdminPassword      string
		CustomData         string
		LinuxConfiguration *struct{ DisablePasswordAuthentication bool }
	}
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
	var m model
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, refuse(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: %v", err)
	}
	var p profile
	if err := json.Unmarshal(m.Properties["virtualMachineProfile"], &p); err != nil {
		return nil, invalid("virtualMachineProfile", "it is missing or malformed.")
	}
	var mode, upgrade string
	json.Unmarshal(m.Properties["orchestrationMode"], &mode)
	var policy struct{ Mode string }
	json.Unmarshal(m.Properties["upgradePolicy"], &policy)
	upgrade = policy.Mode
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
	case mode != "" && mode != "Uniform":
		return nil, invalid("orchestrationMode", "the local compute has Uniform scale sets only.")
	case upgrade == "":
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

// customData of the set's instances, decoded.
func (st *set) customData() []byte {
	var p profile
	if json.Unmarshal(st.Properties["virtualMachineProfile"], &p) != nil || p.OSProfile == nil {
		return nil
	}
	data, _ := base64.StdEncoding.DecodeString(p.OSProfile.CustomData)
	return data
}
