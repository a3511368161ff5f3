package push_test

import (
	"encoding/json"
	"strings"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/push"
)

// withJob is a rule with a job.
func withJob(rest string) string {
	return "name: r\nprovider: github\nrepository: binkkatal/sample_app\nsecret: GITHUB_PUSH_SECRET\nsource: false\n" + rest
}

// fromFile is a rule whose jobs stand in a file.
func fromFile(rest string) string {
	return strings.Replace(withJob("fromFile: true\n"+rest), "source: false\n", "", 1)
}

const oneJob = "job: {pool: cpu, command: [make]}\n"

func rule(t testing.TB, text string) *push.Rule {
	t.Helper()
	rules, err := push.ParseRules([]byte(text), "")
	if err != nil || len(rules) != 1 {
		t.Fatalf("%v\n%s", err, text)
	}
	return &rules[0]
}

func TestMatch(t *testing.T) {
	t.Parallel()
	const head = "fd489864e7642b48eaad6e3f155c10e46810ec72"
	on := func(ref string) map[string]any { return map[string]any{"ref": ref} }
	for name, test := range map[string]struct {
		rule    string
		changes map[string]any
		starts  bool
		why     string
	}{
		"any branch":        {"", nil, true, "branch master fits"},
		"branch":            {"branches: [main, master]", nil, true, ""},
		"other branch":      {"branches: [main]", nil, false, "branch master does not fit `branches`"},
		"pattern":           {"branches: ['release/*']", on("refs/heads/release/1"), true, ""},
		"deeper":            {"branches: ['release/*']", on("refs/heads/release/1/a"), false, "does not fit"},
		"taken out":         {"branches: ['**', '!wip/**']", on("refs/heads/wip/a/b"), false, "does not fit"},
		"only taken out":    {"branches: ['!wip/**']", nil, true, ""},
		"the last decides":  {"branches: ['!wip/**', 'wip/keep']", on("refs/heads/wip/keep"), true, ""},
		"tag without tags":  {"", on("refs/tags/v1"), false, "has no `tags`"},
		"tag":               {"tags: ['v*']", on("refs/tags/v1"), true, "tag v1 fits"},
		"other tag":         {"tags: ['v*']", on("refs/tags/x"), false, "does not fit `tags`"},
		"branch, only tags": {"tags: ['v*']", nil, false, "has `tags` and no `branches`"},
		"path":              {"paths: ['app/**']", nil, true, "changed files fit"},
		"other path":        {"paths: ['docs/**']", nil, false, "none of the 2 changed files"},
		"path taken out":    {"paths: ['**', '!app/**', '!.*']", nil, false, "none"},
		"path of a rename": {"paths: ['old/**']", map[string]any{"commits": commits(1, head, func(int) map[string]any {
			return map[string]any{"removed": []any{"old/x"}, "added": []any{"new/x"}}
		})}, true, ""},
		"path outside of ASCII": {"paths: ['модель/*']", map[string]any{"commits": commits(1, head, func(int) map[string]any {
			return map[string]any{"modified": []any{"модель/é"}}
		})}, true, ""},
		"paths not known":    {"paths: ['docs/**']", map[string]any{"forced": true}, true, "not known: the push was forced"},
		"paths, 2,048":       {"paths: ['docs/**']", map[string]any{"commits": commits(2048, head, modified)}, true, "more commits than the payload lists"},
		"paths, tag":         {"paths: ['docs/**']\ntags: ['*']", on("refs/tags/v1"), true, "a tag has no changed files"},
		"skipped":            {"", map[string]any{"head_commit.message": "docs\n\n[skip CI]"}, false, "asks for no jobs"},
		"skipped, Azure":     {"", map[string]any{"head_commit.message": "x ***NO_CI***"}, false, "asks for no jobs"},
		"deleted":            {"", map[string]any{"deleted": true, "after": zeros, "head_commit": nil}, false, "branch master was deleted"},
		"notes":              {"", on("refs/notes/x"), false, "neither a branch nor a tag"},
		"letter case":        {"", map[string]any{"repository.full_name": "BinkKatal/Sample_App"}, true, ""},
		"another repository": {"", map[string]any{"repository.full_name": "else/where"}, false, "the repository is else/where"},
		"another host":       {"", map[string]any{"repository.clone_url": "https://github.com.evil.example/binkkatal/sample_app.git"}, false, "is at github.com.evil.example"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := one(t, push.GitHub, changed(t, recorded(t, "github/push.json"), test.changes))
			got, why := rule(t, withJob(oneJob+test.rule)).Match(&p)
			if got != test.starts || !strings.Contains(why, test.why) {
				t.Errorf("got %v: %s; want %v: %s", got, why, test.starts, test.why)
			}
		})
	}
	p := one(t, push.Gitea, recorded(t, payloads[push.Gitea]))
	if got, why := rule(t, withJob(oneJob)).Match(&p); got || !strings.Contains(why, "comes from gitea") {
		t.Errorf("got %v: %s", got, why)
	}
}

func TestRefusedRules(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ rule, field, want string }{
		"unknown field":       {withJob(oneJob + "branchs: [main]"), "branchs", "line 7: there is no field `branchs`; did you mean `branches`?"},
		"no name":             {"provider: github", "name", "`name`"},
		"bad name":            {strings.Replace(withJob(oneJob), "name: r", "name: A b", 1), "name", "line 1: `name` is \"A b\""},
		"provider":            {strings.Replace(withJob(oneJob), "github", "svn", 1), "provider", "line 2"},
		"gitea anywhere":      {strings.Replace(withJob(oneJob), "github", "gitea", 1), "server", "`server` is missing"},
		"bitbucket elsewhere": {strings.Replace(withJob(oneJob), "github", "bitbucket", 1) + "server: https://x.example", "server", "only the cloud's"},
		"server":              {withJob(oneJob + "server: git.example.com"), "server", "address"},
		"secret itself":       {strings.Replace(withJob(oneJob), "GITHUB_PUSH_SECRET", "hunter2", 1), "secret", "holds PUSH_SECRET"},
		"the app's own":       {strings.Replace(withJob(oneJob), "GITHUB_PUSH_SECRET", "TablesConnection", 1), "secret", "line 4"},
		"key vault":           {strings.Replace(withJob(oneJob), "GITHUB_PUSH_SECRET", "keyvault:v/s", 1), "secret", "not supported yet"},
		"token":               {withJob(oneJob + "status: {token: AZURE_CLIENT_SECRET}"), "status", "PUSH_TOKEN"},
		"status of nothing":   {withJob(oneJob + "status: {}"), "status", "names no setting"},
		"pattern":             {withJob(oneJob + "branches: ['a[']"), "branches", "`branches[0]`"},
		"many stars":          {withJob(oneJob + "paths: ['**/**/**/**/**/*']"), "paths", "stars"},
		"file and no source":  {withJob("fromFile: true\njob: {pool: cpu}"), "source", "leave out one of them"},
		"file and jobs":       {fromFile("jobs: [{pool: cpu, command: [x]}]"), "jobs", "the jobs stand in the file .dsvm.yaml"},
		"file and no job":     {fromFile(""), "job", "job: {pool: cpu}"},
		"file and a command":  {fromFile("job:\n  pool: cpu\n  command: [x]\n"), "job.command", "line 8: `job.command` does not go with `fromFile`"},
		"file and no pool":    {fromFile("job: {timeout: 1m}"), "job.pool", "`pool` is missing"},
		"file of elsewhere":   {fromFile("job: {pool: cpu, source: {repository: 'https://h/r'}}"), "job.source.repository", "at the pushed commit"},
		"file above the top":  {fromFile("job: {pool: cpu, source: {path: ../x}}"), "job.source.path", "without .. and .git"},
		"file and bad pools":  {fromFile("job: {pool: cpu}\npools: [gpu, 'h*']"), "pools", "`pools[1]`"},
		"file and many pools": {fromFile("job: {pool: cpu}\npools: [" + strings.Repeat("p, ", 20) + "p]"), "pools", "at most 20"},
		"pools and no file":   {withJob(oneJob + "pools: [gpu]"), "pools", "goes with `fromFile: true`"},
		"one id as a number":  {withJob("jobs: [{id: '2', pool: cpu, command: [x]}, {pool: cpu, command: [x]}]"), "jobs[1].id", "not the number of another job"},
		"source alone":        {strings.Replace(withJob("job: {pool: cpu}"), "source: false\n", "", 1), "job.command", "`command` is missing"},
		"no job":              {withJob(""), "job", "`job` is missing"},
		"two ways":            {withJob(oneJob + "jobs: [{pool: cpu, command: [x]}]"), "jobs", "keep one"},
		"bad job":             {withJob("job: {pool: CPU, command: [x]}"), "job.pool", "line 6: `pool` is"},
		"misspelled in a job": {withJob("jobs:\n- pool: cpu\n  comand: [x]\n"), "jobs[0].comand", "did you mean `command`"},
		"unknown value":       {withJob("job: {pool: cpu, command: ['{{.Comit}}']}"), "job.command[0]", "there is no value {{.Comit}}"},
		"title in a shell":    {withJob("job: {pool: cpu, command: [/bin/bash, -c, 'echo {{.Title}}']}"), "job.command[2]", "a variable of `env`"},
		"author in a program": {withJob("job: {pool: cpu, command: [python, -c, 'print(\"{{.Author}}\")']}"), "job.command[2]", `use "$PUSH_AUTHOR"`},
		"branch as program":   {withJob("job: {pool: cpu, command: ['{{.Branch}}']}"), "job.command[0]", "cannot stand"},
		"branch as image":     {withJob("job: {pool: cpu, command: [x], image: 'r/{{.Branch}}'}"), "job.image", "cannot stand in `image`"},
		"branch as id":        {withJob("job: {pool: cpu, command: [x], id: '{{.Branch}}'}"), "job.id", "cannot stand in `id`"},
		"branch in after":     {withJob("job: {pool: cpu, command: [x], after: ['{{.Branch}}']}"), "job.after[0]", "cannot stand in `after[0]`"},
		"branch as pool":      {withJob("job: {pool: '{{.Branch}}', command: [x]}"), "job.pool", "cannot stand in `pool`"},
		"branch as secret":    {withJob("job: {pool: cpu, command: [x], secrets: {K: 'keyvault:v/{{.Branch}}'}}"), "job.secrets.K", "cannot stand"},
		"value as name":       {withJob("job: {pool: cpu, command: [x], env: {'{{.Branch}}': x}}"), "job.env", "field's name"},
		"two teams":           {withJob("team: a\njob: {pool: cpu, command: [x], team: b}"), "job.team", "leave one"},
		"long id":             {withJob("job: {pool: cpu, command: [x], id: a-name-of-more-than-twenty}"), "job.id", "1 to 20"},
		"in a list":           {"rules:\n- " + strings.ReplaceAll(withJob(oneJob), "\n", "\n  ") + "\n- name: '?'\n", "rules[1].name", "line 9"},
		"one name twice":      {"rules:\n- " + strings.ReplaceAll(withJob(oneJob), "\n", "\n  ") + "\n- " + strings.ReplaceAll(withJob(oneJob), "\n", "\n  "), "rules[1].name", "a rule \"r\" already"},
		"empty list":          {"rules: []", "rules", "0 rules"},
		"limit":               {withJob(oneJob + "limits: {pushesPerHour: 0}"), "limits.pushesPerHour", "1 to"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := push.ParseRules([]byte(test.rule), "application/yaml")
			var f *fault.Error
			if !asFault(err, &f) || f.Field != test.field || !strings.Contains(f.Message, test.want) {
				t.Errorf("got %v (field %q), want %q in it (field %q)", err, fieldOf(err), test.want, test.field)
			}
		})
	}
}

// Earlier versions took null and empty texts for fields that were left out. Rules that they
// stored are read as then; a new document is refused.
func TestStoredBlanks(t *testing.T) {
	t.Parallel()
	const old = `{"name":"r","provider":"gitea","server":"https://git.example.com","repository":"a/b","secret":"R_PUSH_SECRET","team":"",
		"paths":null,"job":{"pool":"cpu","name":"","user":null,"command":["x",""],"env":{"EMPTY":""},"sweep":{},"retry":{"max":1,"on":null}}}`
	if _, err := push.ParseRules([]byte(old), "application/json"); err == nil || !strings.Contains(err.Error(), "`team` is empty") {
		t.Errorf("a new document: got %v", err)
	}
	rule, err := push.ParseStoredRule([]byte(old))
	if err != nil {
		t.Fatal(err)
	}
	if string(rule.Document()) != old {
		t.Errorf("the stored document became %s", rule.Document())
	}
	p := push.Push{Provider: push.Gitea, Repository: "a/b", CloneURL: "https://git.example.com/a/b.git", Ref: "refs/heads/main", Branch: "main",
		Commit: strings.Repeat("a", 40), Author: "ann"}
	starts, err := rule.MakeJobs(&p, "key")
	if err != nil {
		t.Fatal(err)
	}
	spec, err := job.Parse(starts[0].Document, "application/json")
	if err != nil {
		t.Fatal(err)
	}
	if empty, has := spec.Env["EMPTY"]; empty != "" || !has || spec.Sweep != nil || len(spec.Command) != 2 || spec.User != "ann" {
		t.Errorf("got %+v", spec)
	}
}

// A field whose placeholder stands for nothing is left out: a push of a branch has no tag.
func TestEmptyPlaceholders(t *testing.T) {
	t.Parallel()
	r := rule(t, withJob("job: {pool: cpu, command: [x], name: '{{.Tag}}', workdir: '{{.Tag}}', env: {TAG: '{{.Tag}}'}}"))
	p := push.Push{Provider: push.GitHub, Repository: "octo/model", CloneURL: "https://github.com/octo/model.git", Ref: "refs/heads/main",
		Branch: "main", Commit: strings.Repeat("a", 40), Author: "ann"}
	starts, err := r.MakeJobs(&p, "key")
	if err != nil {
		t.Fatal(err)
	}
	spec, err := job.Parse(starts[0].Document, "application/json")
	if tag, has := spec.Env["TAG"]; err != nil || spec.Name != "r main" || spec.Workdir != "" || tag != "" || !has {
		t.Errorf("got %+v, %v", spec, err)
	}
}

// A rule is read again from what it says of itself.
func TestDocument(t *testing.T) {
	t.Parallel()
	first := rule(t, withJob("branches: ['release/*', \"!wip\"]\njobs:\n- {id: a, pool: cpu, command: ['é\"\\', '{{.Branch}}'], priority: low}\n- {pool: cpu, script: 'x', after: [a], retry: {max: 2}}\n"))
	again := rule(t, string(first.Document()))
	if string(first.Document()) != string(again.Document()) || !json.Valid(first.Document()) {
		t.Errorf("got %s, want %s", again.Document(), first.Document())
	}
}
