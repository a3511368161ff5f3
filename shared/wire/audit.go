package wire

import "time"

// AuditEntry is one request that changes something, as the audit trail has it. It never has
// a body, a key or a token.
type AuditEntry struct {
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"`            // person | program: one that has the function key
	ID     string    `json:"id,omitempty"`    // object id of a person in the directory
	Login  string    `json:"login,omitempty"` // what the directory called the person then
	User   string    `json:"user,omitempty"`  // name of the person's account
	From   string    `json:"from,omitempty"`  // address that the request came from, as far as is known
	Method string    `json:"method"`
	Target string    `json:"target"`         // path and parameters
	Made   string    `json:"made,omitempty"` // path of what was made
	Status int       `json:"status"`         // of the answer; 0: it is not known, since the process ended before it was noted
}

// AuditQuery narrows the audit trail; an empty field stands for any.
type AuditQuery struct {
	User         string    // name of the account, login or object id of a person, or "key" for programs
	Target       string    // what path and parameters have in them
	Since, Until time.Time // from, and before
	Limit        int
	Continue     string
}

// KeyUser stands for programs with the function key in an AuditQuery.
const KeyUser = "key"
