package wire

// CheckState says how a check ended.
type CheckState string

// States of a check.
const (
	CheckOK      CheckState = "ok"
	CheckFailed  CheckState = "failed"
	CheckUnknown CheckState = "unknown" // it could not be found out
)

// Check is one thing that was looked at, and what to do about it.
type Check struct {
	Check  string     `json:"check"`
	State  CheckState `json:"state"`
	Detail string     `json:"detail,omitempty"`
	Mend   string     `json:"mend,omitempty"` // a command, or what to do in words; "" = nothing is to be done
}
