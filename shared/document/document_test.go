package document_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
)

// refused checks that err is a refusal with this field and sentence.
func refused(t *testing.T, err error, field, message string) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want a refusal: %s", err, message)
	}
	if f.Code != fault.Invalid || f.Field != field || f.Message != message {
		t.Errorf("got  %s [%s] %s\nwant %s [%s] %s", f.Code, f.Field, f.Message, fault.Invalid, field, message)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, body, contentType, field, message string }{
		{"nothing", " \n", "", "", "the document is empty; send a JSON or YAML object"},
		{"only a comment", "# later\n", "", "", "the document is empty; send a JSON or YAML object"},
		{"a list", "- a\n", "", "", "the document is a list; send an object with named fields"},
		{"a text in JSON", `"a"`, "application/json", "", "the document is a text; send an object with named fields"},
		{"not UTF-8", "a: \xff\n", "", "", "the document is not UTF-8; save it as UTF-8"},
		{"too long", "a: " + strings.Repeat("x", document.MaxBytes), "", "",
			"the document has 32771 bytes, at most 32768 are read; put longer lists and scripts into files on the share"},

		{"JSON, cut off", "{\n\"a\": 1", "", "", "line 2: the document is not valid JSON (unexpected EOF); check quotes, commas and brackets"},
		{"JSON, wrong bracket", "{\n\"a\": 1]", "", "", "line 2: the document is not valid JSON (invalid character ']' after object key:value pair); check quotes, commas and brackets"},
		{"JSON, trailing text", "{}\nx", "", "", "line 2: the document is not valid JSON (invalid character 'x' looking for beginning of value); check quotes, commas and brackets"},
		{"JSON, a second document", "{} {}", "", "", "line 1: the document is not valid JSON (more follows after the first value); check quotes, commas and brackets"},
		{"JSON, twice", "{\"a\": 1,\n\"a\": 2}", "", "a", "line 2: `a` stands here a second time (first in line 1); keep one of them"},
		{"JSON, twice below", "{\"a\": [0, {\"b\": 1,\n\"b\": 2}]}", "", "a[1].b", "line 2: `a[1].b` stands here a second time (first in line 1); keep one of them"},
		{"JSON, deep", `{"a":` + strings.Repeat("[", 30) + strings.Repeat("]", 30) + "}", "", "", "line 1: the document is nested deeper than 20 levels; make it flatter"},

		{"YAML, a tab", "a: b\n\tc: d\n", "", "", "line 2: the line begins with a tab, and YAML takes spaces alone; replace it with spaces"},
		{"YAML, a second document", "a: b\n---\nc: d\n", "", "", "the file holds more than one document; send one at a time"},
		{"YAML, twice", "a: 1\nb: 2\na: 3\n", "", "a", "line 3: `a` stands here a second time (first in line 1); keep one of them"},
		{"YAML, twice below", "a:\n  b: 1\n  b: 2\n", "", "a.b", "line 3: `a.b` stands here a second time (first in line 2); keep one of them"},
		{"YAML, deep", "a: " + strings.Repeat("[", 30) + strings.Repeat("]", 30), "", "", "line 1: the document is nested deeper than 20 levels; make it flatter"},
		{"YAML, an alias", "a: &x [1]\nb: *x\n", "", "b", "line 2: YAML anchors and aliases are not read; write the value out"},
		{"YAML, an alias to itself", "a: &x [*x]\n", "", "a[0]", "line 1: YAML anchors and aliases are not read; write the value out"},
		{"YAML, a merge", "a: {<<: {b: c}}\n", "", "", "line 1: a field name must be a plain text; write it as `name: value`"},
		{"YAML, a list as a name", "? [a]\n: b\n", "", "", "line 1: a field name must be a plain text; write it as `name: value`"},
		{"YAML, bytes", "a: !!binary aGk=\n", "", "a", "line 1: `a` has the YAML tag !!binary, which is not read; write the value without it"},
		{"YAML, a tag of one's own", "a: {b: !mine c}\n", "", "a.b", "line 1: `a.b` has the YAML tag !mine, which is not read; write the value without it"},
		{"YAML, a set", "!!set {a}\n", "", "", "line 1: the document has the YAML tag !!set, which is not read; write the value without it"},
		{"YAML, no boolean", "a: !!bool perhaps\n", "", "a", "line 1: `a` is \"perhaps\"; write true or false"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := document.Parse([]byte(c.body), c.contentType)
			refused(t, err, c.field, c.message)
		})
	}
}

// A document of nested aliases that would expand to billions of values.
func TestParseRefusesAliasesUnexpanded(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x]\n")
	for i := '1'; i <= '9'; i++ {
		b.WriteString(
			"a" + string(i) + ": &a" + string(i) + " [" + strings.TrimSuffix(strings.Repeat("*a"+string(i-1)+", ", 9), ", ") + "]\n",
		)
	}
	_, err := document.Parse([]byte(b.String()), "application/yaml")
	refused(t, err, "a1[0]", "line 2: YAML anchors and aliases are not read; write the value out")
}

func TestParseTakesTheFormatOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, body, contentType string }{
		{"JSON by its type", `{"a": "b"}`, "application/json; charset=utf-8"},
		{"JSON by its type in capitals", ` {"a": "b"}`, "Application/JSON"},
		{"JSON by its first character", "\n {\"a\": \"b\"}", ""},
		{"JSON with a byte order mark", "\xef\xbb\xbf{\"a\": \"b\"}", "application/json"},
		{"YAML by its type", "{a: b}", "application/yaml"},
		{"YAML by its first character", "a: b", "text/plain"},
		{"YAML with a byte order mark", "\xef\xbb\xbfa: b", ""},
		{"YAML that begins with a line", "---\na: b\n...\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n, err := document.Parse([]byte(c.body), c.contentType)
			if err != nil {
				t.Fatal(err)
			}
			if got := document.Read(n, "a").String("a", "x"); got != "b" {
				t.Errorf("got %q, want %q", got, "b")
			}
		})
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	const body = "text: a\nno: false\nnumber: 3\nlist: [a, '']\nmap: {k: v}\nsub: {inner: 7}\ntime: 2026-01-31T21:00:00+01:00\n"
	n, err := document.Parse([]byte(body), "")
	if err != nil {
		t.Fatal(err)
	}
	r := document.Read(n, "text", "no", "number", "list", "map", "sub", "time", "nothing")
	if got := r.String("text", "x"); got != "a" {
		t.Errorf("got %q", got)
	}
	if r.Bool("no", true) || !r.Bool("nothing", true) {
		t.Error("a boolean is what it says, or else its default")
	}
	if got, or := r.Int("number", 1, 1, 9), r.Int("nothing", 5, 1, 9); got != 3 || or != 5 {
		t.Errorf("got %d and %d, want 3 and 5", got, or)
	}
	if got := r.Strings("list", "x"); len(got) != 2 || got[0] != "a" || got[1] != "" {
		t.Errorf("got %q", got)
	}
	if got := r.Map("map", "x"); len(got) != 1 || got["k"] != "v" {
		t.Errorf("got %q", got)
	}
	if got := r.Sub("sub", "x", "inner").Int("inner", 1, 1, 9); got != 7 {
		t.Errorf("got %d, want 7", got)
	}
	if got, want := r.Time("time"), time.Date(2026, 1, 31, 20, 0, 0, 0, time.UTC); !got.Equal(want) || got.Location() != time.UTC {
		t.Errorf("got %s, want %s", got, want)
	}
	if r.Sub("nothing", "x") != nil || r.Has("nothing") || !r.Has("text") {
		t.Error("a field that is absent was taken for one that is there")
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
}

// word refuses every text but one.
type word string

func (w *word) UnmarshalText(text []byte) error {
	if string(text) != "right" {
		return errors.New("it is wrong; write right")
	}
	*w = word(text)
	return nil
}

func TestReaderRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("y", 500)
	for _, c := range []struct {
		name, body     string
		read           func(*document.Reader)
		field, message string
	}{
		{"no such field, a near one", "sub:\n  backof: 1\n", func(r *document.Reader) { r.Sub("sub", "x", "max", "backoff") },
			"sub.backof", "line 2: there is no field `sub.backof`; did you mean `backoff`?"},
		{"no such field, none near enough", "smu: 1\n", nil, "smu", "line 1: there is no field `smu`; the known ones are a, sub"},
		{"no such field, other case", "SUB: 1\n", nil, "SUB", "line 1: there is no field `SUB`; did you mean `sub`?"},
		{"no such field, too short to guess", "x: 1\n", nil, "x", "line 1: there is no field `x`; the known ones are a, sub"},
		{"no such field, a long one", "? " + long + "\n: 1\n", nil, long[:60] + "...", "line 1: there is no field `" + long[:60] + "...`; the known ones are a, sub"},
		{"a number for a text", "a: 5\n", func(r *document.Reader) { r.String("a", "15m") },
			"a", "line 1: `a` is a number; write a text, for example \"15m\""},
		{"a text for a boolean", "a: yes\n", func(r *document.Reader) { r.Bool("a", true) },
			"a", "line 1: `a` is a text; write a boolean, for example true"},
		{"a text for a number", "a: '5'\n", func(r *document.Reader) { r.Int("a", 1, 1, 9) },
			"a", "line 1: `a` is the text \"5\"; write the number without quotes"},
		{"a text for a list", "\na: b\n", func(r *document.Reader) { r.Strings("a", `["b"]`) },
			"a", "line 2: `a` is a text; write a list, for example [\"b\"]"},
		{"a list for an object", "a: [b]\n", func(r *document.Reader) { r.Sub("a", `{"b": 1}`, "b") },
			"a", "line 1: `a` is a list; write an object, for example {\"b\": 1}"},
		{"a number in a list", "a:\n- b\n- 5\n", func(r *document.Reader) { r.Strings("a", "x") },
			"a[1]", "line 3: `a[1]` is a number; write it as a text, in quotes: \"5\""},
		{"a number in a map", "a:\n  K: 5\n", func(r *document.Reader) { r.Map("a", "x") },
			"a.K", "line 2: `a.K` is a number; write it as a text, in quotes: \"5\""},
		{"below the least", "a: 0\n", func(r *document.Reader) { r.Int("a", 1, 1, 9) },
			"a", "line 1: `a` is 0; write a whole number from 1 to 9"},
		{"above the most", "a: 10\n", func(r *document.Reader) { r.Int("a", 1, 1, 9) },
			"a", "line 1: `a` is 10; write a whole number from 1 to 9"},
		{"a fraction", "a: 1.0\n", func(r *document.Reader) { r.Int("a", 1, 1, 9) },
			"a", "line 1: `a` is 1.0; write a whole number from 1 to 9"},
		{"eight or ten", "a: 010\n", func(r *document.Reader) { r.Int("a", 1, 1, 99) },
			"a", "line 1: `a` is 010; write a whole number from 1 to 99"},
		{"larger than any number", "a: 0x" + strings.Repeat("f", 16) + "\n", func(r *document.Reader) { r.Int("a", 1, 1, 9) },
			"a", "line 1: `a` is 0x" + strings.Repeat("f", 16) + "; write a whole number from 1 to 9"},
		{"a day for a time", "a: 2026-01-31\n", func(r *document.Reader) { r.Time("a") },
			"a", "line 1: `a` is \"2026-01-31\"; write a time as RFC 3339 has it, for example 2026-01-31T20:00:00Z"},
		{"a time past the last year in UTC", "a: 9999-12-31T23:59:59-01:00\n", func(r *document.Reader) { r.Time("a") },
			"a", "line 1: `a` is \"9999-12-31T23:59:59-01:00\"; write a time as RFC 3339 has it, for example 2026-01-31T20:00:00Z"},
		{"a text that reads itself", "sub: {a: left}\n", func(r *document.Reader) { r.Sub("sub", "x", "a").Text("a", "right", new(word)) },
			"sub.a", "line 1: `sub.a`: it is wrong; write right"},
		{"a number that would read itself", "a: 1\n", func(r *document.Reader) { r.Text("a", "right", new(word)) },
			"a", "line 1: `a` is a number; write a text, for example \"right\""},
		{"null for a text", "a: null\n", func(r *document.Reader) { r.String("a", "15m") },
			"a", "line 1: `a` is null; write a text, for example \"15m\", or leave it out"},
		{"null for a number", "sub: {a: }\n", func(r *document.Reader) { r.Sub("sub", "x", "a").Int("a", 1, 1, 9) },
			"sub.a", "line 1: `sub.a` is null; write a number, for example 1, or leave it out"},
		{"null for an object", "a:\n", func(r *document.Reader) { r.Sub("a", `{"b": 1}`, "b") },
			"a", "line 1: `a` is null; write an object, for example {\"b\": 1}, or leave it out"},
		{"null for one or more", "a:\n", func(r *document.Reader) { r.OneOrMore("a", `{"b": 1}`, "b") },
			"a", "line 1: `a` is null; write an object, for example {\"b\": 1}, or leave it out"},
		{"an empty text", "a: ''\n", func(r *document.Reader) { r.String("a", "15m") },
			"a", "line 1: `a` is empty; write a text, for example \"15m\", or leave it out"},
		{"an empty time", "a: ''\n", func(r *document.Reader) { r.Time("a") },
			"a", "line 1: `a` is empty; write a text, for example \"2026-01-31T20:00:00Z\", or leave it out"},
		{"not yet", "sub: {a: 1}\n", func(r *document.Reader) { r.Sub("sub", "x", "a").Later("a") },
			"sub.a", "line 1: `sub.a` is not supported yet; leave it out"},
		{"the first of two", "sub: 1\na: 2\n", func(r *document.Reader) { r.String("a", "b"); r.String("sub", "b") },
			"a", "line 2: `a` is a number; write a text, for example \"b\""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n, err := document.Parse([]byte(c.body), "")
			if err != nil {
				t.Fatal(err)
			}
			r := document.Read(n, "a", "sub")
			if c.read != nil {
				c.read(r)
			}
			refused(t, r.Err(), c.field, c.message)
		})
	}
}

// An empty text is a value where any text is one.
func TestScalarAcceptsEmptyTexts(t *testing.T) {
	t.Parallel()
	n, err := document.Parse([]byte("a: ''\nb: 1.50\n"), "")
	if err != nil {
		t.Fatal(err)
	}
	r := document.Read(n, "a", "b")
	if a, b := r.Scalar("a", "x"), r.Scalar("b", "x"); a != "" || b != "1.50" || r.Err() != nil {
		t.Errorf("got %q, %q, %v", a, b, r.Err())
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	n, err := document.Parse([]byte("a: right\n"), "")
	if err != nil {
		t.Fatal(err)
	}
	w, kept := word(""), word("default")
	r := document.Read(n, "a", "b")
	r.Text("a", "right", &w)
	r.Text("b", "right", &kept)
	if w != "right" || kept != "default" || r.Err() != nil {
		t.Errorf("got %q, %q, %v", w, kept, r.Err())
	}
}

func TestLocate(t *testing.T) {
	t.Parallel()
	const body = "pool: cpu\nretry:\n  max: 1\n  on:\n  - a\n  - b\nlabels:\n  a.b: c\n  ? ''\n  : d\n"
	n, err := document.Parse([]byte(body), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ field, message string }{
		{"pool", "line 1: no"},
		{"retry.max", "line 3: no"},
		{"retry.on[1]", "line 6: no"},
		{"retry.on[7]", "line 4: no"},
		{"retry.backoff", "line 2: no"},
		{"labels.a.b", "line 8: no"},
		{"labels.", "line 7: no"},
		{"poo", "no"},
		{"missing", "no"},
		{"", "no"},
	} {
		err := n.Locate(fault.New(fault.Invalid, c.field, "no"))
		refused(t, err, c.field, c.message)
	}
	if err := n.Locate(nil); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if other := errors.New("other"); n.Locate(other) != other {
		t.Error("a foreign error was changed")
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{"short", "abc", "abc"},
		{"just fits", strings.Repeat("a", 60), strings.Repeat("a", 60)},
		{"long", strings.Repeat("a", 61), strings.Repeat("a", 60) + "..."},
		{"between characters", "a" + strings.Repeat("é", 40), "a" + strings.Repeat("é", 29) + "..."},
	} {
		if got := document.Clip(c.in); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
