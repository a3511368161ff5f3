package document_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"dsvmpools/shared/document"
)

func TestParseAll(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, file, text, want string }{
		{"one", "", "a: 1\n", `{"a":1}@1`},
		{"a stream", "x.YAML", "---\n# none\n---\na: 1.10\n---\nb: [1]\n...\n", `{"a":1.10}@4 {"b":[1]}@6`},
		{"a list", "", "- a: 1\n\n- b: 2\n", `{"a":1}@1 {"b":2}@3`},
		{"a stream of lists", "", "- a: 1\n---\n- b: 2\n- c: 3\n", `{"a":1}@1 {"b":2}@3 {"c":3}@4`},
		{"a list in JSON, with tabs", "", "[\n\t{\"a\": 1},\n\t{\"b\": 2}\n]", `{"a":1}@2 {"b":2}@3`},
		{"JSON lines", "x.json", "{\"a\": 1}\n\n{\"b\": 2}\n", `{"a":1}@1 {"b":2}@3`},
		{"YAML that begins like JSON", "", "{a: 1}\n---\n{b: 2}\n", `{"a":1}@1 {"b":2}@3`},
		{"with a byte order mark", "", "\ufeff[{\"a\": 1}]", `{"a":1}@1`},
	} {
		all, err := document.ParseAll([]byte(c.text), c.file)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, n := range all {
			text, err := json.Marshal(n)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(text)+"@"+string(rune('0'+n.Line)))
		}
		if !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestParseAllRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, file, text, want string }{
		{"nothing", "", " \n", "the file is empty; it needs fields such as `pool: cpu`"},
		{"comments alone", "", "# a\n---\n", "the file holds no document; it needs fields such as `pool: cpu`"},
		{"an empty list", "", "[]", "the file holds no document; it needs fields such as `pool: cpu`"},
		{"a text", "", "hello\n", "line 1: a document is a text; write an object with fields such as `pool: cpu`"},
		{"a list of texts", "", "- a: 1\n- b\n", "line 2: a document is a text; write an object with fields such as `pool: cpu`"},
		{"not UTF-8", "", "a: \xff", "the file is not UTF-8; save it as UTF-8"},
		{"a tab", "", "a:\n\tb: 1\n", "line 2: the line begins with a tab, and YAML takes spaces alone; replace it with spaces"},
		{"no YAML", "", "a: 1\nb: c: d\n",
			"line 2: the document is not valid YAML (mapping values are not allowed in this context); check the indentation, and quote a text that has : # * or & in it"},
		{"no JSON", "x.json", "[\n{\"a\": 1,}]",
			"line 2: the document is not valid JSON (invalid character '}' looking for beginning of object key string); check quotes, commas and brackets"},
		{"neither", "", "{\"a\": 1,\n\"b\" 2}",
			"line 2: the document is not valid JSON (invalid character '2' after object key); check quotes, commas and brackets"},
		{"JSON that ends early", "", "[{\"a\": 1}", "line 1: the document is not valid JSON (unexpected EOF); check quotes, commas and brackets"},
	} {
		_, err := document.ParseAll([]byte(c.text), c.file)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

func FuzzParseAll(f *testing.F) {
	for _, seed := range []string{"a: 1\n---\nb: 2\n", `[{"a": 1}, {}]`, "{} {}", "- a: 1\n-\tb: 2\n", "---\n...\n---\n"} {
		f.Add([]byte(seed), "")
		f.Add([]byte(seed), "x.json")
		f.Add([]byte(seed), "x.yaml")
	}
	f.Fuzz(func(t *testing.T, body []byte, name string) {
		all, err := document.ParseAll(body, name)
		if err != nil {
			checkRefusal(t, err)
			return
		}
		for _, n := range all {
			if n.Kind != document.Object || n.Line < 1 {
				t.Errorf("got a document of kind %d in line %d", n.Kind, n.Line)
			}
		}
	})
}
