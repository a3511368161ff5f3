package service

import (
	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

// ParseJob reads the document of a job in a message. Without an id of its own the job has the
// message's.
func ParseJob(m bus.Message) (job.Spec, error) {
	parse := job.Parse
	if m.Properties[PropJobFile] == "true" { // the job's push shows later whether that is true
		parse = job.ParseFileJob
	}
	spec, err := parse(m.Body, m.ContentType)
	if err != nil || spec.ID != "" {
		return spec, err
	}
	if job.CheckNewID(m.ID) != nil {
		return spec, fault.New(
			fault.Invalid,
			"id",
			"the document names no id and the MessageId cannot stand for one; add an `id` of %s",
			job.IDForm,
		)
	}
	spec.ID = m.ID
	return spec, nil
}
