package tables

import (
	"cmp"
	"strings"
)

// filter is a parsed $filter; the zero value matches everything.
type filter struct{ root node }

func (f filter) holds(e *entity) bool { return f.root == nil || f.root.holds(e) }

// node is and, or, not, a comparison or a constant.
type node interface{ holds(e *entity) bool }

type (
	both       struct{ a, b node }
	either     struct{ a, b node }
	negation   struct{ a node }
	constant   bool
	comparison struct {
		name  string
		op    string
		value value
	}
)

func (n both) holds(e *entity) bool     { return n.a.holds(e) && n.b.holds(e) }
func (n either) holds(e *entity) bool   { return n.a.holds(e) || n.b.holds(e) }
func (n negation) holds(e *entity) bool { return !n.a.holds(e) }
func (n constant) holds(*entity) bool   { return bool(n) }

// holds is false where the entity has no such property, or one of another type.
func (n comparison) holds(e *entity) bool {
	got, ok := e.value(n.name)
	if !ok {
		return false
	}
	c, ok := got.compare(n.value)
	if !ok {
		return false
	}
	switch n.op {
	case "eq":
		return c == 0
	case "ne":
		return c != 0
	case "gt":
		return c > 0
	case "ge":
		return c >= 0
	case "lt":
		return c < 0
	default:
		return c <= 0
	}
}

// compare orders two values, if they have an order.
func (v value) compare(w value) (int, bool) {
	switch {
	case v.whole() && w.whole():
		return cmp.Compare(v.number, w.number), true
	case (v.whole() || v.kind == edmDouble) && (w.whole() || w.kind == edmDouble):
		a, b := v.double(), w.double()
		return cmp.Compare(a, b), a == a && b == b // NaN has no order
	case v.kind != w.kind:
		return 0, false
	case v.kind == edmBoolean || v.kind == edmDateTime:
		return cmp.Compare(v.number, w.number), true
	}
	return strings.Compare(v.text, w.text), true
}

func (v value) whole() bool { return v.kind == edmInt32 || v.kind == edmInt64 }

func (v value) double() float64 {
	if v.whole() {
		return float64(v.number)
	}
	return v.float
}
