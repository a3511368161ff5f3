package pool_test

import (
	"fmt"

	"dsvmpools/shared/pool"
)

func ExampleParse() {
	spec, err := pool.Parse([]byte("name: cpu\nsizes: [Standard_D4s_v5]\nnodes: {max: 4}\n"), "application/yaml")
	fmt.Println(spec.Name, spec.Capacity, spec.Nodes.Max, spec.IdleTimeout, err)
	_, err = pool.Parse(
		[]byte(`{"name": "cpu", "sizes": ["Standard_D4s_v5"], "nodes": {"max": 4}, "capacity": "cheap"}`),
		"application/json",
	)
	fmt.Println(err)
	// Output:
	// cpu regular 4 5m <nil>
	// line 1: `capacity` is "cheap"; write regular, spot or spot-then-regular
}
