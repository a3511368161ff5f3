package document_test

import (
	"fmt"

	"dsvmpools/shared/document"
)

// An unknown field is an error with its line and the nearest field that is known.
func ExampleRead() {
	n, err := document.Parse([]byte("name: gpu\nidleTimout: 5m\n"), "application/yaml")
	if err != nil {
		fmt.Println(err)
		return
	}
	r := document.Read(n, "name", "idleTimeout")
	fmt.Println(r.Err())
	// Output:
	// line 2: there is no field `idleTimout`; did you mean `idleTimeout`?
}
