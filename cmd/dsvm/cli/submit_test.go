package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsvmpools/local/apptest"
	"dsvmpools/shared/job"
)

func TestSubmit(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	files := map[string]string{
		"job.yaml": "pool: gpu\nname: from the file\nscript: echo no\nenv:\n  A: file\n  B: file\nretry:\n  max: 3\n",
		"x.sh":     "echo hi\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(b.program.Dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errs := b.run(
		"job",
		"submit",
		"-f",
		"job.yaml",
		"--id",
		"mine",
		"--pool",
		"cpu",
		"--cpus",
		"2",
		"--env",
		"A=flag=1",
		"--env",
		"C=flag",
		"--label",
		"k=v",
		"--priority",
		"high",
		"--timeout",
		"90s",
		"--retry-on",
		"nodeLost,exitCode:137",
		"--backoff",
		"20s",
		"--not-before",
		"2026-03-02T13:00:00+01:00",
		"--team",
		"t",
		"--user",
		"u",
		"--workdir",
		"w",
		"--memory",
		"4Gi",
		"--stop",
		"leader",
		"python",
		"train.py",
		"--pool",
		"x",
	)
	if code != 0 || out != "mine\n" || errs != "" {
		t.Fatalf("got %d %q %q", code, out, errs)
	}
	j, err := b.app.Jobs.Job(t.Context(), "mine")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(j.Spec)
	var want job.Spec
	if err := json.Unmarshal([]byte(`{"id":"mine","pool":"cpu","name":"from the file","team":"t","user":"u","command":["python","train.py","--pool","x"],
		"workdir":"w","env":{"A":"flag=1","B":"file","C":"flag"},"resources":{"cpus":2,"memory":"4Gi"},"priority":"high","notBefore":"2026-03-02T12:00:00Z","timeout":"90s",
		"retry":{"max":3,"on":["nodeLost","exitCode:137"],"backoff":"20s"},"stop":"leader","labels":{"k":"v"}}`), &want); err != nil {
		t.Fatal(err)
	}
	if text, _ := json.Marshal(want); string(got) != string(text) {
		t.Errorf("got  %s\nwant %s", got, text)
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.program.In = strings.NewReader("pool: cpu\ncommand: ['true']\n\npriority: urgent\n")
	code, _, errs := b.run("job", "submit", "-f", "-")
	if code != 2 || !strings.Contains(errs, "-:4: ") || !strings.Contains(errs, "priority") || strings.Contains(errs, "line 1") {
		t.Errorf("got %d %q", code, errs)
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.program.In = strings.NewReader(strings.ReplaceAll(apptest.PoolDocument, `"cpu"`, `"new"`))
	if code, out, errs := b.run("pool", "apply", "-f", "-"); code != 0 || out != "new\n" || errs != "" {
		t.Errorf("got %d %q %q", code, out, errs)
	}
	if _, err := b.app.Pools.Pools(t.Context(), "new"); err != nil {
		t.Error(err)
	}
	b.program.In = strings.NewReader(`{"name":"other","sizes":["Standard_X9"],"nodes":{"max":4}}`)
	code, out, errs := b.run("pool", "apply", "-f", "-")
	if code != 0 || !strings.HasSuffix(out, "other\n") ||
		!strings.HasPrefix(errs, "dsvm: the size Standard_X9 is not in this version's own list") {
		t.Errorf("with a warning: got %d %q %q", code, out, errs)
	}
}
