package document

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"dsvmpools/shared/fault"
)

// ParseAll reads a file that may hold several documents: a YAML stream with lines of three
// dashes, JSON values one after the other, or lists of documents in either. The name of the
// file decides between JSON and YAML by its ending; without one that says it, a text that
// begins with { or [ is JSON. Lines count from the beginning of the file. Each of the
// nodes is an object.
func ParseAll(body []byte, name string) ([]*Node, error) {
	body = bytes.TrimPrefix(body, byteOrderMark)
	switch {
	case !utf8.Valid(body):
		return nil, fault.New(fault.Invalid, "", "the file is not UTF-8; save it as UTF-8")
	case len(bytes.TrimSpace(body)) == 0:
		return nil, fault.New(fault.Invalid, "", "the file is empty; it needs fields such as `pool: cpu`")
	}
	values, err := parseNamed(body, strings.ToLower(name))
	if err != nil {
		return nil, err
	}
	var all []*Node
	for _, v := range values {
		items := []*Node{v}
		if v.Kind == List {
			items = v.Items
		}
		for _, item := range items {
			if item.Kind != Object {
				return nil, fault.New(fault.Invalid, "", "line %d: a document is %s; write an object with fields such as `pool: cpu`",
					item.Line, kindNames[item.Kind])
			}
			all = append(all, item)
		}
	}
	if len(all) == 0 {
		return nil, fault.New(fault.Invalid, "", "the file holds no document; it needs fields such as `pool: cpu`")
	}
	return all, nil
}

func parseNamed(body []byte, name string) ([]*Node, error) {
	switch first := bytes.TrimSpace(body)[0]; {
	case strings.HasSuffix(name, ".yaml"), strings.HasSuffix(name, ".yml"):
		return parseYAML(body)
	case strings.HasSuffix(name, ".json"):
		return parseJSON(body)
	case first != '{' && first != '[':
		return parseYAML(body)
	}
	values, err := parseJSON(body)
	if err == nil {
		return values, nil
	}
	if values, other := parseYAML(body); other == nil { // YAML may begin so too
		return values, nil
	}
	return nil, err
}
