// Package size knows what Azure's VM sizes have and cost. The list is checked
// in; a size that is not in it is unknown, which is never the same as free.
package size

import (
	_ "embed"
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
	PricePerHour string // decimal: pay-as-you-go, Linux, in the region the list names
	Currency     string // ISO 4217
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
		if len(f) != 5 {
			panic("sizes.csv: five fields wanted: " + line)
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

// Lookup finds a size by its name, whatever its case.
func Lookup(name string) (Size, bool) {
	s, ok := sizes()[strings.ToLower(name)]
	return s, ok
}
