package tables

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// TestETagAtEveryHour holds the escaped colons apart from the digits of the time.
func TestETagAtEveryHour(t *testing.T) {
	t.Parallel()
	for hour := range 24 {
		at := time.Date(2026, 11, 27, hour, 8, 53, 123456700, time.UTC)
		want := fmt.Sprintf(`W/"datetime'2026-11-27T%02d%%3A08%%3A53.1234567Z'"`, hour)
		if got := etagOf(ticksOf(at)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestETagIsTheSameEverywhere compares the entity tags of one version: in the header and the
// body of the insert, of a read and of a list; a transaction takes it as a condition.
// Microsoft.Azure.Cosmos.Table sends one again as it was given.
func TestETagIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	s, c := newTable(t)
	form := regexp.MustCompile(`W/\\?"datetime'\d{4}-\d\d-\d\dT\d\d%3A\d\d%3A\d\d\.\d{7}Z'\\?"`)
	in := func(r *http.Response) []string {
		t.Helper()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, tag := range form.FindAllString(string(b)+" "+r.Header.Get("ETag"), -1) {
			all = append(all, strings.ReplaceAll(tag, `\`, ""))
		}
		return all
	}
	const row = "/" + testAccount + "/pools(PartitionKey='p',RowKey='r')"
	tags := in(send(t, s, "POST", "/"+testAccount+"/pools", "SharedKeyLite", time.Now(), []byte(`{"PartitionKey":"p","RowKey":"r"}`), nil))
	tags = append(tags, in(send(t, s, "GET", row, "SharedKeyLite", time.Now(), nil, nil))...)
	tags = append(tags, in(send(t, s, "GET", "/"+testAccount+"/pools()", "SharedKeyLite", time.Now(), nil, nil))...)
	if len(tags) != 5 || len(slices.Compact(tags)) != 1 {
		t.Fatalf("got the tags %q, want one, five times", tags)
	}
	etag := azcore.ETag(tags[0])
	_, err := c.SubmitTransaction(deadline(t), []aztables.TransactionAction{
		{ActionType: aztables.TransactionTypeUpdateMerge, Entity: []byte(`{"PartitionKey":"p","RowKey":"r","N":1}`), IfMatch: &etag},
	}, nil)
	if err != nil {
		t.Fatalf("a transaction that sends the tag again: %v", err)
	}
	changed := slices.Compact(in(send(t, s, "GET", row, "SharedKeyLite", time.Now(), nil, nil)))
	if len(changed) != 1 || changed[0] == tags[0] {
		t.Errorf("after a change: got the tags %q, want one that is not %q", changed, tags[0])
	}
}

// TestMalformedCondition sends conditions that are no entity tags, and one that is.
func TestMalformedCondition(t *testing.T) {
	t.Parallel()
	s, c := newTable(t)
	if _, err := c.AddEntity(deadline(t), row("p", "r"), nil); err != nil {
		t.Fatal(err)
	}
	target := "/" + testAccount + "/pools(PartitionKey='p',RowKey='r')"
	for condition, want := range map[string]string{
		"MalformedETag": "400 InvalidInput",
		`W/wrong`:       "400 InvalidInput",
		`"wrong`:        "400 InvalidInput",
		`"a"b"`:         "400 InvalidInput",
		`"a", "b"`:      "400 InvalidInput",
		`W/"wrong"`:     "412 UpdateConditionNotSatisfied",
		`"wrong"`:       "412 UpdateConditionNotSatisfied",
	} {
		for _, method := range []string{"PUT", "PATCH", "DELETE"} {
			r := send(t, s, method, target, "SharedKeyLite", time.Now(), []byte(`{}`), func(r *http.Request) { r.Header.Set("If-Match", condition) })
			if got := fmt.Sprint(r.StatusCode, " ", r.Header.Get("x-ms-error-code")); got != want {
				t.Errorf("%s if %s: got %s, want %s", method, condition, got, want)
			}
		}
	}
}

// TestTransactionWithBareLineFeeds writes the lines of a transaction as each client does:
// Microsoft.Azure.Cosmos.Table ends them as its system does.
func TestTransactionWithBareLineFeeds(t *testing.T) {
	t.Parallel()
	s, c := newTable(t)
	lines := func(key string) []string {
		return []string{"--batch_1", "Content-Type: multipart/mixed; boundary=changeset_2", "",
			"--changeset_2", "Content-Type: application/http", "Content-Transfer-Encoding: binary", "",
			"POST http://" + s.Addr() + "/" + testAccount + "/pools() HTTP/1.1", "Accept: application/json;odata=minimalmetadata",
			"Content-Type: application/json", "Prefer: return-no-content", "DataServiceVersion: 3.0;", "",
			`{"PartitionKey":"p","RowKey":"` + key + `","Text":"two\nlines"}`,
			"--changeset_2--", "--batch_1--", ""}
	}
	both := lines("both")
	mixed := strings.Join(both[:3], "\r\n") + "\r\n" + strings.Join(both[3:], "\n")
	for key, body := range map[string]string{
		"feeds":   strings.Join(lines("feeds"), "\n"),
		"returns": strings.Join(lines("returns"), "\r\n"),
		"both":    mixed,
	} {
		r := send(t, s, "POST", "/"+testAccount+"/$batch", "SharedKeyLite", time.Now(), []byte(body), func(r *http.Request) {
			r.Header.Set("Content-Type", "multipart/mixed; boundary=batch_1")
		})
		if r.StatusCode != http.StatusAccepted {
			t.Errorf("%s: got %d, want 202", key, r.StatusCode)
			continue
		}
		if e := got(t, c, "p", key); e["Text"] != "two\nlines" {
			t.Errorf("%s: got %q", key, e["Text"])
		}
	}
}

// TestLargeBodyIsReadToItsEnd sends all of a body that is too large before it reads the
// answer, as .NET does.
func TestLargeBodyIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	s, _ := newTable(t)
	signed := send(t, s, "POST", "/"+testAccount+"/pools", "SharedKeyLite", time.Now(), nil, nil).Request.Header
	for name, framing := range map[string]string{"announced": "Content-Length: %d\r\n\r\n", "in a chunk": "Transfer-Encoding: chunked\r\n\r\n%x\r\n"} {
		conn, err := new(net.Dialer).DialContext(deadline(t), "tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Minute))
		const size = 24 << 20
		fmt.Fprintf(conn, "POST /%s/pools HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nx-ms-date: %s\r\nAuthorization: %s\r\n"+framing,
			testAccount, s.Addr(), signed.Get("x-ms-date"), signed.Get("Authorization"), size)
		chunk := make([]byte, 1<<20)
		for range size / len(chunk) {
			if _, err := conn.Write(chunk); err != nil {
				t.Fatalf("%s: the connection ended while the body was sent: %v", name, err)
			}
		}
		fmt.Fprint(conn, map[bool]string{true: "\r\n0\r\n\r\n"}[strings.Contains(framing, "chunked")])
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r.Body.Close()
		if code := r.Header.Get("x-ms-error-code"); r.StatusCode != 413 || code != "RequestBodyTooLarge" || r.Close {
			t.Errorf("%s: got %d %s, close %v; want 413 RequestBodyTooLarge on a connection that stays", name, r.StatusCode, code, r.Close)
		}
	}
}
