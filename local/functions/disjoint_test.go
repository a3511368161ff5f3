//go:build unix

package functions

import (
	"encoding/json"
	"io/fs"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"dsvmpools"
)

// appRoot returns the app's own files in the layout of the host: host.json, and beside it
// the folders of the functions.
func appRoot(t *testing.T) fs.FS {
	t.Helper()
	root := fstest.MapFS{}
	err := fs.WalkDir(dsvmpools.Files, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := dsvmpools.Files.ReadFile(path)
		root[strings.TrimPrefix(path, "functions/")] = &fstest.MapFile{Data: b}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// ownHTTP returns the app's own HTTP functions, as the host reads them.
func ownHTTP(t *testing.T) []*function {
	t.Helper()
	settings := map[string]string{
		"ServiceBusConnection":    "x",
		"JOBS_QUEUE":              "j",
		"POOLS_QUEUE":             "p",
		"POOL_EVENTS_QUEUE":       "e",
		"NODE_EVENTS_QUEUE":       "n",
		"RECONCILE_SCHEDULE":      "0 * * * * *",
		"NIGHTLY_SCALE_DOWN":      "0 * * * * *",
		"RECORD_USAGE_SCHEDULE":   "0 * * * * *",
		"WATCH_BUDGETS_SCHEDULE":  "0 * * * * *",
		"REFRESH_PRICES_SCHEDULE": "0 0 4 * * *",
		"COMMIT_STATUS_SCHEDULE":  "0 * * * * *",
	}
	all, errs := readFunctions(appRoot(t), settings, nil)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return slices.DeleteFunc(all, func(f *function) bool { return f.trigger.Type != httpTrigger })
}

// takers returns the functions that match a request.
func takers(all []*function, method, path string) (names []string) {
	clean, whole := cleanPath(path)
	for _, f := range all {
		if _, ok := f.route.match(clean); ok && whole && f.takes(method) {
			names = append(names, f.name)
		}
	}
	return names
}

// Requests reach the same functions as on the real host.
func TestOwnRoutes(t *testing.T) {
	t.Parallel()
	all := ownHTTP(t)
	for _, tt := range []struct{ method, path, want string }{
		{"GET", "/api/pools", "Api"}, {"DELETE", "/api/pools/gpu", "Api"}, {"GET", "/api/pushx", "Api"}, {"POST", "/api/push", "Api"},
		{"OPTIONS", "/api/pools", "Api"},
		{"POST", "/api/push/github", "GitPush"}, {"POST", "/api/push/github/", "GitPush"}, {"POST", "/API/Push/GitHub", "GitPush"},
		{"GET", "/api/push/github", ""}, {"POST", "/api/push/github/x", ""},
		{"POST", "/api/push%2Fgithub", "Api"}, {"POST", "/x/../api/push/github", "GitPush"}, {"POST", "/api/%70ush/github", "GitPush"},
		{"GET", "/web/login", "Web"}, {"POST", "/web/api/jobs", "Web"}, {"POST", "/Web/x", "Web"},
		{"GET", "/index.html", "Page"}, {"HEAD", "/assets/x.js", "Page"}, {"GET", "/jobs/abc", "Page"}, {"GET", "/favicon.ico", "Page"},
		{"GET", "/api", "Page"}, {"GET", "/web", "Page"},
		{"GET", "/admin/x", "Page"}, {"GET", "/runtime/webhooks", "Page"}, {"POST", "/index.html", ""}, {"GET", "/a%2Fb", "Page"},
		{"GET", "/%2e%2e/x", "Page"}, {"GET", "/apis/x", "Page"},
		{"GET", "/", "Home"}, {"HEAD", "/", "Home"}, {"POST", "/", ""}, {"GET", "/api/", ""}, {"GET", "/web/", ""}, {"GET", "//", ""}, {"GET", "/x//y", ""},
	} {
		if got := strings.Join(takers(all, tt.method, tt.path), ","); got != tt.want {
			t.Errorf("%s %s: taken by %q, want %q", tt.method, tt.path, got, tt.want)
		}
	}
}

// The shapes that the routes of the app may have. Whether they match a request depends only
// on its method, on the number of parts of its path, and on which of the words below each
// part is. So the requests that the next test makes of these words cover all cases.
var shapes = regexp.MustCompile(
	`^((\w+/)*(\w+/?|\{\w+\}|\{\*path\}|\{\*path:regex\((\.|\^\(\?!(\w+|\(\w+(\|\w+)*\))/\)\.\*\$)\)\})|\{\w+:maxlength\(0\)\?\})$`,
)

// No request matches two functions. So the order of their names does not matter, although
// the real host takes the first one.
func TestNoRequestFitsTwoFunctions(t *testing.T) {
	t.Parallel()
	all := ownHTTP(t)
	words, methods := map[string]bool{
		"other": true,
		"o":     true,
		"":      true,
		".":     true,
		"..":    true,
		"%2F":   true,
		"a%2Fb": true,
		"%0A":   true,
		"a%0A":  true,
		"%20":   true,
		"%":     true,
		"x.js":  true,
	}, map[string]bool{
		"PROPFIND": true,
		"OPTIONS":  true,
		"POST":     true,
	}
	deepest := 0
	for _, f := range all {
		if !shapes.MatchString(*f.trigger.Route) {
			t.Errorf("%s: the route %s has a shape that this test does not know; think about which paths tell it from others, and add it",
				f.name, *f.trigger.Route)
		}
		for _, m := range f.trigger.Methods {
			methods[strings.ToUpper(m)] = true
		}
		for _, w := range regexp.MustCompile(`[a-z]+`).FindAllString(*f.trigger.Route, -1) {
			words[w], words[strings.ToUpper(w)], words[w+"x"], words["x"+w], words[w+"%2F"+w], words[w+"%0A"] = true, true, true, true, true, true
		}
		deepest = max(deepest, len(f.route))
	}
	taken, seen := map[string]int{}, 0
	try := func(path string) {
		for method := range methods {
			seen++
			names := takers(all, method, path)
			if len(names) > 1 {
				t.Errorf("%s %s fits %v", method, path, names)
			}
			for _, name := range names {
				taken[name]++
			}
		}
	}
	list := make([]string, 0, len(words))
	for w := range words {
		list = append(list, w)
	}
	slices.Sort(list)
	var walk func(path string, depth int)
	walk = func(path string, depth int) { // every path of up to three parts
		try(path + "/")
		for _, w := range list {
			try(path + "/" + w)
			if depth < 2 {
				walk(path+"/"+w, depth+1)
			}
		}
	}
	walk("", 0)
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 { // and many that are longer
		var b strings.Builder
		for range deepest + random.IntN(4) {
			b.WriteString("/" + list[random.IntN(len(list))])
		}
		try(b.String())
	}
	for _, f := range all {
		if taken[f.name] == 0 {
			t.Errorf("nothing of %d requests fits %s", seen, f.name)
		}
	}
	if t.Failed() || seen < 1_000_000 {
		t.Logf("%d requests were tried", seen)
	}
}

// The check above finds overlaps: in routes that the app had before, and in ones that
// overlap in a single request.
func TestRoutesThatOverlap(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, a, b, method, path string }{
		{"the API takes all", "api/{*path}", "api/push/{provider}", "POST", "/api/push/github"},
		{"a folder alone", "web/{*path}", "{*path:regex(^(?!(api|web)/).*$)}", "GET", "/web"},
	} {
		var both []*function
		for _, route := range []string{tt.a, tt.b} {
			f := &function{name: route, trigger: binding{Type: httpTrigger, Route: &route}}
			if err := f.readHTTP(); err != nil {
				t.Fatal(err)
			}
			both = append(both, f)
		}
		if got := takers(both, tt.method, tt.path); len(got) != 2 {
			t.Errorf("%s: %s fits %v", tt.name, tt.path, got)
		}
	}
}

// The first function by name gets a request, with any route, even if it is disabled.
func TestFirstByName(t *testing.T) {
	t.Parallel()
	plain := `{"name":"req","type":"httpTrigger","direction":"in","route":"ROUTE","authLevel":"anonymous"},{"name":"res","type":"http","direction":"out"}`
	root := script(
		hostJSON,
		map[string]string{
			"beta":  strings.Replace(plain, "ROUTE", "x/y", 1),
			"Alpha": strings.Replace(httpAny, `{*path}`, `x/{*path}`, 1),
			"Gamma": strings.Replace(plain, "ROUTE", "z/{*path}", 1),
			"Delta": strings.Replace(plain, "ROUTE", "z/{*path}", 1),
		},
	)
	h, _ := start(t, root, roleApp, newControl(t), func(cfg *Config) { cfg.Settings["AzureWebJobs.Delta.Disabled"] = "true" })
	url := "http://" + h.Addr()
	for _, tt := range []struct {
		path, key string
		status    int
	}{{"/api/x/y", "", 401}, {"/api/x/y", "fn-key", 418}, {"/api/z/a", "", 404}} {
		if r, _ := request(t, "POST", url+tt.path, tt.key, "body"); r.StatusCode != tt.status {
			t.Errorf("%s with %q: got %d, want %d", tt.path, tt.key, r.StatusCode, tt.status)
		}
	}
}

// The answers of the host itself, also when no function matches.
func TestOwnAnswers(t *testing.T) {
	t.Parallel()
	for _, disabled := range []bool{false, true} {
		h, _ := start(
			t,
			script(hostJSON, map[string]string{"Api": httpAny, "Sweep": timerYearly}),
			roleApp,
			newControl(t),
			func(cfg *Config) {
				if disabled {
					cfg.Settings["AzureWebJobsDisableHomepage"] = "true"
				}
			},
		)
		url, home := "http://"+h.Addr(), 200
		if disabled {
			home = 204
		}
		for _, tt := range []struct {
			method, path, key string
			status            int
			body              bool
		}{
			{"GET", "/", "", home, !disabled}, {"POST", "/", "", home, !disabled}, {"GET", "/nothing", "fn-key", 404, false},
			{"GET", "/admin/host/ping", "", 200, false}, {"POST", "/ADMIN/host/ping", "", 200, false},
			{"GET", "/admin/host/status", "", 401, false}, {"GET", "/admin/host/status", "fn-key", 403, false},
			{"GET", "/admin/host/status", "master-key", 200, true},
			{"POST", "/admin/functions/sweep?CODE=master-key", "", 202, false}, {"GET", "/admin/functions/sweep", "master-key", 404, false},
			{"GET", "/admin/else", "master-key", 404, false},
		} {
			r, body := request(t, tt.method, url+tt.path, tt.key, "")
			if r.StatusCode != tt.status || (body != "") != tt.body {
				t.Errorf("%s %s with %q: got %d and %q, want %d", tt.method, tt.path, tt.key, r.StatusCode, body, tt.status)
			}
		}
	}
}

// The dataType of the app's functions is the one that the program expects.
func TestOwnDataTypes(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"SubmitJob": "string", "ApplyPool": "string", "NodeReport": "binary", "DrivePool": "binary"} {
		b, err := dsvmpools.Files.ReadFile("functions/" + name + "/function.json")
		if err != nil {
			t.Fatal(err)
		}
		var file struct{ Bindings []binding }
		if err := json.Unmarshal(b, &file); err != nil || file.Bindings[0].DataType != want || file.Bindings[0].Cardinality != "many" {
			t.Errorf("%s: got %+v, %v, want dataType %s", name, file.Bindings[0], err, want)
		}
	}
	host, err := readHostFile(appRoot(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := host.Extensions.ServiceBus.MaxMessageBatchSize; n < 1 || n > 100 {
		t.Errorf("batches of up to %d; the memory of a small instance is for 100", n)
	}
}
