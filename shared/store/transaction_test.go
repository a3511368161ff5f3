package store

import (
	"reflect"
	"strings"
	"testing"
)

const batchReply = "--batchresponse_1\r\n" +
	"Content-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n" +
	"--changesetresponse_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n" +
	"HTTP/1.1 204 No Content\r\nDataServiceVersion: 1.0;\r\nETag: W/\"datetime'2026-01-01T00%3A00%3A00.0000001Z'\"\r\n\r\n\r\n" +
	"--changesetresponse_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n" +
	"HTTP/1.1 204 No Content\r\netag: W/\"b\"\r\n\r\n\r\n" +
	"--changesetresponse_1--\r\n--batchresponse_1--\r\n"

const refusedReply = "--batchresponse_1\r\n" +
	"Content-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n" +
	"--changesetresponse_1\r\nContent-Type: application/http\r\n\r\n" +
	"HTTP/1.1 412 Precondition Failed\r\nContent-Type: application/json\r\n\r\n" +
	`{"odata.error":{"code":"UpdateConditionNotSatisfied","message":{"lang":"en-US","value":"3:The update condition was not satisfied.\nRequestId:1"}}}` + "\r\n" +
	"--changesetresponse_1--\r\n--batchresponse_1--\r\n"

func TestParseReply(t *testing.T) {
	t.Parallel()
	ok := parseReply([]byte(batchReply))
	want := []operation{{status: 204, etag: `W/"datetime'2026-01-01T00%3A00%3A00.0000001Z'"`}, {status: 204, etag: `W/"b"`}}
	if !reflect.DeepEqual(ok, want) {
		t.Errorf("got %+v, want %+v", ok, want)
	}
	failed := parseReply([]byte(refusedReply))
	if len(failed) != 1 {
		t.Fatalf("got %d operations, want 1", len(failed))
	}
	if got, want := *failed[0].refusal(), (refusal{status: 412, index: 3, code: "UpdateConditionNotSatisfied"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := parseReply([]byte("--batch\r\n\r\n--batch--")); len(got) != 0 {
		t.Errorf("a reply without operations has %d", len(got))
	}
	if got := len(parseReply([]byte(strings.Repeat("HTTP/1.1 204 No Content\r\n", 5000)))); got > MaxRows+1 {
		t.Errorf("%d operations were read, want a bound", got)
	}
}

func FuzzParseReply(f *testing.F) {
	f.Add([]byte(batchReply))
	f.Add([]byte(refusedReply))
	f.Add([]byte("HTTP/1.1 99999999999999999999 x\r\n\r\n{"))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, o := range parseReply(body) {
			if r := o.refusal(); r.index < -1 || r.index >= MaxRows {
				t.Errorf("index %d is none of a transaction", r.index)
			}
		}
	})
}

func FuzzParsePlace(f *testing.F) {
	f.Add("")
	f.Add(place{Below: "01KD0000000000000000000000"}.String())
	f.Add(place{Done: true, After: "done!ZYJKD000000000000000000000"}.String())
	f.Add("e30")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePlace(text)
		if err != nil {
			return
		}
		for _, k := range []string{p.Below, p.After} {
			if len(k) > 31 || strings.ContainsAny(k, "'\\/#? ") {
				t.Errorf("%q was taken for a key", k)
			}
		}
		if again, err := parsePlace(p.String()); err != nil || again != p {
			t.Errorf("%+v came back as %+v (%v)", p, again, err)
		}
	})
}

func TestIDKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, id, want string }{
		{"of a job", "my-job_1.2", "my-job_1.2"},
		{"what a key may not hold", "a/b#c?d\\e", "a!2Fb!23c!3Fd!5Ce"},
		{"the escape itself", "a!2F", "a!212f"},
		{"not ASCII", "é", "!C3!A9"},
	} {
		if got := idKey(c.id); got != c.want {
			t.Errorf("%s: idKey(%q) = %q, want %q", c.name, c.id, got, c.want)
		}
	}
	long := idKey(strings.Repeat("x", 1000))
	if len(long) > maxIDKey || long == idKey(strings.Repeat("x", 1001)) {
		t.Errorf("a long id has the key %q, want a short one of its own", long)
	}
}
