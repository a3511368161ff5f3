package service_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"dsvmpools/shared/service"
	"dsvmpools/shared/store"
)

// However many rules there are, a delivery is tried with few secrets.
func TestManySecrets(t *testing.T) {
	t.Parallel()
	h := newHook(t, aRule+`}`)
	rules := func(provider string, n int) []byte {
		var list []string
		for i := range n {
			list = append(
				list,
				strings.NewReplacer(`"r"`, fmt.Sprintf(`"r%d"`, i), "GITHUB_PUSH_SECRET", fmt.Sprintf("PUSH_SECRET_%d", i), `"github"`, provider).
					Replace(aRule+`}`),
			)
		}
		return []byte(`{"rules":[` + strings.Join(list, ",") + `]}`)
	}
	for _, test := range []struct {
		name, provider string
		rules, status  int
	}{{"one too many", `"github"`, service.MaxSecrets, 400}, {"as many as there may be", `"github"`, service.MaxSecrets - 1, 200}, {"another provider's", `"gitlab"`, service.MaxSecrets, 200}, {"the same again", `"gitlab"`, service.MaxSecrets, 200}} {
		if w := h.call("POST", "/api/rules", map[string]string{"Content-Type": "application/json"}, rules(test.provider, test.rules)); w.Code != test.status {
			t.Errorf("%s: got %d %s", test.name, w.Code, w.Body)
		}
	}
	// Rules of an earlier release, or applied at the same moment.
	for i := range service.MaxSecrets {
		document := strings.NewReplacer(`"r"`, fmt.Sprintf(`"a%d"`, i), "GITHUB_PUSH_SECRET", fmt.Sprintf("PUSH_SECRET_OLD%d", i)).
			Replace(aRule + `}`)
		if err := h.store.PutRule(t.Context(), store.RuleRow{Name: fmt.Sprintf("a%d", i), Document: document, ChangedAt: h.now()}); err != nil {
			t.Fatal(err)
		}
	}
	var asked []string
	lookup := h.config.Setting
	h.change(func(c *service.Config) {
		c.Setting = func(name string) string { asked = append(asked, name); return lookup(name) }
	})
	if w := h.call("POST", "/api/push/github", map[string]string{"X-GitHub-Event": "push", "X-Hub-Signature-256": "sha256=" + strings.Repeat("0", 64)}, payload("refs/heads/main", "1", "2")); w.Code != http.StatusUnauthorized {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	// Before the body is read it is asked which secrets are there, in the same order.
	if asked = asked[1+slices.Index(asked[1:], asked[0]):]; len(asked) != service.MaxSecrets ||
		!strings.Contains(h.log.String(), "have rules share secrets") {
		t.Errorf("%d secrets were tried, want %d", len(asked), service.MaxSecrets)
	}
}
