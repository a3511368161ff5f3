package api

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
)

// What is served and what is described are the same routes.
func TestOpenAPINamesEveryRoute(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	document, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	model, err := document.BuildV3Model()
	if err != nil {
		t.Fatal(err)
	}
	var described, served []string
	for path, item := range model.Model.Paths.PathItems.FromOldest() {
		for method, operation := range item.GetOperations().FromOldest() {
			var query []string
			for _, parameter := range slices.Concat(item.Parameters, operation.Parameters) {
				if parameter.In == "query" {
					query = append(query, parameter.Name)
				}
			}
			slices.Sort(query)
			described = append(described, strings.ToUpper(method)+" "+path+" "+strings.Join(query, ","))
		}
	}
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
