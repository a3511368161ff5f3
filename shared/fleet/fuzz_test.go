package fleet

import (
	"context"
	"testing"
	"time"
)

// FuzzPoll: whatever a row holds for a token, it is gone or cannot be asked;
// nothing is taken for an operation that succeeded.
func FuzzPoll(f *testing.F) {
	f.Add("")
	f.Add("e30=")
	f.Add("eyJraW5kIjoiY3JlYXRlIiwic2V0IjoicyIsInJlc3VtZSI6InsgfSJ9")
	c, err := New(Config{SubscriptionID: "s", ResourceGroup: "g", Endpoint: "http://127.0.0.1:1", Credential: StaticCredential("t")})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if done, _, err := c.Poll(ctx, token); done && err == nil {
			t.Errorf("%q: got done", token)
		}
	})
}

// FuzzClassify: every answer has a code, and only one that says so is a limit
// of requests.
func FuzzClassify(f *testing.F) {
	f.Add(200, `{"error":{"code":"AllocationFailed"}}`)
	f.Add(429, `{"error":{"details":[null]}}`)
	f.Add(500, `[[[[`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		if err := classify(answered(status, body)); err == nil || err.Error() == "" {
			t.Errorf("%d %q: got %v", status, body, err)
		}
	})
}
