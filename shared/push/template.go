package push

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
)

// placeholder is what a template may hold. Other braces are left alone: they
// belong to what the job runs.
var placeholder = regexp.MustCompile(`\{\{ *\.([A-Za-z]+) *\}\}`)

// kind says who chooses a value, and so where it may stand.
type kind int

const (
	// fixed values are commit ids and what the rule itself says: they may stand anywhere.
	fixed kind = iota
	// ref values are names of branches and tags. The author of a push chooses them, so they
	// go into arguments only when isPlainRef holds.
	ref
	// words are any text that people write. They reach a job through its environment
	// alone: whatever runs it, no shell and no option parser reads a variable by itself.
	words
)

// value is what a placeholder stands for.
type value struct {
	of   func(p *Push, rule *Rule) string
	kind kind
	env  string // the variable that every job of a push has it in
}

var values = map[string]value{
	"Commit":      {func(p *Push, _ *Rule) string { return p.Commit }, fixed, "PUSH_COMMIT"},
	"ShortCommit": {func(p *Push, _ *Rule) string { return p.Commit[:min(len(p.Commit), 8)] }, fixed, ""},
	"Before":      {func(p *Push, _ *Rule) string { return p.Before }, fixed, "PUSH_BEFORE"},
	"Provider":    {func(p *Push, _ *Rule) string { return string(p.Provider) }, fixed, "PUSH_PROVIDER"},
	"Rule":        {func(_ *Push, rule *Rule) string { return rule.Name }, fixed, "PUSH_RULE"},
	"Branch":      {func(p *Push, _ *Rule) string { return p.Branch }, ref, "PUSH_BRANCH"},
	"Tag":         {func(p *Push, _ *Rule) string { return p.Tag }, ref, "PUSH_TAG"},
	"Ref":         {func(p *Push, _ *Rule) string { return p.Ref }, ref, "PUSH_REF"},
	"Repository":  {func(p *Push, _ *Rule) string { return p.Repository }, words, "PUSH_REPOSITORY"},
	"CloneURL":    {func(p *Push, _ *Rule) string { return p.CloneURL }, words, "PUSH_CLONE_URL"},
	"Author":      {func(p *Push, _ *Rule) string { return p.Author }, words, "PUSH_AUTHOR"},
	"Pusher":      {func(p *Push, _ *Rule) string { return p.Pusher }, words, "PUSH_PUSHER"},
	"Message":     {func(p *Push, _ *Rule) string { return p.Message }, words, "PUSH_MESSAGE"},
	"Title":       {func(p *Push, _ *Rule) string { return p.Title() }, words, ""},
}

// valueNames are the placeholders, in the order of the description.
const valueNames = "Commit, ShortCommit, Before, Branch, Tag, Ref, Repository, CloneURL, Author, Pusher, Message, Title, Provider, Rule"

// forRefs are the top fields in which names of branches and tags may stand. Anywhere
// else a pusher could choose the pool, the secret or the image.
var forRefs = []string{"name", "user", "labels", "env", "sweep", "command", "script", "workdir"}

// variables are the top fields whose texts reach the job as variables.
var variables = []string{"env", "sweep"}

// forPeople may hold who wrote the commit or pushed it. It stands in lists and in the
// ledger, and the job does not get it.
const forPeople = "user"

// listedFields are the fields that stand in lists and reports, in one line.
var listedFields = []string{"name", "user", "labels"}

// Template is one job of a rule.
type Template struct {
	node *document.Node
	path string // within the rule
}

// checkValues refuses placeholders that are unknown, or stand where a stranger could
// do harm with them. Where that is does not depend on what the job runs: any program
// may read an argument as a program, an option or a path.
func (t *Template) checkValues() error {
	for _, f := range t.node.Fields {
		if err := t.checkField(f.Name, f.Name, f.Value); err != nil {
			return err
		}
	}
	return nil
}

func (t *Template) checkField(top, path string, n *document.Node) error {
	for i, item := range n.Items {
		if err := t.checkField(top, fmt.Sprintf("%s[%d]", path, i), item); err != nil {
			return err
		}
	}
	for _, f := range n.Fields {
		if placeholder.MatchString(f.Name) {
			return errAtLine(f.Line, path, "a field's name cannot hold {{…}}; only values can")
		}
		if err := t.checkField(top, path+"."+f.Name, f.Value); err != nil {
			return err
		}
	}
	if n.Kind != document.String {
		return nil
	}
	for _, m := range placeholder.FindAllStringSubmatch(n.Text, -1) {
		v, known := values[m[1]]
		if !known {
			return errAtLine(n.Line, path, "there is no value %s; the known ones are %s", document.Clip(m[0]), valueNames)
		}
		if err := checkPlace(v, m, top, path, n.Line); err != nil {
			return err
		}
	}
	return nil
}

// checkPlace says why a value cannot stand where it does. m is the placeholder and its
// name.
func checkPlace(v value, m []string, top, path string, line int) error {
	asVariable := slices.Contains(variables, top)
	name := path[strings.LastIndexByte(path, '.')+1:]
	name, _, _ = strings.Cut(name, "[") // of a list of a sweep's grid
	switch {
	case v.kind == fixed:
		return nil
	case asVariable && Steers(name):
		return errAtLine(line, path,
			"%s is written by the author of a push, and the variable %s makes programs run something or look for "+
				"it; choose another name, such as PUSH_%s",
			document.Clip(m[0]), document.Clip(name), strings.ToUpper(m[1]))
	case asVariable, top == forPeople && (m[1] == "Author" || m[1] == "Pusher"):
		return nil
	case v.kind == words:
		return errAtLine(line, path,
			"%s is written by strangers and reaches a job through its environment alone; take it out of `%s` and use %s",
			document.Clip(m[0]), path, environment(v, m[1]))
	case path == "command[0]" || !slices.Contains(forRefs, top):
		return errAtLine(line, path,
			"%s is chosen by the author of a push and cannot stand in `%s`; it can in an argument of `command` and in %s", document.Clip(m[0]),
			path, strings.Join(slices.DeleteFunc(slices.Clone(forRefs), func(f string) bool { return f == "command" }), ", "))
	}
	return nil
}

func errAtLine(line int, field, format string, args ...any) error {
	return fault.New(fault.Invalid, field, "line %d: %s", line, fmt.Sprintf(format, args...))
}

func environment(v value, name string) string {
	if v.env == "" {
		return "a variable of `env` with {{." + name + "}} for its value"
	}
	return `"$` + v.env + `", which every job of a push has`
}

// plainPattern is the form that names of branches and tags need in an argument: they
// mean nothing to a shell, are no option, and no path from the root.
var plainPattern = regexp.MustCompile(`^[A-Za-z0-9._][A-Za-z0-9._/-]*$`)

// isPlainRef reports whether the name of a branch or tag may be an argument. "" may: a
// push of a tag has no branch. Git knows no name with "..", so one is a path.
func isPlainRef(s string) bool {
	return s == "" || plainPattern.MatchString(s) && !strings.Contains(s, "..")
}

// checkRefs refuses a push whose branch or tag has not the form that an argument needs,
// when the template would put it into one.
func (t *Template) checkRefs(p *Push, rule *Rule) error {
	for _, f := range t.node.Fields {
		if slices.Contains(variables, f.Name) {
			continue
		}
		if err := checkRef(f.Name, f.Value, p, rule); err != nil {
			return withFieldPath(t.path, err)
		}
	}
	return nil
}

func checkRef(path string, n *document.Node, p *Push, rule *Rule) error {
	for i, item := range n.Items {
		if err := checkRef(fmt.Sprintf("%s[%d]", path, i), item, p, rule); err != nil {
			return err
		}
	}
	for _, f := range n.Fields {
		if err := checkRef(path+"."+f.Name, f.Value, p, rule); err != nil {
			return err
		}
	}
	if n.Kind != document.String {
		return nil
	}
	for _, m := range placeholder.FindAllStringSubmatch(n.Text, -1) {
		if v := values[m[1]]; v.kind == ref && !isPlainRef(v.of(p, rule)) {
			return fault.New(fault.Invalid, path,
				"%s %s is not passed in `%s`, where only names of A-Z a-z 0-9 . _ / - are, without .. and not "+
					"beginning with - or /; rename it, or have the job read %s",
				p.kindOfRef(), document.Clip(v.of(p, rule)), path, environment(v, m[1]))
		}
	}
	return nil
}

// toPlain is a text as labels and names of jobs have it: everything but what may be in
// the name of a branch is a _.
func toPlain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && strings.IndexByte("._/-", byte(r)) < 0 && !isLetterOrDigit(byte(r)) || r >= utf8.RuneSelf {
			return '_'
		}
		return r
	}, s)
}

func isLetterOrDigit(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// expand copies a node with the placeholders in its texts replaced. A value
// stays what it is, a part of one text: it is never read as a document.
func expand(n *document.Node, p *Push, rule *Rule, shownText bool) *document.Node {
	out := *n
	out.Items, out.Fields = nil, nil
	for _, item := range n.Items {
		out.Items = append(out.Items, expand(item, p, rule, shownText))
	}
	for _, f := range n.Fields {
		out.Fields = append(out.Fields, document.Field{Name: f.Name, Line: f.Line, Value: expand(f.Value, p, rule, shownText)})
	}
	if n.Kind == document.String && strings.Contains(n.Text, "{{") {
		out.Text = placeholder.ReplaceAllStringFunc(n.Text, func(m string) string {
			return values[placeholder.FindStringSubmatch(m)[1]].of(p, rule)
		})
		if shownText {
			out.Text = squeeze(out.Text, maxPerson)
		}
	}
	return &out
}
