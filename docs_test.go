package dsvmpools

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dsvmpools/shared/document"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/push"
)

var block = regexp.MustCompile("(?ms)^ *```(json|yaml)\n(.*?)^ *```$")

// Every job, pool and rule that the documentation shows, and every example, is one
// that is taken.
func TestDocumentsInTheDocs(t *testing.T) {
	t.Parallel()
	type shown struct{ where, format, text string }
	var all []shown
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "README.md") {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range block.FindAllSubmatch(b, -1) {
			all = append(all, shown{page, string(m[1]), string(m[2])})
		}
	}
	for _, pattern := range []string{"docs/examples/*.json", "docs/examples/*.yaml"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, shown{file, strings.TrimPrefix(filepath.Ext(file), "."), string(b)})
		}
	}
	jobs, pools, rules := 0, 0, 0
	for _, d := range all {
		kind := "application/" + d.format
		has := func(field string) bool {
			return regexp.MustCompile(`(?m)^\s*[{]?"?`+field+`"?:`).MatchString(d.text) || strings.Contains(d.text, `"`+field+`":`)
		}
		var err error
		switch {
		case has("provider"):
			rules++
			_, err = push.ParseRules([]byte(d.text), kind)
		case has("sizes"):
			pools++
			_, err = pool.Parse([]byte(d.text), kind)
		case has("pool") && (has("command") || has("script")):
			var nodes []*document.Node
			nodes, err = document.ParseAll([]byte(d.text), "x."+d.format)
			for _, node := range nodes {
				jobs++
				if _, failed := job.ParseNode(node); failed != nil {
					err = failed
				}
			}
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", d.where, err, d.text)
		}
	}
	if jobs < 7 || pools < 5 || rules < 1 {
		t.Errorf("found %d jobs, %d pools and %d rules", jobs, pools, rules)
	}
}

// The index of decisions has each of them once, in the order of their numbers.
func TestDecisionsAreInOrder(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("docs/decisions/[0-9]*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no decisions: %v", err)
	}
	index, err := os.ReadFile("docs/decisions/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, file := range files {
		want = append(want, filepath.Base(file))
	}
	for _, link := range regexp.MustCompile(`(?m)^\| \d+ \| \[[^\]]*\]\((\S+\.md)\)`).FindAllStringSubmatch(string(index), -1) {
		got = append(got, link[1])
	}
	if !slices.Equal(got, want) {
		t.Errorf("docs/decisions/README.md lists\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
