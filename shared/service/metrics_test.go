package service_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/metrics"
	"dsvmpools/shared/pool"
)

// The figures are those of the rows.
func TestMetrics(t *testing.T) {
	t.Parallel()
	app := apptest.New(t)
	if err := app.Apply(t.Context(), `{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1}}`); err != nil {
		t.Fatal(err)
	}
	part, version, err := app.Store.Load(t.Context(), "cpu")
	if err != nil {
		t.Fatal(err)
	}
	part.Head.Seq++
	part.Head.Nonce = uuid.NewString()
	if _, err := app.Store.Commit(t.Context(), "cpu", version, part.Head, []pool.Change{
		{Key: pool.NodeKey("vm"), Insert: true, Value: &pool.Node{VMID: "vm", Name: "cpu_1", Set: part.Head.Sets[0].Name, Size: "Standard_D2s_v5",
			State: pool.NodeReady, RunningAt: app.Clock.Now(), Price: "0.1", Currency: "USD"}},
	}); err != nil {
		t.Fatal(err)
	}
	families, err := app.Overview.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := metrics.Write(&b, families); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`dsvm_jobs{pool="cpu",state="queued"} 0`,
		`dsvm_nodes{pool="cpu",size="Standard_D2s_v5",spot="false",state="ready"} 1`,
		`dsvm_cost_per_hour{pool="cpu",currency="USD"} 0.10`,
		`dsvm_unpriced_nodes{pool="cpu"} 0`,
		`dsvm_pool_state{pool="cpu",state="ready"} 1`,
		`dsvm_troubles 0`,
	} {
		if !strings.Contains(b.String(), line+"\n") {
			t.Errorf("no line %s in\n%s", line, b.String())
		}
	}
}
