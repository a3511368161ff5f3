package tables

import (
	"bytes"
	"cmp"
)

// filter is a parsed $filter; the zero value matches everything.
type filter struct{ root node }

// holds reports whether the filter lets an entity through, or that the entity is damaged.
func (f filter) holds(e *looked) (bool, error) {
	if f.root == nil {
		return true, nil
	}
	e.damage = nil
	return f.root.holds(e), e.damage
}

// looked is an entity at which a filter looks, and the damage that the filter has found.
type looked struct {
	entity
	damage error
}

// node is and, or, not, a comparison or a constant.
type node interface{ holds(e *looked) bool }

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

func (n both) holds(e *looked) bool     { return n.a.holds(e) && n.b.holds(e) }
func (n either) holds(e *looked) bool   { return n.a.holds(e) || n.b.holds(e) }
func (n negation) holds(e *looked) bool { return !n.a.holds(e) }
func (n constant) holds(*looked) bool   { return bool(n) }

// holds is false where the entity has no such property, or one of another type.
func (n comparison) holds(e *looked) bool {
	got, ok, err := e.value(n.name)
	if !ok {
		e.damage = cmp.Or(e.damage, err)
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
	return bytes.Compare(v.text, w.text), true
}

func (v value) whole() bool { return v.kind == edmInt32 || v.kind == edmInt64 }

func (v value) double() float64 {
	if v.whole() {
		return float64(v.number)
	}
	return v.float
}
