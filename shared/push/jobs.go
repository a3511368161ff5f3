package push

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/plain"
)

// maxJobs bounds what one push starts through one rule; more of the same are a
// sweep.
const maxJobs = 20

// Job is a job that a push starts.
type Job struct {
	ID        string `json:"id"`
	Pool      string `json:"pool"`
	Document  []byte `json:"-"` // JSON, for the queue `jobs`
	Context   string `json:"-"` // what its status on the commit is called
	ReadsFile bool   `json:"-"` // it reads the file that holds the jobs
}

var localPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,19}$`)

// jobID is what the ids of all jobs begin with that a push starts through a rule.
func jobID(rule, refKey string) string { return "push-" + rule + "-" + refKey }

// MakeJobs makes the jobs of a push. key is the delivery's Key: the same push
// through the same rule always makes the same ids.
func (rule *Rule) MakeJobs(p *Push, key string) ([]Job, error) {
	return rule.makeJobs(p, jobID(rule.Name, RefKey(key, p.Ref)))
}

func (rule *Rule) makeJobs(p *Push, base string) ([]Job, error) {
	locals := map[string]string{}
	for _, t := range rule.Jobs {
		if local := textOf(t.node, "id"); local != "" {
			locals[local] = base + "-" + local
		}
	}
	var starts []Job
	for i, t := range rule.Jobs {
		if err := t.checkRefs(p, rule); err != nil {
			return nil, err
		}
		n := &document.Node{Kind: document.Object, Line: t.node.Line}
		for _, f := range t.node.Fields {
			v := expand(f.Value, p, rule, slices.Contains(listedFields, f.Name))
			if isEmptyText(v) && !isEmptyText(f.Value) {
				continue // such as {{.Tag}} at the push of a branch
			}
			n.Fields = append(n.Fields, document.Field{Name: f.Name, Line: f.Line, Value: v})
		}
		suffix := rule.suffix(i)
		set(n, "id", text(base+suffix))
		rule.addPushFields(n, p, locals)
		body, err := n.MarshalJSON()
		if err == nil && len(body) > document.MaxBytes {
			err = fault.New(fault.Invalid, t.path,
				"with the values of this push the job has %d bytes, and at most %d are taken; shorten it", len(body),
				document.MaxBytes)
		}
		if err != nil {
			return nil, err
		}
		starts = append(starts,
			Job{ID: base + suffix, Pool: textOf(n, "pool"), Document: body, Context: rule.context(suffix), ReadsFile: rule.FromFile})
	}
	return starts, nil
}

// suffix distinguishes the jobs of one push. A rule's only job needs none; one of a
// file does, since the job that has read the file has none.
func (rule *Rule) suffix(i int) string {
	if local := textOf(rule.Jobs[i].node, "id"); local != "" {
		return "-" + local
	}
	if len(rule.Jobs) < 2 && rule.fileJob == nil {
		return ""
	}
	return fmt.Sprintf("-%d", i+1)
}

// context is what a job's status is called.
func (rule *Rule) context(suffix string) string {
	if len(rule.Jobs) < 2 && rule.fileJob == nil || suffix == "" {
		return rule.Status.Context
	}
	suffix = "/" + suffix[1:]
	return plain.Clip(rule.Status.Context, maxContext-len(suffix)) + suffix
}

// addPushFields adds what every job of a push has, where the template does not say
// otherwise.
func (rule *Rule) addPushFields(n *document.Node, p *Push, locals map[string]string) {
	if after := find(n, "after"); after != nil {
		for _, item := range after.Items {
			local, how, said := strings.Cut(item.Text, ":")
			if id := locals[local]; id != "" && item.Kind == document.String {
				if item.Text = id; said {
					item.Text += ":" + how
				}
			}
		}
	}
	name := rule.Name + " " + toPlain(p.Branch+p.Tag)
	if rule.FromFile {
		name = job.SourceFile + " of " + name
	}
	add(n, "name", text(squeeze(name, maxPerson)))
	add(n, "user", text(p.Author))
	if rule.Team != "" {
		add(n, "team", text(rule.Team))
	}
	env := map[string]string{}
	for _, v := range values {
		if v.env != "" {
			env[v.env] = strings.ReplaceAll(v.of(p, rule), "\x00", "")
		}
	}
	merge(n, "env", env)
	merge(
		n,
		"labels",
		map[string]string{"rule": rule.Name, "repository": plain.Clip(toPlain(p.Repository), maxPerson),
			"ref": plain.Clip(toPlain(p.Ref), maxPerson), "commit": p.Commit},
	)
	if source := rule.sourceOf(n, p); source != nil {
		merge(n, "source", source)
	}
	if rule.FromFile {
		set(n, "retry", fileJobRetry)
	}
}

// sourceOf is what a job's `source` has of the push.
func (rule *Rule) sourceOf(n *document.Node, p *Push) map[string]string {
	if !rule.Source {
		return nil
	}
	source := map[string]string{"repository": p.CloneURL, "commit": p.Commit}
	if rule.fileJob == nil {
		return source
	}
	own, given := find(n, "source"), find(rule.fileJob, "source")
	if own != nil && find(own, "repository") != nil {
		return nil // another repository, for which the rule's credential is not meant
	}
	if given == nil {
		return source
	}
	for _, name := range fileJobSource {
		if text := textOf(given, name); text != "" {
			source[name] = text
		}
	}
	return source
}

// merge adds texts to an object, which is made if it is not there. What is not
// an object stays as it is: the job's own check refuses it.
func merge(n *document.Node, name string, more map[string]string) {
	below := find(n, name)
	if below == nil {
		below = &document.Node{Kind: document.Object}
		set(n, name, below)
	}
	if below.Kind != document.Object {
		return
	}
	for _, k := range slices.Sorted(maps.Keys(more)) {
		if find(below, k) == nil {
			below.Fields = append(below.Fields, document.Field{Name: k, Value: text(more[k])})
		}
	}
}

func isEmptyText(n *document.Node) bool { return n.Kind == document.String && n.Text == "" }

func text(s string) *document.Node { return &document.Node{Kind: document.String, Text: s} }

func find(n *document.Node, name string) *document.Node {
	for _, f := range n.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return nil
}

func textOf(n *document.Node, name string) string {
	if v := find(n, name); v != nil && v.Kind == document.String {
		return v.Text
	}
	return ""
}

func set(n *document.Node, name string, v *document.Node) {
	for i := range n.Fields {
		if n.Fields[i].Name == name {
			n.Fields[i].Value = v
			return
		}
	}
	n.Fields = append(n.Fields, document.Field{Name: name, Value: v})
}

func add(n *document.Node, name string, v *document.Node) {
	if find(n, name) == nil && v.Text != "" {
		set(n, name, v)
	}
}

// sample stands for any push when a rule is tried out: what it makes has to be
// a job that is taken.
func (rule *Rule) sample() *Push {
	p := &Push{
		Provider:   rule.Provider,
		Repository: "owner/name",
		CloneURL:   rule.Server + "/owner/name.git",
		Ref:        "refs/heads/main",
		Branch:     "main",
		Before:     strings.Repeat("a", 40),
		Commit:     strings.Repeat("b", 40),
		Author:     "ann",
		Pusher:     "ann",
		Message:    "a commit",
	}
	if len(rule.Tags) > 0 && len(rule.Branches) == 0 {
		p.Ref, p.Branch, p.Tag = "refs/tags/v1", "", "v1"
	}
	return p
}

var sentLine = regexp.MustCompile(`^line [0-9]+: `)

// makeCheckedJobs makes the jobs of a push and has each checked as a job is. n is the
// document that they stand in. A rule is tried with a sample, so that one that
// could never start anything is refused when it is applied.
func (rule *Rule) makeCheckedJobs(n *document.Node, p *Push, base string) ([]Job, error) {
	seen := map[string]bool{}
	for i := range rule.Jobs {
		t := &rule.Jobs[i]
		if err := t.checkValues(); err != nil {
			return nil, withFieldPath(t.path, err)
		}
		if local := textOf(t.node, "id"); find(t.node, "id") != nil && !localPattern.MatchString(local) || seen[rule.suffix(i)] {
			return nil, n.Locate(
				fault.New(fault.Invalid, t.path+".id",
					"`id` is %q; among the jobs of a push it is a name of its own for `after`: 1 to 20 "+
						"characters of a-z 0-9 -, and not the number of another job",
					document.Clip(local)),
			)
		}
		seen[rule.suffix(i)] = true
		if team := textOf(t.node, "team"); team != "" && rule.Team != "" && team != rule.Team {
			return nil, n.Locate(
				fault.New(fault.Invalid, t.path+".team", "`team` is %q, and that of the rule %q; leave one of them out",
					document.Clip(team), document.Clip(rule.Team)),
			)
		}
	}
	starts, err := rule.makeJobs(p, base)
	if err != nil {
		return nil, n.Locate(err)
	}
	parse := job.Parse
	if rule.FromFile {
		parse = job.ParseFileJob
	}
	for i, s := range starts {
		var f *fault.Error
		if _, err := parse(s.Document, "application/json"); errors.As(err, &f) {
			at := *f
			at.Field, at.Message = rule.Jobs[i].path, sentLine.ReplaceAllString(f.Message, "")
			if f.Field != "" {
				at.Field += "." + f.Field
			}
			return nil, n.Locate(&at)
		}
	}
	return starts, nil
}
