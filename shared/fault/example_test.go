package fault_test

import (
	"errors"
	"fmt"

	"dsvmpools/shared/fault"
)

// Callers act on the code; people read the message; the cause goes to the log.
func Example() {
	cause := errors.New("409 SkuNotAvailable")
	err := fmt.Errorf("grow pool cpu: %w", &fault.Error{
		Code:    fault.NoCapacity,
		Message: "the region has no room for Standard_D4s_v5 now",
		Err:     cause,
	})

	var f *fault.Error
	fmt.Println(fault.CodeOf(err), errors.As(err, &f), errors.Is(err, cause))
	fmt.Println(f.Message)
	fmt.Println(err)
	// Output:
	// noCapacity true true
	// the region has no room for Standard_D4s_v5 now
	// grow pool cpu: the region has no room for Standard_D4s_v5 now: 409 SkuNotAvailable
}
