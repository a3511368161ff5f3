package push_test

import (
	"reflect"
	"strings"
	"testing"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/push"
)

// Whatever comes is a push with usable names, or refused in words; a job that
// is made of it is one that is taken, or is refused too.
func FuzzParse(f *testing.F) {
	for provider, file := range payloads {
		f.Add(string(provider), recorded(f, file))
	}
	f.Add("gitlab", []byte(`{"ref":"refs/tags/\"","commits":[{"added":["\"\\303\\2","\"\\\""]}]}`))
	r := rule(f, "name: r\nprovider: github\nrepository: '**'\nsecret: PUSH_SECRET\nsource: false\nbranches: ['**']\ntags: ['**']\njob: {pool: cpu, command: [echo, '{{.Tag}}{{.Branch}}'], name: '{{.Ref}}', env: {A: '{{.Author}}{{.Message}}'}}\n")
	f.Fuzz(func(t *testing.T, provider string, body []byte) {
		p := push.Provider(provider)
		header := events[p]
		if header == nil {
			header = headers()
		}
		d, err := push.Parse(p, header, body)
		if err != nil {
			if fault.CodeOf(err) != fault.Invalid && fault.CodeOf(err) != fault.NotFound {
				t.Fatalf("got %v", err)
			}
			return
		}
		for i := range d.Pushes {
			one := &d.Pushes[i]
			if one.FilesKnown && one.Unlisted != "" || one.Deleted != (one.Commit == "") || one.Created != (one.Before == "") {
				t.Fatalf("got %+v", one)
			}
			r.Match(one)
			if one.Deleted {
				continue
			}
			if _, err := r.MakeJobs(one, "k"); fault.CodeOf(err) == fault.Invalid {
				continue // its ref is of another form
			}
			for _, spec := range specs(t, r, one) {
				if !harmless(spec.Command[1]) || !harmless(spec.Labels["ref"]) || !harmless(spec.Labels["repository"]) {
					t.Fatalf("got %q, labels %q", spec.Command, spec.Labels)
				}
			}
		}
	})
}

func FuzzRules(f *testing.F) {
	f.Add([]byte(withJob(oneJob)))
	f.Add([]byte("rules:\n- name: a\n"))
	f.Add([]byte(fromFile(ownRule)))
	f.Add([]byte(withJob("status: {token: PUSH_TOKEN}\nlimits: {pushesPerHour: 1}\njobs:\n- {id: a, pool: cpu, script: 'x {{.Commit}}'}\n- {pool: cpu, script: y, after: [a]}\n")))
	f.Fuzz(func(t *testing.T, body []byte) {
		rules, err := push.ParseRules(body, "")
		if err != nil {
			if fault.CodeOf(err) != fault.Invalid {
				t.Fatalf("got %v", err)
			}
			return
		}
		for i := range rules {
			again, err := push.ParseRules(rules[i].Document(), "application/json")
			if err != nil || len(again) != 1 || again[0].Name != rules[i].Name {
				t.Fatalf("%s is not read again: %v", rules[i].Document(), err)
			}
		}
	})
}

// Whatever a repository brings along is refused in words, or is jobs that keep to
// what the rule has given them.
func FuzzFile(f *testing.F) {
	f.Add("jobs:\n- {id: prep, command: [make, '{{.Branch}}']}\n- {pool: gpu, script: train, after: [prep], source: {path: x}}\n")
	f.Add("job:\n  command: [x]\n  team: null\n  source: {repository: 'https://h/r', commit: \"" + strings.Repeat("1", 40) + "\"}\n")
	f.Add(`{"job": {"script": "x", "pool": "{{.Rule}}", "sweep": {"count": 2}}}`)
	f.Add("a: &a [x]\njob: *a\n")
	r, p := rule(f, fromFile(ownRule)), one(f, push.GitHub, recorded(f, "github/push.json"))
	f.Fuzz(func(t *testing.T, text string) {
		starts, err := r.MakeFileJobs(text, &p, readerID)
		if err != nil {
			if fault.CodeOf(err) != fault.Invalid || !strings.HasPrefix(err.Error(), "ml/.dsvm.yaml") || len(starts) > 0 {
				t.Fatalf("got %v", err)
			}
			return
		}
		ids := map[string]bool{readerID: true}
		for _, s := range starts {
			spec, err := job.Parse(s.Document, "application/json")
			if err != nil || ids[s.ID] || spec.ID != s.ID || !strings.HasPrefix(s.ID, readerID+"-") || len(s.Context) > 40 {
				t.Fatalf("%s: %v", s.Document, err)
			}
			ids[s.ID] = true
			if spec.Pool != "cpu" && spec.Pool != "gpu" || spec.Team != "vision" || spec.Source == nil ||
				(spec.Source.Credential != "") != (spec.Source.Repository == p.CloneURL && spec.Source.Credential == "octo") {
				t.Fatalf("the file has chosen %s", s.Document)
			}
		}
		again, err := r.MakeFileJobs(text, &p, readerID)
		if err != nil || !reflect.DeepEqual(starts, again) {
			t.Fatal("the same file makes other jobs")
		}
	})
}

func FuzzProof(f *testing.F) {
	f.Add("github", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")
	f.Add("azuredevops", "Basic YTpi")
	f.Fuzz(func(t *testing.T, provider, value string) {
		proof, err := push.ReadProof(push.Provider(provider), func(string) string { return value })
		if err == nil && proof.Verify("", nil) {
			t.Fatal("nothing proves nothing")
		}
	})
}
