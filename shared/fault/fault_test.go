package fault_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"dsvmpools/shared/fault"
)

func TestCodeOf(t *testing.T) {
	t.Parallel()
	made := fault.New(fault.NoQuota, "sizes", "size %s has no quota", "A")
	for _, c := range []struct {
		name string
		err  error
		want fault.Code
	}{
		{"nil", nil, ""},
		{"own", made, fault.NoQuota},
		{"wrapped", fmt.Errorf("grow: %w", made), fault.NoQuota},
		{"the outer of two", &fault.Error{Code: fault.Gone, Err: made}, fault.Gone},
		{"foreign", io.EOF, fault.Internal},
	} {
		if got := fault.CodeOf(c.err); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestErrorShowsItsCause(t *testing.T) {
	t.Parallel()
	err := &fault.Error{Code: fault.Internal, Message: "the file cannot be read", Err: io.EOF}
	if got, want := err.Error(), "the file cannot be read: EOF"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(err, io.EOF) {
		t.Error("the cause is lost")
	}
	if got, want := fault.New(fault.Invalid, "pool", "no pool %q", "x").Error(), `no pool "x"`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
