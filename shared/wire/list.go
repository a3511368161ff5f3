package wire

// List is the answer to a request for many things.
type List[T any] struct {
	Items []T `json:"items"`
	// Continue asks for what follows: the same request with ?continue= of this
	// value. "" = this is the end.
	Continue string `json:"continue,omitempty"`
}

// NewList keeps an empty list from being written as null.
func NewList[T any](items []T, next string) List[T] {
	if items == nil {
		items = []T{}
	}
	return List[T]{Items: items, Continue: next}
}

// Numbers of the API that clients need to know.
const (
	// DefaultLimit is how many items a list has when nothing is said.
	DefaultLimit = 100
	// MaxLimit bounds what one request may ask for.
	MaxLimit = 1000
	// MaxDocument is the size of a document in a request, as on the queues.
	MaxDocument = 32 << 10
	// MaxJobs bounds the documents in one list of jobs, and MaxJobsBytes the list.
	MaxJobs      = 1000
	MaxJobsBytes = 4 << 20
)

// Headers of the API.
const (
	KeyHeader         = "x-functions-key"
	IdempotencyHeader = "Idempotency-Key"
	// NextOffsetHeader, on a log that is not followed: where the next request
	// begins.
	NextOffsetHeader = "X-Next-Offset"
	// LogEndHeader, on a log: "true" when nothing can come after this body.
	LogEndHeader = "X-Log-End"
	// LogOffsetHeader, on a log: the offset at which its body begins. It is another one
	// than was asked for after `tail` and `since`, and where a part of the log was cut out.
	LogOffsetHeader = "X-Log-Offset"
)
