package push

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/plain"
)

// Limits of a rule.
const (
	maxRules   = 50 // in one document
	maxServer  = 300
	maxContext = 40 // bytes of a status' name: what Bitbucket takes for its key
	maxPerHour = 10_000
)

// Rule says which pushes start which jobs.
type Rule struct {
	Name           string
	Provider       Provider
	Server         string // address of the Git host, without a slash at the end
	Repository     string // a pattern of full names
	Secret         string // name of the setting with the hook's secret
	Branches       []string
	Tags           []string
	Paths          []string
	Team           string
	CancelPrevious bool
	Source         bool // put repository and commit into the jobs
	PerHour        int  // pushes that may start jobs in an hour; 0 = any number
	Status         Status
	FromFile       bool       // the jobs stand in a file of the repository
	Pools          []string   // that they may name, besides the one that the file is read in
	Jobs           []Template // with FromFile: the one that reads the file

	document []byte
	fileJob  *document.Node // of a rule made of a file: the job that has read it
}

// Status says how the result gets to the commit.
type Status struct {
	Token   string // name of the setting with the token; "" = nothing is reported
	Context string // what the status is called
	API     string // address of the host's API; "" = what follows from the server
}

var (
	namePattern   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
	serverPattern = regexp.MustCompile(`^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$`)
	// A rule's author chooses which settings are looked up. Names of this form
	// keep the app's own connection strings out of reach.
	secretPattern = regexp.MustCompile(`^([A-Z][A-Z0-9]*_)*PUSH_SECRET(_[A-Z0-9]+)*$`)
	tokenPattern  = regexp.MustCompile(`^([A-Z][A-Z0-9]*_)*PUSH_TOKEN(_[A-Z0-9]+)*$`)
)

// servers are where the providers live that live in one place.
var servers = map[Provider]string{
	GitHub:      "https://github.com",
	GitLab:      "https://gitlab.com",
	Bitbucket:   bitbucketServer,
	AzureDevOps: "https://dev.azure.com",
}

// fields of a rule, in the order in which the description has them.
var fields = []string{"name", "provider", "server", "repository", "secret", "branches", "tags", "paths", "team",
	"cancelPrevious", "source", "limits", "status", "fromFile", "pools", "job", "jobs"}

// CheckName reports whether a text can be a rule's name.
func CheckName(name string) error {
	if !namePattern.MatchString(name) {
		return fault.New(fault.Invalid, "name", "`name` is %q; write 1 to 40 characters of a-z 0-9 -, not - at either end",
			document.Clip(name))
	}
	return nil
}

// NoRule is the error for a name that no rule has.
func NoRule(name string) *fault.Error {
	return fault.New(fault.NotFound, "name", "there is no rule %q; `dsvm push list` shows the rules", document.Clip(name))
}

// ParseRules reads one rule, or an object with the list `rules`. Errors are
// *fault.Error with code Invalid.
func ParseRules(body []byte, contentType string) ([]Rule, error) {
	n, err := document.Parse(body, contentType)
	if err != nil {
		return nil, err
	}
	if len(n.Fields) == 0 || n.Fields[0].Name != "rules" {
		rule, err := parseRule(n)
		if err != nil {
			return nil, err
		}
		return []Rule{rule}, nil
	}
	r := document.Read(n, "rules")
	items := r.Objects("rules", "[{name: …, provider: …}]")
	switch {
	case r.Err() != nil:
		return nil, r.Err()
	case len(items) == 0 || len(items) > maxRules:
		return nil, fault.New(fault.Invalid, "rules", "line %d: `rules` has %d rules; write 1 to %d", n.Fields[0].Line, len(items),
			maxRules)
	}
	var rules []Rule
	lines := map[string]int{}
	for i, r := range items {
		item := r.Node()
		rule, err := parseRule(item)
		if err == nil && lines[rule.Name] > 0 {
			err = fault.New(fault.Invalid, "name", "line %d: there is a rule %q already, in line %d; give each its own name",
				item.Line, rule.Name, lines[rule.Name])
		}
		if err != nil {
			return nil, withFieldPath(fmt.Sprintf("rules[%d]", i), err)
		}
		lines[rule.Name] = item.Line
		rules = append(rules, rule)
	}
	return rules, nil
}

// ParseStoredRule reads a rule that was taken at some time. Earlier versions took fields
// that were null or empty for fields that were left out, so it does the same.
func ParseStoredRule(body []byte) (*Rule, error) {
	n, err := document.Parse(body, "application/json")
	if err != nil {
		return nil, err
	}
	dropBlanks(n)
	rule, err := parseRule(n)
	if err != nil {
		return nil, err
	}
	rule.document = body
	return &rule, nil
}

// dropBlanks removes the fields of an object, and of what is in it, that say nothing. In an
// object with names of the user's own an empty text is a value.
func dropBlanks(n *document.Node) {
	fields := n.Fields[:0]
	for _, f := range n.Fields {
		if f.Value.Kind == document.Null || isEmptyText(f.Value) || f.Name == "sweep" && len(f.Value.Fields) == 0 {
			continue
		}
		if !slices.Contains(ownNames, f.Name) {
			dropBlanks(f.Value)
		}
		fields = append(fields, f)
	}
	n.Fields = fields
	for _, item := range n.Items {
		dropBlanks(item)
	}
}

// ownNames are the fields of a job that are objects with names of the user's own.
var ownNames = []string{"env", "labels", "secrets", "grid", "list"}

// withFieldPath puts a path in front of the field of an error.
func withFieldPath(path string, err error) error {
	var f *fault.Error
	if !errors.As(err, &f) {
		return err
	}
	inner := *f
	if inner.Field = path; f.Field != "" {
		inner.Field += "." + f.Field
	}
	return &inner
}

func parseRule(n *document.Node) (Rule, error) {
	r := document.Read(n, fields...)
	rule := Rule{Name: r.String("name", "train-main"), Provider: Provider(strings.ToLower(r.String("provider", "github"))),
		Server: strings.TrimRight(r.String("server", "https://github.com"), "/"),
		Repository: r.String("repository",
			"octo/model"), Secret: r.String("secret", "GITHUB_PUSH_SECRET"), Team: r.String("team", "vision"),
		Branches: r.Strings("branches",
			`["main", "release/*"]`), Tags: r.Strings("tags", `["v*"]`), Paths: r.Strings("paths", `["src/**"]`),
		CancelPrevious: r.Bool("cancelPrevious", false), Source: r.Bool("source", true),
		FromFile: r.Bool("fromFile", false), Pools: r.Strings("pools", `["cpu", "gpu"]`)}
	if sub := r.Sub("limits", `{"pushesPerHour": 20}`, "pushesPerHour"); sub != nil {
		rule.PerHour = sub.Int("pushesPerHour", 0, 1, maxPerHour)
	}
	if sub := r.Sub("status", `{"token": "GITHUB_PUSH_TOKEN"}`, "token", "context", "api"); sub != nil {
		rule.Status = Status{
			Token:   sub.String("token", "GITHUB_PUSH_TOKEN"),
			Context: sub.String("context", "dsvm"),
			API:     strings.TrimRight(sub.String("api", "https://api.github.com"), "/"),
		}
	}
	if rule.Status.Context == "" {
		rule.Status.Context = plain.Clip("dsvm/"+rule.Name, maxContext)
	}
	if rule.Server == "" {
		rule.Server = servers[rule.Provider]
	}
	rule.check(r)
	rule.checkFile(r)
	switch {
	case r.Err() != nil:
	case rule.FromFile:
		rule.readFileJob(r)
	default:
		rule.readJobs(r)
	}
	if err := r.Err(); err != nil {
		return Rule{}, err
	}
	if _, err := rule.makeCheckedJobs(n, rule.sample(), jobID(rule.Name, RefKey(strings.Repeat("0", keyDigits), ""))); err != nil {
		return Rule{}, err
	}
	var err error
	rule.document, err = n.MarshalJSON()
	return rule, err
}

// check refuses what cannot work, field by field.
func (rule *Rule) check(r *document.Reader) {
	if err := CheckName(rule.Name); err != nil {
		r.Fail("name", "%v", err)
	}
	if !rule.Provider.Known() {
		r.Fail("provider", "`provider` is %q; write github, azuredevops, gitlab, gitea (for Forgejo too) or bitbucket",
			document.Clip(string(rule.Provider)))
	}
	switch {
	case rule.Server == "":
		r.Fail("server", "`server` is missing; %s has no address of its own, so write that of yours: https://git.example.com",
			rule.Provider)
	case len(rule.Server) > maxServer || !serverPattern.MatchString(rule.Server):
		r.Fail("server", "`server` is %q; write the address of the Git host, such as https://git.example.com", document.Clip(rule.Server))
	case rule.Provider == Bitbucket && rule.Server != bitbucketServer:
		r.Fail("server", "`server` is %q; of Bitbucket only the cloud's, %s, is known: leave it out", document.Clip(rule.Server),
			bitbucketServer)
	}
	if err := checkPattern(rule.Repository); err != nil || strings.HasPrefix(rule.Repository, "!") {
		r.Fail("repository",
			"`repository` is %q; write the full name, such as octo/model (of Azure DevOps "+
				"organization/project/repository), or a pattern such as octo/*",
			document.Clip(rule.Repository))
	}
	checkSetting(r, "secret", rule.Secret, secretPattern, "GITHUB_PUSH_SECRET", "PUSH_SECRET")
	if r.Has("status") {
		checkSetting(r, "status", rule.Status.Token, tokenPattern, "GITHUB_PUSH_TOKEN", "PUSH_TOKEN")
		if len(rule.Status.Context) > maxContext || squeeze(rule.Status.Context, maxContext) != rule.Status.Context {
			r.Fail("status", "`status.context` is %q; write at most %d bytes in one line", document.Clip(rule.Status.Context), maxContext)
		}
		if api := rule.Status.API; api != "" && (len(api) > maxServer || !serverPattern.MatchString(api)) {
			r.Fail("status", "`status.api` is %q; write the address of the host's API, or leave it out", document.Clip(api))
		}
	}
	for _, list := range []struct {
		field    string
		patterns []string
	}{{"branches", rule.Branches}, {"tags", rule.Tags}, {"paths", rule.Paths}} {
		if len(list.patterns) > maxPatterns {
			r.Fail(list.field, "`%s` has %d patterns; write at most %d", list.field, len(list.patterns), maxPatterns)
		}
		for i, p := range list.patterns {
			if err := checkPattern(p); err != nil {
				r.Fail(list.field, "`%s[%d]` is %q: %v", list.field, i, document.Clip(p), err)
			}
		}
	}
}

func checkSetting(r *document.Reader, field, name string, form *regexp.Regexp, example, part string) {
	switch {
	case strings.HasPrefix(name, "keyvault:"):
		r.Fail(field,
			"a Key Vault secret is not supported yet in `%s`; make an app setting that refers to the secret, and name the setting",
			field)
	case name == "":
		r.Fail(field, "`%s` names no setting; write the name of the app setting that holds it, such as %s", field, example)
	case len(name) > 100 || !form.MatchString(name):
		r.Fail(field, "`%s` names the setting %q; its name has capital letters and holds %s, such as %s", field,
			document.Clip(name), part, example)
	}
}

// readJobs reads `job` or `jobs`.
func (rule *Rule) readJobs(r *document.Reader) {
	one, several := r.Any("job", "{pool: cpu, …}").Node(), r.Objects("jobs", "[{pool: cpu, …}]")
	switch {
	case one != nil && len(several) > 0:
		r.Fail("jobs", "`job` and `jobs` are both there; keep one of them")
	case one != nil:
		rule.Jobs = []Template{{node: one, path: "job"}}
	case len(several) == 0:
		r.Fail("job", "`job` is missing; write the job that a push starts, or several under `jobs`")
	case len(several) > maxJobs:
		r.Fail("jobs", "`jobs` has %d jobs; write at most %d", len(several), maxJobs)
	}
	for i, sub := range several {
		rule.Jobs = append(rule.Jobs, Template{node: sub.Node(), path: fmt.Sprintf("jobs[%d]", i)})
	}
}

// Document is the rule as it was written, as JSON: ParseRules reads it again.
func (rule *Rule) Document() []byte { return rule.document }
