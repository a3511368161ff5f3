package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const gitHubPush = `{"ref":"refs/heads/main","before":"1111111111111111111111111111111111111111","after":"2222222222222222222222222222222222222222",
"commits":[{"id":"2222222222222222222222222222222222222222","message":"Train longer","author":{"name":"Ann","username":"ann"},"modified":["train.py"]}],
"head_commit":{"id":"2222222222222222222222222222222222222222","message":"Train longer","author":{"name":"Ann","username":"ann"}},
"repository":{"full_name":"octo/model","clone_url":"https://github.com/octo/model.git"},"pusher":{"name":"ann"}}`

const someRules = `rules:
- name: train
  provider: github
  repository: octo/model
  secret: GITHUB_PUSH_SECRET
  source: false
  paths: ['*.py']
  job: {pool: cpu, command: [train, '{{.Commit}}']}
- name: docs
  provider: github
  repository: octo/model
  secret: GITHUB_PUSH_SECRET
  source: false
  branches: [main]
  paths: ['docs/**']
  job: {pool: cpu, command: [make, docs]}
`

const fileRule = `name: own
provider: github
repository: octo/model
secret: GITHUB_PUSH_SECRET
fromFile: true
job: {pool: cpu}
`

func (b *bench) file(name, text string) string {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.program.Dir, name), []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
	return name
}

func TestPush(t *testing.T) {
	t.Parallel()
	tag := strings.NewReplacer("refs/heads/main", "refs/tags/v1", "X", "").Replace(gitHubPush)
	for name, test := range map[string]struct {
		args string
		code int
		out  string
		errs string
	}{
		"apply":          {"push apply -f rules.yaml", 0, "train\ndocs\n", ""},
		"apply nothing":  {"push apply", 2, "", "dsvm push apply -f FILE"},
		"apply a slip":   {"push apply -f slip.yaml", 2, "", "slip.yaml:7: there is no field `pathes`; did you mean `paths`?"},
		"list":           {"push list", 0, "NAME   PROVIDER  REPOSITORY  REFS          JOBS  PROBLEM\ntrain  github    octo/model  all branches     1  -\n", ""},
		"show":           {"push show train", 0, "command:\n", ""},
		"show none":      {"push show none", 1, "", "there is no rule"},
		"delete":         {"push delete train", 0, "train\n", ""},
		"test":           {"push test --payload push.json -f rules.yaml", 0, "RULE   REF              STARTS   REASON\ntrain  refs/heads/main  1 job    branch main and the changed files fit the rule\ndocs   refs/heads/main  nothing  none of the 1 changed files fits `paths`\n", ""},
		"test, stored":   {"push test --payload push.json", 0, "train  refs/heads/main  1 job", ""},
		"test a tag":     {"push test --payload tag.json --header X-GitHub-Event=push", 0, "tag v1 starts nothing", ""},
		"test a ping":    {"push test --payload push.json --header X-GitHub-Event=ping", 0, "", "the hook works"},
		"test a guess":   {"push test --payload slip.yaml", 2, "", "add --provider"},
		"test as GitLab": {"push test --payload push.json --provider gitlab", 2, "", "does not look like a push"},
		"test a file":    {"push test --payload push.json -f own.yaml --jobs jobs.yaml", 0, "own   refs/heads/main  2 jobs  branch main fits the rule; the jobs come from the file .dsvm.yaml at that commit\n", ""},
		"test a bad one": {"push test --payload push.json -f own.yaml --jobs slip.yaml", 0, "own   refs/heads/main  nothing  the jobs cannot be made: .dsvm.yaml, line 1: there is no field `rules`", ""},
		"test without":   {"push test --payload push.json -f own.yaml", 0, "1 job   branch main fits the rule; the jobs come from the file .dsvm.yaml at that commit; add --jobs FILE", ""},
		"test no file":   {"push test --payload push.json --jobs none.yaml", 2, "", "none.yaml"},
		"test nothing":   {"push test", 2, "", "--payload FILE"},
		"misspelled":     {"push aply", 2, "", "did you mean"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.file("rules.yaml", someRules)
			b.file("slip.yaml", strings.Replace(someRules, "paths", "pathes", 1))
			b.file("own.yaml", fileRule)
			b.file("jobs.yaml", "jobs:\n- command: [make]\n- command: [train]\n")
			b.file("push.json", gitHubPush)
			b.file("tag.json", tag)
			code, out, errs := b.run(strings.Fields(test.args)...)
			if code != test.code || !strings.Contains(out, test.out) || test.out == "" && out != "" || !strings.Contains(errs, test.errs) {
				t.Errorf("got %d\n%s%s\nwant %d\n%s%s", code, out, errs, test.code, test.out, test.errs)
			}
		})
	}
}

func TestPushTestJSON(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.file("push.json", gitHubPush)
	code, out, errs := b.run("push", "test", "--payload", "push.json", "-f", b.file("rules.yaml", someRules), "-o", "json")
	var got []struct {
		Rule   string
		Starts bool
		Jobs   []struct {
			ID      string
			Command []string
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || errs != "" {
		t.Fatalf("%d %v %s%s", code, err, out, errs)
	}
	if len(got) != 2 || !got[0].Starts || got[1].Starts || got[0].Jobs[0].Command[1] != strings.Repeat("2", 40) ||
		!strings.HasPrefix(got[0].Jobs[0].ID, "push-train-") {
		t.Errorf("got %s", out)
	}
}
