package push

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
)

// placeholder is what a template may hold. Other braces are left alone: they
// belong to what the job runs.
var placeholder = regexp.MustCompile(`\{\{ *\.([A-Za-z]+) *\}\}`)

// value is what a placeholder stands for.
type value struct {
	of func(p *Push, rule *Rule) string
	// safe values have letters, digits and - alone, so that they mean nothing to
	// a shell and choose nothing.
	safe bool
	env  string // the variable that every job of a push has it in
}

var values = map[string]value{
	"Commit":      {func(p *Push, _ *Rule) string { return p.Commit }, true, "PUSH_COMMIT"},
	"ShortCommit": {func(p *Push, _ *Rule) string { return p.Commit[:min(len(p.Commit), 8)] }, true, ""},
	"Before":      {func(p *Push, _ *Rule) string { return p.Before }, true, "PUSH_BEFORE"},
	"Provider":    {func(p *Push, _ *Rule) string { return string(p.Provider) }, true, "PUSH_PROVIDER"},
	"Rule":        {func(_ *Push, rule *Rule) string { return rule.Name }, true, "PUSH_RULE"},
	"Branch":      {func(p *Push, _ *Rule) string { return p.Branch }, false, "PUSH_BRANCH"},
	"Tag":         {func(p *Push, _ *Rule) string { return p.Tag }, false, "PUSH_TAG"},
	"Ref":         {func(p *Push, _ *Rule) string { return p.Ref }, false, "PUSH_REF"},
	"Repository":  {func(p *Push, _ *Rule) string { return p.Repository }, false, "PUSH_REPOSITORY"},
	"CloneURL":    {func(p *Push, _ *Rule) string { return p.CloneURL }, false, "PUSH_CLONE_URL"},
	"Author":      {func(p *Push, _ *Rule) string { return p.Author }, false, "PUSH_AUTHOR"},
	"Pusher":      {func(p *Push, _ *Rule) string { return p.Pusher }, false, "PUSH_PUSHER"},
	"Message":     {func(p *Push, _ *Rule) string { return p.Message }, false, "PUSH_MESSAGE"},
	"Title":       {func(p *Push, _ *Rule) string { return p.Title() }, false, ""},
}

// valueNames are the placeholders, in the order of the description.
const valueNames = "Commit, ShortCommit, Before, Branch, Tag, Ref, Repository, CloneURL, Author, Pusher, Message, Title, Provider, Rule"

// open are the top fields in which other people's words may stand: what is
// there is never run and chooses nothing. Everywhere else a pusher could choose
// the pool, the secret or the program.
var open = []string{"name", "user", "labels", "env", "command", "sweep"}

// shown fields stand in lists and reports, in one line.
var oneLine = []string{"name", "user", "labels"}

// shells take a program from their arguments.
var shells = []string{"sh", "bash", "dash", "zsh", "ksh", "fish", "pwsh", "powershell", "cmd", "eval", "env", "xargs", "ssh"}

// programs are the options behind which other commands take a program.
var programs = []string{"-c", "-lc", "-ic", "-e", "--eval", "--exec", "-Command", "-EncodedCommand", "/c", "/C"}

// Template is one job of a rule.
type Template struct {
	node *document.Node
	path string // within the rule
}

// checkValues refuses placeholders that are unknown, or stand where a pusher
// could do harm with them.
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
			return refuse(f.Line, path, "a field's name cannot hold {{…}}; only values can")
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
		switch {
		case !known:
			return refuse(n.Line, path, "there is no value %s; the known ones are %s", shown(m[0]), valueNames)
		case v.safe:
		case top == "script", top == "command" && t.shell():
			return refuse(n.Line, path, "%s is written by whoever pushes, and a shell or interpreter would run what is in it; use %s, which every job of a push has in its environment", shown(m[0]), environment(v, m[1]))
		case top == "command" && path == "command[0]", !slices.Contains(open, top):
			return refuse(n.Line, path, "%s is written by whoever pushes and cannot stand in `%s`; it can in %s", shown(m[0]), path, strings.Join(open, ", "))
		}
	}
	return nil
}

func refuse(line int, field, format string, args ...any) error {
	return fault.New(fault.Invalid, field, "line %d: %s", line, fmt.Sprintf(format, args...))
}

func environment(v value, name string) string {
	if v.env == "" {
		return "a variable of `env` with {{." + name + "}} for its value"
	}
	return `"$` + v.env + `"`
}

// shell reports whether the command runs its arguments as a program.
func (t *Template) shell() bool {
	command := find(t.node, "command")
	if command == nil || len(command.Items) == 0 {
		return false
	}
	name := command.Items[0].Text
	name = strings.ToLower(name[strings.LastIndexAny(name, `/\`)+1:])
	return slices.Contains(shells, strings.TrimSuffix(name, ".exe")) ||
		slices.ContainsFunc(command.Items, func(n *document.Node) bool { return slices.Contains(programs, n.Text) })
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
			out.Text = line(out.Text, maxPerson)
		}
	}
	return &out
}
