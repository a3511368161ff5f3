package cli

import (
	"strings"
	"unicode/utf8"
)

// lineVariable is the variable that has a member's line where the flag names none.
const lineVariable = "LINE"

// setLines makes a sweep of the lines of a file: FILE, or NAME=FILE for another variable
// than LINE. Blank lines are left out; the end of a line, CR LF or LF, is no part of it.
func (p *Program) setLines(d *document, given string) error {
	variable, file, named := strings.Cut(given, "=")
	if !named {
		variable, file = lineVariable, given
	}
	if variable == "" || file == "" {
		return WrongUse("--each-line is %q; it takes FILE or NAME=FILE", given)
	}
	text, err := p.readPart(file)
	if err != nil {
		return err
	}
	if !utf8.Valid(text) {
		return WrongUse("%s is not a text in UTF-8; save it as UTF-8", file)
	}
	members, lines := []any{}, []string{}
	for line := range strings.Lines(strings.TrimPrefix(string(text), "\ufeff")) {
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) != "" {
			members, lines = append(members, map[string]any{variable: line}), append(lines, line)
		}
	}
	if len(members) == 0 {
		return WrongUse("%s has no line that is not blank, so that the sweep would have no members", file)
	}
	d.set(members, "sweep", "list")
	d.variable, d.lines = variable, lines
	return nil
}
