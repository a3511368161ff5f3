package cli

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/wire"
)

func TestDryRun(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"job submit", "run"} {
		b := newBench(t)
		b.write("train.sh", "#!/bin/bash\n#DSVM --timeout 2h\necho \"a: b\"\n")
		args := strings.Fields(verb + " --dry-run --pool cpu --id x --env LR=0.1 --cpus 2 --script train.sh -- --epochs 3")
		code, out, errs := b.run(args...)
		// What is printed is the document: it can be kept, and sent.
		const document = "id: x\npool: cpu\nscript: |\n  #!/bin/bash\n  #DSVM --timeout 2h\n  echo \"a: b\"\n" +
			"args:\n  - --epochs\n  - \"3\"\nenv:\n  LR: \"0.1\"\nresources:\n  cpus: 2\ntimeout: 2h\n"
		comments, got, _ := strings.Cut(out, "id: x")
		if code != 0 || errs != "" || "id: x"+got != document {
			t.Errorf("%s: got %d %q %q, want %q", verb, code, out, errs, document)
		}
		if !strings.Contains(comments, "\n# runs on Standard_D2s_v5; an attempt costs 0.") || !strings.Contains(comments, " per hour\n") {
			t.Errorf("%s: got %q", verb, comments)
		}
		for line := range strings.Lines(comments) {
			if !strings.HasPrefix(line, "# ") {
				t.Errorf("%s: %q is no comment", verb, line)
			}
		}
		if _, err := b.app.Jobs.Job(t.Context(), "x"); fault.CodeOf(err) != fault.NotFound {
			t.Errorf("%s: the job was submitted: %v", verb, err)
		}
		b.write("kept.yaml", out)
		if code, out, errs := b.run("job", "submit", "-f", "kept.yaml"); code != 0 || out != "x\n" {
			t.Errorf("%s: what was printed cannot be sent: %d %q %q", verb, code, out, errs)
		}
		code, out, _ = b.run(append(args, "-o", "json")[:len(args)]...)
		if code != 0 || !strings.Contains(out, "the same job is there already") {
			t.Errorf("%s, of a job that is there: got %d %q", verb, code, out)
		}
	}
}

func TestDryRunAsJSON(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	code, out, errs := b.run("job", "submit", "--dry-run", "-o", "json", "--pool", "cpu", "--count", "3", "--", "true")
	var answer wire.DryRun
	if err := json.Unmarshal([]byte(out), &answer); code != 0 || err != nil || answer.Spec.Pool != "cpu" || answer.Spec.Priority != "normal" ||
		answer.PricePerHour == "" || answer.Spec.ID != "" {
		t.Errorf("got %d %q %q, %v", code, out, errs, err)
	}
}

// TestDryRunOfRefused: the document is shown, the error is that of a real submission.
func TestDryRunOfRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.write("job.yaml", "pool: cpu\ncommand: ['true']\nresources:\n  cpus: 99\n")
	code, out, errs := b.run("job", "submit", "--dry-run", "-f", "job.yaml")
	if code != codeWrongUse || !strings.HasPrefix(out, "# it would be refused\npool: cpu\n") ||
		!strings.HasPrefix(errs, "dsvm: job.yaml:4: the job asks for 99 cpus") {
		t.Errorf("got %d %q %q", code, out, errs)
	}
	b.write("both.yaml", "pool: cpu\ncommand: [a]\nresources: {cpus: 99}\n---\npool: cpu\ncommand: [b]\nresources: {cpus: 98}\n")
	_, _, errs = b.run("job", "submit", "--dry-run", "-f", "both.yaml", "-o", "json")
	for line := range strings.Lines(errs) {
		var problem Problem
		if err := json.Unmarshal([]byte(line), &problem); err != nil || problem.Field == "" {
			t.Errorf("an error under -o json is %q", line)
		}
	}
	if code, _, errs := b.run("job", "submit", "--dry-run", "--pool", "none", "--", "true"); code != codeFailure ||
		!strings.Contains(errs, "there is no pool") {
		t.Errorf("got %d %q", code, errs)
	}
}

// TestDryRunOfAPipeline: jobs of one file know each other.
func TestDryRunOfAPipeline(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	text, err := os.ReadFile("../../../docs/examples/pipeline.json")
	if err != nil {
		t.Fatal(err)
	}
	b.write("pipeline.json", string(text))
	code, out, errs := b.run("job", "submit", "--dry-run", "-f", "pipeline.json")
	if code != 0 || errs != "" || strings.Count(out, "\n---\n") != 2 ||
		!strings.Contains(out, "# held: it comes after job train of the same file\n") {
		t.Errorf("got %d %q %q", code, out, errs)
	}
	code, out, _ = b.run("job", "submit", "--dry-run", "-f", "pipeline.json", "-o", "json")
	var answers []wire.DryRun
	if err := json.Unmarshal([]byte(out), &answers); code != 0 || err != nil || len(answers) != 3 || answers[2].State != "held" {
		t.Errorf("got %d %q, %v", code, out, err)
	}
}
