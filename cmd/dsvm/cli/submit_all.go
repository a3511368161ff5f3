package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// jsonType is the form in which documents are sent.
const jsonType = "application/json"

// submitAll sends several documents in their order. All are read and checked before the
// first is sent. A document that is refused does not keep the others back. It prints the id
// of each job that is taken.
func (p *Program) submitAll(ctx context.Context, all []*document) error {
	unnamed := 0
	for _, d := range all {
		body, err := d.encode()
		if err != nil {
			return err
		}
		if _, err := job.Parse(body, jsonType); err != nil {
			return WrongUse("nothing was sent: %s", message(d.locate(err)))
		}
		if d.text("id") == "" {
			unnamed++
			d.set(newID(d), "id") // so that it is harmless to ask twice
		}
	}
	answers := []wire.Submitted{}
	taken := 0
	err := p.with(ctx, fmt.Sprintf("submitting %d jobs", len(all)), func(ctx context.Context, s *session) error {
		for _, d := range all {
			if err := d.sendFiles(ctx, s); err != nil {
				return err
			}
		}
		for begin := 0; begin < len(all); {
			part, bodies, err := nextPart(all[begin:])
			if err != nil {
				return err
			}
			begin += len(part)
			answer, err := s.SubmitAll(ctx, bodies)
			if err != nil {
				return err
			}
			answers = append(answers, answer...)
			taken += p.showSubmitted(part, answer)
		}
		return nil
	})
	if p.output == outputJSON {
		if wrong := p.json(answers); wrong != nil {
			return wrong
		}
	}
	if err == nil && taken == len(all) {
		return nil
	}
	return partly(taken, len(all), unnamed > 0, err)
}

// nextPart is the first of some documents, as many as one request may have.
func nextPart(all []*document) (part []*document, bodies [][]byte, err error) {
	size := len("[]")
	for _, d := range all {
		body, err := d.encode()
		if err != nil {
			return nil, nil, err
		}
		if size += len(body) + len(","); len(part) == wire.MaxJobs || len(part) > 0 && size > wire.MaxJobsBytes {
			break
		}
		part, bodies = append(part, d), append(bodies, body)
	}
	return part, bodies, nil
}

// showSubmitted prints what became of documents, and returns how many were taken.
func (p *Program) showSubmitted(all []*document, answers []wire.Submitted) (taken int) {
	for i, a := range answers {
		if a.Status == http.StatusAccepted {
			if taken++; p.output != outputJSON {
				fmt.Fprintln(p.Out, a.ID)
			}
			continue
		}
		text := fmt.Sprintf("it was answered with status %d", a.Status)
		if a.Problem != nil {
			text = all[i].place(a.Problem.Field) + sentLine.ReplaceAllString(a.Problem.Detail, "")
		}
		p.Say("%s", text)
	}
	return taken
}

// partly is the error when not all of several documents were taken. broke is why sending
// has stopped before the last; nil: it has not.
func partly(taken, all int, unnamed bool, broke error) error {
	text := fmt.Sprintf("%d of %d jobs were taken", taken, all)
	if broke != nil {
		text = fmt.Sprintf("%s, and then: %s", text, message(broke))
	}
	switch {
	case broke != nil && unnamed:
		text += ".\nMore may have been taken; look with dsvm job list before you send the file again, since a job without an `id` would run twice"
	case taken == 0:
	case unnamed:
		text += ".\nA job without an `id` would run a second time: take those that were taken out of the file before you send it again"
	default:
		text += ".\nThe same command again sends what is missing; a job that was taken is the same job then, and runs once"
	}
	return &Exit{Code: codeFailure, Err: errors.New(text)}
}
