package fleet

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"dsvmpools/shared/fault"
)

// answered is the error that the client makes of an answer.
func answered(status int, body string, header ...string) error {
	r := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
	r.Request, _ = http.NewRequest(http.MethodGet, "https://management.example/", nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return runtime.NewResponseError(r)
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		status int
		body   string
		header []string
		want   fault.Code
		after  time.Duration
	}{
		{"no room, told with success", 200, `{"status":"Failed","error":{"code":"AllocationFailed","message":"no room"}}`, nil, fault.NoCapacity, 0},
		{"no room in a zone", 200, `{"status":"Failed","error":{"code":"ZonalAllocationFailed"}}`, nil, fault.NoCapacity, 0},
		{"a combination that cannot be had", 200, `{"status":"Failed","error":{"code":"OverconstrainedAllocationRequest"}}`, nil, fault.NoCapacity, 0},
		{"size not offered", 409, `{"error":{"code":"SkuNotAvailable","message":"x"}}`, nil, fault.NoCapacity, 0},
		{"family quota", 409, `{"error":{"code":"OperationNotAllowed","message":"Operation could not be completed as it results in exceeding approved standardDSv5Family Cores quota."}}`, nil, fault.NoQuota, 0},
		{"quota in a failed operation", 200, `{"status":"Failed","error":{"code":"OperationNotAllowed","message":"exceeding approved Total Regional Cores Quota"}}`, nil, fault.NoQuota, 0},
		{"quota, newer", 409, `{"error":{"code":"QuotaExceeded"}}`, nil, fault.NoQuota, 0},
		{"throttled by compute", 429, `{"error":{"code":"OperationNotAllowed","message":"The server rejected the request because too many requests have been received.","details":[{"code":"TooManyRequests","target":"PutVMScaleSet"}]}}`, []string{"Retry-After", "37"}, fault.Throttled, 37 * time.Second},
		{"throttled, and the text speaks of a quota", 429, `{"error":{"code":"OperationNotAllowed","message":"your quota of requests"}}`, []string{"Retry-After", "2"}, fault.Throttled, 2 * time.Second},
		{"throttled inside a conflict", 409, `{"error":{"code":"OperationNotAllowed","message":"quota","details":[{"code":"TooManyRequests"}]}}`, nil, fault.Throttled, defaultPoll},
		{"throttled without a body", 429, ``, nil, fault.Throttled, defaultPoll},
		{"operation not allowed, otherwise", 409, `{"error":{"code":"OperationNotAllowed","message":"the set is being deleted"}}`, nil, fault.Conflict, 0},
		{"overtaken", 200, `{"status":"Failed","error":{"code":"OperationPreempted"}}`, nil, fault.Preempted, 0},
		{"etag", 412, `{"error":{"code":"PreconditionFailed"}}`, nil, fault.Conflict, 0},
		{"no such image", 404, `{"error":{"code":"ImageNotFound"}}`, nil, fault.Invalid, 0},
		{"subnet full", 400, `{"error":{"code":"InsufficientSubnetSize"}}`, nil, fault.NoQuota, 0},
		{"no rights", 403, `{"error":{"code":"AuthorizationFailed"}}`, nil, fault.Invalid, 0},
		{"known inside unknown", 400, `{"error":{"code":"SomethingNew","details":[{"code":"AllocationFailed"}]}}`, nil, fault.NoCapacity, 0},
		{"code in the header only", 409, ``, []string{"x-ms-error-code", "SkuNotAvailable"}, fault.NoCapacity, 0},
		{"unknown failure of an operation", 200, `{"status":"Failed","error":{"code":"OSProvisioningTimedOut"}}`, nil, fault.Internal, 0},
		{"no JSON", 502, `<html>`, nil, fault.Internal, 0},
		{"missing", 404, `{"error":{"code":"ParentResourceNotFound"}}`, nil, fault.NotFound, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := classify(answered(c.status, c.body, c.header...))
			var got *fault.Error
			if !errors.As(err, &got) {
				t.Fatalf("got %v, want a fault", err)
			}
			if got.Code != c.want || got.RetryAfter != c.after {
				t.Errorf("got %s after %s, want %s after %s", got.Code, got.RetryAfter, c.want, c.after)
			}
			if errors.Unwrap(got) == nil {
				t.Error("the cause is lost")
			}
		})
	}
}

func TestClassifyWhatIsNoAnswer(t *testing.T) {
	t.Parallel()
	if err := classify(nil); err != nil {
		t.Errorf("nil: got %v", err)
	}
	if got := classify(context.Canceled); !errors.Is(got, context.Canceled) {
		t.Errorf("cancelled: got %v", got)
	}
	if got, want := fault.CodeOf(classify(io.ErrUnexpectedEOF)), fault.Internal; got != want {
		t.Errorf("broken connection: got %s, want %s", got, want)
	}
}

func TestNewRefusesEndpoints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		endpoint string
		ok       bool
	}{
		{"", true}, {"https://management.usgovcloudapi.net", true}, {"http://127.0.0.1:9", true}, {"http://localhost:9/", true}, {"http://[::1]:9", true},
		{"http://management.example", false}, {"http://localhost:9@management.example", false}, {"http://localhost.example:9", false},
		{"management.azure.com", false}, {"ftp://127.0.0.1", false}, {"http://%", false},
	} {
		_, err := New(Config{SubscriptionID: "s", ResourceGroup: "g", Endpoint: c.endpoint, Credential: StaticCredential("t")})
		if got := err == nil; got != c.ok {
			t.Errorf("%q: got %v, want accepted %v", c.endpoint, err, c.ok)
		}
	}
}
