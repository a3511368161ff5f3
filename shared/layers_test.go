package shared_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// A wall says what packages must never reach, by whatever way: docs/architecture.md
// shows the same as a table. A name that ends in "/..." is the package and all below it.
type wall struct {
	from  []string
	never []string
	but   []string // of never: may be reached all the same
	why   string
}

var (
	adapters = []string{"shared/store/...", "shared/bus/...", "shared/fleet/...", "shared/invoke/...", "shared/push/status/...", "shared/identity", "shared/treestore", "shared/signin", "shared/relay/...", "shared/sshca", "shared/network", "shared/retail"}
	azure    = []string{"github.com/Azure/..."}
	tables   = "github.com/Azure/azure-sdk-for-go/sdk/data/..."
	arm      = "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/..."
)

var walls = append([]wall{
	{
		from:  []string{"shared/drive"},
		never: slices.Concat(adapters, azure),
		why:   "the driver stands on ports, so that the simulation can put a world below it",
	}, {
		from:  []string{"shared/outbound", "shared/door", "shared/intake", "shared/seal", "shared/answer"},
		never: []string{"shared/...", "handlers/...", "agent/...", "local/...", "cmd/..."},
		but:   []string{"shared/fault"},
		why:   "a guard is used by every layer, so that it may know none; it knows shared/fault alone",
	}, {
		from:  []string{"shared/wholefile", "shared/plain"},
		never: []string{"shared/...", "handlers/...", "agent/...", "local/...", "cmd/..."},
		why:   "every program replaces files and shows texts of others, so that what does it may know none",
	}, {
		from:  []string{"shared/way"},
		never: []string{"shared/...", "handlers/...", "agent/...", "local/...", "cmd/..."},
		but:   []string{"shared/fault", "shared/plain"},
		why:   "a way is signed by the app and read by nodes and by people's programs, so that it knows none of them",
	}, {
		from:  []string{"agent/..."},
		never: []string{"shared/store/...", "shared/fleet/...", tables, arm},
		why:   "a node has no right on tables, and on the resource manager only the right to delete itself; all it knows comes and goes by messages",
	}, {
		from:  []string{"shared/service", "shared/doctor"},
		never: []string{"shared/invoke/...", "handlers/..."},
		why:   "a use case serves triggers and HTTP alike, so that it knows neither",
	}, {
		from:  []string{"handlers/httpapi/..."},
		never: slices.Concat([]string{"shared/drive/..."}, adapters, azure),
		why:   "the HTTP API has the use cases, by interfaces of its own; what stands below them is not its business",
	}, {
		from:  []string{"handlers/page"},
		never: slices.Concat([]string{"shared/drive/...", "shared/service", "handlers/httpapi/..."}, adapters, azure),
		why:   "the page asks the API for everything it shows; the package serves files, and swaps a key for a token",
	}, {
		from:  []string{"cmd/dsvm/cli"},
		never: slices.Concat([]string{"shared/drive/...", "handlers/...", "agent/..."}, adapters, azure),
		why:   "the command line knows an instance by its HTTP API alone",
	}, {
		from:  []string{"cmd/dsvm/deploy", "cmd/dsvm/pack"},
		never: []string{"shared/drive/...", "shared/store/...", "shared/fleet/...", "shared/identity", "handlers/...", "agent/...", tables, arm},
		why:   "who deploys reaches Azure by the program az alone, and a deployment by its HTTP API",
	}, {
		from:  []string{"local/relay"},
		never: []string{"shared/..."},
		but:   []string{"shared/door", "shared/relay/frames", "shared/wholefile", "shared/plain"},
		why:   "a local server stands in for a service of Azure; of this module it knows how messages are carried over, which is the same on a node",
	}, {
		from:  []string{"local/servicebus/...", "local/tables/...", "local/compute/...", "local/disk/...", "local/chaos/...", "local/identity/...", "local/network", "local/prices"},
		never: []string{"shared/..."},
		but:   []string{"shared/door", "shared/wholefile"},
		why:   "a local server stands in for a service of Azure, which knows nothing of pools and jobs",
	}, {
		from:  []string{"local/functions/..."},
		never: []string{"shared/..."},
		but:   []string{"shared/invoke", "shared/door", "shared/intake", "shared/backoff", "shared/bus/link", "shared/bus/tolerant", "shared/wholefile"},
		why:   "the local host plays the Functions host; of this app it knows the custom-handler protocol alone",
	}, {
		from:  []string{"shared/...", "handlers/...", "agent/...", "infra"},
		never: []string{"local/...", "cmd/..."},
		why:   "local and cloud differ by endpoint and credential only: nothing knows that local exists",
	}, {
		from:  []string{"shared/..."},
		never: []string{"handlers/...", "agent/...", "infra"},
		why:   "dependencies point one way: programs, then functions and agent, then what they share",
	}, {
		from:  []string{"agent/..."},
		never: []string{"handlers/..."},
		why:   "the agent and the function app meet in messages, not in code",
	}, {
		from:  []string{"handlers/..."},
		never: []string{"agent/..."},
		why:   "the agent and the function app meet in messages, not in code",
	},
}, betweenAdapters()...)

// betweenAdapters keeps each adapter from all others.
func betweenAdapters() []wall {
	var between []wall
	for _, adapter := range adapters {
		between = append(between, wall{
			from:  []string{adapter},
			never: adapters,
			but:   []string{adapter},
			why:   "adapters do not know each other: a use case or the driver joins them",
		})
	}
	return between
}

func TestWalls(t *testing.T) {
	t.Parallel()
	found, err := breaches(os.DirFS(".."), walls)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

// breaches looks for ways through walls, and for walls that stand nowhere.
func breaches(module fs.FS, walls []wall) ([]string, error) {
	graph, err := importGraph(module)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, w := range walls {
		stands := false
		for from := range graph {
			if !matches(w.from, from) {
				continue
			}
			stands = true
			if way := wayTo(graph, from, func(to string) bool { return to != from && matches(w.never, to) && !matches(w.but, to) }); way != nil {
				found = append(found, strings.Join(way, " imports ")+": "+w.why)
			}
		}
		if !stands {
			found = append(found, "no package is "+strings.Join(w.from, " or ")+"; correct the list of walls")
		}
	}
	slices.Sort(found)
	return found, nil
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		folder, all := strings.CutSuffix(pattern, "/...")
		return name == folder || all && strings.HasPrefix(name, folder+"/")
	})
}

// wayTo returns the shortest way from a package to one that is wrong; nil = there is none.
func wayTo(graph map[string][]string, from string, wrong func(string) bool) []string {
	ways := [][]string{{from}}
	seen := map[string]bool{from: true}
	for i := 0; i < len(ways); i++ { // ways grows
		for _, to := range graph[ways[i][len(ways[i])-1]] {
			way := append(slices.Clone(ways[i]), to)
			if wrong(to) {
				return way
			}
			if !seen[to] {
				seen[to] = true
				ways = append(ways, way)
			}
		}
	}
	return nil
}

// importGraph maps each package of the module to what it imports, on any system.
// Packages of the module have their folders as names. Tests do not count.
func importGraph(module fs.FS) (map[string][]string, error) {
	graph := map[string][]string{}
	err := eachFile(module, func(name string) error {
		body, err := fs.ReadFile(module, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, body, parser.ImportsOnly)
		if err != nil {
			return err
		}
		from := path.Dir(name)
		if graph[from] == nil {
			graph[from] = []string{}
		}
		for _, spec := range file.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if inside, ok := strings.CutPrefix(to, "dsvmpools/"); ok {
				to = inside
			}
			graph[from] = append(graph[from], to)
		}
		return nil
	})
	for _, list := range graph {
		slices.Sort(list) // so that of two ways the same one is reported each time
	}
	return graph, err
}

// notCode are folders without packages of the module.
var notCode = []string{"testdata", "node_modules", "dist", "build"}

// eachFile calls do for each Go file of the module that is no test.
func eachFile(module fs.FS, do func(name string) error) error {
	return eachGoFile(module, func(name string) error {
		if strings.HasSuffix(name, "_test.go") {
			return nil
		}
		return do(name)
	})
}

// eachGoFile calls do for each Go file of the module, tests too.
func eachGoFile(module fs.FS, do func(name string) error) error {
	return fs.WalkDir(module, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			_, err := fs.Stat(module, name+"/go.mod")
			module := err == nil // of its own
			if name != "." && (module || strings.HasPrefix(e.Name(), ".") || slices.Contains(notCode, e.Name())) {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(name, ".go") {
			return do(name)
		}
		return nil
	})
}

func TestBreaches(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{
		"a/a.go":       {Data: []byte("package a\nimport _ \"dsvmpools/b\"\n")},
		"a/a_test.go":  {Data: []byte("package a\nimport _ \"dsvmpools/d\"\n")},
		"b/b.go":       {Data: []byte("package b\nimport _ \"dsvmpools/c/below\"\nimport _ \"net/http\"\n")},
		"c/below/c.go": {Data: []byte("package below\n")},
		"d/d.go":       {Data: []byte("package d\n")},
	}
	for _, c := range []struct {
		name string
		wall wall
		want string
	}{
		{"none", wall{from: []string{"a"}, never: []string{"d"}}, ""},
		{"by another package", wall{from: []string{"a"}, never: []string{"c/..."}, why: "reason"}, "a imports b imports c/below: reason"},
		{"not below", wall{from: []string{"a"}, never: []string{"c"}}, ""},
		{"allowed", wall{from: []string{"a"}, never: []string{"c/..."}, but: []string{"c/below"}}, ""},
		{"outside", wall{from: []string{"a"}, never: []string{"net/..."}, why: "reason"}, "a imports b imports net/http: reason"},
		{"nobody", wall{from: []string{"e"}, never: []string{"a"}}, "no package is e; correct the list of walls"},
	} {
		found, err := breaches(files, []wall{c.wall})
		if got := strings.Join(found, "\n"); err != nil || got != c.want {
			t.Errorf("%s: got %q, %v, want %q", c.name, got, err, c.want)
		}
	}
}

// Each package says in two sentences at least what it does, for whom, and what
// it never does.
func TestPackageComments(t *testing.T) {
	t.Parallel()
	comments := map[string]string{}
	err := eachFile(os.DirFS(".."), func(name string) error {
		file, err := parser.ParseFile(token.NewFileSet(), path.Join("..", name), nil, parser.ParseComments|parser.PackageClauseOnly)
		if err == nil {
			comments[path.Dir(name)] += file.Doc.Text()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(comments) < 30 {
		t.Errorf("only %d packages were found", len(comments))
	}
	for name, text := range comments {
		if n := sentences(text); n < 2 {
			t.Errorf("the package comment of %s has %d sentences; say in two at least what it does, for whom, and what it never does", name, n)
		}
	}
}

var sentenceEnd = regexp.MustCompile(`[A-Za-z0-9)"'` + "`" + `][.!?](\s|$)`)

func sentences(text string) int { return len(sentenceEnd.FindAllString(text, -1)) }

func TestSentences(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"": 0, "Package a is a.": 1, "Package a.b is a.\nIt never is b.\n": 2, "no end": 0} {
		if got := sentences(text); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}
