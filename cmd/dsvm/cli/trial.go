package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/push"
)

// trial is what a rule would make of a push.
type trial struct {
	Rule   string            `json:"rule"`
	Ref    string            `json:"ref"`
	Starts bool              `json:"starts"`
	Reason string            `json:"reason"`
	Jobs   []json.RawMessage `json:"jobs"` // as they would be put on the queue
}

func pushTest(p *Program) *cobra.Command {
	var file, payload, provider, jobs string
	var header []string
	c := &cobra.Command{
		Use:   "test --payload FILE",
		Short: "Say what a push would start, and why not",
		Long: `Say what a push would start, and why not. FILE is what the Git host sends, as its
page of the hook's deliveries shows it; - is standard input. Nothing is started,
and no signature is checked. The rules are those of the instance, or with -f
those of a file that need not be applied yet. Where a rule says fromFile, the jobs
are those of the file that --jobs names, as it would stand in the repository.

The headers (--header) say which host it comes from, or else --provider or the
payload itself.`,
		Example: `  dsvm push test --payload push.json
  dsvm push test --payload push.json -f rules.yaml
  dsvm push test --payload push.json --jobs .dsvm.yaml
  dsvm push test --payload tag.json --header 'X-Gitlab-Event=Tag Push Hook' -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if payload == "" {
				return WrongUse("name the file with the payload: `dsvm push test --payload FILE`")
			}
			body, err := p.readPayload(payload)
			if err != nil {
				return err
			}
			from, headers, err := p.guessHost(push.Provider(provider), header, body)
			if err != nil {
				return err
			}
			rules, err := p.rulesToTry(c.Context(), file)
			if err != nil {
				return err
			}
			delivery, err := push.Parse(from, headers, body)
			if err != nil {
				return err
			}
			var text []byte
			if jobs != "" {
				if text, err = p.readFile(jobs); err != nil {
					return err
				}
			}
			trials, err := tryRules(rules, delivery, push.Key(from, headers, body), jobs != "", string(text))
			if err != nil {
				return err
			}
			return p.showTrials(delivery, trials)
		},
	}
	c.Flags().StringVar(&payload, "payload", "", "file with the payload; - is standard input")
	c.Flags().StringVarP(&file, "file", "f", "", "file with rules to try instead of those of the instance")
	c.Flags().StringVar(&jobs, "jobs", "", "file with jobs to try where a rule says fromFile; - is standard input")
	c.Flags().StringVar(&provider, "provider", "", "github, azuredevops, gitlab, gitea or bitbucket")
	c.Flags().StringArrayVar(&header, "header", nil, "header of the delivery, as NAME=VALUE; more than once if need be")
	complete(c, "provider",
		cobra.FixedCompletions([]string{"github", "azuredevops", "gitlab", "gitea", "bitbucket"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// readPayload reads what may be far larger than a document.
func (p *Program) readPayload(name string) ([]byte, error) {
	in := p.In
	if name != "-" {
		f, err := os.Open(p.fromHere(name))
		if err != nil {
			return nil, WrongUse("%v", err)
		}
		defer f.Close()
		in = f
	}
	body, err := io.ReadAll(io.LimitReader(in, push.MaxBody+1))
	if err == nil && len(body) > push.MaxBody {
		err = WrongUse("%s has more than 25 MB, which is all that a delivery may have", name)
	}
	return body, err
}

// rulesToTry are those of a file, or of the instance.
func (p *Program) rulesToTry(ctx context.Context, file string) ([]push.Rule, error) {
	if file != "" {
		text, err := p.readFile(file)
		if err != nil {
			return nil, err
		}
		rules, err := push.ParseRules(text, "")
		if err != nil {
			return nil, WrongUse("%s: %v", file, err)
		}
		return rules, nil
	}
	stored, err := p.rules(ctx)
	var all []push.Rule
	for _, s := range stored {
		rule, err := push.ParseStoredRule(s.Rule)
		if err != nil {
			p.Say("rule %s cannot be read: %s", s.Name, err)
			continue
		}
		all = append(all, *rule)
	}
	return all, err
}

// hostMarks identify the host: a header, and a field that only its payloads have.
var hostMarks = []struct {
	provider     push.Provider
	header, push string
	field        string
}{
	{push.Gitea, "X-Gitea-Event", "push", "total_commits"}, // before GitHub, whose headers Gitea sends as well
	{push.Gitea, "X-Forgejo-Event", "push", "total_commits"},
	{push.GitHub, "X-GitHub-Event", "push", "pusher"},
	{push.GitLab, "X-Gitlab-Event", "Push Hook", "object_kind"},
	{push.Bitbucket, "X-Event-Key", "repo:push", "push"},
	{push.AzureDevOps, "", "", "eventType"},
}

// guessHost finds out who would have sent a payload, and with what headers.
func (p *Program) guessHost(provider push.Provider, pairs []string, body []byte) (push.Provider, push.Header, error) {
	headers := map[string]string{}
	for _, pair := range pairs {
		name, value, found := strings.Cut(pair, "=")
		if !found {
			return "", nil, WrongUse("the header %q has no =; write NAME=VALUE", pair)
		}
		headers[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
	}
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(body, &fields) // what is not JSON is refused when it is read
	for _, m := range hostMarks {
		if provider == "" && m.header != "" && headers[strings.ToLower(m.header)] != "" {
			provider = m.provider
		}
	}
	for _, m := range hostMarks {
		if _, has := fields[m.field]; provider == "" && has {
			provider = m.provider
		}
	}
	if provider == "" {
		return "", nil, WrongUse("the payload does not say which Git host it comes from; add --provider")
	}
	for _, m := range hostMarks {
		if name := strings.ToLower(m.header); m.provider == provider && headers[name] == "" {
			headers[name] = m.push
		}
	}
	if strings.Trim(string(fields["object_kind"]), `"`) == "tag_push" {
		headers["x-gitlab-event"] = "Tag Push Hook"
	}
	return provider, func(name string) string { return headers[strings.ToLower(name)] }, nil
}

// tryRules has each rule judge each push. Text is the file that holds the jobs, if one
// is given.
func tryRules(rules []push.Rule, d push.Delivery, key string, given bool, text string) ([]trial, error) {
	trials := []trial{}
	for i := range d.Pushes {
		p := &d.Pushes[i]
		for j := range rules {
			rule := &rules[j]
			t := trial{Rule: rule.Name, Ref: p.Ref, Jobs: []json.RawMessage{}}
			if t.Starts, t.Reason = rule.Match(p); t.Starts {
				starts, err := rule.MakeJobs(p, key)
				if err == nil && rule.FromFile && given {
					starts, err = rule.MakeFileJobs(text, p, starts[0].ID)
				}
				switch {
				case fault.CodeOf(err) == fault.Invalid:
					t.Starts, t.Reason = false, fmt.Sprintf("the jobs cannot be made: %v", err)
				case err != nil:
					return nil, err
				case rule.FromFile && !given:
					t.Reason += "; add --jobs FILE to see what such a file would start"
				}
				for _, s := range starts {
					t.Jobs = append(t.Jobs, s.Document)
				}
			}
			trials = append(trials, t)
		}
	}
	return trials, nil
}

func (p *Program) showTrials(d push.Delivery, trials []trial) error {
	if d.Ignored != "" {
		p.Say("%s", d.Ignored)
	}
	t := newTable("RULE REF STARTS REASON")
	for _, trial := range trials {
		starts := "nothing"
		if trial.Starts {
			starts = fmt.Sprintf("%d %s", len(trial.Jobs), plural(len(trial.Jobs), "job"))
		}
		t.add(trial.Rule, trial.Ref, starts, trial.Reason)
	}
	return p.list(trials, t, "no rule has judged the payload; dsvm push list shows the rules")
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
