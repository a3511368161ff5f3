package invoke

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
)

// Whatever a handler replies is judged, and what is larger than the limit never
// passes.
func FuzzReply(f *testing.F) {
	f.Add(200, "application/json", []byte(`{"Outputs":{"res":{}},"Logs":["a"],"ReturnValue":1}`))
	f.Add(200, "application/json; charset=utf-8", []byte("null"))
	f.Add(204, "", []byte(""))
	f.Add(200, "text/plain", []byte("{}"))
	f.Add(500, "application/json", []byte("{}"))
	f.Add(299, "application/json", bytes.Repeat([]byte("["), 900))
	const limit = 1000
	f.Fuzz(func(t *testing.T, status int, kind string, body []byte) {
		r := &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(bytes.NewReader(body))}
		_, err := ReadReply(r, limit)
		succeeded := status >= 200 && status <= 299
		if (err == nil || errors.Is(err, ErrHangs)) && (!succeeded || len(body) > limit) {
			t.Errorf("status %d with %d bytes: got %v", status, len(body), err)
		}
		if succeeded && len(body) == 0 && !errors.Is(err, ErrHangs) {
			t.Errorf("an empty reply: got %v, want %v", err, ErrHangs)
		}
	})
}
