package service_test

import (
	"fmt"
	"testing"

	"dsvmpools/shared/job"
	"dsvmpools/shared/service"
)

// The jobs of a pool come together, and each comes after those that it names.
func TestSplitByPool(t *testing.T) {
	t.Parallel()
	jobs := func(list ...[3]string) (specs []job.Spec) {
		for _, j := range list {
			spec := job.Spec{ID: j[0], Pool: j[1]}
			if j[2] != "" {
				spec.After = []string{j[2]}
			}
			specs = append(specs, spec)
		}
		return specs
	}
	for name, test := range map[string]struct {
		specs []job.Spec
		want  string
	}{
		"none":              {nil, "[]"},
		"one pool":          {jobs([3]string{"a", "cpu", ""}, [3]string{"b", "cpu", "a"}), "[[0 1]]"},
		"two pools":         {jobs([3]string{"a", "gpu", ""}, [3]string{"b", "cpu", ""}, [3]string{"c", "gpu", "a"}), "[[1] [0 2]]"},
		"from pool to pool": {jobs([3]string{"a", "gpu", ""}, [3]string{"b", "cpu", "a:any"}, [3]string{"c", "gpu", "b"}), "[[0] [1] [2]]"},
		"an end in between": {jobs([3]string{"a", "gpu", ""}, [3]string{"b", "cpu", "a"}, [3]string{"c", "cpu", "a"}), "[[0] [1 2]]"},
		"of another list":   {jobs([3]string{"a", "gpu", "x"}, [3]string{"b", "cpu", "y"}, [3]string{"c", "gpu", "a"}), "[[1] [0 2]]"},
	} {
		if got := fmt.Sprint(service.SplitByPool(test.specs)); got != test.want {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
}
