//go:build unix

package compute

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strings"
)

// Surroundings are what scale sets stand on: other resources, and the subscription. The
// zero Surroundings have everything that a model names.
type Surroundings struct {
	// Subnets are the subnets that exist, by their resource id in small letters, with their
	// region; nil = each one exists, in the region of the set.
	Subnets map[string]string
	// Images are the images that exist, with the size of their disk in GiB: by
	// publisher:offer:sku or by resource id, in small letters; nil = each one exists.
	Images map[string]int
	// Unregistered makes the subscription one in which nobody has registered
	// Microsoft.Compute.
	Unregistered bool
	// RefuseAddressSKU and RefuseDeleteOption say what Azure's documents do not agree on:
	// whether a Uniform set may name the SKU of its instances' public addresses, and what
	// becomes of disks and interfaces.
	RefuseAddressSKU   bool
	RefuseDeleteOption bool
}

// check returns the error of the first thing that a set names and that is not there, or
// that a Uniform set must not name.
func (e Surroundings) check(st *set) error {
	var p profile
	if err := json.Unmarshal(st.Properties["virtualMachineProfile"], &p); err != nil {
		return malformed(err)
	}
	if err := e.checkImage(p, st.Location); err != nil {
		return err
	}
	if e.RefuseDeleteOption && p.StorageProfile.OSDisk.DeleteOption != "" {
		return invalid("osDisk.deleteOption", "it can only be set for a scale set with orchestrationMode Flexible.")
	}
	for _, nic := range p.NetworkProfile.NetworkInterfaceConfigurations {
		if e.RefuseDeleteOption && nic.Properties.DeleteOption != "" {
			return invalid("networkInterfaceConfigurations.deleteOption", "it can only be set for a scale set with orchestrationMode Flexible.")
		}
		for _, ip := range nic.Properties.IPConfigurations {
			address := ip.Properties.PublicIPAddressConfiguration
			if e.RefuseAddressSKU && address != nil && len(address.SKU) > 0 {
				f := refuse(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized.")
				f.Details = []Detail{{Code: "InvalidJson",
					Message: "Could not find member 'sku' on object of type 'VMScaleSetPublicIPAddressConfiguration'."}}
				return f
			}
			if err := e.checkSubnet(ip.Properties.Subnet.ID, st); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkSubnet refuses a subnet that is not there, or that is in another region.
func (e Surroundings) checkSubnet(id string, st *set) error {
	region, exists := e.Subnets[strings.ToLower(id)]
	if e.Subnets == nil || exists && strings.EqualFold(region, st.Location) {
		return nil
	}
	return refuse(http.StatusBadRequest, "InvalidResourceReference", "Resource %s referenced by resource %s was not found. "+
		"Please make sure that the referenced resource exists, and that both resources are in the same region.", id, st.Name)
}

// checkImage refuses an image that is not there, and a disk that is smaller than it.
func (e Surroundings) checkImage(p profile, location string) error {
	image, disk := p.StorageProfile.ImageReference, p.StorageProfile.OSDisk
	name := cmp.Or(image.ID, strings.Join([]string{image.Publisher, image.Offer, image.SKU}, ":"))
	gib, exists := e.Images[strings.ToLower(name)]
	switch {
	case e.Images == nil:
	case !exists && image.ID != "":
		return refuse(http.StatusNotFound, "GalleryImageNotFound", "The gallery image %s is not available in %s region.", image.ID, location)
	case !exists:
		return refuse(http.StatusNotFound, "PlatformImageNotFound",
			"The platform image '%s:%s' is not available. Verify that all fields in the storage profile are correct.", name, image.Version)
	case disk.DiskSizeGB > 0 && disk.DiskSizeGB < gib:
		return invalid("osDisk.diskSizeGB", "The specified disk size %d GB is smaller than the size of the corresponding disk "+
			"in the VM image: %d GB. This is not allowed. Please choose equal or greater size or do not specify an explicit size.",
			disk.DiskSizeGB, gib)
	}
	return nil
}
