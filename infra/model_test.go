package infra_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"dsvmpools/shared/fleet"
	"dsvmpools/shared/pool"
)

const (
	modelSubnet   = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/nodes"
	modelIdentity = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-node"
	modelGroup    = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/proximityPlacementGroups/near"
	modelImage    = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/galleries/g/images/i/versions/1.0.0"
	modelKey      = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

// models are scale sets as pools ask for them; together they use every field.
func models() map[string]fleet.Model {
	dsvm := fleet.Image{Publisher: "microsoft-dsvm", Offer: "ubuntu-2204", SKU: "2204-gen2", Version: "latest"}
	plain := fleet.Model{
		Pool: "cpu", Size: "Standard_D2s_v5", Region: "westeurope", Image: dsvm, SubnetID: modelSubnet, AdminUser: "dsvm",
		SSHPublicKey: modelKey, CustomData: []byte("#cloud-config\n"),
	}
	all := plain
	all.Pool, all.Size = "gpu", "Standard_NC4as_T4_v3"
	all.Image = fleet.Image{ID: modelImage}
	all.Spot, all.PublicIP, all.AcceleratedNetworking = true, true, true
	all.UserData = []byte(`{"v":1}`)
	all.Tags = map[string]string{"costCenter": "4711"}
	all.IdentityID = modelIdentity
	all.SecurityType = fleet.TrustedLaunch
	all.OSDisk = fleet.OSDisk{GiB: 128, Placement: fleet.ResourceDisk}
	all.Zones = []string{"1", "2"}
	all.Deployed = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	near := plain
	near.ProximityGroupID = modelGroup
	near.OSDisk = fleet.OSDisk{Placement: fleet.CacheDisk}
	address := plain
	address.PublicIP = true
	windows := plain
	windows.Windows, windows.License = true, "Windows_Server"
	windows.Image = fleet.Image{Publisher: "microsoft-dsvm", Offer: "dsvm-win-2022", SKU: "winserver-2022", Version: "latest"}
	return map[string]fleet.Model{"plain": plain, "all": all, "near": near, "address": address, "windows": windows}
}

// sent is what the client puts for a model: the body, and the version of the API.
func sent(t *testing.T, m fleet.Model) (body map[string]any, version string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == http.MethodPut:
			b, err := io.ReadAll(r.Body)
			if err == nil {
				err = json.Unmarshal(b, &body)
			}
			if err != nil {
				t.Error(err)
			}
			version = r.URL.Query().Get("api-version")
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{"properties":{"provisioningState":"Succeeded"}}`)
		case strings.HasSuffix(r.URL.Path, "/usages"):
			fmt.Fprint(w, `{"value":[]}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error":{"code":"ResourceNotFound","message":"there is no such scale set"}}`)
		}
	}))
	t.Cleanup(server.Close)
	client, err := fleet.New(fleet.Config{
		SubscriptionID: "s", ResourceGroup: "g", Region: m.Region, Endpoint: server.URL, Credential: fleet.StaticCredential("t"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Grow(t.Context(), "dsvm-cpu-x", m, 1); err != nil {
		t.Fatal(err)
	}
	if body == nil || version == "" {
		t.Fatal("nothing was put")
	}
	return body, version
}

// TestModelTypes holds each property that is sent against the types of Azure's
// resource manager: the body becomes a resource of a template, which the compiler
// takes apart.
func TestModelTypes(t *testing.T) {
	t.Parallel()
	for name, model := range models() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body, version := sent(t, model)
			body["type"], body["apiVersion"], body["name"] = "Microsoft.Compute/virtualMachineScaleSets", version, "dsvm-cpu-x"
			for _, line := range decompile(t, body) {
				t.Error(line)
			}
		})
	}
}

// TestModelTypesFindsMistakes: what TestModelTypes stands on is seen to work.
func TestModelTypesFindsMistakes(t *testing.T) {
	t.Parallel()
	body, version := sent(t, models()["plain"])
	body["type"], body["apiVersion"], body["name"] = "Microsoft.Compute/virtualMachineScaleSets", version, "dsvm-cpu-x"
	profile := at(body, "properties", "virtualMachineProfile").(map[string]any)
	profile["priorityy"] = "Spot"
	if said := decompile(t, body); len(said) != 1 || !strings.Contains(said[0], "priorityy") {
		t.Errorf("a property that does not exist: the compiler says %q", said)
	}
}

// notOurs are rules of the linter for templates that people write.
var notOurs = []string{"use-resource-id-functions", "adminusername-should-not-be-literal", "no-hardcoded-location",
	"use-secure-value-for-secure-inputs"}

// decompile returns what the compiler says about a resource.
func decompile(t *testing.T, resource map[string]any) (said []string) {
	t.Helper()
	b, err := json.Marshal(map[string]any{
		"$schema":        "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
		"contentVersion": "1.0.0.0", "resources": []any{resource},
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "body.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	_, complaints := runBicep(t, dir, "decompile", "body.json", "--force")
	for _, line := range complaint.FindAllString(complaints, -1) {
		if !slices.ContainsFunc(notOurs, func(rule string) bool { return strings.Contains(line, rule) }) {
			said = append(said, line)
		}
	}
	return said
}

// texts converts the values of an enum of the client.
func texts[T ~string](values []T) (out []string) {
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

// TestModelValues: the compiler takes every value of an open enum; the client knows
// which there are.
func TestModelValues(t *testing.T) {
	t.Parallel()
	profile := "properties.virtualMachineProfile."
	nic := profile + "networkProfile.networkInterfaceConfigurations[].properties."
	address := nic + "ipConfigurations[].properties.publicIPAddressConfiguration."
	enums := map[string][]string{
		"identity.type":                                                    texts(armcompute.PossibleResourceIdentityTypeValues()),
		"sku.tier":                                                         {"Standard"},
		"properties.orchestrationMode":                                     texts(armcompute.PossibleOrchestrationModeValues()),
		"properties.upgradePolicy.mode":                                    texts(armcompute.PossibleUpgradeModeValues()),
		profile + "priority":                                               texts(armcompute.PossibleVirtualMachinePriorityTypesValues()),
		profile + "evictionPolicy":                                         texts(armcompute.PossibleVirtualMachineEvictionPolicyTypesValues()),
		profile + "securityProfile.securityType":                           texts(armcompute.PossibleSecurityTypesValues()),
		profile + "storageProfile.osDisk.createOption":                     texts(armcompute.PossibleDiskCreateOptionTypesValues()),
		profile + "storageProfile.osDisk.caching":                          texts(armcompute.PossibleCachingTypesValues()),
		profile + "storageProfile.osDisk.managedDisk.storageAccountType":   texts(armcompute.PossibleStorageAccountTypesValues()),
		profile + "storageProfile.osDisk.diffDiskSettings.option":          texts(armcompute.PossibleDiffDiskOptionsValues()),
		profile + "storageProfile.osDisk.diffDiskSettings.placement":       texts(armcompute.PossibleDiffDiskPlacementValues()),
		profile + "storageProfile.osDisk.deleteOption":                     texts(armcompute.PossibleDiskDeleteOptionTypesValues()),
		profile + "licenseType":                                            {pool.LicenseServer, pool.LicenseClient},
		profile + "osProfile.windowsConfiguration.patchSettings.patchMode": texts(armcompute.PossibleWindowsVMGuestPatchModeValues()),
		nic + "deleteOption":                                               texts(armcompute.PossibleDeleteOptionsValues()),
		address + "sku.name":                                               texts(armcompute.PossiblePublicIPAddressSKUNameValues()),
		address + "sku.tier":                                               texts(armcompute.PossiblePublicIPAddressSKUTierValues()),
		address + "properties.deleteOption":                                texts(armcompute.PossibleDeleteOptionsValues()),
	}
	free := []string{
		".name", ".id", ".publisher", ".offer", ".sku", ".version", ".keyData", ".path", ".customData", ".userData", ".adminUsername", ".adminPassword",
		".computerNamePrefix", "location", "zones[]",
	}
	for name, model := range models() {
		body, _ := sent(t, model)
		delete(body, "tags")
		eachString("", body, func(path, value string) {
			path = strings.TrimPrefix(path, ".")
			allowed, judged := enums[path]
			isFree := slices.ContainsFunc(free, func(end string) bool { return strings.HasSuffix(path, end) })
			switch {
			case judged && !slices.Contains(allowed, value):
				t.Errorf("%s: %s is %q; it may be %q", name, path, value, allowed)
			case !judged && strings.HasSuffix(strings.ToLower(path), "timeout"):
				if _, err := seconds(value); err != nil {
					t.Errorf("%s: %s: %v", name, path, err)
				}
			case !judged && !isFree:
				t.Errorf("%s: nothing judges %s (%q): list its values, or that it is free", name, path, value)
			}
		})
	}
}
