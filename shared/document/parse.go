// Package document reads the documents that users write, as JSON or YAML, with
// errors that name the field, the line and what to do. It knows no schema: its
// callers ask for the fields they know, and what nobody asked for is refused.
// It is pure.
package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"dsvmpools/shared/fault"

	"go.yaml.in/yaml/v3"
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

// Parse reads a document. The content type decides between JSON and YAML; when
// it says neither, a document that begins with { is JSON.
func Parse(body []byte, contentType string) (*Node, error) {
	switch {
	case len(body) > MaxBytes:
		return nil, fault.New(fault.Invalid, "", "the document has %d bytes, at most %d are read; put longer lists and scripts into files on the share", len(body), MaxBytes)
	case !utf8.Valid(body):
		return nil, fault.New(fault.Invalid, "", "the document is not UTF-8; save it as UTF-8")
	case len(bytes.TrimSpace(body)) == 0:
		return nil, fault.New(fault.Invalid, "", "the document is empty; send a JSON or YAML object")
	}
	isJSON := strings.Contains(contentType, "json") || !strings.Contains(contentType, "yaml") && bytes.TrimSpace(body)[0] == '{'
	var n *Node
	var err error
	if isJSON {
		n, err = parseJSON(body)
	} else {
		n, err = parseYAML(body)
	}
	if err != nil {
		return nil, err
	}
	if n.Kind != Object {
		return nil, fault.New(fault.Invalid, "", "the document is %s; send an object with named fields", kindNames[n.Kind])
	}
	return n, nil
}

// jsonReader walks the tokens of a JSON document.
type jsonReader struct {
	body []byte
	d    *json.Decoder
}

func parseJSON(body []byte) (*Node, error) {
	r := jsonReader{body, json.NewDecoder(bytes.NewReader(body))}
	r.d.UseNumber()
	n, err := r.value(0)
	if err == nil {
		if _, end := r.d.Token(); end != io.EOF {
			err = errors.New("more follows behind the first value")
		}
	}
	var f *fault.Error
	if err != nil && !errors.As(err, &f) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fault.New(fault.Invalid, "", "line %d: the document is not valid JSON (%v); check quotes, commas and brackets", r.line(), err)
	}
	return n, err
}

func (r jsonReader) line() int {
	return 1 + bytes.Count(r.body[:min(int(r.d.InputOffset()), len(r.body))], []byte("\n"))
}

func (r jsonReader) value(depth int) (*Node, error) {
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
		return n, r.inside(n, t, depth)
	}
	return n, nil
}

func (r jsonReader) inside(n *Node, open json.Delim, depth int) error {
	n.Kind = List
	if open == '{' {
		n.Kind = Object
	}
	for r.d.More() {
		name, line := "", 0
		if n.Kind == Object {
			t, err := r.d.Token()
			if err != nil {
				return err
			}
			name, line = t.(string), r.line()
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		if n.Kind == List {
			n.Items = append(n.Items, v)
		} else if err := n.add(name, line, v); err != nil {
			return err
		}
	}
	_, err := r.d.Token()
	return err
}

// add appends a field; the same name twice is an error.
func (n *Node) add(name string, line int, v *Node) error {
	for _, f := range n.Fields {
		if f.Name == name {
			return fault.New(fault.Invalid, name, "line %d: `%s` stands here a second time (first in line %d); keep one of them", line, name, f.Line)
		}
	}
	n.Fields = append(n.Fields, Field{name, line, v})
	return nil
}

func parseYAML(body []byte) (*Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(body))
	var doc yaml.Node
	if err := d.Decode(&doc); err != nil {
		return nil, fault.New(fault.Invalid, "", "the document is not valid YAML (%s); check the indentation", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var more yaml.Node
	if d.Decode(&more) != io.EOF {
		return nil, fault.New(fault.Invalid, "", "the file holds more than one document; send one at a time")
	}
	if len(doc.Content) != 1 {
		return nil, fault.New(fault.Invalid, "", "the document is empty; send a JSON or YAML object")
	}
	return fromYAML(doc.Content[0], 0)
}

func fromYAML(y *yaml.Node, depth int) (*Node, error) {
	n := &Node{Line: y.Line, Text: y.Value}
	if depth >= maxDepth {
		return nil, fault.New(fault.Invalid, "", "line %d: the document is nested deeper than %d levels; make it flatter", y.Line, maxDepth)
	}
	switch y.Kind {
	case yaml.ScalarNode:
		switch y.ShortTag() {
		case "!!null":
			n.Kind = Null
		case "!!bool":
			n.Kind, n.Text = Bool, strings.ToLower(y.Value)
		case "!!int", "!!float":
			n.Kind = Number
		default:
			n.Kind = String
		}
	case yaml.SequenceNode:
		n.Kind = List
		for _, item := range y.Content {
			v, err := fromYAML(item, depth+1)
			if err != nil {
				return nil, err
			}
			n.Items = append(n.Items, v)
		}
	case yaml.MappingNode:
		n.Kind = Object
		for i := 0; i+1 < len(y.Content); i += 2 {
			k := y.Content[i]
			if k.Kind != yaml.ScalarNode || k.ShortTag() == "!!merge" {
				return nil, fault.New(fault.Invalid, "", "line %d: a field name must be a plain text", k.Line)
			}
			v, err := fromYAML(y.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			if err := n.add(k.Value, k.Line, v); err != nil {
				return nil, err
			}
		}
	default: // an alias may expand without end
		return nil, fault.New(fault.Invalid, "", "line %d: YAML anchors and aliases are not read; write the value out", y.Line)
	}
	return n, nil
}
