package push_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/push"
)

const (
	readerID = "push-r-00112233445566778899-0123abcd"
	ownRule  = "team: vision\nstatus: {token: PUSH_TOKEN}\npools: [gpu]\njob: {pool: cpu, timeout: 5m, source: {credential: octo, path: ml}}\n"
)

func TestReader(t *testing.T) {
	t.Parallel()
	r, p := rule(t, fromFile(ownRule)), one(t, push.GitHub, recorded(t, "github/push.json"))
	starts, err := r.MakeJobs(&p, strings.Repeat("a", 20))
	if err != nil || len(starts) != 1 {
		t.Fatal(starts, err)
	}
	spec, err := job.ParseFileJob(starts[0].Document, "application/json")
	want := job.Source{Repository: p.CloneURL, Commit: p.Commit, Path: "ml", Credential: "octo"}
	if err != nil || !spec.ReadsJobFile() || *spec.Source != want || spec.Team != "vision" || spec.Pool != "cpu" || !starts[0].ReadsFile ||
		starts[0].Context != "dsvm/r" {
		t.Errorf("got %+v %v, %v", spec, starts[0].Context, err)
	}
	if spec.Retry.Max != 2 || !spec.Retry.Covers(job.AttemptStartFailed, 0) || spec.Retry.Covers(job.AttemptFailed, 1) {
		t.Errorf("the reader's retry is %+v", spec.Retry)
	}
	if _, err := job.Parse(starts[0].Document, "application/json"); fieldOf(err) != "command" {
		t.Errorf("anybody may start a reader: %v", err)
	}
	if name, key, ok := push.ParseFileJobID(starts[0].ID); !ok || name != "r" || key != push.RefKey(strings.Repeat("a", 20), p.Ref) {
		t.Errorf("the id %s is read as %q %q %v", starts[0].ID, name, key, ok)
	}
	if fits, why := r.Match(&p); !fits || !strings.HasSuffix(why, "the jobs come from the file ml/.dsvm.yaml at that commit") {
		t.Errorf("got %v: %s", fits, why)
	}
}

func TestReadReader(t *testing.T) {
	t.Parallel()
	const key = "00112233445566778899-0123abcd"
	for id, want := range map[string]string{
		readerID:               "r",
		"push-a-push-b-" + key: "a-push-b",
		"push-r-" + key + "-2": "",
		"push--r-" + key:       "",
		"push-" + key:          "",
		"r-" + key:             "",
		"push-R-" + key:        "",
		"push-r-0-0123abcd":    "",
		" " + readerID:         "",
		readerID + "\n":        "",
		readerID + "." + "0":   "",
	} {
		if name, _, ok := push.ParseFileJobID(id); name != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v", id, name, ok)
		}
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	r, p := rule(t, fromFile(ownRule)), one(t, push.GitHub, recorded(t, "github/push.json"))
	text, err := r.Facts(&p)
	if err != nil {
		t.Fatal(err)
	}
	r, kept, err := push.ReadFacts(text) // as it is when the file has been read
	if err != nil {
		t.Fatal(err)
	}
	starts, err := r.MakeFileJobs(`
jobs:
- {id: prep, command: [prep, "{{.Branch}}"], env: {WHY: "{{.Message}}"}, team: vision}
- {script: train, after: ["prep:any", outside], source: {path: ., lfs: true}}
- {command: [lint], source: {repository: "https://github.com/octo/lint", commit: "`+strings.Repeat("1", 40)+`"}}
- {pool: gpu, command: [evaluate]}
`, kept, readerID)
	if err != nil {
		t.Fatal(err)
	}
	var got []job.Spec
	for _, s := range starts {
		spec, err := job.Parse(s.Document, "")
		if err != nil || spec.ID != s.ID || spec.Pool != s.Pool || s.ReadsFile {
			t.Fatalf("%v: %s", err, s.Document)
		}
		got = append(got, spec)
	}
	prep, train, lint := got[0], got[1], got[2]
	push := job.Source{Repository: p.CloneURL, Commit: p.Commit, Path: "ml", Credential: "octo"}
	if prep.ID != readerID+"-prep" || prep.Pool != "cpu" || prep.Team != "vision" || prep.Command[1] != "master" ||
		prep.Env["WHY"] != p.Message || *prep.Source != push || prep.Env["PUSH_COMMIT"] != p.Commit {
		t.Errorf("prep: got %+v %+v", prep, prep.Source)
	}
	push.Path, push.LFS = "", true
	if train.ID != readerID+"-2" || train.Pool != "cpu" || !reflect.DeepEqual(train.After, []string{prep.ID + ":any", "outside"}) ||
		*train.Source != push || train.Team != "vision" {
		t.Errorf("train: got %+v %+v", train, train.Source)
	}
	if lint.Source.Credential != "" || lint.Source.Path != "" || lint.Team != "vision" || lint.Pool != "cpu" || got[3].Pool != "gpu" {
		t.Errorf("lint: got %+v %+v", lint, lint.Source)
	}
	for i, want := range []string{"dsvm/r/prep", "dsvm/r/2", "dsvm/r/3", "dsvm/r/4"} {
		if starts[i].Context != want {
			t.Errorf("status %q, want %q", starts[i].Context, want)
		}
	}
	// One job has a name of its own too: the reader's is taken.
	if starts, err = r.MakeFileJobs(`{"job": {"command": ["make"]}}`, kept, readerID); err != nil || len(starts) != 1 ||
		starts[0].ID != readerID+"-1" || starts[0].Context != "dsvm/r/1" {
		t.Errorf("got %+v, %v", starts, err)
	}
}

func TestRefusedFiles(t *testing.T) {
	t.Parallel()
	r, p := rule(t, fromFile(ownRule)), one(t, push.GitHub, recorded(t, "github/push.json"))
	nobody := rule(t, fromFile("job: {pool: cpu}"))
	long := one(
		t,
		push.GitHub,
		changed(t, recorded(t, "github/push.json"), map[string]any{"head_commit.message": strings.Repeat("x", 2000)}),
	)
	hostile := one(t, push.GitHub, changed(t, recorded(t, "github/push.json"), map[string]any{"ref": "refs/heads/x;reboot"}))
	bomb := "a: &a [x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'l'; c++ {
		bomb += strings.NewReplacer("B", string(c), "A", string(c-1)).Replace("B: &B [*A, *A, *A, *A, *A, *A, *A, *A]\n")
	}
	for name, test := range map[string]struct {
		file, field, want string
		rule              *push.Rule
		push              *push.Push
	}{
		"nothing":          {"", "", "ml/.dsvm.yaml: the document is empty", r, &p},
		"a list":           {"- job: {}\n", "", "ml/.dsvm.yaml: the document is", r, &p},
		"no YAML":          {"jobs: [", "", "ml/.dsvm.yaml, line 1: the document is not valid YAML", r, &p},
		"two documents":    {"job: {command: [x]}\n---\njob: {}\n", "", "more than one document", r, &p},
		"too long":         {"# " + strings.Repeat("x", job.MaxSourceFile), "", "at most 32768", r, &p},
		"a bomb":           {bomb + "job: *k\n", "b[0]", "ml/.dsvm.yaml, line 2: YAML anchors and aliases are not read", r, &p},
		"a deep one":       {"job: " + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), "", "line 1: the document is nested deeper", r, &p},
		"merged":           {"job:\n  <<: {command: [x]}\n", "", "line 2: a field name must be", r, &p},
		"no jobs":          {"{}", "job", "`job` is missing", r, &p},
		"an empty list":    {"jobs: []", "job", "`job` is missing", r, &p},
		"both":             {"job: {command: [x]}\njobs: [{command: [x]}]", "jobs", "line 2: `job` and `jobs`", r, &p},
		"many jobs":        {"jobs:\n" + strings.Repeat("- {command: [x]}\n", 21), "jobs", "at most 20", r, &p},
		"a rule's field":   {"job: {command: [x]}\nbranches: [main]\n", "branches", "ml/.dsvm.yaml, line 2: there is no field `branches`", r, &p},
		"a slip":           {"jobs:\n- command: [x]\n- comand: [x]\n", "jobs[1].comand", "ml/.dsvm.yaml, line 3: there is no field `comand`; did you mean `command`?", r, &p},
		"nothing to run":   {"job: {name: x}", "job.command", "line 1: `command` is missing", r, &p},
		"another pool":     {"job:\n  command: [x]\n  pool: h100\n", "job.pool", "line 3: `pool` is \"h100\", and the rule r lets this file use cpu, gpu", r, &p},
		"a pool by value":  {"job: {command: [x], pool: '{{.Rule}}'}", "job.pool", "`pool` is \"r\"", r, &p},
		"a pool by branch": {"job: {command: [x], pool: '{{.Branch}}'}", "job.pool", "cannot stand in `pool`", r, &p},
		"another team":     {"jobs: [{command: [x], team: b}]", "jobs[0].team", "the team of these jobs is the rule's", r, &p},
		"no team":          {"jobs: [{command: [x], team: ''}]", "jobs[0].team", "the team of these jobs is the rule's", r, &p},
		"a null team":      {"jobs: [{command: [x], team: null}]", "jobs[0].team", "`team` is null", r, &p},
		"a null pool":      {"jobs: [{command: [x], pool: null}]", "jobs[0].pool", "`pool` is null", r, &p},
		"a null source":    {"jobs: [{command: [x], source: null}]", "jobs[0].source", "`source` is null", r, &p},
		"a team of none":   {"job: {command: [x], team: b}", "job.team", "the team of these jobs is the rule's", nobody, &p},
		"a secret":         {"job:\n  command: [x]\n  secrets: {K: keyvault:v/s}\n", "job.secrets", "line 3: `secrets` cannot stand in the file", r, &p},
		"a credential":     {"job: {command: [x], source: {credential: octo}}", "job.source.credential", "`source.credential` cannot stand in the file", r, &p},
		"another source":   {"job: {command: [x], source: {repository: 'https://h/r'}}", "job.source.commit", "`source.commit` is missing", r, &p},
		"injection":        {"job:\n  script: |\n    echo {{.Message}}\n", "job.script", `use "$PUSH_MESSAGE"`, r, &p},
		"what is loaded":   {"job:\n  command: [x]\n  env:\n    LD_PRELOAD: '{{.Title}}'\n", "job.env.LD_PRELOAD", "line 4: {{.Title}} is written by the author of a push, and the variable LD_PRELOAD", r, &p},
		"a hostile branch": {"job: {command: [x, '{{.Branch}}']}", "job.command[1]", "ml/.dsvm.yaml, line 1: branch x;reboot is not passed", r, &hostile},
		"one id twice":     {"jobs: [{id: a, command: [x]}, {id: a, command: [x]}]", "jobs[1].id", "a name of its own", r, &p},
		"a number as id":   {"jobs: [{id: '2', command: [x]}, {command: [x]}]", "jobs[1].id", "not the number of another job", r, &p},
		"a long id":        {"job: {command: [x], id: a-name-of-more-than-twenty}", "job.id", "1 to 20", r, &p},
		"values too long":  {"job: {command: [echo], env: {M: '" + strings.Repeat("{{.Message}}", 20) + "'}}", "job", "32768", r, &long},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			starts, err := test.rule.MakeFileJobs(test.file, test.push, readerID)
			var f *fault.Error
			if !asFault(err, &f) || f.Code != fault.Invalid || f.Field != test.field || !strings.Contains(f.Message, test.want) ||
				starts != nil {
				t.Errorf("got %v (field %q), want %q in it (field %q)", err, fieldOf(err), test.want, test.field)
			}
		})
	}
}

// What has to be kept of the largest push is far below what a row may have.
func TestFacts(t *testing.T) {
	t.Parallel()
	r := rule(t, fromFile(ownRule))
	p := one(t, push.GitHub, recorded(t, "github/push.json"))
	p.Message = strings.Repeat("\x01", 2000)
	for range 100_000 {
		p.Files = append(p.Files, strings.Repeat("f", 100))
	}
	text, err := r.Facts(&p)
	if err != nil || len(text) > 64<<10 || !json.Valid([]byte(text)) {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	again, kept, err := push.ReadFacts(text)
	p.Files, p.FilesKnown = nil, false
	if err != nil || !reflect.DeepEqual(*kept, p) || string(again.Document()) != string(r.Document()) {
		t.Errorf("got %+v, %v", kept, err)
	}
	if _, _, err := push.ReadFacts("{}"); err == nil {
		t.Error("nothing was taken for facts")
	}
}
