//go:build unix

package compute

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// fixedProperties returns what a set keeps for its life, by the name under which the
// service refuses to change it.
func (st *set) fixedProperties() map[string]string {
	var p profile
	json.Unmarshal(st.Properties["virtualMachineProfile"], &p)
	priority, _ := st.priority()
	image := p.StorageProfile.ImageReference
	fixed := map[string]string{
		"zones":                        strings.Join(st.Zones, ","),
		"priority":                     priority,
		"osProfile.computerNamePrefix": p.OSProfile.ComputerNamePrefix,
		"osProfile.adminUsername":      p.OSProfile.AdminUsername,
		"imageReference.publisher":     strings.ToLower(image.Publisher), // an image of one's own has neither
		"imageReference.offer":         strings.ToLower(image.Offer),
		"osDisk.diffDiskSettings":      p.StorageProfile.OSDisk.DiffDiskSettings.Option + p.StorageProfile.OSDisk.DiffDiskSettings.Placement,
	}
	for _, name := range []string{"singlePlacementGroup", "platformFaultDomainCount", "orchestrationMode", "proximityPlacementGroup"} {
		fixed[name] = string(st.Properties[name])
	}
	return fixed
}

// checkChange refuses a model that changes what a set keeps for its life.
func (st *set) checkChange(want *set) error {
	if !strings.EqualFold(st.Location, want.Location) {
		return refuse(http.StatusConflict, "InvalidResourceLocation",
			"The resource '%s' already exists in location '%s'. A resource with the same name cannot be created in location '%s'.",
			st.Name, st.Location, want.Location)
	}
	is, wanted := st.fixedProperties(), want.fixedProperties()
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if is[name] != wanted[name] {
			return refuse(http.StatusConflict, "PropertyChangeNotAllowed", "Changing property '%s' is not allowed.", name)
		}
	}
	return nil
}

// takeModel gives a set another model. Instances keep the one that they were created with.
// As with the service, one that says the same counts as another, too.
func (st *set) takeModel(want *set) {
	profiles := map[int64]json.RawMessage{}
	for _, i := range st.Instances {
		profiles[i.Model] = st.profileOf(i)
	}
	st.Profiles = profiles
	st.SKU.Name, st.Properties, st.Tags, st.Identity = want.SKU.Name, want.Properties, want.Tags, want.Identity
	st.Model++
}

// profileOf returns the profile of the model that an instance was created with.
func (st *set) profileOf(i *instance) json.RawMessage {
	if earlier, ok := st.Profiles[i.Model]; ok && i.Model != st.Model {
		return earlier
	}
	return st.Properties["virtualMachineProfile"]
}

// customData returns an instance's decoded custom data; nil = none.
func (i *instance) customData() []byte {
	var p profile
	if json.Unmarshal(i.set.profileOf(i), &p) != nil {
		return nil
	}
	data, _ := base64.StdEncoding.DecodeString(p.OSProfile.CustomData)
	return data
}

// hidden are the properties of a profile that the service takes and never shows.
var hidden = map[string][]string{"": {"userData"}, "osProfile": {"customData", "adminPassword"}}

// shownProfile returns a set's profile as the service shows it.
func (st *set) shownProfile() any {
	var p map[string]any
	if json.Unmarshal(st.Properties["virtualMachineProfile"], &p) != nil {
		return st.Properties["virtualMachineProfile"]
	}
	for part, names := range hidden {
		at := p
		if part != "" {
			at, _ = p[part].(map[string]any)
		}
		for _, name := range names {
			delete(at, name)
		}
	}
	return p
}
