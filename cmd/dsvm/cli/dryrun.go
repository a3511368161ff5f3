package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// dryRun shows documents as they would be sent, and what would become of them. Nothing is
// submitted. The error is that of the first document that would be refused.
func (p *Program) dryRun(ctx context.Context, all []*document) error {
	answers := []wire.DryRun{}
	var first error
	before := map[string]bool{} // ids of the documents so far, which a later one may come after
	for i, d := range all {
		answer, err := p.tryDocument(ctx, d, before)
		if id := d.text("id"); id != "" {
			before[id] = true
		}
		var f *fault.Error
		if err != nil && (!errors.As(err, &f) || f.Code == fault.Internal || f.Code == fault.Throttled) {
			return err
		}
		if p.output == outputJSON {
			if err == nil {
				answers = append(answers, answer)
			}
		} else if wrong := p.showDryRun(i, d, answer, err == nil); wrong != nil {
			return wrong
		}
		switch {
		case err != nil && first == nil:
			first = err
		case err != nil:
			p.report(nil, err)
		}
	}
	if p.output != outputJSON || first != nil && len(answers) == 0 {
		return first
	}
	var wrong error
	if len(all) == 1 {
		wrong = p.json(answers[0])
	} else {
		wrong = p.json(answers)
	}
	return errors.Join(wrong, first)
}

// tryDocument asks what would become of a document. Jobs of the same file that it comes
// after are not known to the instance yet, and are left out of the question.
func (p *Program) tryDocument(ctx context.Context, d *document, before map[string]bool) (wire.DryRun, error) {
	question := &document{name: d.name, node: d.node, line: d.line, fields: map[string]any{}}
	waits := ""
	for name, value := range d.fields {
		list, isList := value.([]any)
		if name == "after" && isList {
			value = slices.DeleteFunc(slices.Clone(list), func(item any) bool {
				text, _ := item.(string)
				on, ok := job.ParseDependency(text)
				if ok && before[on.ID] {
					waits = on.ID
				}
				return ok && before[on.ID]
			})
		}
		question.fields[name] = value
	}
	body, err := question.encode()
	if err != nil {
		return wire.DryRun{}, err
	}
	answer, err := ask(ctx, p, "asking what would become of the job", func(ctx context.Context, s *session) (wire.DryRun, error) {
		answer, err := s.DryRun(ctx, body)
		return answer, d.locate(err)
	})
	if err == nil && waits != "" && !answer.Exists {
		answer.State, answer.Node, answer.Place, answer.Waiting = job.Held, "", 0, 0
		answer.Reason, answer.Unblocks = fmt.Sprintf("it comes after job %s of the same file", waits), "the end of that job"
	}
	return answer, err
}

// showDryRun prints a document as YAML, with what would become of it in comments.
func (p *Program) showDryRun(i int, d *document, answer wire.DryRun, taken bool) error {
	text, err := d.yaml()
	if err != nil {
		return err
	}
	var out strings.Builder
	if i > 0 {
		out.WriteString("---\n")
	}
	if taken {
		for _, line := range dryRunLines(answer) {
			fmt.Fprintf(&out, "# %s\n", plain(line))
		}
	} else {
		out.WriteString("# it would be refused\n")
	}
	out.WriteString(text)
	_, err = fmt.Fprint(p.Out, out.String())
	return err
}

// dryRunLines are the sentences about a dry run.
func dryRunLines(r wire.DryRun) []string {
	lines := []string{fmt.Sprintf("%s: %s", r.State, r.Reason)}
	if r.Unblocks != "" {
		lines = append(lines, "waits for: "+r.Unblocks)
	}
	if r.Place > 0 {
		lines = append(lines, fmt.Sprintf("place in line: %d of %d", r.Place, r.Waiting))
	}
	if r.Size == "" {
		return lines
	}
	size, each := r.Size, "an attempt"
	if r.Spot {
		size += " (Spot)"
	}
	if r.Spec.Sweep != nil {
		each = "an attempt of each member"
	}
	if r.PricePerHour == "" {
		return append(lines, fmt.Sprintf("runs on %s; what that costs per hour is not known before", size))
	}
	return append(lines, fmt.Sprintf("runs on %s; %s costs %s %s per hour", size, each, r.PricePerHour, r.Currency))
}

// yaml is the document as it would be sent, with its fields in the order of the
// documentation.
func (d *document) yaml() (string, error) {
	var order []string
	of := reflect.TypeFor[job.Spec]()
	for i := range of.NumField() {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		order = append(order, name)
	}
	rank := func(name string) int {
		if i := slices.Index(order, name); i >= 0 {
			return i
		}
		return len(order)
	}
	names := make([]string, 0, len(d.fields))
	for name := range d.fields {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if rank(a) != rank(b) {
			return rank(a) - rank(b)
		}
		return strings.Compare(a, b)
	})
	var body bytes.Buffer
	body.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			body.WriteByte(',')
		}
		value, err := json.Marshal(map[string]any{name: d.fields[name]})
		if err != nil {
			return "", err
		}
		body.Write(value[1 : len(value)-1])
	}
	body.WriteByte('}')
	return yamlOf(json.RawMessage(body.Bytes()))
}
