package document

import (
	"encoding"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"dsvmpools/shared/fault"
)

// The years a time may lie in, in UTC: outside of them it cannot be stored, or
// is a slip of the pen.
const (
	firstYear = 1970
	lastYear  = 9999
)

// Reader reads the fields of one object. Its first error stays; what is read
// after it is zero. Sub-objects share it.
type Reader struct {
	node  *Node
	path  string
	err   *error
	hints Hints
}

// Hints say what to write for names that people write and that are no fields, by the path of
// such a name in small letters. They go before the nearest known name.
type Hints map[string]string

// Read begins with the top object. known are the names of all its fields.
func Read(n *Node, known ...string) *Reader { return ReadWithHints(n, nil, known...) }

// ReadWithHints begins with the top object, as Read does.
func ReadWithHints(n *Node, hints Hints, known ...string) *Reader {
	r := &Reader{node: n, err: new(error), hints: hints}
	r.check(known)
	return r
}

// Err is the first error.
func (r *Reader) Err() error { return *r.err }

// check refuses fields that are not known and names the nearest one that is.
func (r *Reader) check(known []string) {
	for _, f := range r.node.Fields {
		if slices.Contains(known, f.Name) {
			continue
		}
		hint := "the known ones are " + strings.Join(known, ", ")
		if best := Nearest(f.Name, known); best != "" {
			hint = fmt.Sprintf("did you mean `%s`?", best)
		}
		if written := r.hints[strings.ToLower(r.path+f.Name)]; written != "" {
			hint = written
		}
		name := Clip(f.Name)
		r.fail(name, f.Line, "there is no field `%s`; %s", r.path+name, hint)
	}
}

// fail keeps the first error, with the line in front.
func (r *Reader) fail(field string, line int, format string, args ...any) {
	if *r.err == nil {
		*r.err = fault.New(fault.Invalid, r.path+field, "line %d: %s", line, fmt.Sprintf(format, args...))
	}
}

// Fail reports that the value of a field is not acceptable.
func (r *Reader) Fail(field, format string, args ...any) {
	line := r.node.Line
	if f := r.find(field); f != nil {
		line = f.Line
	}
	r.fail(field, line, format, args...)
}

func (r *Reader) find(name string) *Field {
	for i := range r.node.Fields {
		if r.node.Fields[i].Name == name {
			return &r.node.Fields[i]
		}
	}
	return nil
}

// Has reports whether a field is there.
func (r *Reader) Has(name string) bool { return r.find(name) != nil }

// IsText reports whether a field is there and holds a text.
func (r *Reader) IsText(name string) bool {
	f := r.find(name)
	return f != nil && f.Value.Kind == String
}

// value is a field's node if it is there, of the kind, and nothing has failed. A field that
// is null is refused: some programs write null for a value that they have lost.
func (r *Reader) value(name string, kind Kind, example string) *Node {
	f := r.find(name)
	if f == nil || *r.err != nil {
		return nil
	}
	switch f.Value.Kind {
	case kind:
		return f.Value
	case Null:
		r.fail(name, f.Value.Line, "`%s` is null; write %s, for example %s, or leave it out", r.path+name, kindNames[kind], example)
	default:
		r.fail(name, f.Value.Line, "`%s` is %s; write %s, for example %s", r.path+name, kindNames[f.Value.Kind], kindNames[kind], example)
	}
	return nil
}

// String reads a text, which must not be empty.
func (r *Reader) String(name, example string) string {
	n := r.value(name, String, strconv.Quote(example))
	switch {
	case n == nil:
		return ""
	case n.Text == "":
		r.Fail(name, "`%s` is empty; write a text, for example %q, or leave it out", r.path+name, example)
	}
	return n.Text
}

// Bool reads a boolean, or the default.
func (r *Reader) Bool(name string, or bool) bool {
	if n := r.value(name, Bool, "true"); n != nil {
		return n.Text == "true"
	}
	return or
}

// Int reads a whole number within bounds, or the default.
func (r *Reader) Int(name string, or, least, most int) int {
	if f := r.find(name); f != nil && f.Value.Kind == String {
		if _, err := strconv.Atoi(f.Value.Text); err == nil {
			r.Fail(name, "`%s` is the text %q; write the number without quotes", r.path+name, Clip(f.Value.Text))
			return or
		}
	}
	n := r.value(name, Number, strconv.Itoa(max(least, 1)))
	if n == nil {
		return or
	}
	v, err := strconv.Atoi(n.Text)
	// 010 is eight to some and ten to others, so only the plain form is read.
	if err != nil || strconv.Itoa(v) != n.Text || v < least || v > most {
		r.Fail(name, "`%s` is %s; write a whole number from %d to %d", r.path+name, Clip(n.Text), least, most)
		return or
	}
	return v
}

// Strings reads a list of texts.
func (r *Reader) Strings(name, example string) []string {
	n := r.value(name, List, example)
	if n == nil {
		return nil
	}
	out := make([]string, len(n.Items))
	for i, item := range n.Items {
		if item.Kind != String {
			r.fail(fmt.Sprintf("%s[%d]", name, i), item.Line, "`%s%s[%d]` is %s; %s", r.path, name, i, kindNames[item.Kind], item.quoted())
			return nil
		}
		out[i] = item.Text
	}
	return out
}

// quoted says how to write a value as a text.
func (n *Node) quoted() string {
	switch n.Kind {
	case Number, Bool:
		return fmt.Sprintf("write it as a text, in quotes: %q", Clip(n.Text))
	case Null:
		return `write a text, in quotes; "" is an empty one`
	case String, List, Object:
	}
	return "write a text, in quotes"
}

// Scalar reads a text, which may be empty, or a number, as it was written.
func (r *Reader) Scalar(name, example string) string {
	if f := r.find(name); f != nil && f.Value.Kind == Number {
		return f.Value.Text
	}
	if n := r.value(name, String, strconv.Quote(example)); n != nil {
		return n.Text
	}
	return ""
}

// Scalars reads a list of texts and numbers, as they were written.
func (r *Reader) Scalars(name, example string) []string {
	n := r.value(name, List, example)
	if n == nil {
		return nil
	}
	out := make([]string, len(n.Items))
	for i, item := range n.Items {
		if item.Kind != String && item.Kind != Number {
			r.fail(fmt.Sprintf("%s[%d]", name, i), item.Line, "`%s%s[%d]` is %s; write a text, in quotes, or a number", r.path,
				name, i, kindNames[item.Kind])
			return nil
		}
		out[i] = item.Text
	}
	return out
}

// Objects reads a list of objects whose fields have names of the user's own.
func (r *Reader) Objects(name, example string) []*Reader {
	n := r.value(name, List, example)
	if n == nil {
		return nil
	}
	out := make([]*Reader, len(n.Items))
	for i, item := range n.Items {
		at := fmt.Sprintf("%s[%d]", name, i)
		if item.Kind != Object {
			r.fail(at, item.Line, "`%s%s` is %s; write an object, for example %s", r.path, at, kindNames[item.Kind], example)
			return nil
		}
		out[i] = &Reader{node: item, path: r.path + at + ".", err: r.err, hints: r.hints}
	}
	return out
}

// Map reads an object whose values are texts.
func (r *Reader) Map(name, example string) map[string]string {
	return r.readMap(name, example, (*Node).quoted)
}

// MapOfSecrets reads an object whose values are texts. Its errors never quote a value.
func (r *Reader) MapOfSecrets(name, example string) map[string]string {
	return r.readMap(name, example, func(*Node) string { return "write a text, in quotes" })
}

func (r *Reader) readMap(name, example string, remedy func(*Node) string) map[string]string {
	n := r.value(name, Object, example)
	if n == nil || len(n.Fields) == 0 {
		return nil
	}
	out := make(map[string]string, len(n.Fields))
	for _, f := range n.Fields {
		if f.Value.Kind != String {
			key := Clip(f.Name)
			r.fail(name+"."+key, f.Line, "`%s%s.%s` is %s; %s", r.path, name, key, kindNames[f.Value.Kind], remedy(f.Value))
			return nil
		}
		out[f.Name] = f.Value.Text
	}
	return out
}

// Sub reads a nested object; nil when it is not there.
func (r *Reader) Sub(name, example string, known ...string) *Reader {
	n := r.value(name, Object, example)
	if n == nil {
		return nil
	}
	sub := &Reader{node: n, path: r.path + name + ".", err: r.err, hints: r.hints}
	sub.check(known)
	return sub
}

// OneOrMore reads a field that holds an object or a list of objects, all with the same
// fields.
func (r *Reader) OneOrMore(name, example string, known ...string) []*Reader {
	f := r.find(name)
	if f == nil || f.Value.Kind != List {
		if sub := r.Sub(name, example, known...); sub != nil {
			return []*Reader{sub}
		}
		return nil
	}
	list := r.Objects(name, "["+example+"]")
	for _, sub := range list {
		sub.check(known)
	}
	return list
}

// Any reads a nested object whose fields have names of the user's own; nil when
// it is not there.
func (r *Reader) Any(name, example string) *Reader {
	n := r.value(name, Object, example)
	if n == nil {
		return nil
	}
	return &Reader{node: n, path: r.path + name + ".", err: r.err, hints: r.hints}
}

// Names are the names of an object's fields, in its order.
func (r *Reader) Names() []string {
	names := make([]string, len(r.node.Fields))
	for i, f := range r.node.Fields {
		names[i] = f.Name
	}
	return names
}

// Time reads an RFC 3339 time, in UTC.
func (r *Reader) Time(name string) time.Time {
	const example = "2026-01-31T20:00:00Z"
	s := r.String(name, example)
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if t = t.UTC(); err != nil || t.Year() < firstYear || t.Year() > lastYear {
		r.Fail(name, "`%s` is %q; write a time as RFC 3339 has it, for example %s", r.path+name, Clip(s), example)
		return time.Time{}
	}
	return t
}

// Text reads a text into something that reads itself, and leaves it as it is
// when the field is not there.
func (r *Reader) Text(name, example string, into encoding.TextUnmarshaler) {
	n := r.value(name, String, strconv.Quote(example))
	if n == nil {
		return
	}
	if err := into.UnmarshalText([]byte(n.Text)); err != nil {
		r.Fail(name, "`%s`: %v", r.path+name, err)
	}
}

// Later refuses fields that are known and cannot be used yet.
func (r *Reader) Later(names ...string) {
	for _, name := range names {
		if r.Has(name) {
			r.Fail(name, "`%s` is not supported yet; leave it out", r.path+name)
		}
	}
}

// edits is the Levenshtein distance of two names; long ones are far from
// everything.
func edits(a, b string) int {
	const longest = 40
	if len(a) > longest || len(b) > longest {
		return longest
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
