//go:build unix

package compute

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Failure is an error in the resource manager's form.
type Failure struct {
	Status     int // of the answer; unused for an operation that failed
	Code       string
	Message    string
	Details    []Detail
	RetryAfter time.Duration // 0 = the answer has no Retry-After
}

// Detail is an error inside an error.
type Detail struct {
	Code    string `json:"code"`
	Target  string `json:"target,omitempty"`
	Message string `json:"message,omitempty"`
}

func (f *Failure) Error() string { return f.Code + ": " + f.Message }

func refuse(status int, code, format string, args ...any) *Failure {
	return &Failure{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// body returns the JSON of the failure, for answers and operations.
func (f *Failure) body() map[string]any {
	e := map[string]any{"code": f.Code, "message": f.Message}
	if len(f.Details) > 0 {
		e["details"] = f.Details
	}
	return e
}

func (f *Failure) write(w http.ResponseWriter) {
	w.Header().Set("x-ms-error-code", f.Code)
	if f.RetryAfter > 0 {
		setRetryAfter(w, f.RetryAfter)
	}
	w.WriteHeader(f.Status)
	json.NewEncoder(w).Encode(map[string]any{"error": f.body()})
}

// setRetryAfter sets when the caller may try again: in whole seconds as the service does,
// and in milliseconds for clients that read that header too.
func setRetryAfter(w http.ResponseWriter, d time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int((d+time.Second-1)/time.Second)))
	w.Header().Set("retry-after-ms", strconv.FormatInt(d.Milliseconds(), 10))
}
