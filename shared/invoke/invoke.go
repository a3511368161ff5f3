// Package invoke is the protocol between the Functions host and a custom
// handler, written down once: how the host says what woke a function, how a
// handler reads it, and what a reply means. App is the handler's end; Invocation
// and ReadReply are the host's.
//
// Functions themselves are ordinary Go functions that know nothing of it. The
// package never interprets a message's body, never settles a message (a reply is
// all a custom handler has), and knows no output bindings: what a function
// sends, it sends itself.
package invoke

import "time"

// Message is a Service Bus message as a function gets it.
type Message struct {
	Body          []byte
	ID            string
	ContentType   string
	Subject       string
	CorrelationID string
	SessionID     string
	To, ReplyTo   string
	// ReplyToSessionID is the session of an answer.
	ReplyToSessionID string
	SequenceNumber   int64
	DeliveryCount    int            // 1 at the first delivery
	EnqueuedAt       time.Time      // UTC; whole seconds when the host sends single messages
	Properties       map[string]any // whole numbers are int64, others float64
}

// Tick is an occurrence of a timer.
type Tick struct {
	PastDue    bool      // it comes late, once for however many were missed
	Last, Next time.Time // zero when the timer keeps no status
}

// Headers that the host puts on every request.
const (
	HeaderInvocation  = "X-Azure-Functions-InvocationId" // names the invocation, for logs
	HeaderHostVersion = "X-Azure-Functions-HostVersion"
)

// PortSetting is the environment variable in which the host names to its child
// where to listen.
const PortSetting = "FUNCTIONS_CUSTOMHANDLER_PORT"
