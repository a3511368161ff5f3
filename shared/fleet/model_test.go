package fleet

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
)

// full is a model with everything that a model can have.
func full() Model {
	return Model{
		Pool:                  "cpu",
		Size:                  "Standard_D8s_v5",
		CPUs:                  8,
		Region:                "westeurope",
		Image:                 Image{Publisher: "microsoft-dsvm", Offer: "ubuntu-2204", SKU: "2204-gen2", Version: "latest"},
		OSDisk:                OSDisk{GiB: 150},
		CustomData:            []byte("#cloud-config"),
		UserData:              []byte(`{"v":1}`),
		Tags:                  map[string]string{"costCenter": "4711", "team": "vision"},
		SubnetID:              "/subscriptions/s/subnets/n",
		PublicIP:              true,
		IdentityID:            "/subscriptions/s/identities/i",
		AdminUser:             "dsvm",
		SSHPublicKey:          "ssh-ed25519 AAAA",
		SecurityType:          TrustedLaunch,
		AcceleratedNetworking: true,
		Zones:                 []string{"1", "2"},
		ProximityGroupID:      "/subscriptions/s/groups/p",
		Deployed:              time.Date(2026, 11, 28, 6, 0, 0, 5, time.UTC),
	}
}

// written is the body that the client sends for a model, and where a path leads in it.
func written(t *testing.T, m Model, f form) func(path string) any {
	t.Helper()
	text, err := json.Marshal(m.build("dsvm-cpu-d8s-v5", 3, f))
	if err != nil {
		t.Fatal(err)
	}
	var body any
	if err := json.Unmarshal(text, &body); err != nil {
		t.Fatal(err)
	}
	return func(path string) any {
		at := body
		for part := range strings.SplitSeq(path, ".") {
			if list, ok := at.([]any); ok && len(list) > 0 {
				at = list[0]
			}
			parts, _ := at.(map[string]any)
			at = parts[part]
		}
		return at
	}
}

const (
	profilePath = "properties.virtualMachineProfile."
	nicPath     = profilePath + "networkProfile.networkInterfaceConfigurations.properties."
	addressPath = nicPath + "ipConfigurations.properties.publicIPAddressConfiguration"
	diskPath    = profilePath + "storageProfile.osDisk"
)

func TestBodyOfAModel(t *testing.T) {
	t.Parallel()
	change := func(f func(*Model)) Model {
		m := full()
		f(&m)
		return m
	}
	known := form{addressSKU: true}
	for _, c := range []struct {
		name string
		of   Model
		form form
		path string
		want string // as fmt.Sprint shows it
	}{
		{"capacity", full(), known, "sku.capacity", "3"},
		{"tags", full(), known, "tags", fmt.Sprintf("map[costCenter:4711 dsvmpools-deployed:2026-11-28T06:00:00Z dsvmpools-model:%s dsvmpools-pool:cpu team:vision]",
			full().Hash("dsvm-cpu-d8s-v5"))},
		{"an unknown deployment has no tag", change(func(m *Model) { m.Deployed = time.Time{} }), known, "tags.dsvmpools-deployed", "<nil>"},
		{"labels cannot take our tags", change(func(m *Model) { m.Tags = map[string]string{"DSVMPOOLS-Model": "x"} }), known, "tags.DSVMPOOLS-Model", "<nil>"},
		{"zones", full(), known, "zones", "[1 2]"},
		{"proximity", full(), known, "properties.proximityPlacementGroup.id", "/subscriptions/s/groups/p"},
		{"regional", change(func(m *Model) { m.Zones, m.ProximityGroupID = nil, "" }), known, "zones", "<nil>"},
		{"address", full(), known, addressPath, "map[name:address properties:map[] sku:map[name:Standard tier:Regional]]"},
		{"address, where the SKU is refused", full(), form{}, addressPath, "map[name:address properties:map[]]"},
		{"no address", change(func(m *Model) { m.PublicIP = false }), known, addressPath, "<nil>"},
		{"no delete option of the interface", full(), known, nicPath + "deleteOption", "<nil>"},
		{"no security group", full(), known, nicPath + "networkSecurityGroup", "<nil>"},
		{"accelerated", full(), known, nicPath + "enableAcceleratedNetworking", "true"},
		{"not accelerated", change(func(m *Model) { m.AcceleratedNetworking = false }), known, nicPath + "enableAcceleratedNetworking", "<nil>"},
		{"managed disk", full(), known, diskPath,
			"map[caching:ReadWrite createOption:FromImage diskSizeGB:150 managedDisk:map[storageAccountType:StandardSSD_LRS]]"},
		{"ephemeral disk", change(func(m *Model) { m.OSDisk.Placement = ResourceDisk }), known, diskPath,
			"map[caching:ReadOnly createOption:FromImage diffDiskSettings:map[option:Local placement:ResourceDisk] diskSizeGB:150]"},
		{"disk of the image", change(func(m *Model) { m.OSDisk = OSDisk{} }), known, diskPath + ".diskSizeGB", "<nil>"},
		{"boot diagnostics", full(), known, profilePath + "diagnosticsProfile", "map[bootDiagnostics:map[enabled:true]]"},
		{"trusted launch", full(), known, profilePath + "securityProfile",
			"map[securityType:TrustedLaunch uefiSettings:map[secureBootEnabled:false vTpmEnabled:true]]"},
		{"Azure's default of security", change(func(m *Model) { m.SecurityType = "" }), known, profilePath + "securityProfile", "<nil>"},
		{"custom data", full(), known, profilePath + "osProfile.customData", "I2Nsb3VkLWNvbmZpZw=="},
		{"user data", full(), known, profilePath + "userData", "eyJ2IjoxfQ=="},
		{"no user data", change(func(m *Model) { m.UserData = nil }), known, profilePath + "userData", "<nil>"},
		{"login", full(), known, profilePath + "osProfile.linuxConfiguration",
			"map[disablePasswordAuthentication:true ssh:map[publicKeys:[map[keyData:ssh-ed25519 AAAA path:/home/dsvm/.ssh/authorized_keys]]]]"},
		{"Windows has no login of Linux", change(windows), known, profilePath + "osProfile.linuxConfiguration", "<nil>"},
		{"Windows does not start again by itself", change(windows), known, profilePath + "osProfile.windowsConfiguration",
			"map[enableAutomaticUpdates:false patchSettings:map[patchMode:Manual] provisionVMAgent:true]"},
		{"a set keeps its password", change(windows), known, profilePath + "osProfile.adminPassword", "<nil>"},
		{"license", change(windows), known, profilePath + "licenseType", "Windows_Server"},
		{"not Spot", full(), known, profilePath + "priority", "<nil>"},
		{"Spot", change(func(m *Model) { m.Spot = true }), known, profilePath + "billingProfile.maxPrice", "-1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := fmt.Sprint(written(t, c.of, c.form)(c.path)); got != c.want {
				t.Errorf("%s: got %s, want %s", c.path, got, c.want)
			}
		})
	}
}

// The hash is the same in every process and for every order of a map.
func TestHashIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	if os.Getenv("TEST_PRINT_HASH") != "" {
		fmt.Println("hash=" + full().Hash("set"))
		return
	}
	want := full().Hash("set")
	for range 20 {
		m := full()
		m.Tags = maps.Clone(m.Tags)
		if got := m.Hash("set"); got != want {
			t.Fatalf("got %s and %s for one model", got, want)
		}
	}
	other := exec.Command(os.Args[0], "-test.run=^TestHashIsTheSameEverywhere$")
	other.Env = append(os.Environ(), "TEST_PRINT_HASH=1")
	out, err := other.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "hash="+want+"\n") {
		t.Errorf("another process: got %s, %v, want %s", out, err, want)
	}
}

// Everything that an instance gets counts in the hash; what makes no other instance does not.
func TestWhatCountsInTheHash(t *testing.T) {
	t.Parallel()
	first := full().Hash("set")
	if !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(first) {
		t.Errorf("got %q", first)
	}
	for name, c := range map[string]struct {
		change func(*Model)
		same   bool
	}{
		"image":        {func(m *Model) { m.Image.SKU = "x" }, false},
		"custom data":  {func(m *Model) { m.CustomData = nil }, false},
		"user data":    {func(m *Model) { m.UserData = nil }, false},
		"subnet":       {func(m *Model) { m.SubnetID += "x" }, false},
		"key":          {func(m *Model) { m.SSHPublicKey += "x" }, false},
		"identity":     {func(m *Model) { m.IdentityID += "x" }, false},
		"label":        {func(m *Model) { m.Tags = nil }, false},
		"address":      {func(m *Model) { m.PublicIP = false }, false},
		"disk":         {func(m *Model) { m.OSDisk.GiB = 128 }, false},
		"security":     {func(m *Model) { m.SecurityType = "" }, false},
		"acceleration": {func(m *Model) { m.AcceleratedNetworking = false }, false},
		"zones":        {func(m *Model) { m.Zones = m.Zones[:1] }, false},
		"deployment":   {func(m *Model) { m.Deployed = time.Now() }, true},
		"cores":        {func(m *Model) { m.CPUs = 0 }, true},
	} {
		m := full()
		c.change(&m)
		if got := m.Hash("set") == first; got != c.same {
			t.Errorf("%s: got the same hash: %v, want %v", name, got, c.same)
		}
	}
}

func TestComputerPrefix(t *testing.T) {
	t.Parallel()
	form, seen := regexp.MustCompile(`^d[0-9a-z]{8}$`), map[string]string{}
	for n := range 5000 {
		set := fmt.Sprintf("dsvm-training-l%d", n)
		got := computerPrefix(set)
		if !form.MatchString(got) || got != computerPrefix(strings.ToUpper(set)) {
			t.Fatalf("%s: got %q", set, got)
		}
		if seen[got] != "" {
			t.Errorf("%s and %s have one prefix", set, seen[got])
		}
		seen[got] = set
	}
}

func TestModelsThatAreNotSent(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for n := range 48 {
		many[fmt.Sprint("label", n)] = "x"
	}
	for name, c := range map[string]struct {
		change func(*Model)
		field  string
	}{
		"no key":             {func(m *Model) { m.SSHPublicKey = "" }, "DSVM_SSH_PUBLIC_KEY"},
		"Standard":           {func(m *Model) { m.SecurityType = "Standard" }, "DSVM_SECURITY_TYPE"},
		"custom data":        {func(m *Model) { m.CustomData = make([]byte, 65536) }, ""},
		"user data":          {func(m *Model) { m.UserData = make([]byte, 65537) }, "setup"},
		"labels and our own": {func(m *Model) { m.Tags = many }, "labels"},
	} {
		m := full()
		c.change(&m)
		err, _ := m.check().(*fault.Error)
		if err == nil || err.Code != fault.Invalid || err.Field != c.field {
			t.Errorf("%s: got %v, want invalid %s", name, err, c.field)
		}
	}
	if err := full().check(); err != nil {
		t.Errorf("the full model: got %v", err)
	}
}
