package table

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
	want := []reply{{status: 204, etag: `W/"datetime'2026-01-01T00%3A00%3A00.0000001Z'"`}, {status: 204, etag: `W/"b"`}}
	if !reflect.DeepEqual(ok, want) {
		t.Errorf("got %+v, want %+v", ok, want)
	}
	failed := parseReply([]byte(refusedReply))
	if len(failed) != 1 {
		t.Fatalf("got %d operations, want 1", len(failed))
	}
	if got, want := *failed[0].refusal(), (Refusal{Status: 412, Index: 3, Code: "UpdateConditionNotSatisfied"}); got != want {
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
			if r := o.refusal(); r.Index < -1 || r.Index >= MaxRows {
				t.Errorf("index %d is none of a transaction", r.Index)
			}
		}
	})
}
