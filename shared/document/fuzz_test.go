package document_test

import (
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
)

// maxError bounds the text of a refusal: it goes into rows and messages.
const maxError = 1000

func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{"a": [1, {"b": null}], "c": "\u00e9"}`, `{"a": 1, "a": 2}`, `{"a": 1,}`, `{} {}`, "a: &x [*x]\nb: !!int 1\n", "a: {b: c}\n---\n", "? [a]\n: b\n"} {
		f.Add([]byte(seed), "application/json")
		f.Add([]byte(seed), "application/yaml")
		f.Add([]byte(seed), "")
	}
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		n, err := document.Parse(body, contentType)
		if err != nil {
			checkRefusal(t, err)
			return
		}
		if n.Kind != document.Object {
			t.Errorf("got a document of kind %d", n.Kind)
		}
		r := document.Read(n, "a")
		if r.String("a", "x"); r.Err() != nil {
			checkRefusal(t, r.Err())
		}
	})
}

// What is read as JSON is JSON.
func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{`{"a": [1, 2], "b": {"c": "d"}}`, `{"a": 1,}`, `{"a": [1,]}`, `{"a" 1}`, `{"a": [1 2]}`, `{"a": 1]`, `{"a": 01}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		_, err := document.Parse(body, "application/json")
		if err == nil && !json.Valid(trimMark(body)) {
			t.Errorf("%q was read and is not JSON", body)
		}
	})
}

func trimMark(body []byte) []byte {
	if len(body) >= 3 && string(body[:3]) == "\xef\xbb\xbf" {
		return body[3:]
	}
	return body
}

func checkRefusal(t *testing.T, err error) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.Invalid || f.Message == "" {
		t.Fatalf("got %#v, want a refusal", err)
	}
	if len(f.Message) > maxError || len(f.Field) > maxError || !utf8.ValidString(f.Message) || !utf8.ValidString(f.Field) {
		t.Errorf("a refusal must be short and UTF-8: [%q] %q", f.Field, f.Message)
	}
}

// A document costs memory in proportion to its bytes, whatever it says: nothing
// in it multiplies.
func TestMemoryOfHostileDocuments(t *testing.T) {
	for name, body := range map[string]string{
		"nested objects": strings.Repeat(`{"a":`, 100_000),
		"nested lists":   `{"a":` + strings.Repeat("[", 100_000),
		"nested flows":   "a: " + strings.Repeat("[", 50_000),
		"many fields":    "{" + strings.Repeat(`"a":1,`, 100_000) + `"b":1}`,
		"aliases of aliases": "a: &a [x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\n" +
			"e: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f]\n",
	} {
		for _, kind := range []string{"application/json", "application/yaml"} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := document.Parse([]byte(body), kind)
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Errorf("%s as %s was read", name, kind)
			}
			if grown, most := after.TotalAlloc-before.TotalAlloc, uint64(1000*len(body)+1<<20); grown > most {
				t.Errorf("%s as %s: %d bytes of memory for %d of text, want at most %d", name, kind, grown, len(body), most)
			}
		}
	}
}
