package main

import (
	"strings"
	"testing"

	"dsvmpools/local"
	"dsvmpools/local/chaos"
	"dsvmpools/shared/wire"
)

// The doctor asks the real servers of an instance and finds nothing wrong; with one
// failure in each of them it finds that one.
func TestDoctor(t *testing.T) {
	t.Parallel()
	i := startInstance(t, nil, func(cfg *local.Config) { cfg.Quota = map[string]int{"cores": 100} })
	states := func() map[string]wire.Check {
		t.Helper()
		rows, err := i.client.Diagnose(i.ctx)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]wire.Check{}
		for _, row := range rows {
			found[row.Check] = row
		}
		return found
	}
	well := states()
	for name, row := range well {
		if row.State != wire.CheckOK {
			t.Errorf("%s: got %+v, want ok", name, row)
		}
	}
	if len(well) < 13 {
		t.Errorf("only %d checks were made: %v", len(well), well)
	}
	for row, injection := range map[string]chaos.Injection{
		"tables":     {Do: chaos.Refuse, Target: "tables/insert/ids", Code: "AuthorizationPermissionMismatch"},
		"queue work": {Do: chaos.Refuse, Target: "servicebus/attach/work", Code: "amqp:unauthorized-access"},
		"quota":      {Do: chaos.Refuse, Target: "compute/usages", Code: "AuthorizationFailed"},
		"nodes":      {Do: chaos.Refuse, Target: "compute/put", Code: "ImageNotFound"},
	} {
		id, err := i.Chaos.Add(injection)
		if err != nil {
			t.Fatalf("%s: %v", row, err)
		}
		if got := states()[row]; got.State == wire.CheckOK || got.Detail == "" {
			t.Errorf("%s: got %+v, want that it is broken", row, got)
		}
		i.Chaos.Remove(id)
	}
}

// What Azure refuses of a pool is said before it is applied.
func TestApplyCheck(t *testing.T) {
	t.Parallel()
	i := startInstance(t, nil)
	const document = `{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":2}}`
	rows, err := i.client.Check(i.ctx, []byte(document))
	if err != nil || len(rows) != 1 || rows[0].State != wire.CheckOK {
		t.Errorf("got %+v (%v), want that Azure takes it", rows, err)
	}
	if _, err := i.Chaos.Add(chaos.Injection{Do: chaos.Refuse, Target: "compute/put", Code: "ImageNotFound"}); err != nil {
		t.Fatal(err)
	}
	rows, err = i.client.Check(i.ctx, []byte(document))
	if err != nil || len(rows) != 1 || rows[0].State != wire.CheckFailed || rows[0].Mend == "" {
		t.Errorf("got %+v (%v), want that Azure refuses it", rows, err)
	}
	if pools, err := i.client.Pools(i.ctx); err != nil || len(pools) > 0 {
		t.Errorf("got %v (%v), want no pool", pools, err)
	}
}

// The console of a node is what its processes have written.
func TestNodeConsole(t *testing.T) {
	t.Parallel()
	i := startInstance(t, nil)
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"min":1,"max":1}}`)
	i.until("a node with a console", func() bool {
		nodes, err := i.client.Nodes(i.ctx, "cpu")
		if err != nil || len(nodes) == 0 {
			return false
		}
		log, err := i.client.Console(i.ctx, "cpu", nodes[0].Name)
		return err == nil && strings.Contains(string(log), "node")
	})
}
