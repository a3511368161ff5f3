package job_test

import (
	"fmt"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

func ExampleParse() {
	spec, err := job.Parse([]byte(`
pool: gpu
command: [python, train.py]
resources: {gpus: 1, memory: 4Gi}
timeout: 2h
`), "application/yaml")
	fmt.Println(spec.Pool, spec.Command, spec.Resources.CPUs, spec.Resources.GPUs, spec.Timeout, spec.Priority, err)

	_, err = job.Parse([]byte("pool: GPU\ncommand: [python]\n"), "application/yaml")
	fmt.Println(fault.CodeOf(err), err)
	// Output:
	// gpu [python train.py] 1 1 2h normal <nil>
	// invalid line 1: `pool` is "GPU"; a pool's name has 1 to 24 characters of a-z 0-9 -
}
