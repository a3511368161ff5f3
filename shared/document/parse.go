// Package document reads the documents that users write, as JSON or YAML, with
// errors that name the field, the line and what to do. It knows no schema: its
// callers ask for the fields they know, and what nobody asked for is refused.
// It is pure.
package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/plain"
)

// MaxBytes bounds an inline document; longer lists and scripts are files on the
// share.
const MaxBytes = 32 << 10

// maxDepth bounds nesting; the deepest known field is three levels down.
const maxDepth = 20

// Kind of a node.
type Kind int

const (
	Null Kind = iota
	Bool
	Number
	String
	List
	Object
)

var kindNames = map[Kind]string{Null: "null", Bool: "a boolean", Number: "a number", String: "a text", List: "a list", Object: "an object"}

// byteOrderMark is what some editors put in front of a file.
var byteOrderMark = []byte("\xef\xbb\xbf")

// maxShown bounds what an error repeats of a document: errors go into rows and
// messages that have limits of their own.
const maxShown = 60

// Clip shortens a text for an error, between two characters.
func Clip(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return plain.Clip(s, maxShown) + "..."
}

// Node is a value of a document.
type Node struct {
	Kind   Kind
	Line   int
	Text   string // of a boolean, number or text
	Items  []*Node
	Fields []Field
}

// Field is one entry of an object.
type Field struct {
	Name  string
	Line  int
	Value *Node
}

func empty() error {
	return fault.New(fault.Invalid, "", "the document is empty; send a JSON or YAML object")
}

func tooLong(bytes int) error {
	return fault.New(fault.Invalid, "",
		"the document has %d bytes, at most %d are read; put longer lists and scripts into files on the share", bytes, MaxBytes)
}

func notUTF8() error {
	return fault.New(fault.Invalid, "", "the document is not UTF-8; save it as UTF-8")
}

func notJSON(line int, err error) error {
	return fault.New(fault.Invalid, "", "line %d: the document is not valid JSON (%v); check quotes, commas and brackets", line, err)
}

// Parse reads a document. The content type decides between JSON and YAML; when
// it says neither, a document that begins with { is JSON. A document inside a text of .NET's
// DataContractSerializer is read, too.
func Parse(body []byte, contentType string) (*Node, error) {
	body, err := Unwrap(body)
	if err != nil {
		return nil, err
	}
	body, contentType = bytes.TrimPrefix(body, byteOrderMark), strings.ToLower(contentType)
	switch {
	case len(body) > MaxBytes:
		return nil, tooLong(len(body))
	case !utf8.Valid(body):
		return nil, notUTF8()
	case len(bytes.TrimSpace(body)) == 0:
		return nil, empty()
	}
	isJSON := strings.Contains(contentType, "json") || !strings.Contains(contentType, "yaml") && bytes.TrimSpace(body)[0] == '{'
	read := parseYAML
	if isJSON {
		read = parseJSON
	}
	all, err := read(body)
	switch {
	case err != nil:
		return nil, err
	case len(all) == 0: // comments alone
		return nil, empty()
	case len(all) > 1 && isJSON:
		return nil, notJSON(all[1].Line, errors.New("more follows after the first value"))
	case len(all) > 1:
		return nil, fault.New(fault.Invalid, "", "the file holds more than one document; send one at a time")
	}
	return objectOf(all[0])
}

// objectOf refuses a document that is no object.
func objectOf(n *Node) (*Node, error) {
	if n.Kind != Object {
		return nil, fault.New(fault.Invalid, "", "the document is %s; send an object with named fields", kindNames[n.Kind])
	}
	return n, nil
}

// jsonReader walks the tokens of a JSON document.
type jsonReader struct {
	body   []byte
	d      *json.Decoder
	before int // lines before the document, of a list that it stands in
}

// parseJSON reads values that follow one another.
func parseJSON(body []byte) ([]*Node, error) { return parseJSONAfter(0, body) }

// parseJSONAfter reads values that begin after a number of lines.
func parseJSONAfter(lines int, body []byte) ([]*Node, error) {
	r := jsonReader{body: body, d: json.NewDecoder(bytes.NewReader(body)), before: lines}
	r.d.UseNumber()
	var all []*Node
	for {
		n, err := r.value("", 0)
		if err == io.EOF && len(all) > 0 && r.isAtEnd() {
			return all, nil
		}
		var f *fault.Error
		if err != nil && !errors.As(err, &f) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, notJSON(r.line(), err)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
}

// isAtEnd reports whether nothing but blanks follows what was read.
func (r jsonReader) isAtEnd() bool {
	return len(bytes.TrimSpace(r.body[min(int(r.d.InputOffset()), len(r.body)):])) == 0
}

func (r jsonReader) line() int {
	return r.before + 1 + bytes.Count(r.body[:min(int(r.d.InputOffset()), len(r.body))], []byte("\n"))
}

func (r jsonReader) value(path string, depth int) (*Node, error) {
	t, err := r.d.Token()
	if err != nil {
		return nil, err
	}
	n := &Node{Line: r.line()}
	switch t := t.(type) {
	case nil:
	case bool:
		n.Kind, n.Text = Bool, map[bool]string{true: "true", false: "false"}[t]
	case json.Number:
		n.Kind, n.Text = Number, t.String()
	case string:
		n.Kind, n.Text = String, t
	case json.Delim:
		if depth >= maxDepth {
			return nil, fault.New(fault.Invalid, "", "line %d: the document is nested deeper than %d levels; make it flatter", n.Line, maxDepth)
		}
		return n, r.inside(n, t, path, depth)
	}
	return n, nil
}

func (r jsonReader) inside(n *Node, open json.Delim, path string, depth int) error {
	n.Kind = List
	if open == '{' {
		n.Kind = Object
	}
	for r.d.More() {
		name, line, below := "", 0, index(path, len(n.Items))
		if n.Kind == Object {
			t, err := r.d.Token()
			if err != nil {
				return err
			}
			name, line = t.(string), r.line()
			below = join(path, name)
		}
		v, err := r.value(below, depth+1)
		if err != nil {
			return err
		}
		if n.Kind == List {
			n.Items = append(n.Items, v)
		} else if err := n.add(below, name, line, v); err != nil {
			return err
		}
	}
	_, err := r.d.Token()
	return err
}

// join and index are the paths of what lies inside an object and a list.
func join(path, name string) string {
	if path == "" {
		return Clip(name)
	}
	return Clip(path) + "." + Clip(name)
}

func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// add appends a field; the same name twice is an error.
func (n *Node) add(path, name string, line int, v *Node) error {
	for _, f := range n.Fields {
		if f.Name == name {
			return fault.New(fault.Invalid, path, "line %d: `%s` stands here a second time (first in line %d); keep one of them",
				line, path, f.Line)
		}
	}
	n.Fields = append(n.Fields, Field{name, line, v})
	return nil
}

// parseYAML reads all documents of a stream. Those without a value are left out.
func parseYAML(body []byte) ([]*Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(body))
	var all []*Node
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		switch {
		case err == io.EOF:
			return all, nil
		case err != nil:
			return nil, badYAML(body, err)
		case len(doc.Content) != 1 || isBlank(doc.Content[0]): // comments alone
			continue
		}
		n, err := fromYAML(doc.Content[0], "", 0)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
}

// stuckName is a name whose colon its value follows at once.
var stuckName = regexp.MustCompile(`^\s*([A-Za-z]+:)[^\s:/]`)

// isBlank reports whether a document of a stream holds nothing, as between two lines of
// three dashes.
func isBlank(y *yaml.Node) bool {
	return y.Kind == yaml.ScalarNode && y.ShortTag() == "!!null" && y.Value == ""
}

// badYAML is the error for a text that is no YAML. A tab at the beginning of a line is
// what is wrong with most of them, and the parser does not say so.
func badYAML(body []byte, err error) error {
	for i, line := range bytes.Split(body, []byte("\n")) {
		if blanks := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]; len(blanks) < len(bytes.TrimSpace(line))+len(blanks) &&
			bytes.ContainsRune(blanks, '\t') {
			return fault.New(fault.Invalid, "", "line %d: the line begins with a tab, and YAML takes spaces alone; replace it with spaces", i+1)
		}
	}
	for i, line := range bytes.Split(body, []byte("\n")) {
		if found := stuckName.FindSubmatch(line); found != nil {
			return fault.New(fault.Invalid, "", "line %d: `%s` has no blank after its colon, so that YAML takes it for a text; write `%s: `",
				i+1, found[1], bytes.TrimSuffix(found[1], []byte(":")))
		}
	}
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), ""
	if at, rest, ok := strings.Cut(text, ": "); ok && strings.HasPrefix(at, "line ") {
		line, text = at+": ", rest
	}
	return fault.New(fault.Invalid, "",
		"%sthe document is not valid YAML (%s); check the indentation, and quote a text that has : # * or & in it",
		line, Clip(text))
}

func fromYAML(y *yaml.Node, path string, depth int) (*Node, error) {
	n := &Node{Line: y.Line, Text: y.Value}
	if depth >= maxDepth {
		return nil, fault.New(fault.Invalid, "", "line %d: the document is nested deeper than %d levels; make it flatter", y.Line, maxDepth)
	}
	switch tag := y.ShortTag(); {
	case y.Kind == yaml.ScalarNode:
		return n, n.scalar(tag, path)
	case y.Kind == yaml.SequenceNode && tag == "!!seq":
		n.Kind = List
		for i, item := range y.Content {
			v, err := fromYAML(item, index(path, i), depth+1)
			if err != nil {
				return nil, err
			}
			n.Items = append(n.Items, v)
		}
	case y.Kind == yaml.MappingNode && tag == "!!map":
		n.Kind = Object
		for i := 0; i+1 < len(y.Content); i += 2 {
			k := y.Content[i]
			if k.Kind != yaml.ScalarNode || k.ShortTag() == "!!merge" {
				return nil, fault.New(fault.Invalid, "", "line %d: a field name must be a plain text; write it as `name: value`", k.Line)
			}
			below := join(path, k.Value)
			v, err := fromYAML(y.Content[i+1], below, depth+1)
			if err != nil {
				return nil, err
			}
			if err := n.add(below, k.Value, k.Line, v); err != nil {
				return nil, err
			}
		}
	case y.Kind == yaml.AliasNode: // may expand without end
		return nil, fault.New(fault.Invalid, path, "line %d: YAML anchors and aliases are not read; write the value out", y.Line)
	default:
		return nil, badTag(tag, path, y.Line)
	}
	return n, nil
}

// scalar gives a value its kind. A tag that is not known is refused: its value
// would be taken for something else than what was written.
func (n *Node) scalar(tag, path string) error {
	switch tag {
	case "!!null":
		n.Kind = Null
	case "!!bool":
		n.Kind, n.Text = Bool, strings.ToLower(n.Text)
		if n.Text != "true" && n.Text != "false" {
			return fault.New(fault.Invalid, path, "line %d: `%s` is %q; write true or false", n.Line, path, Clip(n.Text))
		}
	case "!!int", "!!float":
		n.Kind = Number
	case "!!str", "!!timestamp", "!!merge":
		n.Kind = String
	default:
		return badTag(tag, path, n.Line)
	}
	return nil
}

func badTag(tag, path string, line int) error {
	what := "`" + path + "`"
	if path == "" {
		what = "the document"
	}
	return fault.New(fault.Invalid, path, "line %d: %s has the YAML tag %s, which is not read; write the value without it", line,
		what, Clip(tag))
}
