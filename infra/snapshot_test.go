package infra_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dsvmpools/infra"
)

// resource is one of an expanded template. An expression that only Azure can
// evaluate is a string in square brackets.
type resource struct {
	ID, Type, Name, Location, Kind string
	Tags                           map[string]string
	SKU                            map[string]any
	Identity                       map[string]any
	Properties                     map[string]any
	Expression                     string // of all properties, where a secret is among them
}

func (r *resource) UnmarshalJSON(text []byte) error {
	type plain resource
	var parts struct {
		*plain
		Properties json.RawMessage
	}
	parts.plain = (*plain)(r)
	if err := json.Unmarshal(text, &parts); err != nil || len(parts.Properties) == 0 {
		return err
	}
	if parts.Properties[0] == '"' {
		return json.Unmarshal(parts.Properties, &r.Expression)
	}
	return json.Unmarshal(parts.Properties, &r.Properties)
}

// snapshots are the expanded templates that are kept for review: `new` and `identity`
// make everything themselves, `own` uses what exists and all that is optional.
func snapshots(t *testing.T) map[string][]resource {
	t.Helper()
	out := map[string][]resource{}
	for _, name := range []string{"new", "identity", "own", "ways"} {
		b, err := os.ReadFile("snapshot/" + name + ".snapshot.json")
		if err != nil {
			t.Fatal(err)
		}
		var snapshot struct{ PredictedResources []resource }
		if err := json.Unmarshal(b, &snapshot); err != nil {
			t.Fatal(err)
		}
		out[name] = snapshot.PredictedResources
	}
	return out
}

// ofType returns the resources of one type.
func ofType(all []resource, kind string) (out []resource) {
	for _, r := range all {
		if r.Type == kind {
			out = append(out, r)
		}
	}
	return out
}

// at follows the keys through objects; nil = there is no such value.
func at(v any, keys ...string) any {
	for _, key := range keys {
		object, _ := v.(map[string]any)
		v = object[key]
	}
	return v
}

// text is the string at the keys.
func text(v any, keys ...string) string {
	s, _ := at(v, keys...).(string)
	return s
}

// template is the compiled template.
type template struct {
	Parameters map[string]struct {
		Type          string
		DefaultValue  any
		AllowedValues []any
		Metadata      struct{ Description string }
	}
	Resources []struct {
		Type       string
		Properties json.RawMessage
	}
	Outputs map[string]struct{ Type, Value any }
}

func readTemplate(t *testing.T) template {
	t.Helper()
	var out template
	if err := json.Unmarshal(infra.Template, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// sources are the files that the template and the snapshots are made from, and
// what is made.
func sources(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.bicep", "modules/*.bicep", "bicepconfig.json", "main.json", "snapshot/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		all = append(all, files...)
	}
	return all
}

// TestCompiledIsFresh holds without a compiler: nobody changes the template and
// forgets to compile it, or changes what is compiled by hand.
func TestCompiledIsFresh(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("main.sha256")
	if err != nil {
		t.Fatal(err)
	}
	recorded := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		sum, file, _ := strings.Cut(lines.Text(), "  ")
		recorded[file] = sum
	}
	for _, file := range sources(t) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		if recorded[file] != hex.EncodeToString(sum[:]) {
			t.Errorf("%s is not what was compiled last; run `make template`", file)
		}
		delete(recorded, file)
	}
	if len(recorded) > 0 {
		t.Errorf("main.sha256 names files that are gone: %v; run `make template`", slices.Sorted(maps.Keys(recorded)))
	}
}

// TestModulesAreUsed finds a module that main.bicep does not name.
func TestModulesAreUsed(t *testing.T) {
	t.Parallel()
	main, err := os.ReadFile("main.bicep")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob("modules/*.bicep")
	for _, file := range files {
		if !bytes.Contains(main, []byte("'"+file+"'")) {
			t.Errorf("main.bicep does not use %s", file)
		}
		if !bytes.Contains(readme, []byte("`"+file+"`")) {
			t.Errorf("README.md does not explain %s", file)
		}
	}
}

// TestParametersFile: the file that people edit names parameters of the template,
// with the defaults of the template, and leaves open what has none.
func TestParametersFile(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("main.parameters.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Schema         string `json:"$schema"`
		ContentVersion string
		Parameters     map[string]struct{ Value any }
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(file.Schema, "/2019-04-01/deploymentParameters.json#") || file.ContentVersion != "1.0.0.0" {
		t.Errorf("schema %q, content version %q", file.Schema, file.ContentVersion)
	}
	known := readTemplate(t).Parameters
	for name, p := range file.Parameters {
		want, ok := known[name]
		if !ok {
			t.Errorf("the template has no parameter %s", name)
			continue
		}
		if want.DefaultValue != nil && !equal(p.Value, want.DefaultValue) {
			t.Errorf("%s: the file says %v, the template %v", name, p.Value, want.DefaultValue)
		}
	}
	for name, p := range known {
		if _, ok := file.Parameters[name]; !ok && p.DefaultValue == nil {
			t.Errorf("the template needs %s; the file does not have it", name)
		}
		if p.Metadata.Description == "" {
			t.Errorf("parameter %s has no description", name)
		}
	}
}

func equal(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}
