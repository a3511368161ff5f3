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
	node *Node
	path string
	err  *error
}

// Read begins with the top object. known are the names of all its fields.
func Read(n *Node, known ...string) *Reader {
	r := &Reader{node: n, err: new(error)}
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

// Has reports whether a field is there and not null.
func (r *Reader) Has(name string) bool {
	f := r.find(name)
	return f != nil && f.Value.Kind != Null
}

// value is a field's node if it is there, of the kind, and nothing has failed.
func (r *Reader) value(name string, kind Kind, example string) *Node {
	if !r.Has(name) || *r.err != nil {
		return nil
	}
	f := r.find(name)
	if f.Value.Kind != kind {
		r.fail(name, f.Value.Line, "`%s` is %s; write %s, for example %s", r.path+name, kindNames[f.Value.Kind], kindNames[kind], example)
		return nil
	}
	return f.Value
}

// String reads a text.
func (r *Reader) String(name, example string) string {
	if n := r.value(name, String, strconv.Quote(example)); n != nil {
		return n.Text
	}
	return ""
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
			r.fail(fmt.Sprintf("%s[%d]", name, i), item.Line, "`%s%s[%d]` is %s; write a text, in quotes", r.path, name, i,
				kindNames[item.Kind])
			return nil
		}
		out[i] = item.Text
	}
	return out
}

// Scalar reads a text or a number, as it was written.
func (r *Reader) Scalar(name, example string) string {
	if f := r.find(name); f != nil && f.Value.Kind == Number {
		return f.Value.Text
	}
	return r.String(name, example)
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
		out[i] = &Reader{node: item, path: r.path + at + ".", err: r.err}
	}
	return out
}

// Map reads an object whose values are texts.
func (r *Reader) Map(name, example string) map[string]string {
	n := r.value(name, Object, example)
	if n == nil || len(n.Fields) == 0 {
		return nil
	}
	out := make(map[string]string, len(n.Fields))
	for _, f := range n.Fields {
		if f.Value.Kind != String {
			key := Clip(f.Name)
			r.fail(name+"."+key, f.Line, "`%s%s.%s` is %s; write a text, in quotes", r.path, name, key, kindNames[f.Value.Kind])
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
	sub := &Reader{node: n, path: r.path + name + ".", err: r.err}
	sub.check(known)
	return sub
}

// Any reads a nested object whose fields have names of the user's own; nil when
// it is not there.
func (r *Reader) Any(name, example string) *Reader {
	n := r.value(name, Object, example)
	if n == nil {
		return nil
	}
	return &Reader{node: n, path: r.path + name + ".", err: r.err}
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

// Later refuses fields that are known and cannot be used yet, unless they say
// nothing.
func (r *Reader) Later(names ...string) {
	for _, name := range names {
		f := r.find(name)
		if f == nil || f.Value.empty() {
			continue
		}
		r.Fail(name, "`%s` is not supported yet; leave it out", r.path+name)
	}
}

// empty reports whether a value says nothing.
func (n *Node) empty() bool {
	switch n.Kind {
	case Null:
		return true
	case Bool:
		return n.Text == "false"
	case Number:
		return n.Text == "0"
	case String:
		return n.Text == ""
	}
	return len(n.Items)+len(n.Fields) == 0
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
