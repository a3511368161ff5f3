package httpapi

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"dsvmpools/shared/caller"
)

// Each route says what it needs, and what changes something never is for readers.
func TestEveryRouteNeedsARight(t *testing.T) {
	t.Parallel()
	open := []string{
		"POST /api/push/{provider}", // a delivery proves itself
		"GET /api/signin",           // it is no secret
	}
	for _, r := range (&server{}).routes() {
		name := r.method + " " + r.path
		switch {
		case r.needs == right{}:
			t.Errorf("%s lets nobody in; say which right it needs", name)
		case r.needs.kind == byNobody:
			if !slices.Contains(open, name) {
				t.Errorf("%s is open to all", name)
			}
		case r.needs.kind == byRole && r.needs.role.Rank() == 0:
			t.Errorf("%s needs the role %q, which is none", name, r.needs.role)
		case r.method != "GET" && r.needs.kind == byRole && r.needs.role == caller.Reader:
			t.Errorf("%s changes something, and a reader may do it", name)
		}
	}
	// A route without a right lets nobody in, whoever calls.
	s := &server{}
	if _, err := s.admit(httptest.NewRequest("GET", "/api/x", nil), right{}); err == nil {
		t.Error("a route that says nothing let a program in")
	}
}

// Of the platform's header, only a whole one of the right tenant is taken.
func FuzzPrincipal(f *testing.F) {
	f.Add("eyJhdXRoX3R5cCI6ImFhZCIsImNsYWltcyI6W119", "")
	f.Fuzz(func(t *testing.T, text, tenant string) {
		h := map[string][]string{principalHeader: {text}}
		if p, err := readPrincipal(h, tenant); err == nil && (!caller.IsSubject(p.ID) || p.ID != strings.ToLower(p.ID)) {
			t.Errorf("%q is taken for %+v", text, p)
		}
	})
}
