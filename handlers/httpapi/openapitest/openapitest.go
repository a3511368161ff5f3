// Package openapitest checks answers of the HTTP API against its description. It is
// for tests; no program imports it.
package openapitest

import (
	"bytes"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// Specification is docs/openapi.yaml, to hold answers against. OpenAPI 3.1 takes
// its schemas from JSON Schema 2020-12, so a validator of that is all it needs.
type Specification struct {
	document map[string]any
	compiler *jsonschema.Compiler
}

// specURL is what the document is called within the compiler.
const specURL = "file:///openapi.json"

// ReadSpecification reads the document and compiles every schema in its
// components, so that one that is broken is found even if no answer uses it.
func ReadSpecification(path string) (*Specification, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var document map[string]any
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	s := &Specification{document: document, compiler: jsonschema.NewCompiler()}
	s.compiler.DefaultDraft(jsonschema.Draft2020)
	s.compiler.AssertFormat()
	if err := s.compiler.AddResource(specURL, plain(document)); err != nil {
		return nil, err
	}
	schemas, _ := s.at("#/components/schemas").(map[string]any)
	if len(schemas) == 0 {
		return nil, fmt.Errorf("%s has no schemas", path)
	}
	for name := range schemas {
		if _, err := s.compiler.Compile(specURL + "#/components/schemas/" + name); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// plain is a YAML value as JSON has it: whole numbers as the validator wants
// them, times as the texts they are written as.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			out[k] = plain(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = plain(e)
		}
		return out
	case int:
		return float64(v)
	case string, bool, float64, nil:
		return v
	}
	return fmt.Sprint(v)
}

// at follows a JSON pointer.
func (s *Specification) at(pointer string) any {
	var v any = s.document
	for _, step := range strings.Split(strings.TrimPrefix(pointer, "#/"), "/") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]
	}
	return v
}

// pointerTo escapes a step of a JSON pointer.
func pointerTo(step string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(step)
}

// resolved follows a $ref, and says where the value stands.
func (s *Specification) resolved(pointer string) (map[string]any, string) {
	m, _ := s.at(pointer).(map[string]any)
	if ref, ok := m["$ref"].(string); ok {
		return s.resolved(ref)
	}
	return m, pointer
}

// Routes lists what is described: method, path and the names of the query's
// parameters.
func (s *Specification) Routes() []string {
	paths, _ := s.at("#/paths").(map[string]any)
	var routes []string
	for path, item := range paths {
		item := item.(map[string]any)
		for _, method := range []string{"get", "put", "post", "delete", "patch", "head", "options"} {
			operation, ok := item[method].(map[string]any)
			if !ok {
				continue
			}
			common, _ := item["parameters"].([]any)
			own, _ := operation["parameters"].([]any)
			var query []string
			for _, p := range slices.Concat(common, own) {
				parameter, _ := p.(map[string]any)
				if ref, ok := parameter["$ref"].(string); ok {
					parameter, _ = s.resolved(ref)
				}
				if parameter["in"] == "query" {
					query = append(query, fmt.Sprint(parameter["name"]))
				}
			}
			slices.Sort(query)
			routes = append(routes, strings.ToUpper(method)+" "+path+" "+strings.Join(query, ","))
		}
	}
	return routes
}

// Properties lists the described properties of a schema of the components, in order.
func (s *Specification) Properties(schema string) []string {
	properties, _ := s.at("#/components/schemas/" + schema + "/properties").(map[string]any)
	return slices.Sorted(maps.Keys(properties))
}

// Fields lists the described fields of a schema of the components and of the objects in it,
// as paths with points, with the type of each: "string", "integer", "object" and so on, ""
// where it may be of several. Objects with names of the user's own, and lists, are not
// entered.
func (s *Specification) Fields(schema string) map[string]string {
	fields := map[string]string{}
	s.addFields("#/components/schemas/"+schema, "", fields)
	return fields
}

func (s *Specification) addFields(pointer, prefix string, fields map[string]string) {
	of, where := s.resolved(pointer)
	properties, _ := of["properties"].(map[string]any)
	for name := range properties {
		at := where + "/properties/" + pointerTo(name)
		property, _ := s.resolved(at)
		kind, _ := property["type"].(string)
		fields[prefix+name] = kind
		s.addFields(at, prefix+name+".", fields)
	}
}

// Bodyless lists the described requests that change something and bring no body:
// method and path.
func (s *Specification) Bodyless() (routes []string) {
	paths, _ := s.at("#/paths").(map[string]any)
	for path, item := range paths {
		for _, method := range []string{"put", "post", "delete", "patch"} {
			operation, ok := item.(map[string]any)[method].(map[string]any)
			if ok && operation["requestBody"] == nil {
				routes = append(routes, strings.ToUpper(method)+" "+path)
			}
		}
	}
	slices.Sort(routes)
	return routes
}

// Check holds an answer against what is described for its request: status,
// content type and body.
func (s *Specification) Check(r *http.Request, status int, header http.Header, body []byte) error {
	path, ok := s.path(r.Method, r.URL.Path)
	if !ok {
		return fmt.Errorf("%s is not described", r.URL.Path)
	}
	base := "#/paths/" + pointerTo(path) + "/" + strings.ToLower(r.Method) + "/responses/"
	var response map[string]any
	var where string
	for _, code := range []string{strconv.Itoa(status), strconv.Itoa(status/100) + "XX", "default"} {
		if response == nil {
			response, where = s.resolved(base + code)
		}
	}
	if response == nil {
		return fmt.Errorf("status %d is not described", status)
	}
	headers, _ := response["headers"].(map[string]any)
	for name := range headers {
		if h, _ := s.resolved(where + "/headers/" + name); h["required"] == true && header.Get(name) == "" {
			return fmt.Errorf("the header %s is missing", name)
		}
	}
	content, _ := response["content"].(map[string]any)
	if len(content) == 0 {
		if len(body) > 0 {
			return fmt.Errorf("a body of %d bytes where none is described", len(body))
		}
		return nil
	}
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || content[kind] == nil {
		return fmt.Errorf("content type %q is not described", header.Get("Content-Type"))
	}
	if !strings.HasSuffix(kind, "json") {
		return nil
	}
	schema, err := s.compiler.Compile(specURL + where + "/content/" + pointerTo(kind) + "/schema")
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// path finds the described path of a request. What is described for other methods alone
// may be the name of something, as that of a job.
func (s *Specification) path(method, actual string) (string, bool) {
	paths, _ := s.at("#/paths").(map[string]any)
	if item, _ := paths[actual].(map[string]any); item[strings.ToLower(method)] != nil {
		return actual, true
	}
	want := strings.Split(actual, "/")
	for path, item := range paths {
		item, _ := item.(map[string]any)
		steps := strings.Split(path, "/")
		parts := want
		if item["x-rest"] != nil && len(want) > len(steps) {
			parts = append(slices.Clone(want[:len(steps)-1]), strings.Join(want[len(steps)-1:], "/")) // its last parameter takes all of the rest
		}
		if item[strings.ToLower(method)] != nil && len(steps) == len(parts) && !slices.ContainsFunc(zip(steps, parts), func(p [2]string) bool {
			return p[0] != p[1] && !strings.HasPrefix(p[0], "{")
		}) {
			return path, true
		}
	}
	return "", false
}

func zip(a, b []string) [][2]string {
	out := make([][2]string, len(a))
	for i := range a {
		out[i] = [2]string{a[i], b[i]}
	}
	return out
}
