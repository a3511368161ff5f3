package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

// A rule with `fromFile` leaves the jobs to a file of the repository. A first job,
// the file job, runs on a node and reads the file at the pushed commit. Everybody who
// may push can change that file, so the rule alone sets the pools, the team and the
// credential.

// maxPools bounds `pools` of a rule.
const maxPools = 20

// fileJobFields are what a rule says of its file job, and fileJobSource what of its
// source; the rest follows from the push.
var (
	fileJobFields = []string{"pool", "resources", "timeout", "source"}
	fileJobSource = []string{"credential", "path"}
)

// fileJobRetry has the source fetched again, since Git hosts have bad moments too. A
// file that is missing or wrong ends the attempt in another way.
var fileJobRetry = &document.Node{Kind: document.Object, Fields: []document.Field{
	{Name: "max", Value: &document.Node{Kind: document.Number, Text: "2"}},
	{Name: "on", Value: &document.Node{Kind: document.List, Items: []*document.Node{text("startFailed")}}},
}}

// reservedFields are the fields that a job of a file cannot have.
var reservedFields = []string{"secrets", "source.credential"}

// checkFile refuses what contradicts `fromFile`.
func (rule *Rule) checkFile(r *document.Reader) {
	switch {
	case !rule.FromFile && r.Has("pools"):
		r.Fail("pools", "`pools` goes with `fromFile: true`, and says which pools the jobs of the file may name; leave it out")
	case !rule.FromFile:
	case !rule.Source:
		r.Fail("source", "`source: false` and `fromFile` are both there; the file is read from the source, so leave out one of them")
	case r.Has("jobs"):
		r.Fail("jobs", "`jobs` and `fromFile` are both there; the jobs stand in the file %s, and `job` says where that is read",
			job.SourceFile)
	case !r.Has("job"):
		r.Fail("job", "`job` is missing; with `fromFile` it says where the file %s is read, such as job: {pool: cpu}", job.SourceFile)
	case len(rule.Pools) > maxPools:
		r.Fail("pools", "`pools` names %d pools; name at most %d", len(rule.Pools), maxPools)
	}
	for i, name := range rule.Pools {
		if err := job.CheckPool(fmt.Sprintf("pools[%d]", i), name); err != nil {
			r.Fail("pools", "%v", err)
		}
	}
}

// readFileJob reads `job` of a rule whose jobs stand in a file.
func (rule *Rule) readFileJob(r *document.Reader) {
	sub := r.Any("job", "{pool: cpu}")
	if sub == nil {
		return
	}
	for _, name := range sub.Names() {
		if !slices.Contains(fileJobFields, name) {
			sub.Fail(name,
				"`job.%s` does not go with `fromFile`: the jobs stand in the file %s, and `job` says where that is read, by %s",
				document.Clip(name), job.SourceFile, strings.Join(fileJobFields, ", "))
		}
	}
	if source := sub.Any("source", `{"credential": "github"}`); source != nil {
		for _, name := range source.Names() {
			if !slices.Contains(fileJobSource, name) {
				source.Fail(name,
					"`job.source.%s` does not go with `fromFile`: the file is read at the pushed commit, by "+
						"%s; what else a job needs of its source stands in the file",
					document.Clip(name), strings.Join(fileJobSource, ", "))
			}
		}
	}
	rule.Jobs = []Template{{node: sub.Node(), path: "job"}}
}

// FileName is the file that holds the jobs, as it is called in the repository.
func (rule *Rule) FileName() string {
	if source := find(rule.Jobs[0].node, "source"); source != nil {
		return path.Join(textOf(source, "path"), job.SourceFile)
	}
	return job.SourceFile
}

// MakeFileJobs makes the jobs of a push out of the text of the rule's file. reader is the
// id of the file job: the same file always makes the same jobs. Errors
// with code Invalid are about the file.
func (rule *Rule) MakeFileJobs(text string, p *Push, reader string) ([]Job, error) {
	starts, err := rule.makeFileJobs(text, p, reader)
	var f *fault.Error
	if !errors.As(err, &f) {
		return starts, err
	}
	at, mark := *f, ": "
	if strings.HasPrefix(f.Message, "line ") {
		mark = ", "
	}
	at.Message = rule.FileName() + mark + f.Message
	return nil, &at
}

func (rule *Rule) makeFileJobs(text string, p *Push, reader string) ([]Job, error) {
	n, err := document.Parse([]byte(text), "")
	if err != nil {
		return nil, err
	}
	file := *rule
	file.FromFile, file.fileJob, file.Jobs = false, expand(rule.Jobs[0].node, p, rule, false), nil
	r := document.Read(n, "job", "jobs")
	file.readJobs(r)
	if err := r.Err(); err != nil {
		return nil, err
	}
	for _, t := range file.Jobs {
		if err := file.takeFromRule(t); err != nil {
			return nil, n.Locate(err)
		}
	}
	starts, err := file.makeCheckedJobs(n, p, reader)
	if err != nil {
		return nil, err
	}
	allowed := append([]string{textOf(file.fileJob, "pool")}, rule.Pools...)
	for i, s := range starts {
		if !slices.Contains(allowed, s.Pool) {
			return nil, n.Locate(
				fault.New(fault.Invalid, file.Jobs[i].path+".pool",
					"`pool` is %q, and the rule %s lets this file use %s; name one of these, or have the rule's `pools` changed",
					document.Clip(s.Pool), rule.Name, strings.Join(allowed, ", ")),
			)
		}
	}
	return starts, nil
}

// takeFromRule refuses what the rule keeps to itself, and fills in its pool.
func (rule *Rule) takeFromRule(t Template) error {
	if team := find(t.node, "team"); team != nil && team.Kind == document.String && team.Text != rule.Team {
		return fault.New(fault.Invalid, t.path+".team", "`team` is %q, and the team of these jobs is the rule's; leave it out",
			document.Clip(team.Text))
	}
	for _, field := range reservedFields {
		n := t.node
		for name := range strings.SplitSeq(field, ".") {
			if n != nil {
				n = find(n, name)
			}
		}
		if n != nil {
			return fault.New(fault.Invalid, t.path+"."+field,
				"`%s` cannot stand in the file, which everybody who may push can change; leave it out, and have it written into the rule",
				field)
		}
	}
	if find(t.node, "pool") == nil {
		set(t.node, "pool", text(textOf(rule.fileJob, "pool")))
	}
	return nil
}

var fileJobPattern = regexp.MustCompile(`^push-([a-z0-9-]+)-([0-9a-f]{20}-[0-9a-f]{8})$`)

// ParseFileJobID splits the id of a file job into the rule's name and the RefKey of the
// push. It reports false for any other id.
func ParseFileJobID(id string) (rule, refKey string, ok bool) {
	m := fileJobPattern.FindStringSubmatch(id)
	if m == nil || CheckName(m[1]) != nil {
		return "", "", false
	}
	return m[1], m[2], true
}

// facts is what has to outlast the time until the file is read.
type facts struct {
	Push Push            `json:"push"`
	Rule json.RawMessage `json:"rule"`
}

// Facts is the rule as it is and what it needs of a push, for ReadFacts.
func (rule *Rule) Facts(p *Push) (string, error) {
	f := facts{*p, rule.document}
	f.Push.Files, f.Push.FilesKnown = nil, false // long, and no job has them
	body, err := json.Marshal(f)
	return string(body), err
}

// ReadFacts reads what Facts has written.
func ReadFacts(text string) (*Rule, *Push, error) {
	var f facts
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return nil, nil, fmt.Errorf("the facts of a push cannot be read: %w", err)
	}
	rule, err := ParseStoredRule(f.Rule)
	return rule, &f.Push, err
}
