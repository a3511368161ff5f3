package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsvmpools/shared/wire"
)

// TestPoolApplyDryRun: --dry-run shows what would change, and changes nothing.
func TestPoolApplyDryRun(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	file := filepath.Join(b.program.Dir, "pool.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ document, want string }{
		{"name: cpu\nsizes: [Standard_D4s_v5]\nnodes: {max: 6}\n", `pool cpu would change
  FIELD      NOW                  THEN
  nodes.max  4                    6
  sizes      ["Standard_D2s_v5"]  ["Standard_D4s_v5"]
2 nodes leave, since the pool's ` + "`sizes` or `capacity`" + ` do not have them any more; 1 of them when the jobs there have ended
`},
		{"name: cpu\nsizes: [Standard_D2s_v5]\nnodes: {max: 4}\n", "pool cpu is as the document says; nothing would change\n"},
		{"name: new\nsizes: [Standard_D2s_v5]\nnodes: {max: 4}\n", "pool new would be created\n"},
	} {
		write(test.document)
		code, out, errs := b.run("pool", "apply", "-f", file, "--dry-run")
		if code != 0 || !strings.HasPrefix(out, test.want) {
			t.Errorf("got %d %s\n%s\nwant\n%s", code, errs, out, test.want)
		}
		code, out, errs = b.run("pool", "apply", "-f", file, "--dry-run", "-o", "json")
		var plan wire.PoolPlan
		if err := json.Unmarshal([]byte(out), &plan); code != 0 || err != nil || plan.Name == "" || plan.Changes == nil || plan.Effects == nil {
			t.Errorf("as JSON: got %d %s %s, %v", code, out, errs, err)
		}
	}
	pools, err := b.app.Pools.Pools(t.Context(), "")
	if err != nil || len(pools) != 2 || pools[0].Head.Spec.Nodes.Max != 4 {
		t.Errorf("a dry run has changed pools: %+v, %v", pools, err)
	}
	write("name: cpu\nsizes: [Standard_D2s_v5]\nnodes: {max: 4}\nfrob: 1\n")
	if code, _, errs := b.run("pool", "apply", "-f", file, "--dry-run"); code != codeWrongUse || !strings.Contains(errs, "pool.yaml:4") {
		t.Errorf("an unknown field: got %d %q", code, errs)
	}
}
