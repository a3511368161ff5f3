package job

import "strings"

// Dependency is an element of `after`: the job that has to end first, and how.
// It is written ID (it has to succeed), ID:failure or ID:any.
type Dependency struct {
	ID string
	On Outcome
}

// Outcome is how a job has to end for another to follow.
type Outcome string

const (
	OnSuccess Outcome = "success"
	OnFailure Outcome = "failure" // any end but success
	OnAny     Outcome = "any"
)

// ParseDependency reads an element of `after`.
func ParseDependency(text string) (d Dependency, ok bool) {
	id, on, said := strings.Cut(text, ":")
	d = Dependency{id, Outcome(on)}
	if !said {
		d.On = OnSuccess
	}
	return d, CheckID(id) == nil && (d.On == OnSuccess || d.On == OnFailure || d.On == OnAny)
}

// Met reports whether a job that has ended so lets the other one follow.
func (d Dependency) Met(state State) bool {
	return d.On == OnAny || (d.On == OnSuccess) == (state == Succeeded)
}
