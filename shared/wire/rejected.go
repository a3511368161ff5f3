package wire

import "time"

// Rejected is a message on the queue `rejected`. The fields from CorrelationID on are there
// where one message is asked for; lists leave them out.
type Rejected struct {
	Key         string     `json:"key"`        // its sequence number on the queue
	Source      string     `json:"source"`     // the queue that it was on; "" = it does not say
	Job         string     `json:"job"`        // the id that it has or would have as a job; "" = none
	Pool        string     `json:"pool"`       // as its document names it
	Field       string     `json:"field"`      // what is wrong, "" = the whole
	Reason      string     `json:"reason"`     // why it was rejected
	RejectedAt  *time.Time `json:"rejectedAt"` // null: not known
	MessageID   string     `json:"messageId"`
	ContentType string     `json:"contentType"`
	Size        int        `json:"size"` // of the body, in bytes

	CorrelationID    string         `json:"correlationId,omitempty"`
	Subject          string         `json:"subject,omitempty"`
	To               string         `json:"to,omitempty"`
	ReplyTo          string         `json:"replyTo,omitempty"`
	ReplyToSessionID string         `json:"replyToSessionId,omitempty"`
	SessionID        string         `json:"sessionId,omitempty"`
	Properties       map[string]any `json:"properties,omitempty"` // its sender's
	Encoding         string         `json:"encoding,omitempty"`   // of Body: text, or base64 for bytes that are no text
	Body             *string        `json:"body,omitempty"`       // its first 64 KiB
	Cut              bool           `json:"cut,omitempty"`        // the body is longer
}

// Encodings of a body.
const (
	EncodingText   = "text"
	EncodingBase64 = "base64"
)

// Resubmitted says what was done for a rejected message.
type Resubmitted struct {
	Key    string `json:"key"`
	Source string `json:"source"`         // the queue that it came from
	Job    string `json:"job,omitempty"`  // the job that it has become
	Pool   string `json:"pool,omitempty"` // of the job, or the one that was applied
}

// RejectedFilter says which messages a list has; "" = all.
type RejectedFilter struct {
	Source string
	Pool   string // as the document names it
	Job    string
}

// Passes reports whether a message is in the list.
func (f RejectedFilter) Passes(m *Rejected) bool {
	return (f.Source == "" || f.Source == m.Source) && (f.Pool == "" || f.Pool == m.Pool) && (f.Job == "" || f.Job == m.Job)
}
