package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/wire"
)

// document is what a file (YAML or JSON) and flags say together. The server
// judges it; this side only remembers where in the file a field stands.
type document struct {
	name   string // of the file; "" = there is none
	node   *yaml.Node
	fields map[string]any
}

// readDocument reads a file, or standard input for "-".
func (p *Program) readDocument(name string) (*document, error) {
	d := &document{name: name, fields: map[string]any{}}
	if name == "" {
		return d, nil
	}
	text, err := p.readFile(name)
	if err != nil {
		return nil, err
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, WrongUse("%s is neither YAML nor JSON: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(root.Content) == 1 && root.Content[0].Kind == yaml.SequenceNode {
		return nil, WrongUse("%s holds a list, and each document is a file of its own; put the one you mean into a file", name)
	}
	if len(root.Content) != 1 || root.Content[0].Kind != yaml.MappingNode {
		return nil, WrongUse("%s holds no document: it needs fields such as name: value", name)
	}
	d.node = root.Content[0]
	if err := d.node.Decode(&d.fields); err != nil {
		return nil, WrongUse("%s cannot be read: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	return d, nil
}

// readFile reads what may become a document, or a part of one.
func (p *Program) readFile(name string) ([]byte, error) {
	in := p.In
	if name != "-" {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(p.Dir, path)
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, WrongUse("%v", err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, wire.MaxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", name, err)
	}
	if len(text) > wire.MaxDocument {
		return nil, WrongUse("%s has more than %d KiB, which is all a document may have; put long scripts and lists on the share",
			name, wire.MaxDocument>>10)
	}
	return text, nil
}

// set sets a field, overriding the file: set("retry", "max")(3).
func (d *document) set(value any, path ...string) {
	in := d.fields
	for _, name := range path[:len(path)-1] {
		below, ok := in[name].(map[string]any)
		if !ok {
			below = map[string]any{}
			in[name] = below
		}
		in = below
	}
	in[path[len(path)-1]] = value
}

// text is a field that is a text, or "".
func (d *document) text(name string) string {
	s, _ := d.fields[name].(string)
	return s
}

// encode writes the document as it is sent.
func (d *document) encode() ([]byte, error) {
	body, err := json.Marshal(d.fields)
	if err != nil {
		return nil, WrongUse("%s cannot be sent: %v", d.name, err)
	}
	return body, nil
}

// sentLine is where the server found a field in what it was sent, which is all
// on one line and means nothing to the person.
var sentLine = regexp.MustCompile(`^line [0-9]+: `)

// locate says of an error about a field where in the file that field stands.
func (d *document) locate(err error) error {
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.Invalid {
		return err
	}
	where := ""
	if d.node != nil {
		where = d.name + ": "
		if line := lineOf(d.node, strings.FieldsFunc(f.Field, func(r rune) bool { return strings.ContainsRune(".[]", r) })); line > 0 {
			where = fmt.Sprintf("%s:%d: ", d.name, line)
		}
	}
	return &fault.Error{Code: f.Code, Field: f.Field, Message: where + sentLine.ReplaceAllString(f.Message, "")}
}

// lineOf follows a path of names and indexes as far as it leads. 0 = nowhere:
// the field is missing, or a flag has set it.
func lineOf(n *yaml.Node, path []string) int {
	line := 0
	for _, name := range path {
		var next *yaml.Node
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == name {
					line, next = n.Content[i].Line, n.Content[i+1]
				}
			}
		case yaml.SequenceNode:
			var i int
			if _, err := fmt.Sscan(name, &i); err == nil && i >= 0 && i < len(n.Content) {
				line, next = n.Content[i].Line, n.Content[i]
			}
		}
		if next == nil {
			return line
		}
		n = next
	}
	return line
}
