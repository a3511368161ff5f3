package service

import (
	"context"
	"fmt"
	"log/slog"

	"dsvmpools/shared/drive"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/push"
	"dsvmpools/shared/store"
)

// What a repository's file of jobs leads to. A push whose rule says `fromFile`
// starts one job, the reader; when a node reports what the reader has read, the jobs
// of the file are sent before the pool learns that the reader has succeeded. Until
// it has, the node reports again, and all of this is done again: it changes nothing,
// since the ids of the jobs follow from the reader's.

// exitRefused is the exit code of a reader whose file was refused: that of any
// program that does not like its input.
const exitRefused = 1

// jobFiles starts the jobs that the job files of repositories hold.
type jobFiles struct {
	store  *store.Store
	driver *drive.Driver
	sender *jobSender
	log    *slog.Logger
}

// keepForFile adds to a push's row what is needed when its file is read.
func keepForFile(row *store.PushRecord, rule *push.Rule, p *push.Push, reader push.Job) error {
	spec, err := job.ParseFileJob(reader.Document, "application/json")
	if err != nil {
		return err
	}
	row.FileJob = spec.Hash()
	row.Facts, err = rule.Facts(p)
	return err
}

// refusesReader refuses a job that would read a file and that no push has started.
func (s *Jobs) refusesReader(ctx context.Context, spec *job.Spec) (*fault.Error, error) {
	if !spec.ReadsJobFile() {
		return nil, nil
	}
	row, err := recordOf(ctx, s.store, spec.ID)
	switch {
	case fault.CodeOf(err) == fault.NotFound, err == nil && row.FileJob != spec.Hash():
		return fault.New(
			fault.Invalid,
			"command",
			"`command` is missing: only a push whose rule says `fromFile` starts a job that has a `source` and nothing to run, "+
				"and no push has started this one; give `command` or `script`, or push again if the rule was changed",
		), nil
	case err != nil:
		return nil, err
	}
	return nil, nil
}

// recordOf is the row of the push that has started a reader. NotFound: none has.
func recordOf(ctx context.Context, st *store.Store, reader string) (store.PushRecord, error) {
	rule, key, ok := push.ParseFileJobID(reader)
	if !ok {
		return store.PushRecord{}, fault.New(fault.NotFound, "id", "the job %q is not one that reads a push's jobs", reader)
	}
	return st.Push(ctx, rule, key)
}

// start starts the jobs that a report names, and puts into the report
// how the jobs that have read them end by that. The texts are taken out: the pool
// has no use for them.
func (f *jobFiles) start(ctx context.Context, r *protocol.Report) error {
	for i := range r.Items {
		done := r.Items[i].Finished
		if done == nil || done.File == "" {
			continue
		}
		text := done.File
		if done.File = ""; done.State != string(job.AttemptSucceeded) {
			continue
		}
		reader, held, err := f.driver.Assigned(ctx, r.Pool, r.VMID, done.N)
		switch {
		case fault.CodeOf(err) == fault.NotFound, err == nil && (!held || !reader.Spec.ReadsJobFile()):
			continue // the pool is gone, it was reported before, or the job is not there to read
		case err != nil:
			return err
		}
		if err := f.readFile(ctx, reader.ID, reader.Cancel, text, done); err != nil {
			return err
		}
	}
	return nil
}

// readFile has the jobs of a file started. cancel says why the reader is being
// cancelled; "" = it is not.
func (f *jobFiles) readFile(ctx context.Context, reader, cancel, text string, done *protocol.Finished) error {
	row, err := recordOf(ctx, f.store, reader)
	if fault.CodeOf(err) == fault.NotFound {
		refuse(done, "the push that this job belongs to is not known any more; push again")
		return nil
	}
	if err != nil {
		return err
	}
	rule, p, err := push.ReadFacts(row.Facts)
	if err != nil {
		f.log.ErrorContext(ctx, "facts of a push cannot be read", "rule", row.Rule, "job", reader, "error", err)
		refuse(done, "what was kept of the push cannot be read; push again")
		return nil
	}
	starts, err := rule.MakeFileJobs(text, p, reader)
	if fault.CodeOf(err) == fault.Invalid {
		f.log.InfoContext(
			ctx,
			"job file refused",
			"rule",
			row.Rule,
			"repository",
			row.Repository,
			"commit",
			row.Commit,
			"job",
			reader,
			"reason",
			err,
		)
		refuse(done, AsFault(err).Message)
		return nil
	}
	if err != nil {
		return err
	}
	// From here on a newer push cancels these jobs too: whichever of the two is
	// first changes the row, and the other one sees it.
	row, err = f.store.ChangePush(ctx, row.Rule, row.Key, func(st *store.PushRecord) bool {
		if st.Superseded || st.HasFileJobs || cancel != "" {
			return false
		}
		st.HasFileJobs, st.Jobs = true, merged(st.Jobs, idsOf(starts))
		return true
	})
	switch {
	case err != nil:
		return err
	case row.Superseded:
		done.State, done.ExitCode, done.Reason = string(
			job.AttemptCancelled,
		), job.ExitCancelled, fmt.Sprintf(
			"a newer push to %s has come, so the jobs of the file were not started",
			row.Ref,
		)
		return nil
	case !row.HasFileJobs:
		done.State, done.ExitCode, done.Reason = string(job.AttemptCancelled), job.ExitCancelled, cancel
		return nil
	}
	f.log.InfoContext(
		ctx,
		"job file read",
		"rule",
		row.Rule,
		"repository",
		row.Repository,
		"commit",
		row.Commit,
		"job",
		reader,
		"jobs",
		len(starts),
	)
	return f.sender.send(ctx, rule, p, starts)
}

// refuse ends a reader's attempt for a reason that is the file's.
func refuse(done *protocol.Finished, reason string) {
	done.State, done.ExitCode, done.Reason = string(job.AttemptFailed), exitRefused, reason
}
