package service

import (
	"reflect"
	"strings"
	"testing"

	"dsvmpools/shared/boot"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/fleet"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/usage"
)

// What a size has and an image needs decides what the model asks for; of what is not
// known, nothing is asked for.
func TestModelBySizeAndImage(t *testing.T) {
	t.Parallel()
	nodes := NodeModel{Model: fleet.Model{Region: "westeurope", PublicIP: true, SecurityType: fleet.TrustedLaunch}, EphemeralDisk: true}
	with := func(change func(*NodeModel)) NodeModel {
		n := nodes
		change(&n)
		return n
	}
	dsvm, hpc, ubuntu := pool.Image{}, pool.Image{Name: "UbuntuHPC"}, pool.Image{Publisher: "CANONICAL", Offer: "Ubuntu-24_04-LTS", SKU: "server", Version: "latest"}
	own := pool.Image{ID: "/subscriptions/s/images/i"}
	managed := func(gib int) fleet.OSDisk { return fleet.OSDisk{GiB: gib} }
	local := func(gib int, where string) fleet.OSDisk { return fleet.OSDisk{GiB: gib, Placement: where} }
	for _, c := range []struct {
		name    string
		nodes   NodeModel
		size    string
		image   pool.Image
		disk    fleet.OSDisk
		fast    bool // accelerated networking
		trusted bool
	}{
		{"no local disk", nodes, "Standard_D4s_v5", dsvm, managed(150), true, true},
		{"a local disk with room", nodes, "Standard_NC4as_T4_v3", dsvm, local(150, fleet.ResourceDisk), true, true},
		{"a cache with room", nodes, "Standard_D8s_v3", dsvm, local(150, fleet.CacheDisk), true, true},
		{"a local disk that is as large, and the TPM needs room too", nodes, "Standard_D4ads_v5", dsvm, managed(150), true, true},
		{"the same without the TPM", with(func(n *NodeModel) { n.SecurityType = "" }), "Standard_D4ads_v5", dsvm, local(150, fleet.ResourceDisk), true, false},
		{"a local disk without room", nodes, "Standard_D2ads_v5", ubuntu, managed(128), true, true},
		{"a small image has room to work", nodes, "Standard_D4ads_v5", hpc, local(128, fleet.ResourceDisk), true, true},
		{"no ephemeral disks", with(func(n *NodeModel) { n.EphemeralDisk = false }), "Standard_NC4as_T4_v3", dsvm, managed(150), true, true},
		{"a disk by setting", with(func(n *NodeModel) { n.OSDisk.GiB = 64 }), "Standard_D2ads_v5", ubuntu, local(64, fleet.ResourceDisk), true, true},
		{"a setting smaller than the image", with(func(n *NodeModel) { n.OSDisk.GiB = 64 }), "Standard_D4s_v5", dsvm, managed(150), true, true},
		{"an image of one's own", nodes, "Standard_NC8as_T4_v3", own, managed(0), true, true},
		{"an image of one's own, and a disk by setting", with(func(n *NodeModel) { n.OSDisk.GiB = 64 }), "Standard_NC8as_T4_v3", own, local(64, fleet.ResourceDisk), true, true},
		{"the deployment's image", with(func(n *NodeModel) { n.Image = hpc }), "Standard_D4s_v5", pool.Image{}, managed(128), true, true},
		{"no accelerated networking", nodes, "Standard_B2s", ubuntu, managed(128), false, true},
		{"no Trusted Launch", nodes, "Standard_ND96asr_v4", dsvm, local(150, fleet.ResourceDisk), true, false},
		{"a size that is not in the list, of a series that is known", nodes, "Standard_D4s_v6", dsvm, managed(150), true, false},
		{"a size that is not known", nodes, "Standard_Z9_v9", dsvm, managed(150), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			spec := pool.Spec{Image: c.image, Labels: map[string]string{"a": "b"}}
			m, err := c.nodes.of("p", spec, pool.Set{Size: c.size, Spot: true})
			if err != nil {
				t.Fatal(err)
			}
			if m.OSDisk != c.disk || m.AcceleratedNetworking != c.fast || (m.SecurityType == fleet.TrustedLaunch) != c.trusted {
				t.Errorf("got disk %+v, accelerated %v, security %q", m.OSDisk, m.AcceleratedNetworking, m.SecurityType)
			}
			if m.Pool != "p" || m.Size != c.size || !m.Spot || m.Region != "westeurope" || !reflect.DeepEqual(m.Tags, map[string]string{"a": "b"}) ||
				m.Image == (fleet.Image{}) {
				t.Errorf("got %+v", m)
			}
		})
	}
}

func TestPriceOfANode(t *testing.T) {
	t.Parallel()
	nodes := NodeModel{Model: fleet.Model{PublicIP: true}, EphemeralDisk: true}
	for _, c := range []struct {
		size string
		spot bool
		want string
	}{
		{"Standard_D2s_v5", false, "0.127302"},   // 0.096 for itself, 0.0263 for a disk of 150 GiB, 0.005 for its address
		{"Standard_NC4as_T4_v3", false, "0.531"}, // its disk is its own
		{"Standard_D2s_v5", true, usage.UnknownPrice},
		{"Standard_Z9_v9", false, usage.UnknownPrice},
	} {
		m, err := nodes.of("p", pool.Spec{}, pool.Set{Size: c.size, Spot: c.spot})
		got := (*Prices)(nil).tariffs(t.Context(), m)
		if err != nil || len(got) != 1 || got[0].PerHour != c.want || got[0].Currency != "USD" {
			t.Errorf("%s: got %+v, want %s USD", c.size, got, c.want)
		}
	}
}

// The shares and the setup of a pool are in the user data of its nodes, and the settings
// of the deployment in their custom data.
func TestWhatANodeStartsWith(t *testing.T) {
	t.Parallel()
	nodes := NodeModel{Boot: boot.Config{Template: "{{.Environment}}{{.Units}}", ServiceBusNamespace: "bus.example.net"}}
	spec := pool.Spec{Setup: "apt-get install x", Shares: []pool.Share{{Account: "acct", Name: "data", Path: "/mnt/data", Protocol: "nfs"}}}
	m, err := nodes.of("p", spec, pool.Set{Size: "Standard_D2s_v5"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"apt-get install x"`, `"/mnt/data"`} {
		if !strings.Contains(string(m.UserData), want) {
			t.Errorf("user data: got %s, want %s in it", m.UserData, want)
		}
	}
	for _, want := range []string{"bus.example.net", "mnt-data.mount"} {
		if !strings.Contains(string(m.CustomData), want) {
			t.Errorf("custom data: got %s, want %s in it", m.CustomData, want)
		}
	}
	for kind, want := range map[string]bool{pool.KindInteractive: true, pool.KindBatch: false} {
		spec.Kind = kind
		m, err := nodes.of("p", spec, pool.Set{Size: "Standard_D2s_v5"})
		if got := strings.Contains(string(m.CustomData), "DSVM_SESSIONS"); err != nil || got != want {
			t.Errorf("a node of a pool of kind %s looks for an SSH server: got %t, %v", kind, got, err)
		}
	}
	nodes.Boot.AgentURL = "https://a.example/agent"
	if _, err := nodes.of("p", spec, pool.Set{}); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("an agent without a hash: got %v, want invalid", err)
	}
}
