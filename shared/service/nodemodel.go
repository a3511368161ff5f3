package service

import (
	"maps"
	"strings"

	"dsvmpools/shared/boot"
	"dsvmpools/shared/fleet"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/size"
)

// NodeModel is what the nodes of all pools of a deployment have in common.
type NodeModel struct {
	fleet.Model // OSDisk.GiB is the least size of the OS disk; 0 = leastDisk, where the image's size is known

	Image         pool.Image // of pools that name none; zero = pool.DefaultImageName
	EphemeralDisk bool       // the OS disk lies on the machine itself, where the size has room

	Boot boot.Config // of the custom data, without the shares of a pool
}

// leastDisk is the size of an OS disk in GiB that has room for a job's packages and
// containers beside a small image, and is one of the tiers that Azure bills.
const leastDisk = 128

// imageDisks are the sizes in GiB of marketplace images: Azure refuses a smaller OS disk.
// Sources: the release notes of the Data Science VM, and the images' own metadata.
var imageDisks = map[string]int{
	"microsoft-dsvm/ubuntu-2204":             150,
	"microsoft-dsvm/ubuntu-2004":             150,
	"microsoft-dsvm/ubuntu-hpc":              64,
	"microsoft-dsvm/dsvm-win-2022":           128,
	"canonical/ubuntu-24_04-lts":             30,
	"canonical/0001-com-ubuntu-server-jammy": 30,
}

// of is the model of a set of a pool. Errors have code Invalid: a setting, or a share of
// the pool, cannot be written into the nodes' custom data.
func (n NodeModel) of(name string, spec pool.Spec, set pool.Set) (m fleet.Model, err error) {
	n.Boot.Shares, n.Boot.Sessions = spec.Shares, spec.IsInteractive()
	m = n.Model
	m.Windows, m.License = spec.OS == pool.Windows, spec.License
	if !m.Windows { // which has no cloud-init
		if m.CustomData, err = boot.CloudInit(n.Boot); err != nil {
			return m, err
		}
	}
	m.UserData = boot.NewDocument(spec).JSON()
	has, _ := size.Lookup(set.Size) // zero: nothing is known of it, and nothing is asked for that it may not have
	m.Pool, m.Size, m.CPUs, m.Spot = name, set.Size, has.CPUs, set.Spot
	image := n.image(spec)
	m.Image = fleet.Image{Publisher: image.Publisher, Offer: image.Offer, SKU: image.SKU, Version: image.Version, ID: image.ID}
	m.Tags = maps.Clone(spec.Labels)
	m.AcceleratedNetworking = size.HasAcceleratedNetworking(set.Size)
	if !has.TrustedLaunch || m.Windows { // whether its image is of the second generation, nobody has seen
		m.SecurityType = ""
	}
	m.OSDisk = n.disk(image, has, m.SecurityType != "")
	return m, nil
}

// image is the one of a pool in full.
func (n NodeModel) image(spec pool.Spec) pool.Image {
	for _, image := range []pool.Image{spec.Image, n.Image} {
		if full := image.Full(); full != (pool.Image{}) {
			return full
		}
	}
	return pool.Image{Name: pool.DefaultImageName}.Full()
}

// disk chooses the OS disk: on the machine itself, which costs nothing and starts faster,
// where the cache or the local disk has room, else a managed one.
func (n NodeModel) disk(image pool.Image, has size.Size, trusted bool) fleet.OSDisk {
	of := imageDisks[strings.ToLower(image.Publisher+"/"+image.Offer)]
	disk := fleet.OSDisk{GiB: max(n.OSDisk.GiB, of)}
	if n.OSDisk.GiB == 0 && of > 0 {
		disk.GiB = max(leastDisk, of)
	}
	needs := disk.GiB
	if trusted {
		needs++ // the state of the virtual TPM lies beside the disk
	}
	switch {
	case disk.GiB == 0 || !n.EphemeralDisk: // as large as the image, which nobody here knows
	case has.CacheGiB >= needs:
		disk.Placement = fleet.CacheDisk
	case has.LocalDiskGiB >= needs:
		disk.Placement = fleet.ResourceDisk
	}
	return disk
}
