package document

import (
	"errors"
	"fmt"
	"strings"

	"dsvmpools/shared/fault"
)

// Locate puts the line of its field in front of an error's message. An error
// about a field that is not in the document, or about none, stays as it is.
func (n *Node) Locate(err error) error {
	var f *fault.Error
	if !errors.As(err, &f) {
		return err
	}
	line := n.FindLine(f.Field)
	if line == 0 {
		return err
	}
	located := *f
	located.Message = fmt.Sprintf("line %d: %s", line, f.Message)
	return &located
}

// FindLine follows the path of a field as far as it leads, and returns the line there.
// 0 = not even its first part is here.
func (n *Node) FindLine(path string) int {
	line := 0
	for path != "" {
		next, at, rest := n.step(path)
		if next == nil {
			return line
		}
		n, line, path = next, at, strings.TrimPrefix(rest, ".")
	}
	return line
}

// step goes one part of a path down. A field's own name may hold points, so the
// names of the document are tried, not the parts of the path.
func (n *Node) step(path string) (next *Node, line int, rest string) {
	for _, f := range n.Fields {
		if after, ok := strings.CutPrefix(path, f.Name); ok && f.Name != "" && (after == "" || after[0] == '.' || after[0] == '[') {
			return f.Value, f.Line, after
		}
	}
	for i, item := range n.Items {
		if after, ok := strings.CutPrefix(path, index("", i)); ok {
			return item, item.Line, after
		}
	}
	return nil, 0, ""
}
