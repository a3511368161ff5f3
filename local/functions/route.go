package functions

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// route is a template of paths: words, {name}, {name:int}, {name?} at the end,
// and {*rest}, which takes everything that is left.
type route []segment

type segment struct {
	word     string // "" = a parameter
	name     string
	number   bool // takes whole numbers only
	optional bool
	rest     bool
}

// parseRoute reads a template without its prefix.
func parseRoute(template string) (route, error) {
	template = strings.Trim(template, "/")
	if template == "" {
		return nil, nil
	}
	var r route
	parts := strings.Split(template, "/")
	for i, part := range parts {
		inner, isParameter := strings.CutPrefix(part, "{")
		if !isParameter {
			if strings.ContainsAny(part, "{}") {
				return nil, fmt.Errorf("the route %q mixes words and parameters between two slashes, which is not played here", template)
			}
			r = append(r, segment{word: part})
			continue
		}
		inner, closed := strings.CutSuffix(inner, "}")
		s := segment{}
		inner, s.rest = strings.CutPrefix(inner, "*")
		inner, s.optional = strings.CutSuffix(inner, "?")
		name, constraint, _ := strings.Cut(inner, ":")
		s.name, s.number = name, constraint == "int" || constraint == "long"
		switch {
		case !closed || name == "" || strings.ContainsAny(name, "{}"):
			return nil, fmt.Errorf("the route %q has a parameter that cannot be read: %s", template, part)
		case constraint != "" && !s.number:
			return nil, fmt.Errorf("the route's constraint %q is not played here", constraint)
		case (s.rest || s.optional) && i < len(parts)-1:
			return nil, errors.New("only the last parameter of a route may be optional or take the rest")
		}
		r = append(r, s)
	}
	return r, nil
}

// match compares a path without its prefix, still escaped, and returns the
// parameters.
func (r route) match(path string) (map[string]string, bool) {
	params := map[string]string{}
	rest := strings.Trim(path, "/")
	for _, s := range r {
		if s.rest {
			value, err := url.PathUnescape(rest)
			params[s.name] = value
			return params, err == nil
		}
		if rest == "" {
			return params, s.optional
		}
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		value, err := url.PathUnescape(part)
		if err != nil || s.word != "" && !strings.EqualFold(s.word, value) {
			return nil, false
		}
		if s.word != "" {
			continue
		}
		if _, err := strconv.ParseInt(value, 10, 64); s.number && err != nil {
			return nil, false
		}
		params[s.name] = value
	}
	return params, rest == ""
}

// before reports whether r is to be tried before other: words before numbers
// before parameters before the rest, from the left.
func (r route) before(other route) bool {
	for i := range min(len(r), len(other)) {
		if a, b := r[i].rank(), other[i].rank(); a != b {
			return a < b
		}
	}
	return len(r) > len(other)
}

func (s segment) rank() int {
	switch {
	case s.word != "":
		return 0
	case s.rest:
		return 3
	case s.number:
		return 1
	}
	return 2
}
