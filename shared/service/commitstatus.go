package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvmpools/shared/backoff"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/push"
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
	// followFor bounds how long a status is sent again.
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

// CommitStatuses reports to commits how their jobs are.
type CommitStatuses struct {
	store  *store.Store
	jobs   *Jobs
	rules  *pushRules
	poster func(rule *push.Rule, token string) StatusPoster
	log    *slog.Logger
	now    func() time.Time
}

// Report reports to commits what has become of their jobs, and cancels jobs
// that were not known yet when they were to be cancelled. No job waits for it.
func (c *CommitStatuses) Report(ctx context.Context) error {
	followed, err := c.store.StatusWatches(ctx)
	if err != nil || len(followed) == 0 {
		return err
	}
	posters, err := c.posters(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(followersAtOnce)
	for _, one := range followed {
		if one.Next.After(c.now()) {
			continue
		}
		group.Go(func() error {
			if err := c.followOne(ctx, one, posters); err != nil {
				c.log.WarnContext(ctx, "commit status not reported", "job", one.Job, "rule", one.Rule, "error", err)
			}
			return nil
		})
	}
	return group.Wait()
}

// posters are the ways to the Git hosts of the rules that report.
func (c *CommitStatuses) posters(ctx context.Context) (map[string]StatusPoster, error) {
	stored, err := c.store.Rules(ctx)
	posters := map[string]StatusPoster{}
	for _, s := range stored {
		rule, err := parseRule(s)
		if err != nil || rule.Status.Token == "" {
			continue
		}
		posters[rule.Name] = c.poster(rule, c.rules.setting(rule.Status.Token))
	}
	return posters, err
}

// followOne sends the status of one job, or cancels the job, when it is due.
func (c *CommitStatuses) followOne(ctx context.Context, one store.StatusWatch, posters map[string]StatusPoster) error {
	old := c.now().Sub(one.At)
	if one.Cancel {
		_, err := c.jobs.Cancel(ctx, one.Job)
		if fault.CodeOf(err) == fault.NotFound && old < unknownFor {
			return nil
		}
		if err != nil && fault.CodeOf(err) != fault.NotFound {
			return err
		}
		return c.store.DeleteStatusWatch(ctx, one)
	}
	poster, known := posters[one.Rule]
	if !known || old > followFor && one.Tries > 0 {
		return c.store.DeleteStatusWatch(ctx, one)
	}
	j, err := c.jobs.Job(ctx, one.Job)
	switch {
	case fault.CodeOf(err) == fault.NotFound && old < unknownFor:
		j = submittedJob(store.ID{ID: one.Job})
	case fault.CodeOf(err) == fault.NotFound:
		return c.store.DeleteStatusWatch(ctx, one)
	case err != nil:
		return err
	}
	state, sentence := commitStatusOf(j)
	if one.Sent != string(state) {
		report := status.Report{
			Repository:  one.Repository,
			Commit:      one.Commit,
			Context:     one.Context,
			State:       state,
			Description: sentence,
			URL:         c.jobURL(one.Job),
		}
		if err := poster.Post(ctx, report); err != nil {
			return errors.Join(err, c.later(ctx, one, err))
		}
		one.Sent, one.Tries, one.Next = string(state), 0, time.Time{}
	}
	if j.State.Final() {
		return c.store.DeleteStatusWatch(ctx, one)
	}
	return c.store.PutStatusWatch(ctx, one)
}

// later notes when a status is tried again: after a pause that
// doubles, or after a longer one that the host asks for.
func (c *CommitStatuses) later(ctx context.Context, one store.StatusWatch, cause error) error {
	pause := backoff.After(one.Tries+1, firstPause, longestPause)
	var known *fault.Error
	if errors.As(cause, &known) {
		pause = max(pause, known.RetryAfter)
	}
	one.Tries++
	one.Next = c.now().Add(pause)
	return c.store.PutStatusWatch(ctx, one)
}

// commitStatusOf is a job's state as a commit shows it.
func commitStatusOf(j *pool.Job) (status.State, string) {
	switch j.State {
	case job.Running:
		return status.Running, "the job is running"
	case job.Succeeded:
		if j.Spec.ReadsJobFile() {
			return status.Success, "the jobs in the repository were started"
		}
		return status.Success, "the job has succeeded"
	case job.Failed:
		if j.Spec.ReadsJobFile() {
			return status.Failure, j.Reason // what is wrong with the file, and where
		}
		return status.Failure, fmt.Sprintf("the job has failed with exit code %d", j.ExitCode)
	case job.TimedOut:
		return status.Failure, "the job has taken longer than its timeout"
	case job.Cancelled:
		return status.Error, "the job was cancelled"
	case job.Rejected:
		return status.Error, "the job was rejected: " + j.Reason
	default:
		return status.Pending, "the job waits"
	}
}

// jobURL is where a job is shown.
func (c *CommitStatuses) jobURL(id string) string {
	base := c.rules.setting("DSVM_PUBLIC_URL")
	if host := c.rules.setting("WEBSITE_HOSTNAME"); base == "" && host != "" { // set by Azure
		base = "https://" + host
	}
	if base == "" {
		base = "http://localhost"
	}
	return base + "/api/jobs/" + id
}

// ForgetPushes forgets deliveries that nobody sends again.
func (c *CommitStatuses) ForgetPushes(ctx context.Context) error {
	return c.store.DropPushes(ctx, c.now().Add(-rememberStarts), dropStarts)
}
