package shared_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// TestCommentsNameWhatTheyStandOn finds comments that were left behind by a rename: a
// comment on a function, type, constant or variable that begins in lower case begins with
// the name.
func TestCommentsNameWhatTheyStandOn(t *testing.T) {
	t.Parallel()
	module := os.DirFS("..")
	err := eachGoFile(module, func(path string) error {
		source, err := fs.ReadFile(module, path)
		if err != nil {
			return err
		}
		found, err := misnamed(path, source)
		for _, f := range found {
			t.Error(f)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// misnamed lists the comments of a file that begin with another name than that of what
// they stand on.
func misnamed(path string, source []byte) (found []string, err error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	check := func(doc *ast.CommentGroup, names ...*ast.Ident) {
		words := strings.Fields(doc.Text())
		if len(words) == 0 || len(names) == 0 {
			return
		}
		first := strings.TrimRight(words[0], ",:;.")
		if r, _ := utf8.DecodeRuneInString(first); !unicode.IsLower(r) {
			return
		}
		for _, n := range names {
			if n.Name == first {
				return
			}
		}
		found = append(found, files.Position(doc.Pos()).String()+": the comment on "+names[0].Name+" begins with "+first)
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			check(d.Doc, d.Name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				doc := d.Doc
				if d.Lparen.IsValid() {
					doc = nil // on a group
				}
				switch s := spec.(type) {
				case *ast.TypeSpec:
					if s.Doc != nil {
						doc = s.Doc
					}
					check(doc, s.Name)
				case *ast.ValueSpec:
					if s.Doc != nil {
						doc = s.Doc
					}
					check(doc, s.Names...)
				}
			}
		}
	}
	return found, nil
}

func TestMisnamed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		source string
		want   int
	}{
		"its name":       {"// count counts.\nfunc count() {}", 0},
		"an old name":    {"// number counts.\nfunc count() {}", 1},
		"a sentence":     {"// Each is counted.\nfunc count() {}", 0},
		"none":           {"func count() {}", 0},
		"a type":         {"// number is one.\ntype count int", 1},
		"one of two":     {"// b is one.\nvar a, b int", 0},
		"a group":        {"// some numbers\nconst (\n\t// one is one.\n\tone = 1\n)", 0},
		"within a group": {"const (\n\t// two is one.\n\tone = 1\n)", 1},
		"a method":       {"type a int\n// old does it.\nfunc (a) do() {}", 1},
		"with a comma":   {"// count, in short, counts.\nfunc count() {}", 0},
	} {
		found, err := misnamed("x.go", []byte("package x\n"+tt.source+"\n"))
		if err != nil || len(found) != tt.want {
			t.Errorf("%s: got %v, %v; want %d", name, found, err, tt.want)
		}
	}
}
