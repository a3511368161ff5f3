package service

import "time"

// Keep is how long what has ended is kept; zero is for ever.
type Keep struct {
	Finished time.Duration // rows of finished jobs: their documents and attempts, and their place in lists
	Files    time.Duration // logs and outputs on the share
	IDs      time.Duration // ids, with how their jobs ended
	Audit    time.Duration // the audit trail
	Trees    time.Duration // folders that were sent to the share, after a job or a question has used them last
}
