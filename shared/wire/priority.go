package wire

import "dsvmpools/shared/job"

// Priority is the body of a request to give a job another priority.
type Priority struct {
	Priority job.Priority `json:"priority"`
}

// MaxNamed bounds the ids of one request for jobs by their ids.
const MaxNamed = 100
