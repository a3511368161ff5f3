package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsvmpools/local"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
)

// A node runs its pool's setup before it takes work; jobs find the pool's other shares, and
// what they name as secrets; and neither table, log nor queue has a secret.
func TestSetupSharesAndSecrets(t *testing.T) {
	t.Parallel()
	const secret = "the-value-of-a-secret-of-this-test"
	file := filepath.Join(t.TempDir(), "secrets.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "acme-ml/hf-token: %s\n", secret), 0o600); err != nil {
		t.Fatal(err)
	}
	var dir string
	i := startInstance(t, nil, func(c *local.Config) {
		c.AgentEnv = append(c.AgentEnv, "DSVM_SECRETS_FILE="+file)
		dir = c.Dir
	})
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1},
		"share":{"account":"acmedata","name":"data-sets","path":"/mnt/data"},
		"setup":"echo prepared for $DSVM_POOL > \"$DSVM_SHARE/prepared\"; echo done"}`)
	i.send("jobs", body(`{"id":"j","pool":"cpu","secrets":{"HF_TOKEN":"keyvault:acme-ml/hf-token"},
		"script":"cat \"$DSVM_SHARE/prepared\"; echo x > \"$DSVM_SHARE_DATA_SETS/from-job\"; printf %%s \"$HF_TOKEN\" | wc -c"}`))
	if j := i.job("j"); j.State != job.Succeeded {
		t.Fatalf("got %s: %s", j.State, j.Reason)
	}
	log, err := os.ReadFile(filepath.Join(i.Share, "jobs", "cpu", "j", "1", "stdout.log"))
	if want := fmt.Sprintf("prepared for cpu\n%d\n", len(secret)); err != nil || string(log) != want {
		t.Errorf("the job has printed %q (%v), want %q", log, err, want)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "shares", "acmedata", "data-sets", "from-job")); len(left) != 1 {
		t.Errorf("the job's file on the pool's other share is not there")
	}
	if logs, _ := filepath.Glob(filepath.Join(i.Share, "nodes", "cpu", "*", "setup.log")); len(logs) != 1 {
		t.Errorf("the logs of setup on the share are %v, want one", logs)
	}
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // what comes and goes
		}
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), secret) {
			t.Errorf("%s holds the secret", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A node whose setup fails takes no work and says why, and no node is bought again and again
// for it.
func TestSetupThatFailsIsSaid(t *testing.T) {
	t.Parallel()
	i := startInstance(t, nil)
	i.apply(`{"name":"cpu","sizes":["Standard_D2s_v5"],"nodes":{"max":1},"setup":"echo no such package: polarz >&2; exit 3"}`)
	i.send("jobs", body(`{"id":"j","pool":"cpu","command":["true"]}`))
	i.until("the node to say what its setup has said", func() bool {
		nodes, err := i.client.Nodes(i.ctx, "cpu")
		if err != nil || len(nodes) == 0 {
			return false
		}
		if nodes[0].State == pool.NodeReady || nodes[0].State == pool.NodeBusy {
			t.Fatalf("the node takes work: %+v", nodes[0])
		}
		return strings.Contains(nodes[0].Reason, "no such package: polarz")
	})
}
