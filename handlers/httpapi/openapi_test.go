package httpapi

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dsvmpools/handlers/httpapi/openapitest"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/tree"
	"dsvmpools/shared/wire"
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
		path := strings.ReplaceAll(r.path, "...}", "}") // OpenAPI has no word for it
		served = append(served, r.method+" "+path+" "+strings.Join(r.query, ","))
	}
	slices.Sort(described)
	slices.Sort(served)
	if !slices.Equal(described, served) {
		t.Errorf("described:\n%s\nserved:\n%s", strings.Join(described, "\n"), strings.Join(served, "\n"))
	}
	if got := len(served); got == 0 || !slices.Contains(served, http.MethodPost+" /api/jobs dryRun") {
		t.Errorf("the list of routes is not read: %d found", got)
	}
}

// The host answers 401 without a body wherever it asks for the key, and the description says
// so of every operation but the pushes, which need none.
func TestOpenAPISaysWhereAKeyIsNeeded(t *testing.T) {
	t.Parallel()
	s, err := openapitest.ReadSpecification("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range s.Routes() {
		method, path, _ := strings.Cut(route, " ")
		path, _, _ = strings.Cut(path, " ")
		if path == "/api/push/{provider}" {
			continue
		}
		if err := s.Check(httptest.NewRequest(method, path, nil), http.StatusUnauthorized, http.Header{}, nil); err != nil {
			t.Errorf("%s: %v", route, err)
		}
	}
}

// What has a field in JSON has the same property in its description, and no other.
func TestOpenAPINamesEveryField(t *testing.T) {
	t.Parallel()
	s, err := openapitest.ReadSpecification("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for schema, of := range map[string]reflect.Type{
		"JobDocument":  reflect.TypeFor[job.Spec](),
		"PoolDocument": reflect.TypeFor[pool.Spec](),
		"Share":        reflect.TypeFor[pool.Share](),
		"Job":          reflect.TypeFor[wire.Job](),
		"DryRun":       reflect.TypeFor[wire.DryRun](),
		"Attempt":      reflect.TypeFor[wire.Attempt](),
		"Rank":         reflect.TypeFor[wire.Rank](),
		"Pool":         reflect.TypeFor[wire.Pool](),
		"Node":         reflect.TypeFor[wire.Node](),
		"Problem":      reflect.TypeFor[wire.Problem](),
		"TreeQuestion": reflect.TypeFor[wire.TreeQuestion](),
		"TreeAnswer":   reflect.TypeFor[wire.TreeAnswer](),
		"TreeEntry":    reflect.TypeFor[tree.Entry](),
		"Kept":         reflect.TypeFor[wire.Kept](),
		"File":         reflect.TypeFor[wire.File](),
		"Rejected":     reflect.TypeFor[wire.Rejected](),
		"Resubmitted":  reflect.TypeFor[wire.Resubmitted](),
		"PoolPlan":     reflect.TypeFor[wire.PoolPlan](),
		"AuditEntry":   reflect.TypeFor[wire.AuditEntry](),
		"SignIn":       reflect.TypeFor[wire.SignIn](),
		"Me":           reflect.TypeFor[wire.Me](),

		"Now":                reflect.TypeFor[wire.Now](),
		"NowJobs":            reflect.TypeFor[wire.NowJobs](),
		"NowPool":            reflect.TypeFor[wire.NowPool](),
		"NowBudget":          reflect.TypeFor[wire.NowBudget](),
		"Timeline":           reflect.TypeFor[wire.Timeline](),
		"TimelineNode":       reflect.TypeFor[wire.TimelineNode](),
		"Trouble":            reflect.TypeFor[wire.Trouble](),
		"Session":            reflect.TypeFor[wire.Session](),
		"SessionRequest":     reflect.TypeFor[wire.SessionRequest](),
		"SessionExtend":      reflect.TypeFor[wire.SessionExtend](),
		"CertificateRequest": reflect.TypeFor[wire.CertificateRequest](),
		"SessionCertificate": reflect.TypeFor[wire.SessionCertificate](),
		"Door":               reflect.TypeFor[wire.Door](),
		"SessionLab":         reflect.TypeFor[wire.SessionLab](),
	} {
		var fields []string
		for i := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			fields = append(fields, name)
		}
		slices.Sort(fields)
		if described := s.Properties(schema); !slices.Equal(described, fields) {
			t.Errorf("%s: described %v, in JSON %v", schema, described, fields)
		}
	}
}
