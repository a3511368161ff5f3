package push_test

import (
	"fmt"

	"dsvmpools/shared/push"
)

// A delivery of a Git host is parsed, each rule judges each push in it, and a rule that
// fits makes the jobs. The same delivery always makes the same ids.
func Example() {
	rules, err := push.ParseRules([]byte(`
name: train-main
provider: github
repository: octo/model
secret: GITHUB_PUSH_SECRET
branches: [main]
job: {pool: gpu, command: [python, train.py, "{{.ShortCommit}}"]}
`), "application/yaml")
	if err != nil {
		fmt.Println(err)
		return
	}
	header := func(name string) string { return map[string]string{"X-GitHub-Event": "push"}[name] }
	body := []byte(`{
		"ref": "refs/heads/main",
		"before": "1111111111111111111111111111111111111111",
		"after": "2222222222222222222222222222222222222222",
		"repository": {"full_name": "octo/model", "clone_url": "https://github.com/octo/model.git"},
		"head_commit": {"id": "2222222222222222222222222222222222222222", "message": "Train longer"}
	}`)
	delivery, err := push.Parse(push.GitHub, header, body)
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range delivery.Pushes {
		p := &delivery.Pushes[i]
		fits, why := rules[0].Match(p)
		fmt.Println(fits, why)
		jobs, err := rules[0].MakeJobs(p, push.Key(push.GitHub, header, body))
		fmt.Println(len(jobs), jobs[0].Pool, jobs[0].ID, err)
	}
	// Output:
	// true branch main fits the rule
	// 1 gpu push-train-main-6a2592b30e906ef196c2-f921bd05 <nil>
}
