package dsvmpools

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// A path in backticks, and a name in it behind a colon. Words with three dots are
// patterns, and NAME stands for a name.
var (
	codeSpan = regexp.MustCompile("`([^`\n]+)`")
	filePath = regexp.MustCompile(`^(\.?[A-Za-z0-9_-]+(?:[./][A-Za-z0-9_.-]+)*/?)(?::([A-Za-z_][A-Za-z0-9_]*))?$`)
	suffix   = regexp.MustCompile(`\.(go|json|md|yml|yaml|example)$`)
)

// Each path that docs/development.md and CONTRIBUTING.md name exists, and each name
// behind a colon is declared in that file.
func TestDevelopmentPage(t *testing.T) {
	t.Parallel()
	root := os.DirFS(".")
	for page, least := range map[string]int{"docs/development.md": 60, "CONTRIBUTING.md": 3} {
		text, err := fs.ReadFile(root, page)
		if err != nil {
			t.Fatal(err)
		}
		wrong, n := brokenReferences(root, string(text))
		for _, w := range wrong {
			t.Errorf("%s: %s", page, w)
		}
		if n < least {
			t.Errorf("%s: only %d references were found", page, n)
		}
	}
}

// brokenReferences says which paths and names of a page are not there, and counts
// those that it has looked for.
func brokenReferences(root fs.FS, page string) (wrong []string, n int) {
	for _, span := range codeSpan.FindAllStringSubmatch(page, -1) {
		m := filePath.FindStringSubmatch(span[1])
		if m == nil || strings.Contains(span[1], "...") || strings.Contains(span[1], "NAME") {
			continue
		}
		file, name := strings.TrimSuffix(m[1], "/"), m[2]
		if !suffix.MatchString(file) && !strings.Contains(m[1], "/") {
			continue // a word, not a path
		}
		n++
		if _, err := fs.Stat(root, file); err != nil {
			wrong = append(wrong, fmt.Sprintf("there is no %s", file))
			continue
		}
		if name == "" {
			continue
		}
		body, err := fs.ReadFile(root, file)
		if err == nil && path.Ext(file) == ".go" {
			var names map[string]bool
			names, err = declared(file, body)
			if err == nil && !names[name] {
				err = fmt.Errorf("%s declares no %s", file, name)
			}
		}
		if err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	return wrong, n
}

// declared are the functions, methods, types, fields, constants and variables of a file.
func declared(name string, body []byte) (map[string]bool, error) {
	file, err := parser.ParseFile(token.NewFileSet(), name, body, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok {
			names[f.Name.Name] = true
			continue
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.TypeSpec:
				names[x.Name.Name] = true
			case *ast.ValueSpec:
				for _, id := range x.Names {
					names[id.Name] = true
				}
			case *ast.Field:
				for _, id := range x.Names {
					names[id.Name] = true
				}
			}
			return true
		})
	}
	return names, nil
}

func TestBrokenReferences(t *testing.T) {
	t.Parallel()
	root := fstest.MapFS{
		"a/b.go":  {Data: []byte("package a\n\ntype T struct{ Field int }\n\nfunc (T) method() {}\n\nfunc f() {}\n")},
		"go.mod":  {},
		".ci/run": {},
	}
	for page, want := range map[string]string{
		"`a/b.go:T` `a/b.go:Field` `a/b.go:method` `a/b.go:f` `a` `a/` `.ci/run` `a/...` `x/NAME/y`": "",
		"`go test ./a/c.go`": "",
		"`a/c.go`":           "there is no a/c.go",
		"`c/`":               "there is no c",
		"`a/b.go:g`":         "a/b.go declares no g",
	} {
		wrong, _ := brokenReferences(root, page)
		if got := strings.Join(wrong, "; "); got != want {
			t.Errorf("%s: got %q, want %q", page, got, want)
		}
	}
}

var glossaryRow = regexp.MustCompile("(?m)^\\| ([^|]+) \\| ([^|]+) \\| `([^`]+)` \\|$")

// The words of docs/glossary.md are in their order, each once, with a meaning and
// a package that is there.
func TestGlossary(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/glossary.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := glossaryRow.FindAllStringSubmatch(string(text), -1)
	if lines := strings.Count(string(text), "\n| ") - 1; len(rows) != lines || lines < 60 {
		t.Errorf("got %d words in %d rows", len(rows), lines)
	}
	last := ""
	for _, row := range rows {
		word := strings.ToLower(row[1])
		if word <= last {
			t.Errorf("%q comes after %q", word, last)
		}
		last = word
		if _, err := os.Stat(row[3]); err != nil {
			t.Errorf("%s: there is no package %s", word, row[3])
		}
	}
}
