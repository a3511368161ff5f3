package pool

import (
	"slices"
	"time"
)

// maxBoots bounds the boots that a set remembers: enough that one odd one does not count, and
// few enough that the head stays small.
const maxBoots = 9

// AddBoot remembers how long a node of the set took from when it was asked for to its first
// report. It forgets the oldest of too many. (No method changes Boots in place: the copy of the
// head from before the step shares it.)
func (set *Set) AddBoot(took time.Duration) {
	if took < time.Second {
		return
	}
	set.Boots = append(slices.Clone(set.Boots), int64(took/time.Second))
	set.Boots = set.Boots[max(len(set.Boots)-maxBoots, 0):]
}

// UsualBoot is how long nodes of some sets took lately, the median; 0 = none is remembered.
func UsualBoot(sets []Set) time.Duration {
	var all []int64
	for i := range sets {
		all = append(all, sets[i].Boots...)
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return time.Duration(all[len(all)/2]) * time.Second
}
