//go:build unix

package main

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"dsvmpools/cmd/dsvm/cli"
)

var (
	// mention is a command in backticks, or at the begin of a line of a code block.
	mention = regexp.MustCompile("(?m)(?:`|^    |^)(?:\\./)?dsvm ([a-z][^`\n]*)")
	verb    = regexp.MustCompile(`^[a-z]+$`)
	option  = regexp.MustCompile(`^--([a-z][a-z-]*)`)
)

// TestCommandsInPages: each command and flag that the pages name is there.
func TestCommandsInPages(t *testing.T) {
	t.Parallel()
	help := map[string]string{}
	helpOf := func(words []string) string {
		key := strings.Join(words, " ")
		if _, known := help[key]; !known {
			var out bytes.Buffer
			p := &cli.Program{Out: &out, Err: &out}
			if code := p.Main(t.Context(), append(words, "--help"), commands()...); code != 0 {
				out.Reset()
			}
			help[key] = out.String()
		}
		return help[key]
	}
	seen := 0
	err := fs.WalkDir(os.DirFS("../.."), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() && (strings.HasPrefix(e.Name(), ".") && name != "." || name == "docs/decisions") { // decisions are of their day
			return fs.SkipDir
		}
		if path.Ext(name) != ".md" || name == "CHANGELOG.md" {
			return nil
		}
		text, err := os.ReadFile("../../" + name)
		if err != nil {
			return err
		}
		for _, m := range mention.FindAllStringSubmatch(string(text), -1) {
			var words []string
			rest := strings.Fields(m[1])
			for len(rest) > 0 && verb.MatchString(rest[0]) {
				longer := append(words[:len(words):len(words)], rest[0])
				if !strings.Contains(helpOf(longer), "dsvm "+strings.Join(longer, " ")) {
					break // a word of the command's own
				}
				words, rest = longer, rest[1:]
			}
			seen++
			if len(words) == 0 {
				t.Errorf("%s: there is no command `dsvm %s`", name, m[1])
				continue
			}
			whole := helpOf(words)
			if strings.Contains(whole, "Available Commands:") && len(rest) > 0 && verb.MatchString(rest[0]) {
				t.Errorf("%s: `dsvm %s`: %s has no command %s", name, m[1], strings.Join(words, " "), rest[0])
			}
			for _, word := range rest {
				if word == "--" || strings.HasPrefix(word, "#") {
					break // what follows is the job's, or a comment
				}
				if o := option.FindStringSubmatch(word); o != nil && !strings.Contains(whole, "--"+o[1]) {
					t.Errorf("%s: `dsvm %s`: %s has no flag --%s", name, m[1], strings.Join(words, " "), o[1])
				}
			}
		}
		return nil
	})
	if err != nil || seen < 100 {
		t.Errorf("%d commands were found: %v", seen, err)
	}
}
