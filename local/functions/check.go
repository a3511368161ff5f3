package functions

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// CheckApp reads an app as the host does and says what keeps the host from serving it: a
// host.json that it does not take, a function that it skips, an executable that host.json
// does not name, two functions that fit one request. The settings are those that the app
// will have; only the ones that the files ask for matter. It starts nothing.
func CheckApp(root fs.FS, settings map[string]string) []error {
	host, err := readHostFile(root, settings)
	if err != nil {
		return []error{fmt.Errorf("host.json: %w", err)}
	}
	var wrong []error
	if host.CustomHandler.Description.DefaultExecutablePath == "" {
		wrong = append(wrong, errors.New("host.json: customHandler.description.defaultExecutablePath is missing; it names the handler"))
	}
	all, skipped := readFunctions(root, settings, host.Functions)
	wrong = append(wrong, skipped...)
	if len(all) == 0 && len(skipped) == 0 {
		wrong = append(wrong, errors.New("there is no function: no folder beside host.json holds a function.json"))
	}
	return append(wrong, overlaps(all)...)
}

var routeWord = regexp.MustCompile(`[A-Za-z0-9_-]+`)

// overlaps says which functions fit one request. The requests that it tries are all paths of
// up to three parts out of the words of the routes and of one word that is in none of them.
func overlaps(all []*function) []error {
	words, methods := []string{"other"}, []string{"OPTIONS"}
	var web []*function
	for _, f := range all {
		if f.trigger.Type != httpTrigger {
			continue
		}
		web = append(web, f)
		template := f.name
		if f.trigger.Route != nil {
			template = *f.trigger.Route
		}
		words = append(words, routeWord.FindAllString(template, -1)...)
		for _, m := range f.trigger.Methods {
			methods = append(methods, strings.ToUpper(m))
		}
	}
	slices.Sort(words)
	slices.Sort(methods)
	words, methods = slices.Compact(words), slices.Compact(methods)
	found := map[[2]string]error{}
	try := func(path string) {
		clean, whole := cleanPath(path)
		if !whole {
			return
		}
		var fits []*function
		for _, f := range web {
			if _, ok := f.route.match(clean); ok {
				fits = append(fits, f)
			}
		}
		for i, a := range fits {
			for _, b := range fits[i+1:] {
				for _, m := range methods {
					if key := [2]string{a.name, b.name}; found[key] == nil && a.takes(m) && b.takes(m) {
						found[key] = fmt.Errorf("functions %s and %s fit one request: %s %s", a.name, b.name, m, path)
					}
				}
			}
		}
	}
	const deepest = 3 // parts of a path
	var walk func(path string, depth int)
	walk = func(path string, depth int) {
		try(path + "/")
		for _, w := range words {
			try(path + "/" + w)
			if depth+1 < deepest {
				walk(path+"/"+w, depth+1)
			}
		}
	}
	walk("", 0)
	var wrong []error
	for _, err := range found {
		wrong = append(wrong, err)
	}
	slices.SortFunc(wrong, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return wrong
}
