package wire

import (
	"errors"
	"strings"
	"testing"

	"dsvmpools/shared/fault"
)

// The detail of an internal error says nothing of its cause, and others can put a sentence
// after it.
func TestInternalProblem(t *testing.T) {
	t.Parallel()
	p := NewProblem(&fault.Error{Code: fault.Internal, Message: "table is away", Err: errors.New("secret")})
	if p.Status != 500 || strings.Contains(p.Detail, "away") || strings.Contains(p.Detail, "secret") ||
		strings.ContainsAny(p.Detail, ".") {
		t.Errorf("got %+v", p)
	}
}
