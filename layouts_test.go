package dsvmpools

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What a layout of package time is made of, and what shows that a text is one.
var (
	layoutParts = regexp.MustCompile(`2006|01|02|15|04|05|[.,](0+|9+)|[-+]07(:?00)?(:?00)?|Z07(:?00)?`)
	layoutMarks = regexp.MustCompile(`2006-?01|15:?04|15%`)
)

// A digit that stands for itself in a layout is one that package time takes for a part of the
// time: 3, as in the escape %3A, is the hour. Such texts are put around the time, not in it.
func TestLayoutsHaveNoOtherDigits(t *testing.T) {
	t.Parallel()
	found := 0
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "dist") {
			return errorOrSkip(err)
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, source, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING || !layoutMarks.MatchString(literal.Value) {
				return true
			}
			found++
			text, _ := strconv.Unquote(literal.Value)
			if rest := layoutParts.ReplaceAllString(text, ""); strings.ContainsAny(rest, "0123456789") {
				t.Errorf("%s: the layout %s has digits that are no part of a time", set.Position(literal.Pos()), literal.Value)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 10 {
		t.Errorf("only %d layouts were found", found)
	}
}

func errorOrSkip(err error) error {
	if err != nil {
		return err
	}
	return filepath.SkipDir
}
