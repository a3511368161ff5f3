package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	written "dsvmpools/shared/document"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/wire"
)

// maxFile bounds a file that may hold several documents.
const maxFile = 16 << 20

// document is what a file (YAML or JSON) and flags say together. The server
// judges it; this side only remembers where in the file a field stands.
type document struct {
	name   string        // of the file; "" = there is none
	node   *written.Node // what the file says; nil = nothing
	line   int           // of the document in a file that holds several; 0 = it is alone
	fields map[string]any

	script   string            // name of the file of --script
	variable string            // of the lines of --each-line
	lines    []string          // of --each-line; nil = there is none
	files    map[string]string // of a folder that is sent before the document, see large.go
}

// readDocument reads a file that holds one document, or standard input for "-".
func (p *Program) readDocument(name string) (*document, error) {
	all, err := p.readDocuments(name)
	if err != nil {
		return nil, err
	}
	if len(all) > 1 {
		return nil, WrongUse("%s holds %d documents, and this takes one; put the one you mean into a file", name, len(all))
	}
	return all[0], nil
}

// readDocuments reads all documents of a file, or of standard input for "-". Without a name
// there is one that says nothing.
func (p *Program) readDocuments(name string) ([]*document, error) {
	if name == "" {
		return []*document{{fields: map[string]any{}}}, nil
	}
	text, err := p.readUpTo(name, maxFile, fmt.Sprintf("more than %d MiB; put its documents into several files", maxFile>>20))
	if err != nil {
		return nil, err
	}
	nodes, err := written.ParseAll(text, name)
	if err != nil {
		return nil, locateIn(name, err)
	}
	all := make([]*document, len(nodes))
	for i, n := range nodes {
		all[i] = &document{name: name, node: n}
		if len(nodes) > 1 {
			all[i].line = n.Line
		}
		body, err := n.MarshalJSON()
		if err == nil {
			d := json.NewDecoder(bytes.NewReader(body))
			d.UseNumber() // a number stays as it was written
			err = d.Decode(&all[i].fields)
		}
		if err != nil {
			return nil, WrongUse("%s:%d: the document cannot be read: %v", name, n.Line, err)
		}
	}
	return all, nil
}

// locateIn puts the name of a file in front of an error about its text, which begins with
// the line where that is known.
func locateIn(name string, err error) error {
	text := message(err)
	if at := sentLine.FindString(text); at != "" {
		return WrongUse("%s:%s: %s", name, strings.Trim(at, "line: "), strings.TrimPrefix(text, at))
	}
	return WrongUse("%s: %s", name, text)
}

// readFile reads what may become a document, or a part of one.
func (p *Program) readFile(name string) ([]byte, error) {
	return p.readUpTo(name, wire.MaxDocument, fmt.Sprintf(
		"more than %d KiB, which is all a document may have; put long scripts and lists on the share", wire.MaxDocument>>10))
}

// readUpTo reads a file of at most so many bytes. tooMuch says what one has that is larger.
func (p *Program) readUpTo(name string, most int64, tooMuch string) ([]byte, error) {
	in := p.In
	if name != "-" {
		f, err := os.Open(p.fromHere(name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, WrongUse("there is no file %q", name)
		case err != nil:
			return nil, WrongUse("%q cannot be read: %v", name, cause(err))
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return nil, WrongUse("%q is a folder, and not a file", name)
		}
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, most+1))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", name, err)
	}
	if int64(len(text)) > most {
		return nil, WrongUse("%s has %s", name, tooMuch)
	}
	return text, nil
}

// cause is what the system says of a file, without the name of it.
func cause(err error) error {
	var of *fs.PathError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// fromHere is the path of a file or folder that the person has named from this folder.
func (p *Program) fromHere(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(p.Dir, name)
}

// set sets a field, overriding the file: set(3, "retry", "max").
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

// sentLine is where a field was found in what was read. In what was sent, all is on one
// line, which means nothing to the person.
var sentLine = regexp.MustCompile(`^line [0-9]+: `)

// locate says of an error about a field where in the file that field stands.
func (d *document) locate(err error) error {
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.Invalid {
		return err
	}
	return &fault.Error{Code: f.Code, Field: f.Field, Message: d.place(f.Field) + sentLine.ReplaceAllString(f.Message, "")}
}

// place is where in the file a field stands, as the beginning of a sentence.
func (d *document) place(field string) string {
	if d.node == nil {
		return ""
	}
	if line := cmp.Or(d.node.FindLine(field), d.line); line > 0 {
		return fmt.Sprintf("%s:%d: ", d.name, line)
	}
	return d.name + ": "
}
