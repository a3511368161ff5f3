package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/wire"
)

// TestPipelineOfTheDocs: a list in JSON is several jobs, and the example in docs/ is one.
func TestPipelineOfTheDocs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	text, err := os.ReadFile("../../../docs/examples/pipeline.json")
	if err != nil {
		t.Fatal(err)
	}
	b.write("pipeline.json", string(text))
	for range 2 { // sending it again changes nothing
		code, out, errs := b.run("job", "submit", "-f", "pipeline.json", "--label", "run=1")
		if code != 0 || out != "prepare\ntrain\nreport\n" || errs != "" {
			t.Fatalf("got %d %q %q", code, out, errs)
		}
	}
	if got := b.spec("report"); !strings.Contains(got, `"after":["prepare","train"]`) || !strings.Contains(got, `"labels":{"run":"1"}`) {
		t.Errorf("got %s", got)
	}
}

func TestSeveralDocuments(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"jobs.yaml": "# two\n---\nid: a\npool: cpu\ncommand: ['true']\n---\n---\nid: b\npool: cpu\nscript: |\n  echo ---\n  echo\n",
		"list.yml":  "- {id: a, pool: cpu, command: ['true']}\n- id: b\n  pool: cpu\n  script: echo\n",
		"list":      "[\n\t{\"id\": \"a\", \"pool\": \"cpu\", \"command\": [\"true\"]},\n\t{\"id\": \"b\", \"pool\": \"cpu\", \"script\": \"x\"}\n]\n",
		"lines":     "{\"id\": \"a\", \"pool\": \"cpu\", \"command\": [\"true\"]}\n{\"id\": \"b\", \"pool\": \"cpu\", \"script\": \"x\"}\n",
	} {
		b := newBench(t)
		b.write(name, text)
		if code, out, errs := b.run("job", "submit", "-f", name); code != 0 || out != "a\nb\n" || errs != "" {
			t.Errorf("%s: got %d %q %q", name, code, out, errs)
		}
		code, out, _ := b.run("job", "submit", "-f", name, "-o", "json")
		var jobs []struct {
			ID     string
			Status int
		}
		if err := json.Unmarshal([]byte(out), &jobs); code != 0 || err != nil || len(jobs) != 2 || jobs[1].ID != "b" || jobs[1].Status != 202 {
			t.Errorf("%s, as JSON: got %d %q, %v", name, code, out, err)
		}
		for _, args := range [][]string{{"--id", "x"}, {"--", "true"}, {"--each-line", name}, {"--script", name}} {
			if code, _, errs := b.run(append([]string{"job", "submit", "-f", name}, args...)...); code != codeWrongUse ||
				!strings.Contains(errs, name+" holds 2 jobs") {
				t.Errorf("%s with %v: got %d %q", name, args, code, errs)
			}
		}
		if code, _, errs := b.run("run", "-f", name); code != codeWrongUse || !strings.Contains(errs, "run follows one") {
			t.Errorf("run: got %d %q", code, errs)
		}
	}
}

// TestNothingIsSentBeforeAllAreRead: a mistake in the last document keeps the first back.
func TestNothingIsSentBeforeAllAreRead(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.write("jobs.yaml", "id: a\npool: cpu\ncommand: ['true']\n---\nid: b\npool: cpu\n\ncomand: ['true']\n")
	code, out, errs := b.run("job", "submit", "-f", "jobs.yaml")
	if want := "dsvm: nothing was sent: jobs.yaml:8: there is no field `comand`; did you mean `command`?\n"; code != codeWrongUse ||
		out != "" || errs != want {
		t.Errorf("got %d %q %q, want %q", code, out, errs, want)
	}
	if _, err := b.app.Jobs.Job(t.Context(), "a"); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("the first job was sent: %v", err)
	}
}

func TestSomeDocumentsAreRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const text = "id: a\npool: cpu\ncommand: ['true']\n---\nid: b\npool: cpu\nresources:\n  cpus: 99\ncommand: ['true']\n" +
		"---\n%spool: cpu\ncommand: ['true']\n---\nid: d\npool: none\ncommand: ['true']\n"
	b.write("jobs.yaml", strings.Replace(text, "%s", "id: c\n", 1))
	code, out, errs := b.run("job", "submit", "-f", "jobs.yaml")
	for _, want := range []string{"dsvm: jobs.yaml:8: the job asks for 99 cpus", "dsvm: jobs.yaml:16: there is no pool \"none\"",
		"dsvm: 2 of 4 jobs were taken.\nThe same command again sends what is missing"} {
		if code != codeFailure || out != "a\nc\n" || !strings.Contains(errs, want) {
			t.Errorf("got %d %q %q, want %q", code, out, errs, want)
		}
	}
	b.write("jobs.yaml", strings.Replace(text, "%s", "", 1))
	if code, out, errs := b.run("job", "submit", "-f", "jobs.yaml"); code != codeFailure || strings.Count(out, "\n") != 2 ||
		!strings.Contains(errs, "A job without an `id` would run a second time") {
		t.Errorf("got %d %q %q", code, out, errs)
	}
}

// TestManyDocuments: more than one request may have are sent in several.
func TestManyDocuments(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var text strings.Builder
	for i := range wire.MaxJobs + 2 {
		fmt.Fprintf(&text, "- {id: j%d, pool: cpu, command: ['true']}\n", i)
	}
	b.write("jobs.yaml", text.String())
	code, out, errs := b.run("job", "submit", "-f", "jobs.yaml")
	if want := fmt.Sprintf("\nj%d\n", wire.MaxJobs+1); code != 0 || strings.Contains(errs, "taken") || strings.Count(out, "\n") != wire.MaxJobs+2 || !strings.HasSuffix(out, want) {
		t.Errorf("got %d %.100q, %d lines", code, errs, strings.Count(out, "\n"))
	}
}

func TestEachLine(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.write("files.txt", "\ufeffa b.csv\r\n\r\n  c=d \n \n#e")
	code, out, errs := b.run("job", "submit", "--pool", "cpu", "--id", "x", "--each-line", "files.txt", "--parallel", "2", "--", "true")
	if code != 0 || out != "x\n" || errs != "" {
		t.Fatalf("got %d %q %q", code, out, errs)
	}
	if got, want := b.spec("x"), `"sweep":{"list":[{"LINE":"a b.csv"},{"LINE":"  c=d "},{"LINE":"#e"}],"parallel":2}`; !strings.Contains(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	if code, _, errs := b.run("job", "submit", "--pool", "cpu", "--id", "y", "--each-line", "FILE=files.txt", "--", "true"); code != 0 {
		t.Fatalf("got %d %q", code, errs)
	}
	if got, want := b.spec("y"), `[{"FILE":"a b.csv"}`; !strings.Contains(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	b.write("empty.txt", " \n\r\n")
	for args, want := range map[string]string{
		"--each-line empty.txt":                "empty.txt has no line that is not blank",
		"--each-line files.txt --count 3":      "--each-line, --grid and --count each make a sweep; give one of them",
		"--each-line files.txt --grid A=1,2":   "--each-line, --grid and --count each make a sweep; give one of them",
		"--each-line DSVM_X=files.txt":         "`sweep.list[0].DSVM_X` cannot be a parameter's name",
		"--each-line files.txt --env LINE=one": "`sweep.list[0].LINE` is set by `env` as well; remove one of them",
	} {
		args := append([]string{"job", "submit", "--pool", "cpu"}, append(strings.Fields(args), "--", "true")...)
		if code, _, errs := b.run(args...); code != codeWrongUse || !strings.HasPrefix(errs, "dsvm: "+want) {
			t.Errorf("%v: got %d %q, want %q", args, code, errs, want)
		}
	}
}
