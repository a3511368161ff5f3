package dsvmpools

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"
)

// pages are those that show commands to users. Each of their code blocks is run, in
// the order of the page, by one bash in a copy of this repository; a comment of HTML
// before a block says otherwise:
//
//	<!-- not run: REASON -->   the block is left out
//	<!-- exit N -->            the last command of the block ends with this exit code
//	<!-- before: COMMANDS -->  run before the block; readers do not see them
//
// A block in a language other than sh is not run: others hold those in JSON and YAML.
var pages = []string{"README.md", "docs/*.md"}

// notForUsers are pages whose blocks are for those who change the program, or show no commands.
var notForUsers = map[string]bool{
	"docs/architecture.md": true, "docs/development.md": true, "docs/glossary.md": true, "docs/protocol.md": true,
	"docs/reliability.md": true, "docs/performance.md": true, "docs/README.md": true,
}

// example is one block of commands of a page.
type example struct {
	line   int
	text   string // "" = not run
	before string
	code   int
	reason string // why it is not run
}

var directive = regexp.MustCompile(`(?s)^<!-- (not run|exit|before)(?::| )\s*(.*?)\s*-->\s*$`)

// readExamples finds the blocks of commands of a page.
func readExamples(page []byte) (found []example, err error) {
	var next example
	doc := goldmark.DefaultParser().Parse(text.NewReader(page))
	err = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		lines := func() string {
			var b strings.Builder
			for i := range n.Lines().Len() {
				line := n.Lines().At(i)
				b.Write(line.Value(page))
			}
			return b.String()
		}
		switch n := n.(type) {
		case *ast.HTMLBlock:
			comment := lines()
			if n.HasClosure() {
				comment += string(n.ClosureLine.Value(page))
			}
			m := directive.FindStringSubmatch(strings.TrimSpace(comment))
			switch {
			case m == nil:
			case m[1] == "not run":
				next.reason = m[2]
			case m[1] == "before":
				next.before = m[2]
			default:
				if _, err := fmt.Sscan(m[2], &next.code); err != nil {
					return 0, fmt.Errorf("%q is no exit code", m[2])
				}
			}
		case *ast.FencedCodeBlock:
			language := string(n.Language(page))
			if language == "" {
				return 0, fmt.Errorf("%q stands in a block without a language: sh is run, text is not", lines())
			}
			if language != "sh" {
				next = example{}
				return ast.WalkContinue, nil
			}
			return ast.WalkContinue, takeExample(&next, &found, page, n, lines())
		case *ast.CodeBlock:
			return ast.WalkContinue, takeExample(&next, &found, page, n, lines())
		}
		return ast.WalkContinue, nil
	})
	if next.reason != "" || next.before != "" || next.code != 0 {
		err = fmt.Errorf("a comment without a block after it: %+v", next)
	}
	return found, err
}

func takeExample(next *example, found *[]example, page []byte, n ast.Node, body string) error {
	if n.Lines().Len() == 0 {
		return fmt.Errorf("an empty block")
	}
	next.line = 1 + bytes.Count(page[:n.Lines().At(0).Start], []byte("\n"))
	if next.reason == "" {
		next.text = body
	}
	*found = append(*found, *next)
	*next = example{}
	return nil
}

// script is a page as one program of bash. It prints a line ":: LINE" before each block.
// `dsvm up` goes to the background, with its number in $up, and is waited for.
func script(examples []example) string {
	var b strings.Builder
	b.WriteString("set -eu -o pipefail\n")
	for _, e := range examples {
		if e.text == "" {
			continue
		}
		fmt.Fprintf(&b, "echo ':: %d'\n", e.line)
		if e.before != "" {
			fmt.Fprintf(&b, "%s\n", e.before)
		}
		for _, line := range strings.SplitAfter(e.text, "\n") {
			if up := upLine.FindStringSubmatch(line); up != nil {
				fmt.Fprintf(&b, "%s >up.txt 2>&1 &\nup=$!\n"+
					"until [ -f .dsvm/instance.json ] && dsvm pool list >/dev/null 2>&1; do kill -0 $! || { cat up.txt; exit 1; }; sleep 0.1; done\n", up[1])
				continue
			}
			b.WriteString(line)
		}
		if e.code != 0 {
			// A block that fails as it should: its last command may not end the script.
			last := strings.LastIndex(strings.TrimRight(b.String(), "\n"), "\n") + 1
			whole := b.String()
			b.Reset()
			fmt.Fprintf(&b, "%scode=0\n%s || code=$?\n[ $code = %d ] || { echo \"exit code $code\"; exit 1; }\n",
				whole[:last], strings.TrimRight(whole[last:], "\n"), e.code)
		}
	}
	return b.String()
}

var upLine = regexp.MustCompile(`(?m)^((?:\./)?dsvm up\b[^#\n]*)`)

func userPages(t *testing.T) (names []string) {
	for _, pattern := range pages {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if !notForUsers[filepath.ToSlash(f)] {
				names = append(names, f)
			}
		}
	}
	if len(names) < 9 {
		t.Fatalf("found only the pages %q", names)
	}
	return names
}

// TestExamplesOfPages runs what the pages for users show. It needs bash and git, and a
// built dsvm, whose path DSVM_TEST_PAGES has: `make pages` sets it. Without, the blocks
// are only read.
func TestExamplesOfPages(t *testing.T) {
	t.Parallel()
	program := os.Getenv("DSVM_TEST_PAGES")
	for _, page := range userPages(t) {
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			examples, err := readExamples(b)
			if err != nil {
				t.Fatal(err)
			}
			if program == "" || runtime.GOOS != "linux" {
				return
			}
			runs, starts := 0, false
			for _, e := range examples {
				if e.text != "" {
					runs++
				}
				starts = starts || upLine.MatchString(e.text)
			}
			if runs > 0 {
				runPage(t, program, examples, !starts)
			}
			t.Logf("%d of %d blocks run", runs, len(examples))
		})
	}
}

// runPage runs the examples of a page in a copy of this repository, with an instance.
func runPage(t *testing.T, program string, examples []example, instance bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir := t.TempDir()
	list, err := exec.CommandContext(ctx, "git", "ls-files", "-z").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Split(strings.TrimRight(string(list), "\x00"), "\x00") {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path, err := filepath.Abs(filepath.Dir(program))
	if err != nil {
		t.Fatal(err)
	}
	text := script(examples)
	if instance {
		text = script([]example{{line: 0, text: "dsvm up\n"}}) + text
	}
	text = "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n" + text
	cmd := exec.CommandContext(ctx, "bash", "-c", text)
	cmd.Dir = dir
	caches, err := exec.CommandContext(ctx, "go", "env", "GOPATH", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	gopath, gocache, _ := strings.Cut(strings.TrimSpace(string(caches)), "\n")
	cmd.Env = append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"), "HOME="+t.TempDir(), "GOPATH="+gopath, "GOCACHE="+gocache)
	cmd.WaitDelay = 20 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, out.Bytes())
	}
}

// TestReadExamples: comments say what is run, and how it ends.
func TestReadExamples(t *testing.T) {
	t.Parallel()
	got, err := readExamples([]byte("# A\n\n    echo 1\n\n<!-- not run: needs Azure -->\n\n    az login\n\n" +
		"```json\n{}\n```\n\n<!-- before: touch a\ntouch b -->\n<!-- exit 3 -->\n\n```sh\nls a\nsh -c 'exit 3'\n```\n\n- a list\n\n    of two paragraphs\n"))
	want := []example{
		{line: 3, text: "echo 1\n"},
		{line: 7, reason: "needs Azure"},
		{line: 18, text: "ls a\nsh -c 'exit 3'\n", before: "touch a\ntouch b", code: 3},
	}
	a, _ := json.Marshal(fmt.Sprint(got))
	b, _ := json.Marshal(fmt.Sprint(want))
	if err != nil || !bytes.Equal(a, b) {
		t.Fatalf("got  %s, %v\nwant %s", a, err, b)
	}
	for code, ok := range map[int]bool{3: true, 4: false} {
		got[2].code = code
		cmd := exec.Command("bash", "-c", script(got))
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		if (err == nil) != ok {
			t.Errorf("exit code %d: %v\n%s", code, err, out)
		}
	}
}
