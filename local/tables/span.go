package tables

import "slices"

// span is a range of stored keys: from <= key < to; to "" = no end.
type span struct{ from, to string }

var everything = []span{{}}

func (s span) before(k []byte) bool { return s.to == "" || string(k) < s.to }

// spans are the ranges of keys that can match the filter, in order, without
// overlap. They are never too narrow. The caller still checks each entity.
func (f filter) spans() []span {
	return spansOf(f.root, nil)
}

// spansOf follows the comparisons of keys. A comparison of the RowKey narrows
// only where the partition is known, from a comparison that is joined to it by
// "and".
func spansOf(n node, partition *string) []span {
	switch n := n.(type) {
	case both:
		terms := conjuncts(n, nil)
		for _, t := range terms {
			if c, ok := t.(comparison); ok && c.name == "PartitionKey" && c.op == "eq" {
				text := string(c.value.text)
				partition = &text
			}
		}
		spans := everything
		for _, t := range terms {
			spans = intersect(spans, spansOf(t, partition))
		}
		return spans
	case either:
		return unite(append(slices.Clone(spansOf(n.a, partition)), spansOf(n.b, partition)...))
	case constant:
		if !n {
			return nil
		}
	case comparison:
		return n.spans(partition)
	}
	return everything
}

func conjuncts(n node, terms []node) []node {
	if b, ok := n.(both); ok {
		return conjuncts(b.b, conjuncts(b.a, terms))
	}
	return append(terms, n)
}

func (n comparison) spans(partition *string) []span {
	prefix, key := "", ""
	switch {
	case n.value.kind != edmString || checkKey(string(n.value.text)) != nil:
		return everything // cannot be a key
	case n.name == "PartitionKey":
		// The keys of a partition lie between its name followed by 0 and its
		// name followed by 1, because a longer name has a greater byte there.
		key = string(n.value.text)
		switch n.op {
		case "eq":
			return []span{{key + "\x00", key + "\x01"}}
		case "gt":
			return []span{{key + "\x01", ""}}
		case "ge":
			return []span{{key + "\x00", ""}}
		case "lt":
			return []span{{"", key + "\x00"}}
		case "le":
			return []span{{"", key + "\x01"}}
		}
	case n.name == "RowKey" && partition != nil:
		prefix, key = *partition+"\x00", *partition+"\x00"+string(n.value.text)
		end := *partition + "\x01"
		switch n.op {
		case "eq":
			return []span{{key, key + "\x00"}}
		case "gt":
			return []span{{key + "\x00", end}}
		case "ge":
			return []span{{key, end}}
		case "lt":
			return []span{{prefix, key}}
		case "le":
			return []span{{prefix, key + "\x00"}}
		}
	}
	return everything
}

// intersect is what is in both lists.
func intersect(a, b []span) []span {
	var out []span
	for _, x := range a {
		for _, y := range b {
			s := span{max(x.from, y.from), x.to}
			if s.to == "" || y.to != "" && y.to < s.to {
				s.to = y.to
			}
			if s.to == "" || s.from < s.to {
				out = append(out, s)
			}
		}
	}
	slices.SortFunc(out, bySpan)
	return out
}

// unite joins spans that touch.
func unite(spans []span) []span {
	slices.SortFunc(spans, bySpan)
	var out []span
	for _, s := range spans {
		last := len(out) - 1
		if last < 0 || out[last].to != "" && out[last].to < s.from {
			out = append(out, s)
			continue
		}
		if out[last].to != "" && (s.to == "" || s.to > out[last].to) {
			out[last].to = s.to
		}
	}
	return out
}

func bySpan(a, b span) int {
	switch {
	case a.from < b.from:
		return -1
	case a.from > b.from:
		return 1
	}
	return 0
}
