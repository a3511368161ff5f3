package document

import (
	"encoding/json"
)

// Node is the object as it stands; nil of a reader that is not there.
func (r *Reader) Node() *Node {
	if r == nil {
		return nil
	}
	return r.node
}

// MarshalJSON writes a node as the JSON it could have come from, with its
// fields in their order.
func (n *Node) MarshalJSON() ([]byte, error) { return n.append(nil) }

func (n *Node) append(b []byte) ([]byte, error) {
	var err error
	switch n.Kind {
	case Null:
		return append(b, "null"...), nil
	case Bool:
		return append(b, n.Text...), nil
	case Number:
		if !json.Valid([]byte(n.Text)) { // YAML has other forms too, such as 0x10
			return appendText(b, n.Text)
		}
		return append(b, n.Text...), nil
	case String:
		return appendText(b, n.Text)
	case List:
		b = append(b, '[')
		for i, item := range n.Items {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = item.append(b); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	}
	b = append(b, '{')
	for i, f := range n.Fields {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendText(b, f.Name); err != nil {
			return nil, err
		}
		if b, err = f.Value.append(append(b, ':')); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func appendText(b []byte, s string) ([]byte, error) {
	quoted, err := json.Marshal(s)
	return append(b, quoted...), err
}
