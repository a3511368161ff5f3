package apptest_test

import (
	"encoding/json"
	"testing"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/wire"
)

func TestExample(t *testing.T) {
	i := apptest.Example(t)
	ps, err := i.Pools.Pools(t.Context(), "")
	for _, p := range ps {
		b, _ := json.Marshal(wire.NewPool(p))
		t.Logf("%s", b)
		for _, n := range wire.NewNodes(p) {
			b, _ = json.Marshal(n)
			t.Logf("%s", b)
		}
	}
	js, _, err := i.Jobs.List(t.Context(), wire.JobFilter{}, 10, "")
	for _, p := range js {
		b, _ := json.Marshal(wire.NewJobDetail(p))
		t.Logf("%s", b)
	}
	t.Log(err)
}
