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
	"unicode"
	"unicode/utf8"
)

// The fields whose text is a sentence to users: reasons of jobs and nodes, outcomes,
// answers of explain, messages of faults.
var sentenceFields = []string{"Reason", "Unblocks", "Message", "Ignored"}

// properNames may begin a sentence.
var properNames = []string{"Azure", "Git", "GitHub", "Linux", "Python", "Service", "Table", "Spot", "Functions", "Go"}

// Sentences to users begin in lower case and have no full stop at the end;
// CONTRIBUTING.md has the whole rule. Held are the places in which the text stands
// where the field gets its value.
func TestSentencesToUsers(t *testing.T) {
	t.Parallel()
	found, n, err := badSentences(os.DirFS(".."), func(name string) bool {
		return strings.HasPrefix(name, "shared/") || strings.HasPrefix(name, "handlers/") || strings.HasPrefix(name, "agent/")
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
	if n < 100 {
		t.Errorf("only %d sentences were found", n)
	}
}

// badSentences looks at the sentences in the files that are wanted, and counts them.
func badSentences(module fs.FS, wanted func(name string) bool) (found []string, n int, err error) {
	set := token.NewFileSet()
	err = eachFile(module, func(name string) error {
		if !wanted(name) {
			return nil
		}
		body, err := fs.ReadFile(module, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(set, name, body, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		check := func(e ast.Expr) {
			text, ok := sentenceText(e)
			if !ok || text == "" {
				return
			}
			n++
			if why := wrongSentence(text); why != "" {
				at := set.Position(e.Pos())
				found = append(found, fmt.Sprintf("%s:%d: %q %s", at.Filename, at.Line, text, why))
			}
		}
		ast.Inspect(file, func(node ast.Node) bool {
			switch x := node.(type) {
			case *ast.KeyValueExpr:
				if key, ok := x.Key.(*ast.Ident); ok && slices.Contains(sentenceFields, key.Name) {
					check(x.Value)
				}
			case *ast.AssignStmt:
				for i, to := range x.Lhs {
					if field, ok := to.(*ast.SelectorExpr); ok && slices.Contains(sentenceFields, field.Sel.Name) && len(x.Rhs) == len(x.Lhs) {
						check(x.Rhs[i])
					}
				}
			case *ast.CallExpr:
				if f, ok := x.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "New" && len(x.Args) > 2 {
					if from, ok := f.X.(*ast.Ident); ok && from.Name == "fault" {
						check(x.Args[2])
					}
				}
			}
			return true
		})
		return nil
	})
	return found, n, err
}

// sentenceText is the text that an expression begins and ends with, as far as it
// stands there: a literal, the format of a Sprintf, or literals that are joined.
func sentenceText(e ast.Expr) (string, bool) {
	switch x := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(x.Value)
		return text, err == nil
	case *ast.CallExpr:
		if f, ok := x.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Sprintf" && len(x.Args) > 0 {
			return sentenceText(x.Args[0])
		}
	case *ast.BinaryExpr:
		first, ok := sentenceText(x.X)
		last, also := sentenceText(x.Y)
		if !also {
			last = "%s"
		}
		return first + last, ok && x.Op == token.ADD
	}
	return "", false
}

// wrongSentence says what is wrong with a sentence; "" = nothing.
func wrongSentence(text string) string {
	first, _, _ := strings.Cut(text, " ")
	first = strings.Trim(first, ",:;")
	begin, size := utf8.DecodeRuneInString(first)
	second, _ := utf8.DecodeRuneInString(first[size:])
	switch {
	case unicode.IsUpper(begin) && !unicode.IsUpper(second) && !slices.Contains(properNames, strings.TrimSuffix(first, "'s")):
		return "begins with a capital letter"
	case strings.HasSuffix(text, ".") && !strings.HasSuffix(text, ".."):
		return "ends with a full stop"
	}
	return ""
}

func TestBadSentences(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ body, want string }{
		{`var x = T{Reason: "the node is lost"}`, ""},
		{`var x = T{Reason: "The node is lost"}`, "begins with a capital letter"},
		{`var x = T{Reason: "the node is lost."}`, "ends with a full stop"},
		{`var x = T{Reason: "Azure's answer"}`, ""},
		{`var x = T{Reason: "GPUs are missing"}`, ""},
		{`var x = T{Other: "The node."}`, ""},
		{`func f(n *T) { n.Reason = fmt.Sprintf("Node %s is lost", n) }`, "begins with a capital letter"},
		{`func f(n *T) { n.Reason = "its size is " + n.Size + "." }`, "ends with a full stop"},
		{`func f(n *T) { n.Reason = "its size is " + n.Size }`, ""},
		{`var err = fault.New(fault.Invalid, "pool", "The pool is missing")`, "begins with a capital letter"},
	} {
		found, n, err := badSentences(fstest.MapFS{"a/a.go": {Data: []byte("package a\n" + c.body + "\n")}}, func(string) bool { return true })
		got := strings.Join(found, "\n")
		if err != nil || c.want == "" && got != "" || !strings.Contains(got, c.want) || n > 1 {
			t.Errorf("%s: got %q, %d sentences, %v, want %q", c.body, got, n, err, c.want)
		}
	}
}
