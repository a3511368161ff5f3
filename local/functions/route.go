package functions

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// route is a template of paths as ASP.NET reads it: words, {name}, {name?} and
// {name=default} at the end, {*rest} for the rest of the path, and constraints after
// colons, {name:int}. Only the constraints below are supported; a function with another
// one is skipped.
type route []segment

type segment struct {
	word        string // "" = a parameter
	name        string
	constraints []constraint
	optional    bool
	standIn     string // the value of an absent part, if hasDefault
	hasDefault  bool
	rest        bool
}

// constraint reports whether a parameter may have a value.
type constraint func(value string) bool

// parseRoute reads a template without its prefix.
func parseRoute(template string) (route, error) {
	template = strings.Trim(template, "/")
	if template == "" {
		return nil, nil
	}
	var r route
	parts, err := splitTemplate(template)
	if err != nil {
		return nil, err
	}
	for i, part := range parts {
		inner, isParameter := strings.CutPrefix(part, "{")
		if !isParameter {
			if part == "" || strings.ContainsAny(part, "{}") {
				return nil, fmt.Errorf("the route %q has a part that cannot be read: %q "+
					"(words and parameters between two slashes are not supported by the local host)",
					template, part)
			}
			r = append(r, segment{word: part})
			continue
		}
		s, err := parseParameter(strings.TrimSuffix(inner, "}"))
		if err != nil {
			return nil, fmt.Errorf("the route %q: the parameter %s: %w", template, part, err)
		}
		if (s.rest || s.optional || s.hasDefault) && i < len(parts)-1 {
			return nil, errors.New("only the last parameter of a route may be optional, have a default or take the rest")
		}
		r = append(r, s)
	}
	return r, nil
}

// splitTemplate splits a template at the slashes outside of parameters. Inside a parameter,
// a doubled brace is a single one.
func splitTemplate(template string) (parts []string, err error) {
	from, inside := 0, false
	for i := 0; i < len(template); i++ {
		switch c := template[i]; {
		case inside && (c == '{' || c == '}') && i+1 < len(template) && template[i+1] == c:
			i++
		case c == '{' && !inside:
			inside = true
		case c == '}' && inside:
			inside = false
			if i+1 < len(template) && template[i+1] != '/' {
				return nil, fmt.Errorf("the route %q mixes words and parameters between two slashes, which is not supported by the local host",
					template)
			}
		case c == '{' || c == '}':
			return nil, fmt.Errorf("the route %q has a brace too many", template)
		case c == '/' && !inside:
			parts, from = append(parts, template[from:i]), i+1
		}
	}
	if inside {
		return nil, fmt.Errorf("the route %q has a parameter that does not end", template)
	}
	return append(parts, template[from:]), nil
}

// parseParameter reads the text between the braces of a parameter.
func parseParameter(inner string) (s segment, err error) {
	inner = strings.NewReplacer("{{", "{", "}}", "}").Replace(inner)
	for range 2 { // one star, or two
		if rest, ok := strings.CutPrefix(inner, "*"); ok {
			s.rest, inner = true, rest
		}
	}
	inner, s.optional = strings.CutSuffix(inner, "?")
	end := strings.IndexAny(inner, ":=")
	if end < 0 {
		end = len(inner)
	}
	if s.name, inner = inner[:end], inner[end:]; s.name == "" || strings.ContainsAny(s.name, "{}/*?") {
		return s, errors.New("it has no name that can be read")
	}
	for strings.HasPrefix(inner, ":") {
		name, argument := inner[1:], ""
		end := strings.IndexAny(name, "(:=")
		if end < 0 {
			end = len(name)
		}
		name, inner = name[:end], name[end:]
		if strings.HasPrefix(inner, "(") {
			// An argument may contain brackets. It ends at the first closing bracket before
			// another constraint or the end.
			end := 1
			for ; end < len(inner); end++ {
				if inner[end] == ')' && (end+1 == len(inner) || inner[end+1] == ':' || inner[end+1] == '=') {
					break
				}
			}
			if end == len(inner) {
				return s, errors.New("a bracket is missing")
			}
			argument, inner = inner[1:end], inner[end+1:]
		}
		c, err := parseConstraint(name, argument)
		if err != nil {
			return s, err
		}
		s.constraints = append(s.constraints, c)
	}
	if s.standIn, s.hasDefault = strings.CutPrefix(inner, "="); inner != "" && !s.hasDefault {
		return s, errors.New("it cannot be read")
	}
	if s.optional && s.hasDefault {
		return s, errors.New("it is optional and has a default; only one of them is possible")
	}
	return s, nil
}

// lookahead matches a negative lookahead at the beginning of an expression. It is the only
// supported feature of .NET's expressions that Go's do not have.
var lookahead = regexp.MustCompile(`^\^\(\?!(.*)\)\.\*\$$`)

func parseConstraint(name, argument string) (constraint, error) {
	switch name {
	case "int", "long":
		bits := map[string]int{"int": 32, "long": 64}[name]
		return func(v string) bool { _, err := strconv.ParseInt(v, 10, bits); return err == nil }, nil
	case "maxlength", "minlength":
		n, err := strconv.Atoi(argument)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%s wants a number", name)
		}
		if name == "maxlength" {
			return func(v string) bool { return len([]rune(v)) <= n }, nil
		}
		return func(v string) bool { return len([]rune(v)) >= n }, nil
	case "regex":
		return parseExpression(argument)
	}
	return nil, fmt.Errorf("the constraint %q is not supported by the local host; use int, long, minlength, maxlength or regex", name)
}

// parseExpression reads an expression as .NET's constraint does: it ignores case, matches
// anywhere, and $ also matches before a last line feed.
func parseExpression(text string) (constraint, error) {
	compile := func(s string) (*regexp.Regexp, error) {
		if end, ok := strings.CutSuffix(s, "$"); ok && !strings.HasSuffix(end, `\`) {
			s = end + `\n?\z`
		}
		e, err := regexp.Compile("(?i)" + s)
		if err != nil {
			return nil, fmt.Errorf("the expression %q is not supported by the local host: %w", text, err)
		}
		return e, nil
	}
	if m := lookahead.FindStringSubmatch(text); m != nil {
		not, err := compile("^(?:" + m[1] + ")")
		if err != nil {
			return nil, err
		}
		all, err := compile("^.*$")
		return func(v string) bool { return !not.MatchString(v) && all.MatchString(v) }, err
	}
	e, err := compile(text)
	if err != nil {
		return nil, err
	}
	return e.MatchString, nil
}

// match compares a path without its prefix, as cleanPath gives it, and returns
// the parameters.
func (r route) match(path string) (map[string]string, bool) {
	params := map[string]string{}
	rest := strings.TrimPrefix(path, "/")
	for _, s := range r {
		part := rest
		if !s.rest {
			part, rest, _ = strings.Cut(rest, "/")
		}
		switch {
		case part == "" && s.word == "" && s.hasDefault:
			params[s.name] = s.standIn
			return params, true
		case part == "":
			// The path has ended. An optional parameter matches; one for the rest matches
			// if its constraints do.
			return params, s.word == "" && (s.optional || s.rest && len(s.constraints) == 0)
		case s.word != "" && !strings.EqualFold(s.word, part):
			return nil, false
		case s.word != "":
			continue
		}
		for _, meets := range s.constraints {
			if !meets(part) {
				return nil, false
			}
		}
		if params[s.name] = part; s.rest {
			return params, true
		}
	}
	return params, rest == ""
}

// cleanPath returns a request's path as the host uses it: decoded except for %2F, without
// dot segments. It returns false for a path with an empty part, which no route matches.
func cleanPath(escaped string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(escaped); i++ {
		if escaped[i] == '%' && i+2 < len(escaped) {
			if c, err := strconv.ParseUint(escaped[i+1:i+3], 16, 8); err == nil && c != '/' {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(escaped[i])
	}
	var kept []string
	parts := strings.Split(strings.TrimPrefix(b.String(), "/"), "/")
	isWhole := true
	for i, part := range parts {
		last := i == len(parts)-1
		switch part {
		case ".", "..":
			if part == ".." && len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
			if last {
				kept = append(kept, "")
			}
			continue
		case "":
			isWhole = isWhole && last
		}
		kept = append(kept, part)
	}
	return "/" + strings.Join(kept, "/"), isWhole
}

// plainInPath are the bytes, besides letters and digits, that the proxy does not encode.
const plainInPath = "/-._~!$&'()*+,;=:@"

// encodePath returns a path as the proxy passes it on. It encodes a remaining %2F again.
func encodePath(path string) string {
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte(plainInPath, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}
