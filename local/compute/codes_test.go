//go:build unix

package compute

import (
	"net/http"
	"os"
	"strings"
	"testing"
)

// Each code with its own text is in docs/local.md, its text has no unfilled placeholders,
// and its status is an error.
func TestCodes(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/local.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range codes {
		if name == "quota" {
			continue // not a code of its own
		}
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/local.md does not name %s", name)
		}
		f := failure(name, "{size}", "s", "{location}", "l", "{name}", "n")
		if f.Status < 400 || f.Status > 599 || f.Message == "" || strings.ContainsAny(f.Message, "{}") {
			t.Errorf("%s: got %d %q", name, f.Status, f.Message)
		}
	}
	if f := failure("NeverHeardOf"); f.Status != http.StatusConflict || f.Code != "NeverHeardOf" || f.Message == "" {
		t.Errorf("an unknown code: got %+v", f)
	}
	if f := failure("TooManyRequests"); f.Status != http.StatusTooManyRequests || f.Code != "OperationNotAllowed" ||
		f.Details[0].Code != "TooManyRequests" ||
		f.RetryAfter <= 0 {
		t.Errorf("too many requests: got %+v", f)
	}
}
