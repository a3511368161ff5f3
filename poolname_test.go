package dsvmpools

import (
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dsvmpools/shared/job"
)

// poolNamePattern is the rule for names of pools where a schema must write it out.
const poolNamePattern = `^[a-z0-9-]{1,24}$`

// The rule for names of pools stands in shared/job/names.go, and as a pattern in the
// description of the API, which cannot point there. Nobody else has one of their own.
func TestPoolNamesHaveOneRule(t *testing.T) {
	t.Parallel()
	length := regexp.MustCompile(`\{1, ?24\}|maxLength: 24\b|"maxLength": ?24\b`)
	found := 0
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if err == nil && name != "." && (strings.HasPrefix(name, ".") || d.Name() == "testdata" || d.Name() == "dist") {
				return fs.SkipDir
			}
			return err
		}
		if !regexp.MustCompile(`\.(go|yaml|json|bicep|js|html|tmpl|sh)$`).MatchString(name) || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if !length.MatchString(line) {
				continue
			}
			found++
			if !slices.Contains([]string{"shared/job/names.go", "docs/openapi.yaml"}, name) || !strings.Contains(line, poolNamePattern) {
				t.Errorf("%s has a rule for names of pools of its own: %s; use job.CheckPool", name, strings.TrimSpace(line))
			}
		}
		return nil
	})
	if err != nil || found < 2 {
		t.Errorf("found %d rules, %v", found, err)
	}
	rule := regexp.MustCompile(poolNamePattern)
	for _, name := range []string{"", "a", "cpu-2", "CPU", "a_b", "a b", "ü", strings.Repeat("a", 24), strings.Repeat("a", 25), "-"} {
		if (job.CheckPool("pool", name) == nil) != rule.MatchString(name) {
			t.Errorf("%q: the description of the API and the code do not agree", name)
		}
	}
}
