package openapitest

import "testing"

// TestPathOfAMethod: a path that is described for other methods alone is never taken, in
// whatever order the paths come.
func TestPathOfAMethod(t *testing.T) {
	t.Parallel()
	s, err := ReadSpecification("../../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for range 100 { // the order of a map is another one each time
		for method, want := range map[string]string{"GET": "/api/jobs/{id}", "POST": "/api/jobs/cancel"} {
			if got, ok := s.path(method, "/api/jobs/cancel"); !ok || got != want {
				t.Fatalf("%s /api/jobs/cancel is described by %q, want %q", method, got, want)
			}
		}
	}
}
