package push_test

import (
	"errors"
	"strings"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/push"
)

func asFault(err error, into **fault.Error) bool { return errors.As(err, into) }

func fieldOf(err error) string {
	var f *fault.Error
	if errors.As(err, &f) {
		return f.Field
	}
	return ""
}

// specs are the jobs that a push starts, as they are taken in.
func specs(t *testing.T, r *push.Rule, p *push.Push) []job.Spec {
	t.Helper()
	starts, err := r.MakeJobs(p, "k")
	if err != nil {
		t.Fatal(err)
	}
	var all []job.Spec
	for _, s := range starts {
		spec, err := job.Parse(s.Document, "application/json")
		if err != nil {
			t.Fatalf("%v\n%s", err, s.Document)
		}
		if spec.ID != s.ID || spec.Pool != s.Pool {
			t.Errorf("got id %q pool %q, want %q %q", spec.ID, spec.Pool, s.ID, s.Pool)
		}
		all = append(all, spec)
	}
	return all
}

func TestStart(t *testing.T) {
	t.Parallel()
	r := rule(t, withJob(`team: vision
jobs:
- {id: prep, pool: cpu, command: [prep, "--branch={{.Branch}}", "{{.Commit}}"]}
- {pool: cpu, script: "train {{ .ShortCommit }}", after: [prep, 'prep:any', outside], name: "train {{.Branch}}", user: bob, env: {WHO: "{{.Author}}", PUSH_RULE: mine}, labels: {rule: other}}
`))
	p := one(t, push.GitHub, recorded(t, "github/push.json"))
	got := specs(t, r, &p)
	if len(got) != 2 {
		t.Fatalf("got %d jobs, want 2", len(got))
	}
	prep, train := got[0], got[1]
	if prep.Command[1] != "--branch=master" || prep.Command[2] != p.Commit || prep.User != "binkkatal" || prep.Team != "vision" ||
		prep.Name != "r master" {
		t.Errorf("prep: got %+v", prep)
	}
	if train.Script != "train fd489864" || train.After[0] != prep.ID || train.After[1] != prep.ID+":any" || train.After[2] != "outside" ||
		train.Name != "train master" || train.User != "bob" {
		t.Errorf("train: got %+v", train)
	}
	if train.Env["WHO"] != "binkkatal" || train.Env["PUSH_RULE"] != "mine" || train.Env["PUSH_COMMIT"] != p.Commit ||
		train.Env["PUSH_BRANCH"] != "master" || train.Env["PUSH_CLONE_URL"] != p.CloneURL {
		t.Errorf("env: got %v", train.Env)
	}
	if train.Labels["rule"] != "other" || train.Labels["repository"] != "binkkatal/sample_app" || train.Labels["commit"] != p.Commit {
		t.Errorf("labels: got %v", train.Labels)
	}
	if prep.ID == train.ID || !strings.HasPrefix(prep.ID, "push-r-k-") || !strings.HasSuffix(prep.ID, "-prep") ||
		!strings.HasSuffix(train.ID, "-2") {
		t.Errorf("ids: got %q, %q", prep.ID, train.ID)
	}
	again := specs(t, r, &p)
	if again[0].ID != prep.ID || again[0].Hash() != prep.Hash() {
		t.Error("the same push makes another job")
	}
}

// No value can break out of its place, whatever people write.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	r := rule(t, withJob(`job: {pool: cpu, command: [echo, "{{.Branch}}"], env: {M: "{{.Message}}", B: "x{{.Branch}}y"}, user: "{{.Author}} for {{.Pusher}}"}`))
	for name, hostile := range map[string]string{
		"quotes":      `", "pool": "gpu", "x": "`,
		"lines":       "a\nscript: rm -rf /\n- b: c",
		"braces":      `{{.Commit}} {{.Author}} }} {{`,
		"control":     "\x1b]0;x\x07\x00\u202e",
		"long":        strings.Repeat("é", 4000),
		"not UTF-8":   "a\xff\xfe",
		"yaml tag":    "!!python/object:os.system",
		"backslashes": `\u0000\"\\`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := changed(
				t,
				recorded(t, "github/push.json"),
				map[string]any{"head_commit.message": hostile, "head_commit.author.username": hostile},
			)
			p := one(t, push.GitHub, body)
			got := specs(t, r, &p)[0]
			if got.Pool != "cpu" || got.Script != "" || len(got.Command) != 2 || got.Command[1] != "master" ||
				strings.ContainsAny(got.User, "\n\x1b\x00") || got.Env["M"] != p.Message {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestTooLong(t *testing.T) {
	t.Parallel()
	p := one(t, push.GitHub, changed(t, recorded(t, "github/push.json"), map[string]any{"head_commit.message": strings.Repeat("x", 2000)}))
	r := rule(t, withJob("job: {pool: cpu, command: [echo], env: {M: '"+strings.Repeat("{{.Message}}", 20)+"'}}"))
	if _, err := r.MakeJobs(&p, "k"); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "32768") {
		t.Errorf("got %v", err)
	}
}
