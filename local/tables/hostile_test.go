package tables

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"
)

// allocated is how much a function allocates, in bytes; nothing else may run
// meanwhile.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestHostileBodiesTakeLittle reads what is made to cost memory. It runs alone,
// so that what is counted is its own.
func TestHostileBodiesTakeLittle(t *testing.T) {
	const head = "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n"
	s := &Server{cfg: Config{Account: testAccount}}
	parse := func(body string) func() {
		return func() {
			r := request{header: header{contentType: "multipart/mixed; boundary=b"}, body: body}
			if operations, _, bad := s.parseBatch(&r); bad == nil && len(operations) > maxOperations+1 {
				t.Errorf("got %d operations", len(operations))
			}
		}
	}
	filter := func(text string) func() {
		return func() {
			if _, bad := parseFilter(text); bad == nil {
				t.Errorf("a filter of %d bytes was read", len(text))
			}
		}
	}
	entity := func(body string) func() { return func() { readEntity(body, new(fieldsOf)) } }
	const full = maxTransactionBytes
	for _, test := range []struct {
		name string
		do   func()
	}{
		{"a million parts", parse(head + strings.Repeat("--c\r\n\r\n\r\n", 400_000))},
		{"a million changesets", parse(strings.Repeat("--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n", 80_000))},
		{"a million headers", parse(head + "--c\r\n" + strings.Repeat("A: b\r\n", 600_000))},
		{"headers of an operation", parse(head + "--c\r\n\r\nPOST /devaccount/pools HTTP/1.1\r\n" + strings.Repeat("A: b\r\n", 600_000) + "\r\n--c--\r\n--b--\r\n")},
		{"a long line", parse(head + "--c\r\n" + strings.Repeat("x", full-100))},
		{"deep filter", filter(strings.Repeat("(", maxFilterBytes))},
		{"filter of nots", filter(strings.Repeat("not ", maxFilterBytes/4))},
		{"filter of many comparisons", filter("A eq 1" + strings.Repeat(" or A eq 1", 3000))},
		{"long filter", filter("A eq '" + strings.Repeat("x", full) + "'")},
		{"deep entity", entity(strings.Repeat(`{"A":`, full/5))},
		{"quotes", func() { parseKeys("PartitionKey='" + strings.Repeat("''", 32<<10)) }},
	} {
		if got := allocated(test.do); got > 16*full {
			t.Errorf("%s: %d KiB were allocated", test.name, got>>10)
		}
	}
}

func TestBodiesAndHeadersThatAreTooLarge(t *testing.T) {
	t.Parallel()
	s, c := newTable(t)
	large := bytes.Repeat([]byte("x"), maxTransactionBytes+1)
	for _, target := range []string{"/pools", "/$batch"} {
		r := send(t, s, "POST", "/"+testAccount+target, "SharedKeyLite", time.Now(), large, nil)
		if code := r.Header.Get("x-ms-error-code"); r.StatusCode != 413 || code != "RequestBodyTooLarge" {
			t.Errorf("%s: got %d %s, want 413 RequestBodyTooLarge", target, r.StatusCode, code)
		}
		unsized := func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(large)), -1 }
		if r := send(t, s, "POST", "/"+testAccount+target, "SharedKeyLite", time.Now(), nil, unsized); r.StatusCode != 413 {
			t.Errorf("%s in chunks: got %d, want 413", target, r.StatusCode)
		}
	}
	long := func(r *http.Request) { r.Header.Set("X-Long", strings.Repeat("x", 2*maxHeaderBytes)) }
	if r := send(t, s, "GET", "/"+testAccount+"/Tables", "SharedKeyLite", time.Now(), nil, long); r.StatusCode != 431 {
		t.Errorf("long header: got %d, want 431", r.StatusCode)
	}
	if _, err := c.AddEntity(deadline(t), row("p", "r"), nil); err != nil {
		t.Error(err)
	}
}

// TestSlowHeaders waits for the server to give a client up that never finishes
// its request.
func TestSlowHeaders(t *testing.T) {
	t.Parallel()
	s, _ := newTable(t)
	if s.http.ReadHeaderTimeout != headerTimeout || s.http.ReadTimeout != requestTimeout || s.http.WriteTimeout != requestTimeout ||
		s.http.IdleTimeout == 0 {
		t.Error("the server waits for ever")
	}
	limit := 100 * time.Millisecond
	short := &http.Server{Handler: s, ReadHeaderTimeout: limit}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go short.Serve(listener)
	t.Cleanup(func() { short.Close() })
	conn, err := new(net.Dialer).DialContext(deadline(t), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /%s/Tables HTTP/1.1\r\nHost: x\r\nX-Slow: ", testAccount)
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("got %v, want the connection closed", err)
	}
}

// FuzzAuthorize sends any signature, in a header or in the URL: none opens the
// account but the right one.
func FuzzAuthorize(f *testing.F) {
	s := &Server{cfg: Config{Account: testAccount}, key: []byte("a key")}
	for _, seed := range [][2]string{
		{"SharedKeyLite devaccount:AAAA", ""}, {"SharedKey devaccount:", "comp=list"}, {"SharedKey :", ""},
		{"", "sv=2019-02-02&ss=t&srt=sco&sp=rwdlacu&se=2099-01-01T00:00:00Z&sig=AAAA"},
		{"", "sv=2019-02-02&tn=pools&sp=raud&se=2099-01-01&spk=a&srk=b&epk=c&erk=d&sip=127.0.0.1-127.0.0.9&sig=AAAA"}, {"", "sig=%%"},
		{"Bearer x", "sig=x"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, header, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/devaccount/Tables", RawQuery: query}, RemoteAddr: "127.0.0.1:5",
			Header: http.Header{"Authorization": {header}, "X-Ms-Date": {time.Now().UTC().Format(http.TimeFormat)}}}
		if _, bad := s.authorize(r, q); bad == nil {
			t.Fatalf("%q, %q opened the account", header, query)
		}
		k := keysOf(q)
		(&grant{keys: k}).narrow(everything)
		validAddress(q.Get("sip"), r.RemoteAddr)
		readTime(q.Get("se"))
	})
}

// FuzzPath reads any URL as one of the account's, and its keys.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"/devaccount/pools(PartitionKey='a',RowKey='b')", "/devaccount-secondary/", "/devaccount/Tables('x')", "/devaccountx", "/devaccount/$batch",
		"/devaccount/pools(PartitionKey='o''neil',RowKey='')", "//", "/devaccount/pools()"} {
		f.Add("GET", "127.0.0.1", seed)
		f.Add("MERGE", "devaccount.table.core.windows.net", seed)
	}
	s := &Server{cfg: Config{Account: testAccount}, base: "http://x/devaccount/"}
	f.Fuzz(func(t *testing.T, method, host, path string) {
		at, rest, ok := s.locate(host, path)
		if !ok {
			return
		}
		r := request{method: method, path: rest, site: at, query: url.Values{}}
		r.classify()
		_, keys, bad := r.resource()
		if bad != nil || keys == "" {
			return
		}
		if partition, row, bad := parseKeys(keys); bad == nil && (checkKey(partition) != nil || checkKey(row) != nil) {
			t.Fatalf("%q has keys that none may have: %q, %q", path, partition, row)
		}
	})
}
