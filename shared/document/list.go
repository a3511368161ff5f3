package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"dsvmpools/shared/fault"
)

// Item is one document of a list. It refers to the body of the list.
type Item struct {
	raw    []byte
	before int // lines of the list before it
}

// IsList reports whether a body is a JSON list rather than one document.
func IsList(body []byte) bool {
	body = bytes.TrimSpace(bytes.TrimPrefix(body, byteOrderMark))
	return len(body) > 0 && body[0] == '['
}

// ParseList splits a JSON list into up to `most` documents, of which each may have MaxBytes,
// and parses none of them: parsed, all of them together can take fifty times the memory of
// the list. The error is about the list as a whole.
func ParseList(body []byte, most int) ([]Item, error) {
	body = bytes.TrimPrefix(body, byteOrderMark)
	if !utf8.Valid(body) {
		return nil, notUTF8()
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(body, &raws); err != nil {
		line := 1
		if wrong, ok := errors.AsType[*json.SyntaxError](err); ok {
			line += bytes.Count(body[:min(int(wrong.Offset), len(body))], lineBreak)
		}
		return nil, notJSON(line, err)
	}
	switch {
	case len(raws) == 0:
		return nil, fault.New(fault.Invalid, "", "the list is empty; send at least one document in it")
	case len(raws) > most:
		return nil, fault.New(fault.Invalid, "", "the list has %d documents, and at most %d are taken; send several lists", len(raws), most)
	}
	items := make([]Item, len(raws))
	lines, at := 0, 0
	for i, raw := range raws {
		start := at + bytes.Index(body[at:], raw)
		lines += bytes.Count(body[at:start], lineBreak)
		items[i] = Item{raw, lines}
		lines += bytes.Count(raw, lineBreak)
		at = start + len(raw)
	}
	return items, nil
}

var lineBreak = []byte("\n")

// Parse parses a document. One that cannot be read says nothing about the others.
func (i Item) Parse() (*Node, error) {
	if len(i.raw) > MaxBytes {
		return nil, tooLong(len(i.raw))
	}
	all, err := parseJSONAfter(i.before, i.raw)
	if err != nil {
		return nil, err
	}
	return objectOf(all[0])
}
