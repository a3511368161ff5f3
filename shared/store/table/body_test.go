package table

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// sentOperation is one operation of a transaction as it goes over the network.
type sentOperation struct {
	part   map[string][]string // headers of its part
	method string
	url    string
	header map[string][]string
	row    any // decoded
}

// recorder takes requests instead of a service and answers as if all went well.
type recorder struct {
	t          testing.TB
	address    string
	operations []sentOperation
	answer     string
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.address = req.URL.String()
	r.operations = r.read(req)
	response := &http.Response{
		StatusCode: http.StatusAccepted, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"multipart/mixed; boundary=batchresponse_1"}}, Request: req,
		Body: io.NopCloser(strings.NewReader(r.answer)),
	}
	return response, nil
}

// read reads the body of a transaction with a parser of its own.
func (r *recorder) read(req *http.Request) (operations []sentOperation) {
	outer := r.parts(req.Header.Get("Content-Type"), req.Body)
	if len(outer) != 1 {
		r.t.Fatalf("a transaction has %d change sets, want 1", len(outer))
	}
	for _, p := range r.parts(outer[0].header.Get("Content-Type"), bytes.NewReader(outer[0].body)) {
		inner, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(p.body)))
		if err != nil {
			r.t.Fatalf("%v in %q", err, p.body)
		}
		raw, err := io.ReadAll(inner.Body)
		if err != nil {
			r.t.Fatal(err)
		}
		o := sentOperation{part: p.header, method: inner.Method, url: inner.RequestURI, header: inner.Header}
		o.url = strings.TrimSuffix(o.url, " ")
		if len(raw) > 0 {
			decoder := json.NewDecoder(bytes.NewReader(raw))
			if err := decoder.Decode(&o.row); err != nil {
				r.t.Fatalf("%v in %q", err, raw)
			}
		}
		operations = append(operations, o)
	}
	return operations
}

type bodyPart struct {
	header http.Header
	body   []byte
}

func (r *recorder) parts(contentType string, body io.Reader) (all []bodyPart) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "multipart/mixed" {
		r.t.Fatalf("content type %q: %v", contentType, err)
	}
	reader := multipart.NewReader(body, params["boundary"])
	for {
		p, err := reader.NextRawPart()
		if err == io.EOF {
			return all
		}
		if err != nil {
			r.t.Fatal(err)
		}
		content, err := io.ReadAll(p)
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, bodyPart{http.Header(p.Header), content})
	}
}

// actionOf is the operation as the client itself takes it.
func actionOf(o *Operation) aztables.TransactionAction {
	a := aztables.TransactionAction{Entity: o.Row}
	switch o.Kind {
	case Insert:
		a.ActionType = aztables.TransactionTypeAdd
	case Put:
		a.ActionType = aztables.TransactionTypeInsertReplace
	case Replace:
		a.ActionType, a.IfMatch = aztables.TransactionTypeUpdateReplace, &o.Match
	case Merge:
		a.ActionType, a.IfMatch = aztables.TransactionTypeUpdateMerge, &o.Match
	case Delete:
		a.ActionType, a.IfMatch = aztables.TransactionTypeDelete, &o.Match
	}
	return a
}

// clientsOwn is what the client sends for operations without the policy.
func clientsOwn(t testing.TB, connection, table string, operations []Operation) *recorder {
	t.Helper()
	r := &recorder{t: t, answer: doneReply}
	client, err := aztables.NewServiceClientFromConnectionString(connection, &aztables.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: &http.Client{Transport: r}, Retry: policy.RetryOptions{MaxRetries: -1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	actions := make([]aztables.TransactionAction, len(operations))
	for i := range operations {
		actions[i] = actionOf(&operations[i])
	}
	if _, err := client.NewClient(table).SubmitTransaction(t.Context(), actions, nil); err != nil {
		t.Fatal(err)
	}
	return r
}

// ours is what this package sends for them.
func ours(t testing.TB, connection, table string, operations []Operation) *recorder {
	t.Helper()
	r := &recorder{t: t, answer: answerTo(len(operations))}
	service, err := Open(Config{ConnectionString: connection, Transport: r})
	if err != nil {
		t.Fatal(err)
	}
	etag, err := service.Table(table).Submit(t.Context(), operations)
	if err != nil || etag != `W/"0"` {
		t.Fatalf("the first row has the ETag %s (%v)", etag, err)
	}
	return r
}

// answerTo says that operations are done.
func answerTo(operations int) string {
	var b strings.Builder
	b.WriteString("--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n")
	for i := range operations {
		fmt.Fprintf(&b, "--changesetresponse_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"+
			"HTTP/1.1 204 No Content\r\nDataServiceVersion: 1.0;\r\nETag: W/\"%d\"\r\n\r\n\r\n", i)
	}
	b.WriteString("--changesetresponse_1--\r\n--batchresponse_1--\r\n")
	return b.String()
}

// withoutEmpty leaves out the headers that the client writes without a value: it looks
// for the values under names of another spelling. The version of the protocol, which it
// means to write, is in ours.
func withoutEmpty(header map[string][]string) map[string][]string {
	header = maps.Clone(header)
	maps.DeleteFunc(header, func(_ string, values []string) bool { return strings.Join(values, "") == "" })
	delete(header, "Dataserviceversion")
	return header
}

// checkSame compares what the two send.
func checkSame(t testing.TB, connection, table string, operations []Operation) {
	t.Helper()
	want, got := clientsOwn(t, connection, table, operations), ours(t, connection, table, operations)
	if got.address != want.address {
		t.Errorf("the request goes to %s, and the client's to %s", got.address, want.address)
	}
	if len(got.operations) != len(want.operations) {
		t.Fatalf("%d operations, and the client writes %d", len(got.operations), len(want.operations))
	}
	for i := range got.operations {
		g, w := &got.operations[i], &want.operations[i]
		if version := g.header["Dataserviceversion"]; !slices.Equal(version, []string{"3.0"}) {
			t.Errorf("operation %d has the version %v", i, version)
		}
		g.header, w.header = withoutEmpty(g.header), withoutEmpty(w.header)
		delete(g.header, "Content-Length") // the rows are the same, their spelling need not be
		delete(w.header, "Content-Length")
		if !reflect.DeepEqual(g, w) {
			t.Errorf("operation %d\ngot  %+v\nwant %+v", i, *g, *w)
		}
	}
}

const (
	keyConnection = "DefaultEndpointsProtocol=https;AccountName=test;AccountKey=a2V5;TableEndpoint=https://tables.example/test"
	sasConnection = "AccountName=test;SharedAccessSignature=sv=2019-02-02&sig=a%2Fb%3D&sp=raud"
)

// randomText is a text of letters that need care in JSON, in keys and in addresses.
func randomText(r *rand.Rand, longest int) string {
	const letters = "abcXYZ019!'()*-._~ %+&=,;:@$<>\"\\\u00e9\u4e16\U0001F600\u2028\x7f"
	all := []rune(letters)
	var b strings.Builder
	for range r.IntN(longest + 1) {
		b.WriteRune(all[r.IntN(len(all))])
	}
	return b.String()
}

func randomRow(r *rand.Rand, partition, key string) []byte {
	row := NewRow(partition, key)
	if r.IntN(2) == 0 {
		row = NewFullRow(partition, key)
	}
	row.Text("Text", randomText(r, 40))
	row.Int64("Long", r.Int64()-r.Int64())
	row.Int("Int", r.IntN(1<<20))
	row.Bool("Flag", r.IntN(2) == 0)
	row.Time("At", time.Unix(r.Int64N(4e9), r.Int64N(1e9)))
	row.Double("Share", "0.25")
	row.Long("Doc", strings.Repeat(randomText(r, 40), 1+r.IntN(2000)))
	return row.JSON()
}

// TestBodiesAreTheClients makes sure that a transaction is what the client would send:
// by parsing both, for rows, keys and conditions of all kinds.
func TestBodiesAreTheClients(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		partition := randomText(r, 20) + "p"
		operations := make([]Operation, 1+r.IntN(20))
		for i := range operations {
			o := &operations[i]
			o.Kind = Kind(r.IntN(5))
			key := fmt.Sprint(i, randomText(r, 30))
			if o.Row = randomRow(r, partition, key); o.Kind == Delete {
				o.Row = KeysOnly(partition, key)
			}
			if o.Kind >= Replace {
				o.Match = []ETag{Any, `W/"datetime'2026-01-01T00%3A00%3A00.0000001Z'"`}[r.IntN(2)]
			}
		}
		checkSame(t, []string{keyConnection, sasConnection}[seed%2], "pools", operations)
	}
}

func FuzzBody(f *testing.F) {
	f.Add("cpu", "job!01KG9A61R0", "text", `W/"x"`, uint8(3))
	f.Add("a'b", `"\`, "<\u2028>", "*", uint8(4))
	f.Add(`","RowKey":"`, `"`, "", "*", uint8(0))
	f.Fuzz(func(t *testing.T, partition, key, text, match string, kind uint8) {
		if partition == "" || strings.ContainsFunc(match, func(r rune) bool { return r < '!' || r > '~' }) || match == "" {
			t.Skip() // the store writes no such rows, and a service no such ETag
		}
		row := NewRow(partition, key)
		row.Text("Text", text)
		checkSame(t, keyConnection, "pools", []Operation{{Kind: Kind(kind % 5), Row: row.JSON(), Match: ETag(match)}})
	})
}

func TestKeysOf(t *testing.T) {
	t.Parallel()
	for _, keys := range [][2]string{{"cpu", "head"}, {"", ""}, {`a"b\`, `","RowKey":"`}, {"<&>", "é\u2028"}, {"x", `y"`}} {
		partition, row, err := keysOf(KeysOnly(keys[0], keys[1]))
		if err != nil || partition != keys[0] || row != keys[1] {
			t.Errorf("the keys %q are read as %q, %q (%v)", keys, partition, row, err)
		}
	}
	if partition, row, err := keysOf([]byte(`{"RowKey":"r","Text":"x","PartitionKey":"p"}`)); partition != "p" || row != "r" || err != nil {
		t.Errorf("keys at another place are read as %q, %q (%v)", partition, row, err)
	}
	for _, bad := range []string{`{"PartitionKey":"p"}`, `{"PartitionKey":"p","Row`, ``} {
		if _, _, err := keysOf([]byte(bad)); err == nil {
			t.Errorf("%q has keys", bad)
		}
	}
}

// TestAnswersOfAllKinds makes sure that what the service says of a transaction arrives,
// whichever of its operations it is about.
func TestAnswersOfAllKinds(t *testing.T) {
	t.Parallel()
	operations := []Operation{{Kind: Put, Row: KeysOnly("p", "1")}, {Kind: Put, Row: KeysOnly("p", "2")}}
	for name, c := range map[string]struct {
		answer string
		want   string
	}{
		"refused":        {refusedReply, "operation 3 of the transaction: 412 UpdateConditionNotSatisfied"},
		"too few":        {answerTo(1), "the reply to a transaction of 2 operations has 1"},
		"too many":       {answerTo(3), "the reply to a transaction of 2 operations has 3"},
		"none":           {"--batch\r\n\r\n--batch--", "the reply to a transaction could not be read"},
		"nothing at all": {"", "the reply to a transaction could not be read"},
	} {
		service, err := Open(Config{ConnectionString: keyConnection, Transport: &recorder{t: t, answer: c.answer}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := service.Table("pools").Submit(t.Context(), operations); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

// BenchmarkTransaction is what a transaction of 100 rows costs its writer, without a
// service: as the client does it, and as this package does.
func BenchmarkTransaction(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	operations := make([]Operation, MaxRows)
	for i := range operations {
		row := NewRow("cpu", fmt.Sprint("job!", i))
		row.Text("Spec", strings.Repeat(randomText(r, 40), 10))
		row.Int64("N", int64(i))
		row.Time("At", time.Unix(1e9, 0))
		operations[i] = Operation{Kind: Put, Row: row.JSON()}
	}
	actions := make([]aztables.TransactionAction, len(operations))
	for i := range operations {
		actions[i] = actionOf(&operations[i])
	}
	service, err := Open(Config{ConnectionString: keyConnection, Transport: canned(answerTo(len(operations)))})
	if err != nil {
		b.Fatal(err)
	}
	t := service.Table("pools")
	b.Run("client", func(b *testing.B) {
		for b.Loop() {
			if _, err := t.client.SubmitTransaction(b.Context(), actions, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("written once", func(b *testing.B) {
		for b.Loop() {
			if _, err := t.Submit(b.Context(), operations); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// canned is the answer to every request.
type canned string

func (c canned) RoundTrip(req *http.Request) (*http.Response, error) {
	_, err := io.Copy(io.Discard, req.Body)
	return &http.Response{
		StatusCode: http.StatusAccepted, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Request: req,
		Body: io.NopCloser(strings.NewReader(string(c))),
	}, err
}
