// Package size knows what Azure's VM sizes have and cost. The list is checked
// in; a size that is not in it is unknown, which is never the same as free.
package size

import (
	_ "embed"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Size is one VM size.
type Size struct {
	Name         string
	CPUs         int
	GPUs         int
	MemoryGiB    int
	PricePerHour string // decimal: pay-as-you-go, Linux, in the region the list names; the VM alone, see NodePrice
	Currency     string // ISO 4217

	CacheGiB              int  // that an ephemeral OS disk may lie in; 0 = none, or not known
	LocalDiskGiB          int  // that an ephemeral OS disk may lie on; 0 = none, or not known
	AcceleratedNetworking bool // it has it; some sizes require it
	TrustedLaunch         bool // it supports it
}

//go:embed sizes.csv
var list string

var sizes = sync.OnceValue(func() map[string]Size {
	all := map[string]Size{}
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, ",")
		if len(f) != 8 {
			panic("sizes.csv: eight fields wanted: " + line)
		}
		number := func(i int) int {
			n, err := strconv.Atoi(f[i])
			if err != nil {
				panic("sizes.csv: " + line)
			}
			return n
		}
		all[strings.ToLower(f[0])] = Size{
			Name:         f[0],
			CPUs:         number(1),
			MemoryGiB:    number(2),
			GPUs:         number(3),
			PricePerHour: f[4],
			Currency:     "USD",

			CacheGiB:              number(5),
			LocalDiskGiB:          number(6),
			AcceleratedNetworking: strings.Contains(f[7], "net"),
			TrustedLaunch:         strings.Contains(f[7], "trusted"),
		}
	}
	return all
})

// Names are those of all sizes in the list, in their order.
func Names() []string {
	var names []string
	for _, s := range sizes() {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return names
}

// fastSeries are the series of which each size has accelerated networking, and some sizes
// do not start without it: general purpose, memory and compute sizes from version 5 on, by
// Microsoft's pages of these series.
var fastSeries = regexp.MustCompile(`(?i)^Standard_[DEF][0-9]+(-[0-9]+)?[a-z]*_v[5-9]$`)

// HasAcceleratedNetworking reports whether a size, also one that is not in the list, is
// known to have accelerated networking.
func HasAcceleratedNetworking(name string) bool {
	s, known := Lookup(name)
	return s.AcceleratedNetworking || !known && fastSeries.MatchString(name)
}

// Lookup finds a size by its name, whatever its case.
func Lookup(name string) (Size, bool) {
	s, ok := sizes()[strings.ToLower(name)]
	return s, ok
}
