//go:build unix

package agent

// strays lists living processes of an assignment.
func strays(cfg Config, n int64) []int {
	l := launcher{cfg: cfg}
	return stray(map[string]process{l.key(n): {}})
}
