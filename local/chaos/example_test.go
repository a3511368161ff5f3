package chaos_test

import (
	"fmt"

	"dsvmpools/local/chaos"
)

// A server asks before it answers, and names the actions that it can carry out here.
func ExampleSet_Decide() {
	set := chaos.New(7)
	if _, err := set.Add(chaos.Injection{
		Do:     chaos.Refuse,
		Target: "compute/patch/cpu-*",
		Code:   "AllocationFailed",
		After:  1,
		Count:  1,
	}); err != nil {
		fmt.Println(err)
		return
	}
	call := chaos.Call{Server: "compute", Operation: "patch", Entity: "cpu-spot"}
	for range 3 {
		verdict := set.Decide(call, chaos.Refuse, chaos.Delay)
		fmt.Printf("%q %q\n", verdict.Do, verdict.Code)
	}
	// Output:
	// "" ""
	// "refuse" "AllocationFailed"
	// "" ""
}
