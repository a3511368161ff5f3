package pool_test

import (
	"fmt"
	"strings"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
)

// Labels are tags of scale sets: what Azure refuses of them is refused when the pool is
// applied.
func TestLabels(t *testing.T) {
	t.Parallel()
	many := func(n int) map[string]string {
		labels := map[string]string{}
		for i := range n {
			labels[fmt.Sprint("label", i)] = "x"
		}
		return labels
	}
	one := func(name, value string) map[string]string { return map[string]string{name: value} }
	for _, c := range []struct {
		name   string
		labels map[string]string
		want   string // part of the refusal; "" = accepted
	}{
		{"none", nil, ""},
		{"plain", map[string]string{"costCenter": "4711", "team:owner": "", "Größe": "ü <>"}, ""},
		{"as many as Azure takes beside ours", many(47), ""},
		{"one more", many(48), "at most 47"},
		{"an empty name", one("", "x"), "neither is empty"},
		{"a space at the end", one("a ", "x"), "neither is empty"},
		{"a slash", one("team/a", "x"), `"team/a"`},
		{"a backslash", one(`a\b`, "x"), "Azure takes none"},
		{"a percent sign", one("50%", "x"), "< > % &"},
		{"a line break", one("a\nb", "x"), "Azure takes none"},
		{"a long name", one(strings.Repeat("ü", 512), "x"), ""},
		{"a name that is too long", one(strings.Repeat("a", 513), "x"), "513 characters"},
		{"a long value", one("a", strings.Repeat("ü", 256)), ""},
		{"a value that is too long", one("a", strings.Repeat("x", 257)), "257 characters"},
		{"Microsoft's", one("Microsoft.x", "x"), "begin with microsoft"},
		{"Azure's", one("AZUREx", "x"), "begin with azure"},
		{"Windows'", one("windows", "x"), "begin with windows"},
		{"ours", one("dsvmpools-Pool", "x"), "begin with dsvmpools"},
		{"two that differ by case", map[string]string{"Team": "a", "team": "b"}, `"Team" and "team"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := pool.Spec{Name: "cpu", Kind: "batch", OS: "linux", Sizes: []string{"Standard_D4s_v5"}, Capacity: "regular",
				Nodes: pool.Range{Max: 1}, IdleTimeout: 1e9, Labels: c.labels}
			err := s.Validate()
			if c.want == "" && err != nil || c.want != "" && (fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
