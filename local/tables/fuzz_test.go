package tables

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// entityOf is an entity as it is stored.
func entityOf(partition, row string, ticks int64, properties ...property) *entity {
	e := &entity{[]byte(partition), []byte(row), binary.BigEndian.AppendUint64(nil, uint64(ticks))}
	for i := range properties {
		e.stored = appendProperty(e.stored, &properties[i])
	}
	return e
}

// FuzzFilter reads any text as a filter. One that is read examines no less than
// it lets through.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		"", "PartitionKey eq 'a' and RowKey ge 'b'", "not (A eq 1L or B lt 2.5d)", "X'0a' eq B",
		"guid'0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0' ne C",
		"At ge datetime'2026-01-02T03:04:05Z' and On", "PartitionKey eq 'o''neil' or PartitionKey gt ''", "((((", "- eq -",
		"RowKey lt 'b' and (PartitionKey eq 'a' or true)",
	} {
		f.Add(seed)
	}
	entities := []*entity{
		entityOf("a", "b", 5, property{[]byte("A"), value{kind: edmInt64, number: 1}}, property{[]byte("On"), value{kind: edmBoolean, number: 1}}),
		entityOf("", "", 0), entityOf("o'neil", "x", 0), entityOf("a", "", 0), entityOf("b", "a", 0),
	}
	f.Fuzz(func(t *testing.T, text string) {
		filter, bad := parseFilter(text)
		if bad != nil {
			return
		}
		spans := filter.spans()
		for i, s := range spans {
			if i > 0 && (spans[i-1].to == "" || s.from < spans[i-1].to) {
				t.Fatalf("%q: ranges %q are not in order", text, spans)
			}
		}
		for _, e := range entities {
			k := key(string(e.partition), string(e.row))
			within := slices.ContainsFunc(spans, func(s span) bool { return string(k) >= s.from && s.before(k) })
			holds, err := filter.holds(&looked{entity: *e})
			if err != nil {
				t.Fatal(err)
			}
			if holds && !within {
				t.Fatalf("%q lets %q through, but does not look at it: %q", text, k, spans)
			}
		}
	})
}

// FuzzBatch reads any body as a $batch.
func FuzzBatch(f *testing.F) {
	const head = "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n"
	const operation = "--c\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n" +
		"POST http://127.0.0.1/devaccount/pools HTTP/1.1\r\nAccept: application/json\r\nContent-Id: " +
		"1\r\n\r\n{\"PartitionKey\":\"p\",\"RowKey\":\"r\"}\r\n"
	for _, seed := range []string{
		head + operation + "--c--\r\n--b--\r\n", head + operation + operation + "--c--\r\n--b--\r\n", head + "--c--\r\n--b--\r\n",
		"--b--\r\n", "",
		"--b\r\nContent-Type: application/http\r\n\r\nGET /devaccount/pools() HTTP/1.1\r\n\r\n\r\n--b--\r\n",
	} {
		f.Add("multipart/mixed; boundary=b", []byte(seed))
	}
	s := &Server{cfg: Config{Account: testAccount}}
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		operations, changes, bad := s.parseBatch(&request{header: header{contentType: contentType}, body: string(body)})
		if bad != nil {
			return
		}
		if len(operations) == 0 || len(operations) > maxOperations+1 || !changes && len(operations) != 1 {
			t.Fatalf("got %d operations, changes: %v", len(operations), changes)
		}
		for i := range operations {
			if strings.ContainsAny(operations[i].header.contentID, "\r\n") {
				t.Fatal("an id would break the answer")
			}
			if changes {
				s.readWrite(&operations[i], new(write), new(fieldsOf))
			}
		}
	})
}

// FuzzTarget reads two URLs one after the other: the second is read as if it were the first.
func FuzzTarget(f *testing.F) {
	for _, seed := range [][2]string{
		{"http://h/a/t%28PartitionKey='p',RowKey='r'%29?x=1", "http://h/a/t%28PartitionKey='p',RowKey='%25'%29?x=1"},
		{"http://h/a?x=1", "http://h/b?x=2"}, {"http://h/a", "http://h/b#c"}, {"http://u@h/a", "http://u@h/b"}, {"/a", "/b%"},
		{"http://h", "http://h.x/a"}, {"http://h/a", "http://h/b?"}, {"HTTP://H/a", "HTTP://H/b"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		var got, want target
		if !got.parse(first) {
			return
		}
		ok := got.parse(second)
		if wanted := want.parse(second); ok != wanted || ok && !reflect.DeepEqual(got, want) {
			t.Fatalf("%q after %q is %+v, %v; want %+v, %v", second, first, got, ok, want, wanted)
		}
	})
}

// flat reports, by the standard decoder, whether a body is an object of plain
// values in which no name stands twice.
func flat(body []byte) bool {
	if !json.Valid(body) || !utf8.Valid(body) || len(body) > maxTransactionBytes {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(body))
	names := map[string]bool{}
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return false
	}
	for {
		name, err := d.Token()
		if text, ok := name.(string); err == nil && ok && !names[text] {
			names[text] = true
		} else {
			return err == nil && name == json.Delim('}')
		}
		d.UseNumber()
		if v, err := d.Token(); err != nil || v == json.Delim('{') || v == json.Delim('[') {
			return false
		}
	}
}

// FuzzEntity reads any body as an entity. One that is read comes back the same
// from the store and from its own JSON, and holds what the standard decoder
// sees.
func FuzzEntity(f *testing.F) {
	for _, seed := range []string{
		`{"PartitionKey":"p","RowKey":"r"}`, `{"A":1,"B":"2","B@odata.type":"Edm.Int64","C":2.5,"D":true,"E":null}`,
		`{"A@odata.type":"Edm.Double","A":"NaN"}`,
		`{"A":"2026-01-02T03:04:05.1234567Z","A@odata.type":"Edm.DateTime"}`,
		`{"A":"AQI=","A@odata.type":"Edm.Binary","B":"0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0","B@odata.type":"Edm.Guid"}`,
		`{"A":"\u00e9\ud83d\ude00\"\\","B":1e300,"C":10000000000}`, `{}`, `[]`, `{"A":{}}`, ` { "A" : "x" } `, `{"A":0,"B":"0","B":null}`,
		`{"A":-0}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		all, ok := readObject(string(body), fieldsOf{})
		if want := flat(body); ok != want && (ok || !bytes.Contains(body, []byte("@odata.type"))) {
			t.Fatalf("%q: read as an object: %v (%v), want %v", body, ok, all, want)
		}
		d, bad := readEntity(string(body), new(fieldsOf))
		if bad != nil {
			return
		}
		var plain map[string]any
		if err := json.Unmarshal(body, &plain); err != nil {
			t.Fatalf("read what is no JSON: %q", body)
		}
		e := entity{[]byte(d.partition), []byte(d.row), d.stored}
		binary.BigEndian.PutUint64(e.stored, 1)
		var p property
		r, last := e.properties(), ""
		for r.next(&p) {
			if string(p.name) <= last {
				t.Fatalf("%q is stored after %q", p.name, last)
			}
			last = string(p.name)
			if p.kind == edmString && plain[last] != string(p.text) {
				t.Fatalf("got %q, want %q", p.text, plain[last])
			}
		}
		v := view{format: minimalMetadata}
		shown, err := v.appendEntity(nil, &e, "")
		if err != nil || r.damaged {
			t.Fatalf("%s: the stored form cannot be read: %v", shown, err)
		}
		reread, bad := readEntity(string(shown), new(fieldsOf))
		if bad != nil || !reread.keyed {
			t.Fatalf("%s: %v", shown, bad)
		}
		back := entity{[]byte(reread.partition), []byte(reread.row), reread.stored}
		binary.BigEndian.PutUint64(back.stored, 1)
		if again, _ := v.appendEntity(nil, &back, ""); !bytes.Equal(shown, again) {
			t.Fatalf("shown %s, read as %s", shown, again)
		}
	})
}

// FuzzStored reads any bytes as a stored entity: an error, never a panic.
func FuzzStored(f *testing.F) {
	e := entityOf("p", "r", 1,
		property{[]byte("A"), value{kind: edmString, text: []byte("x")}},
		property{[]byte("B"), value{kind: edmDouble, float: 1}},
		property{[]byte("C"), value{kind: edmInt32, number: -7}},
	)
	f.Add([]byte("p\x00r"), e.stored)
	f.Fuzz(func(t *testing.T, k, stored []byte) {
		e, err := entityIn(k, stored)
		if err != nil {
			return
		}
		_, _, _ = e.value("B")
		v := view{format: fullMetadata}
		_, damaged := v.appendEntity(nil, &e, "")
		merged, err := e.mergeWith(entityOf("p", "r", 2, property{[]byte("B"), value{kind: edmInt32, number: 1}}))
		if (err == nil) != (damaged == nil) {
			t.Fatalf("shown: %v; merged: %v", damaged, err)
		}
		if _, err := v.appendEntity(nil, &merged, ""); damaged == nil && err != nil {
			t.Fatal(err)
		}
	})
}

func TestParseKeys(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		keys string
		want []string // nil = refused
	}{
		{"PartitionKey='a',RowKey='b'", []string{"a", "b"}},
		{"RowKey='b',PartitionKey='a'", []string{"a", "b"}},
		{"PartitionKey='o''neil',RowKey=''''", []string{"o'neil", "'"}},
		{"PartitionKey='',RowKey=''", []string{"", ""}},
		{"PartitionKey='a,RowKey=''b',RowKey='c'", []string{"a,RowKey='b", "c"}},
		{"PartitionKey='a'", nil}, {"", nil}, {"PartitionKey='a',RowKey='b", nil}, {"PartitionKey='a',PartitionKey='b'", nil},
		{"PartitionKey=a,RowKey='b'", nil}, {"PartitionKey='a'RowKey='b'", nil}, {"'a'", nil}, {"PartitionKey='a/',RowKey='b'", nil},
	} {
		partition, row, bad := parseKeys(test.keys)
		if (bad != nil) != (test.want == nil) {
			t.Errorf("%s: got %v, want %v", test.keys, bad, test.want)
		} else if bad == nil && !reflect.DeepEqual([]string{partition, row}, test.want) {
			t.Errorf("%s: got %q, %q, want %q", test.keys, partition, row, test.want)
		}
	}
}
