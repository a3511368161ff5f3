package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvmpools/shared/job"
	"dsvmpools/shared/wire"
)

// lookAtSeveralEvery is how often several jobs are looked at while they are waited for.
const lookAtSeveralEvery = 2 * lookEvery

// waitForAll waits until all jobs have ended, and prints each when it has.
func (p *Program) waitForAll(ctx context.Context, c *cobra.Command, s *session, ids []string, timeout time.Duration) error {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	ended := map[string]wire.Job{}
	failed := 0
	for waiting := ids; ; {
		jobs, err := p.find(ctx, s, waiting)
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return errors.Join(p.printEnded(ended),
				fmt.Errorf("%d of %d jobs have not ended within %s; they go on", len(waiting), len(ids), timeout))
		case err != nil:
			return err
		}
		var left []string
		for _, id := range waiting {
			j, known := jobs[strings.ToLower(id)]
			switch {
			case !known:
				failed++
				p.report(c, job.NoJob(id))
			case !j.State.Final():
				left = append(left, id)
			default:
				ended[id] = j
				if j.State != job.Succeeded {
					failed++
				}
				if err := p.printEnd(j); err != nil {
					return err
				}
			}
		}
		if waiting = left; len(waiting) == 0 {
			break
		}
		_ = pause(ctx, lookAtSeveralEvery) // find returns why it ends
	}
	if err := p.printEnded(ended); err != nil {
		return err
	}
	if failed > 0 {
		return &Exit{Code: codeFailure, Err: fmt.Errorf("%d of %d jobs did not succeed", failed, len(ids))}
	}
	return nil
}

// printEnd prints a job that has ended, unless all of them are printed as JSON in the end.
func (p *Program) printEnd(j wire.Job) error {
	if p.output == outputJSON {
		return nil
	}
	return p.lines(j.ID + ": " + string(j.State))
}

// printEnded prints the jobs that have ended as JSON, if that is asked for.
func (p *Program) printEnded(ended map[string]wire.Job) error {
	if p.output != outputJSON {
		return nil
	}
	list := []wire.Job{}
	for _, id := range slices.Sorted(maps.Keys(ended)) {
		list = append(list, ended[id])
	}
	return p.json(list)
}

// find asks for jobs by their ids, and returns them by these in small letters, with patience
// for an instance that is away for a while.
func (p *Program) find(ctx context.Context, s *session, ids []string) (map[string]wire.Job, error) {
	found := map[string]wire.Job{}
	for part := range slices.Chunk(ids, wire.MaxNamed) {
		jobs, err := withPatience(ctx, func() ([]wire.Job, error) { return s.Find(ctx, part) })
		if err != nil {
			return nil, err
		}
		for _, j := range jobs {
			found[strings.ToLower(j.ID)] = j
		}
	}
	return found, nil
}
