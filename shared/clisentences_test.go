package shared_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// cliCalls make the sentences of the command line: errors, and lines on standard error.
var cliCalls = map[string]bool{"WrongUse": true, "Errorf": true, "Say": true, "New": true}

// inBackticks is a command, a field or a setting in a sentence; bareCommand is a command
// that stands there without them.
var (
	inBackticks = regexp.MustCompile("`[^`]*`")
	bareCommand = regexp.MustCompile(`\bdsvm [a-z]+`)
)

// TestSentencesOfTheCommandLine: what dsvm says follows the rule of docs/development.md,
// as far as it stands in the code as one text.
func TestSentencesOfTheCommandLine(t *testing.T) {
	t.Parallel()
	found, n, err := badCLISentences(os.DirFS(".."), "cmd/dsvm/")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
	if n < 150 {
		t.Errorf("only %d sentences were found", n)
	}
}

// badCLISentences looks at the sentences in the files below a folder, and counts them.
func badCLISentences(module fs.FS, below string) (found []string, n int, err error) {
	set := token.NewFileSet()
	err = eachFile(module, func(name string) error {
		if !strings.HasPrefix(name, below) {
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
		ast.Inspect(file, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 || !cliCalls[calledName(call)] {
				return true
			}
			text, ok := sentenceText(call.Args[0])
			if !ok || text == "" {
				return true
			}
			n++
			if why := wrongCLISentence(text); why != "" {
				at := set.Position(call.Pos())
				found = append(found, fmt.Sprintf("%s:%d: %q %s", at.Filename, at.Line, text, why))
			}
			return true
		})
		return nil
	})
	return found, n, err
}

// calledName is the name of the function that a call calls; of New, that of package errors
// alone.
func calledName(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if from, ok := f.X.(*ast.Ident); f.Sel.Name == "New" && (!ok || from.Name != "errors") {
			return ""
		}
		return f.Sel.Name
	}
	return ""
}

// wrongCLISentence says what is wrong with a sentence of the command line; "" = nothing.
func wrongCLISentence(text string) string {
	switch { // what another program has written may follow on lines of its own
	case strings.Contains(strings.TrimSuffix(text, "\n%s"), "\n"):
		return "has two lines; make one sentence of it"
	case bareCommand.MatchString(inBackticks.ReplaceAllString(text, "")):
		return "names a command without backticks"
	}
	return wrongSentence(text)
}

func TestBadCLISentences(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`return WrongUse("name the file; use ` + "`dsvm pool apply -f FILE`" + `")`: "",
		`return WrongUse("name the file: dsvm pool apply -f FILE")`:                 "without backticks",
		`return cli.WrongUse("Name the file")`:                                      "begins with a capital letter",
		`return fmt.Errorf("%w is lost.", err)`:                                     "ends with a full stop",
		`return errors.New("it is lost\nfind it")`:                                  "has two lines",
		`return table.New("It is.")`:                                                "",
		`p.Say("Done")`:                                                             "begins with a capital letter",
	} {
		source := "package a\nfunc f() error {\n" + body + "\n}\n"
		found, _, err := badCLISentences(fstest.MapFS{"a/a.go": {Data: []byte(source)}}, "a/")
		got := strings.Join(found, "\n")
		if err != nil || (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, %v, want %q", body, got, err, want)
		}
	}
}
