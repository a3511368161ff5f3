package process

import "time"

// KeyVariable is the variable in a process's environment that names the attempt,
// so that what is left of the attempt can be found.
const KeyVariable = "DSVM_ATTEMPT_KEY"

// Process names one process so that no other is taken for it.
type Process struct {
	PID   int       `json:"pid"`             // also its process group and its session; 0 = its source is being fetched
	Birth string    `json:"birth,omitempty"` // start time as the system counts it; "" = not known
	At    time.Time `json:"at"`              // start time for people
}
