package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// exchange is one request as it goes over the wire. In the path, TABLE stands
// for the table of the case.
type exchange struct {
	method, path string
	header       map[string]string
	body         []byte
}

// oneCase is what a client can ask for, at the edge of what is allowed: what
// comes before, and the request whose answer is compared.
type oneCase struct {
	name   string
	before []exchange
	last   exchange
}

func (c oneCase) in(table string) call {
	return call{c.name, func(ctx context.Context, t *target) outcome {
		for _, e := range c.before {
			if r, err := t.send(ctx, e.method, strings.ReplaceAll(e.path, "TABLE", table), e.header, e.body); err == nil {
				r.Body.Close()
			}
		}
		e := c.last
		body := strings.NewReplacer("TABLE", table, "ACCOUNT", t.url).Replace(string(e.body))
		r, err := t.send(ctx, e.method, strings.ReplaceAll(e.path, "TABLE", table), e.header, []byte(body))
		return read(t, r, err)
	}}
}

// entity is one as JSON; pairs are names and values.
func entity(partition, row string, pairs ...any) []byte {
	m := map[string]any{"PartitionKey": partition, "RowKey": row}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// insertOf is an insert as the client sends it.
func insertOf(body []byte) exchange {
	return exchange{"POST", "TABLE", wantsContent, body}
}

var (
	wantsContent = map[string]string{"Prefer": "return-content"}
	anyVersion   = map[string]string{"If-Match": "*"}
)

// wide is an entity with so many properties.
func wide(properties int) []byte {
	var pairs []any
	for i := range properties {
		pairs = append(pairs, fmt.Sprintf("P%03d", i), i)
	}
	return entity("p", "r", pairs...)
}

// heavy is an entity with so many strings of 30,000 characters.
func heavy(strings30k int) []byte {
	var pairs []any
	for i := range strings30k {
		pairs = append(pairs, fmt.Sprint("P", i), strings.Repeat("x", 30_000))
	}
	return entity("p", "r", pairs...)
}

// batch is a transaction; each operation is its request line and its body.
func batch(operations ...exchange) exchange {
	var b strings.Builder
	b.WriteString("--batch_1\r\nContent-Type: multipart/mixed; boundary=changeset_1\r\n\r\n")
	for _, o := range operations {
		b.WriteString("--changeset_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n")
		fmt.Fprintf(
			&b,
			"%s ACCOUNT/%s HTTP/1.1\r\nAccept: application/json;odata=minimalmetadata\r\nContent-Type: "+
				"application/json\r\nDataServiceVersion: 3.0;\r\n",
			o.method,
			o.path,
		)
		for name, value := range o.header {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
		fmt.Fprintf(&b, "\r\n%s\r\n", o.body)
	}
	b.WriteString("--changeset_1--\r\n--batch_1--\r\n")
	return exchange{
		method: "POST",
		path:   "$batch",
		header: map[string]string{"Content-Type": "multipart/mixed; boundary=batch_1"},
		body:   []byte(b.String()),
	}
}

func inserts(n int) (out []exchange) {
	for i := range n {
		out = append(out, insertOf(entity("p", fmt.Sprintf("%04d", i))))
	}
	return out
}

// cases are the requests at the limits.
func cases() []oneCase {
	one := func(name, method, path, body string) oneCase {
		return oneCase{name: name, last: exchange{method, path, wantsContent, []byte(body)}}
	}
	there := []exchange{insertOf(entity("p", "r", "A", 1))}
	at := entityPath("TABLE", "p", "r")
	return append(append([]oneCase{
		{name: "252 properties", last: insertOf(wide(252))},
		{name: "253 properties", last: insertOf(wide(253))},
		{name: "1 MB entity", last: insertOf(heavy(17))},
		{name: "1.3 MB entity", last: insertOf(heavy(22))},
		{name: "string of 32 Ki characters", last: insertOf(entity("p", "r", "A", strings.Repeat("x", 32<<10)))},
		{name: "string of 32 Ki + 1 characters", last: insertOf(entity("p", "r", "A", strings.Repeat("x", 32<<10+1)))},
		{
			name: "binary of 64 KiB",
			last: insertOf(entity("p", "r", "A", strings.Repeat("AAAA", 21845)+"AA==", "A@odata.type", "Edm.Binary")),
		},
		{name: "binary of 64 KiB + 2", last: insertOf(entity("p", "r", "A", strings.Repeat("AAAA", 21846), "A@odata.type", "Edm.Binary"))},
		{name: "key of 512 characters", last: insertOf(entity(strings.Repeat("k", 512), "r"))},
		{name: "key of 1,025 characters", last: insertOf(entity("p", strings.Repeat("k", 1025)))},
		{name: "property name of 255 characters", last: insertOf(entity("p", "r", strings.Repeat("n", 255), 1))},
		{name: "property name of 256 characters", last: insertOf(entity("p", "r", strings.Repeat("n", 256), 1))},
		{name: "transaction of 100", last: batch(inserts(100)...)},
		{name: "transaction of 101", last: batch(inserts(101)...)},
		{name: "transaction over two partitions", last: batch(insertOf(entity("p", "r")), insertOf(entity("q", "r")))},
		{name: "transaction with an entity twice", last: batch(insertOf(entity("p", "r")), insertOf(entity("p", "r")))},
		{
			name:   "transaction with an entity that is there",
			before: there,
			last:   batch(insertOf(entity("p", "x")), insertOf(entity("p", "r"))),
		},
		{
			name: "transaction that changes what is not there",
			last: batch(insertOf(entity("p", "x")), exchange{"PUT", at, anyVersion, entity("p", "r")}),
		},
		{name: "transaction with a stale version", before: there, last: batch(insertOf(entity("p", "x")),
			exchange{"PUT", at, map[string]string{"If-Match": `W/"datetime'2020-01-01T00%3A00%3A00.0000000Z'"`}, entity("p", "r")})},
		{name: "transaction of nothing", last: batch()},
		{name: "insert without a preference", last: exchange{method: "POST", path: "TABLE", body: entity("p", "r")}},
		{
			name: "transaction without content",
			last: batch(exchange{"POST", "TABLE", map[string]string{"Prefer": "return-no-content"}, entity("p", "r")}),
		},
		{name: "prefer no content", last: exchange{"POST", "TABLE", map[string]string{"Prefer": "return-no-content"}, entity("p", "r")}},
		{name: "delete without a version", before: there, last: exchange{method: "DELETE", path: at}},
		{name: "delete of what is not there", last: exchange{"DELETE", at, anyVersion, nil}},
		{
			name:   "merge by POST",
			before: there,
			last:   exchange{"POST", at, map[string]string{"X-HTTP-Method": "MERGE", "If-Match": "*"}, []byte(`{"B":2}`)},
		},
		{name: "merge by MERGE", before: there, last: exchange{"MERGE", at, anyVersion, []byte(`{"B":2}`)}},
		one("insert without keys", "POST", "TABLE", `{"A":1}`),
		one("insert of no JSON", "POST", "TABLE", `{`),
		one("insert of a list", "POST", "TABLE", `[]`),
		one("insert of nothing", "POST", "TABLE", ``),
		one("insert with a null", "POST", "TABLE", `{"PartitionKey":"p","RowKey":"r","A":null}`),
		one("insert with an object", "POST", "TABLE", `{"PartitionKey":"p","RowKey":"r","A":{"B":1}}`),
		one("insert with a name that is none", "POST", "TABLE", `{"PartitionKey":"p","RowKey":"r","a-b":1}`),
		one("insert with a type that is none", "POST", "TABLE", `{"PartitionKey":"p","RowKey":"r","A":1,"A@odata.type":"Edm.Nothing"}`),
		one("insert with an Int64 that is none", "POST", "TABLE", `{"PartitionKey":"p","RowKey":"r","A":"x","A@odata.type":"Edm.Int64"}`),
		one("insert with a time that is none", "POST", "TABLE", `{"PartitionKey":"p","RowKey":"r","A":"x","A@odata.type":"Edm.DateTime"}`),
		one("insert with a GUID that is none", "POST", "TABLE", `{"PartitionKey":"p","RowKey":"r","A":"x","A@odata.type":"Edm.Guid"}`),
		one("insert with a number for a key", "POST", "TABLE", `{"PartitionKey":1,"RowKey":"r"}`),
		one("insert with an integer beyond 32 bits", "POST", "TABLE", `{"PartitionKey":"p","RowKey":"r","A":12345678901}`),
		one("insert with a whole double", "POST", "TABLE", `{"PartitionKey":"p","RowKey":"r","A":2.0}`),
		one("insert with NaN", "POST", "TABLE", `{"PartitionKey":"p","RowKey":"r","A":"NaN","A@odata.type":"Edm.Double"}`),
		one("insert with a Timestamp", "POST", "TABLE", `{"PartitionKey":"p","RowKey":"r","Timestamp":"2020-01-01T00:00:00Z"}`),
		one("insert into no table", "POST", "missing", `{"PartitionKey":"p","RowKey":"r"}`),
		one("get from no table", "GET", entityPath("missing", "p", "r"), ``),
		one("query of no table", "GET", "missing()", ``),
		one("get of what is not there", "GET", at, ``),
		one("create a table that is there", "POST", "Tables", `{"TableName":"case000"}`),
		one("create a table in capitals", "POST", "Tables", `{"TableName":"CASE000"}`),
		one("create a table with a short name", "POST", "Tables", `{"TableName":"ab"}`),
		one("create a table with a long name", "POST", "Tables", `{"TableName":"`+strings.Repeat("x", 64)+`"}`),
		one("create a table with a dash", "POST", "Tables", `{"TableName":"a-b-c"}`),
		one("create a table with a digit first", "POST", "Tables", `{"TableName":"1abc"}`),
		one("create a table without a name", "POST", "Tables", `{}`),
		one("delete a table that is not there", "DELETE", "Tables('missing')", ``),
		one("query with a filter that is none", "GET", "TABLE()?$filter=A%20is%201", ``),
		one("query with half a filter", "GET", "TABLE()?$filter=(A%20eq%201", ``),
		one("query of 0 rows", "GET", "TABLE()?$top=0", ``),
		one("query of 1,001 rows", "GET", "TABLE()?$top=1001", ``),
		{name: "query of the first 2 of 3 rows", before: inserts(3), last: exchange{method: "GET", path: "TABLE()?$top=2"}},
		{
			name:   "query of binary beyond another",
			before: []exchange{insertOf(entity("p", "r", "A", "/////w==", "A@odata.type", "Edm.Binary"))},
			last:   exchange{method: "GET", path: "TABLE()?$filter=A%20gt%20X'0102'"},
		},
		{name: "query that compares a string with a number", before: []exchange{insertOf(entity("p", "r", "A", "-5"))},
			last: exchange{method: "GET", path: "TABLE()?$filter=A%20lt%200"}},
		{
			name:   "query that compares a GUID with a string",
			before: []exchange{insertOf(entity("p", "r", "A", "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "A@odata.type", "Edm.Guid"))},
			last:   exchange{method: "GET", path: "TABLE()?$filter=A%20ge%20'0'"},
		},
		{name: "query that compares a Boolean with a number", before: []exchange{insertOf(entity("p", "r", "A", true))},
			last: exchange{method: "GET", path: "TABLE()?$filter=A%20ge%201"}},
		{name: "query of few fields", before: there, last: exchange{method: "GET", path: "TABLE()?$select=A"}},
		{
			name:   "query without metadata",
			before: there,
			last:   exchange{"GET", "TABLE()", map[string]string{"Accept": "application/json;odata=nometadata"}, nil},
		},
	}, forbidden()...), escaped()...)
}

// forbidden are keys with characters that no key may have.
func forbidden() (out []oneCase) {
	for _, c := range []string{"/", "\\", "#", "?", "\t", "\u0001", "\u0085"} {
		out = append(out, oneCase{name: fmt.Sprintf("key with %+q", c), last: insertOf(entity("p"+c, "r"))})
	}
	return out
}

// escaped are keys that must survive in a URL.
func escaped() (out []oneCase) {
	for _, k := range []string{"it's", "a b", "50%", "a+b", "a&b=c", "日本", "(x)", "a,b", "\"", ""} {
		out = append(out, oneCase{name: fmt.Sprintf("get of key %q", k), before: []exchange{insertOf(entity(k, k, "A", 1))},
			last: exchange{method: "GET", path: entityPath("TABLE", k, k)}})
	}
	return out
}
