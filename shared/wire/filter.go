package wire

import "dsvmpools/shared/job"

// JobFilter narrows a list of jobs; "" stands for any.
type JobFilter struct {
	Pool  string
	Team  string
	User  string
	State job.State
	Sweep string // id of the sweep whose members to list; without it they are left out
}
