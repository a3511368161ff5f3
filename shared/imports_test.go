// Package shared_test holds the pure packages to what they promise: the same
// input gives the same answer, on any machine, at any time. Code that
// reads the clock or the network can no longer be simulated, replayed or fuzzed.
// It also holds all packages to the walls between them.
package shared_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "dsvmpools/"

var pure = []string{
	"shared/backoff", "shared/boot", "shared/document", "shared/fault", "shared/job", "shared/pool", "shared/price", "shared/protocol", "shared/push", "shared/scheduler",
	"shared/size", "shared/tree", "shared/usage",
}

// forbidden packages, with all that is below them, and why.
var forbidden = map[string]string{
	"net":         "it talks to the network; that is for an adapter",
	"os":          "it touches the machine it runs on; pass in what is needed",
	"syscall":     "it touches the machine it runs on; pass in what is needed",
	"database":    "it stores things; return the changes, and let the store write them",
	"math/rand":   "it gives another answer each time; pass in what is drawn",
	"crypto/rand": "it gives another answer each time; pass in what is drawn",
	"context":     "what cannot wait needs no cancelling",
	"log":         "return what happened, and let the caller say it",
}

// clock are the names of package time that read the clock or wait for it.
// LoadLocation is none of them: it reads rules, not the time.
var clock = []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTimer", "NewTicker", "Local"}

func TestPurePackages(t *testing.T) {
	t.Parallel()
	found, err := impurities(os.DirFS(".."), pure)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

// impurities looks through packages of the module, and those of the module that
// they import.
func impurities(module fs.FS, packages []string) ([]string, error) {
	var found []string
	todo := slices.Clone(packages)
	for i := 0; i < len(todo); i++ { // todo grows
		files, err := sources(module, todo[i])
		if err != nil {
			return nil, err
		}
		for _, name := range files {
			more, imports, err := look(module, name)
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
			for _, path := range imports {
				if !slices.Contains(todo, path) {
					todo = append(todo, path)
				}
			}
		}
	}
	return found, nil
}

// sources are the files of a package, whatever system they are built for.
func sources(module fs.FS, dir string) ([]string, error) {
	all, err := fs.Glob(module, dir+"/*.go")
	files := slices.DeleteFunc(all, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s has no Go files; correct the list of pure packages", dir)
	}
	return files, err
}

// look reads one file: what is wrong with it, and which packages of the module
// it imports.
func look(from fs.FS, name string) (found, imports []string, err error) {
	body, err := fs.ReadFile(from, name)
	if err != nil {
		return nil, nil, err
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, body, parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, err
	}
	report := func(at token.Pos, format string, args ...any) {
		p := set.Position(at)
		found = append(found, fmt.Sprintf("%s:%d: %s", p.Filename, p.Line, fmt.Sprintf(format, args...)))
	}
	clockName := ""
	for _, spec := range file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, nil, err
		}
		if why := reason(path); why != "" {
			report(spec.Pos(), "a pure package must not import %s: %s", path, why)
		}
		if inside, ok := strings.CutPrefix(path, module); ok {
			imports = append(imports, inside)
		}
		if path == "time" {
			clockName = "time"
			if spec.Name != nil {
				clockName = spec.Name.Name
			}
			if clockName == "." {
				report(spec.Pos(), "import time under its name, so that uses of the clock can be seen")
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && clockName != "" {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == clockName && slices.Contains(clock, s.Sel.Name) {
				report(s.Pos(), "a pure package must not use time.%s: the time is passed in, or the same events would not give the same rows", s.Sel.Name)
			}
		}
		return true
	})
	return found, imports, nil
}

func reason(path string) string {
	for prefix, why := range forbidden {
		if path == prefix || strings.HasPrefix(path, prefix+"/") {
			return why
		}
	}
	if strings.Contains(strings.ToLower(path), "azure") {
		return "it speaks to the cloud; that is for an adapter"
	}
	return ""
}

func TestImpurities(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, body, want string }{
		{"clean", "import (\"time\"; \"strings\")\nvar _, _ = time.LoadLocation(\"UTC\")\nvar _ = strings.ToUpper", ""},
		{"another's Now", "import \"time\"\nfunc f(clock struct{ Now time.Time }) any { return clock.Now }", ""},
		{"the network", `import "net/http"`, "must not import net/http: it talks to the network"},
		{"processes", `import "os/exec"`, "must not import os/exec: it touches the machine"},
		{"files", `import "os"`, "must not import os: it touches the machine"},
		{"a database", `import "database/sql"`, "must not import database/sql: it stores things"},
		{"chance", `import "math/rand/v2"`, "must not import math/rand/v2: it gives another answer each time"},
		{"an SDK", `import "github.com/Azure/azure-sdk-for-go/sdk/azcore"`, "must not import github.com/Azure/azure-sdk-for-go/sdk/azcore: it speaks to the cloud"},
		{"the clock", "import \"time\"\nvar _ = time.Now()", "a.go:3: a pure package must not use time.Now"},
		{"the clock as a value", "import \"time\"\nvar now = time.Now", "must not use time.Now"},
		{"the clock by another name", "import clock \"time\"\nfunc f() { clock.Sleep(1) }", "must not use time.Sleep"},
		{"the clock without a name", "import . \"time\"\nvar _ = Now()", "import time under its name"},
		{"waiting", "import \"time\"\nfunc f() { <-time.After(1) }", "must not use time.After"},
		{"through another package", `import "dsvmpools/b"`, "b/b.go:2: a pure package must not import os:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			files := fstest.MapFS{
				"a/a.go":      {Data: []byte("package a\n" + c.body + "\n")},
				"a/a_test.go": {Data: []byte("package a\nimport \"os\"\n")},
				"b/b.go":      {Data: []byte("package b\nimport \"os\"\n")},
			}
			found, err := impurities(files, []string{"a"})
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(found, "\n")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) || strings.Count(got, "\n") > 0 {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if _, err := impurities(fstest.MapFS{}, []string{"gone"}); err == nil {
		t.Error("a package that is not there was taken for a pure one")
	}
}
