package httpapi

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"dsvmpools/handlers/httpapi/openapitest"
)

// What is served and what is described are the same routes.
func TestOpenAPINamesEveryRoute(t *testing.T) {
	t.Parallel()
	s, err := openapitest.ReadSpecification("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	described, served := s.Routes(), []string(nil)
	for _, r := range (&server{}).routes() {
		slices.Sort(r.query)
		served = append(served, r.method+" "+r.path+" "+strings.Join(r.query, ","))
	}
	slices.Sort(described)
	slices.Sort(served)
	if !slices.Equal(described, served) {
		t.Errorf("described:\n%s\nserved:\n%s", strings.Join(described, "\n"), strings.Join(served, "\n"))
	}
	if got := len(served); got == 0 || !slices.Contains(served, http.MethodPost+" /api/jobs ") {
		t.Errorf("the list of routes is not read: %d found", got)
	}
}
