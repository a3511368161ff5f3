package workfolder

import (
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// rule is one line of a .gitignore file.
type rule struct {
	pattern string // for doublestar, from the top of the folder that is sent
	back    bool   // the line begins with !
	folders bool   // only folders match
}

// parseRules reads the lines of a .gitignore file that lies in a folder ("" = the top).
func parseRules(text, folder string) []rule {
	var rules []rule
	text = strings.TrimPrefix(text, "\ufeff")
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if r, ok := parseRule(line, folder); ok {
			rules = append(rules, r)
		}
	}
	return rules
}

func parseRule(line, folder string) (r rule, ok bool) {
	for strings.HasSuffix(line, " ") && !endsEscaped(line) {
		line = line[:len(line)-1]
	}
	if line == "" || line[0] == '#' {
		return r, false
	}
	if line[0] == '!' {
		r.back, line = true, line[1:]
	}
	if strings.HasSuffix(line, "/") {
		r.folders, line = true, line[:len(line)-1]
	}
	anchored := strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	if line == "" {
		return r, false
	}
	r.pattern = toDoublestar(line)
	if !anchored {
		r.pattern = "**/" + r.pattern
	}
	if folder != "" {
		r.pattern = quote(folder) + "/" + r.pattern
	}
	return r, doublestar.ValidatePattern(r.pattern)
}

// endsEscaped reports whether the last character has a backslash before it that counts.
func endsEscaped(line string) bool {
	n := 0
	for n < len(line)-1 && line[len(line)-2-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// classes are sets of characters that doublestar has no names for.
var classes = strings.NewReplacer("[:alpha:]", "a-zA-Z", "[:digit:]", "0-9", "[:alnum:]", "a-zA-Z0-9", "[:lower:]", "a-z",
	"[:upper:]", "A-Z", "[:xdigit:]", "0-9a-fA-F", "[:space:]", " \t\r\n\v\f", "[:blank:]", " \t")

// toDoublestar writes a pattern of git in the syntax of doublestar, in which braces
// mean something and a ** at the end also matches the folder itself.
func toDoublestar(line string) string {
	line = classes.Replace(line)
	line = strings.NewReplacer(`\\`, `\\`, `\{`, `\{`, `\}`, `\}`, "{", `\{`, "}", `\}`).Replace(line)
	parts := strings.Split(line, "/")
	for i, part := range parts {
		if part != "**" {
			for strings.Contains(part, "**") { // within a name it is the same as one
				part = strings.ReplaceAll(part, "**", "*")
			}
			parts[i] = part
		}
	}
	if n := len(parts); n > 1 && parts[n-1] == "**" {
		parts = append(parts, "*")
	}
	return strings.Join(parts, "/")
}

// quote writes a path so that a pattern means it.
func quote(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`, "{", `\{`, "}", `\}`).Replace(path)
}

// matches reports whether a rule is about a path.
func (r rule) matches(path string, isFolder bool) bool {
	if r.folders && !isFolder {
		return false
	}
	return doublestar.MatchUnvalidated(r.pattern, path)
}

// verdict is what the last rule about a path says; said = there is one.
func verdict(rules []rule, path string, isFolder bool) (ignored, said bool) {
	for i := len(rules) - 1; i >= 0; i-- {
		if rules[i].matches(path, isFolder) {
			return !rules[i].back, true
		}
	}
	return false, false
}
