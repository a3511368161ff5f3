//go:build unix

package compute

// collect walks a tree of processes below a root.
func collect(children map[int][]int, root int) []int {
	var all []int
	for next := children[root]; len(next) > 0; {
		all = append(all, next...)
		var below []int
		for _, pid := range next {
			below = append(below, children[pid]...)
		}
		next = below
	}
	return all
}
