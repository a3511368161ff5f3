package handlers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/invoke"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/push/status"
	"dsvmpools/shared/store"
)

const (
	// followersAtOnce bounds the requests under way to Git hosts, which take many
	// at once for an attack.
	followersAtOnce = 8
	// unknownFor is how long a job may stay unknown after its push: its message
	// waits on the queue, or was rejected under another name.
	unknownFor = 24 * time.Hour
	// followFor bounds how long a status is tried to be told.
	followFor = 7 * 24 * time.Hour
	// firstPause and longestPause bound the pause between two tries of one status.
	firstPause   = 30 * time.Second
	longestPause = time.Hour
	// rememberStarts is how long a delivery is recognized by its row; Git hosts
	// send again for days. After that the ids of its jobs still are.
	rememberStarts = 30 * 24 * time.Hour
	// dropStarts bounds what one run forgets.
	dropStarts = 1000
)

// CommitStatus tells commits what has become of their jobs, and cancels jobs
// that were not known yet when they were to be cancelled. No job waits for it.
func (f *Functions) CommitStatus(ctx context.Context, _ invoke.Tick) error {
	followed, err := f.store.StatusWatches(ctx)
	if err != nil || len(followed) == 0 {
		return err
	}
	posters, err := f.posters(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(followersAtOnce)
	for _, one := range followed {
		if one.Next.After(f.now()) {
			continue
		}
		group.Go(func() error {
			if err := f.followOne(ctx, one, posters); err != nil {
				f.log.Warn("a job could not be followed", "job", one.Job, "rule", one.Rule, "error", err)
			}
			return nil
		})
	}
	return group.Wait()
}

// posters are the ways to the Git hosts of the rules that report.
func (f *Functions) posters(ctx context.Context) (map[string]status.Poster, error) {
	stored, err := f.store.Rules(ctx)
	posters := map[string]status.Poster{}
	for _, s := range stored {
		rule, err := parseRule(s)
		if err != nil || rule.Status.Token == "" {
			continue
		}
		posters[rule.Name] = status.Poster{Provider: rule.Provider, Server: rule.Server, API: rule.Status.API, Token: f.setting(rule.Status.Token), Client: f.hosts}
	}
	return posters, err
}

// followOne does what is to be done for one job now.
func (f *Functions) followOne(ctx context.Context, one store.StatusWatch, posters map[string]status.Poster) error {
	b := backend{f}
	old := f.now().Sub(one.At)
	if one.Cancel {
		_, err := b.Cancel(ctx, one.Job)
		if fault.CodeOf(err) == fault.NotFound && old < unknownFor {
			return nil
		}
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return err
		}
		return f.store.DeleteStatusWatch(ctx, one)
	}
	poster, known := posters[one.Rule]
	if !known || old > followFor && one.Tries > 0 {
		return f.store.DeleteStatusWatch(ctx, one)
	}
	j, err := b.Job(ctx, one.Job)
	switch {
	case fault.CodeOf(err) == fault.NotFound && old < unknownFor:
		j = &pool.Job{ID: one.Job, State: job.Submitted}
	case fault.CodeOf(err) == fault.NotFound:
		return f.store.DeleteStatusWatch(ctx, one)
	case err != nil:
		return err
	}
	state, sentence := told(j)
	if one.Sent != string(state) {
		report := status.Report{Repository: one.Repository, Commit: one.Commit, Context: one.Context, State: state, Description: sentence, URL: f.jobURL(one.Job)}
		if err := poster.Post(ctx, report); err != nil {
			return errors.Join(err, f.later(ctx, one, err))
		}
		one.Sent, one.Tries, one.Next = string(state), 0, time.Time{}
	}
	if j.State.Final() {
		return f.store.DeleteStatusWatch(ctx, one)
	}
	return f.store.PutStatusWatch(ctx, one)
}

// later notes when a status is tried again: after a pause that
// doubles, or after a longer one that the host asks for.
func (f *Functions) later(ctx context.Context, one store.StatusWatch, cause error) error {
	pause := backoff.After(one.Tries+1, firstPause, longestPause)
	var known *fault.Error
	if errors.As(cause, &known) {
		pause = max(pause, known.RetryAfter)
	}
	one.Tries++
	one.Next = f.now().Add(pause)
	return f.store.PutStatusWatch(ctx, one)
}

// told is a job's state as a commit shows it.
func told(j *pool.Job) (status.State, string) {
	switch j.State {
	case job.Running:
		return status.Running, "The job is running."
	case job.Succeeded:
		if j.Spec.ReadsJobFile() {
			return status.Success, "The jobs in the repository were started."
		}
		return status.Success, "The job has succeeded."
	case job.Failed:
		if j.Spec.ReadsJobFile() {
			return status.Failure, j.Reason // what is wrong with the file, and where
		}
		return status.Failure, fmt.Sprintf("The job has failed with exit code %d.", j.ExitCode)
	case job.TimedOut:
		return status.Failure, "The job has taken longer than its timeout."
	case job.Cancelled:
		return status.Error, "The job was cancelled."
	case job.Rejected:
		return status.Error, "The job was rejected: " + j.Reason
	}
	return status.Pending, "The job is waiting."
}

// jobURL is where a job is shown.
func (f *Functions) jobURL(id string) string {
	base := f.setting("DSVM_PUBLIC_URL")
	if host := f.setting("WEBSITE_HOSTNAME"); base == "" && host != "" { // set by Azure
		base = "https://" + host
	}
	if base == "" {
		base = "http://localhost"
	}
	return base + "/api/jobs/" + id
}

// forgetPushes forgets deliveries that nobody sends again.
func (f *Functions) forgetPushes(ctx context.Context) error {
	return f.store.DropPushes(ctx, f.now().Add(-rememberStarts), dropStarts)
}
