package servicebus

import (
	"testing"

	"dsvmpools/local/servicebus/amqp"
)

// All fields of a refusal are sent, because some clients read the third one without a look
// at the count.
func TestRefusalHasAllFields(t *testing.T) {
	t.Parallel()
	h := opened(t, strict(t, usual))
	begin(h)
	h.say(0, attachFrame(1, false, "nothing"), nil)
	f := h.hear()
	for f.Code != amqp.CodeDetach {
		f = h.hear()
	}
	cause, _ := amqp.Field[amqp.Described](f.Fields, 2)
	if fields, _ := cause.Value.(amqp.List); len(f.Fields) != 3 || len(fields) != 3 {
		t.Errorf("a detach of %d fields with an error of %d, want 3 of each: %v", len(f.Fields), len(fields), f.Fields)
	}
	state := rejected("a", "b")
	inner := state.Value.(amqp.List)[0].(amqp.Described).Value.(amqp.List)
	if len(inner) != 3 {
		t.Errorf("a refused delivery has an error of %d fields, want 3", len(inner))
	}
}

// A transaction is refused by its name, not as a queue without one.
func TestCoordinatorIsRefused(t *testing.T) {
	t.Parallel()
	h := opened(t, strict(t, usual))
	begin(h)
	h.say(0, amqp.Composite(amqp.CodeAttach, "tx", uint32(1), false, nil, nil, amqp.Composite(amqp.CodeSource),
		amqp.Composite(amqp.CodeCoordinator, nil), nil, nil, uint32(0)), nil)
	f := h.hear()
	for f.Code != amqp.CodeDetach {
		f = h.hear()
	}
	cause, _ := amqp.Field[amqp.Described](f.Fields, 2)
	fields, _ := cause.Value.(amqp.List)
	if condition, _ := amqp.Field[amqp.Symbol](fields, 0); condition != "amqp:not-implemented" {
		t.Errorf("got %v, want amqp:not-implemented", fields)
	}
}
