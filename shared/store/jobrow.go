package store

import (
	"slices"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/pool"
	"dsvmpools/shared/store/table"
)

// maxAttempts is how many attempts of a job its row keeps, the latest ones: a
// job that is retried for ever must not outgrow its row.
const maxAttempts = 100

func encodeJob(partition, key string, j *pool.Job) ([]byte, error) {
	spec, err := table.Compact(&j.Spec)
	if err != nil {
		return nil, err
	}
	e := table.NewRow(partition, key)
	e.Text("Order", j.Order)
	e.Text("ID", j.ID)
	e.Text("Team", j.Spec.Team) // once more beside the spec, to filter lists by
	e.Text("User", j.Spec.User)
	e.Text("Kind", kindOf(j))
	e.Text("State", string(j.State))
	e.Sentence("Reason", j.Reason)
	e.Time("SubmittedAt", j.SubmittedAt)
	e.Time("NotBefore", j.NotBefore)
	if len(j.Waits) > 0 {
		waits, err := table.Compact(j.Waits)
		if err != nil {
			return nil, err
		}
		e.Text("Waits", waits)
	}
	if len(j.Subscribers) > 0 {
		subscribers, err := table.Compact(j.Subscribers)
		if err != nil {
			return nil, err
		}
		e.Text("Subscribers", subscribers)
	}
	e.Sentence("Cancel", j.Cancel)
	e.Time("CancelAt", j.CancelAt)
	e.Bool("Requeue", j.Requeue)
	e.Int("Retries", j.Retries)
	if j.Progress != nil {
		progress, err := table.Compact(j.Progress)
		if err != nil {
			return nil, err
		}
		e.Text("Progress", progress)
	}
	if j.Session != nil {
		session, err := table.Compact(j.Session)
		if err != nil {
			return nil, err
		}
		e.Text("Session", session)
	}
	e.Text("VMID", j.VMID)
	e.Int64("N", j.N)
	e.Int("ExitCode", j.ExitCode)
	e.Time("EndedAt", j.EndedAt)
	if !e.Long("Spec", spec) {
		return nil, fault.New(
			fault.Invalid, "", "the document of job %s is too long to be kept; put long scripts and lists into files", j.ID,
		)
	}
	if err := writeAttempts(e, j.Attempts); err != nil {
		return nil, err
	}
	return e.JSON(), nil
}

// Kinds of jobs' rows.
const (
	kindJob    = "job"
	kindSweep  = "sweep"
	kindMember = "member"
)

func kindOf(j *pool.Job) string {
	switch {
	case j.Spec.Sweep != nil:
		return kindSweep
	case j.Spec.Index != nil:
		return kindMember
	}
	return kindJob
}

// writeAttempts writes as many of the latest attempts as there is room for.
func writeAttempts(e *table.Row, attempts []job.Attempt) error {
	if len(attempts) == 0 {
		return nil
	}
	latest := slices.Clone(attempts[max(len(attempts)-maxAttempts, 0):])
	for i := range latest {
		latest[i].Reason = table.Cut(latest[i].Reason, table.SentenceUnits)
	}
	for ; ; latest = latest[(len(latest)+1)/2:] {
		text, err := table.Compact(latest)
		if err != nil {
			return err
		}
		if e.Long("Attempts", text) {
			return nil
		}
	}
}

func decodeJob(raw []byte) (*pool.Job, error) {
	var row struct {
		Order, ID, State, Reason, Waits, Cancel, VMID, Progress, Session string
		Subscribers                                                      string
		Spec, Attempts                                                   string
		SubmittedAt, NotBefore, CancelAt, EndedAt                        time.Time
		Requeue                                                          bool
		Retries, N, ExitCode                                             table.Number
	}
	if err := table.Decode(raw, &row); err != nil {
		return nil, err
	}
	j := &pool.Job{
		Order:       row.Order,
		ID:          row.ID,
		State:       job.State(row.State),
		Reason:      row.Reason,
		SubmittedAt: row.SubmittedAt,
		NotBefore:   row.NotBefore,
		Cancel:      row.Cancel,
		CancelAt:    row.CancelAt,
		Requeue:     row.Requeue,
		Retries:     int(row.Retries),
		VMID:        row.VMID,
		N:           int64(row.N),
		ExitCode:    int(row.ExitCode),
		EndedAt:     row.EndedAt,
	}
	spec, err := table.LongText(raw, "Spec", row.Spec)
	if err == nil {
		err = table.DecodeText(raw, "its spec", spec, &j.Spec)
	}
	if err == nil {
		err = table.DecodeOptional(raw, "the jobs that it waits for", row.Waits, &j.Waits)
	}
	if err == nil {
		err = table.DecodeOptional(raw, "the pools that subscribed to its end", row.Subscribers, &j.Subscribers)
	}
	if err == nil {
		err = table.DecodeOptional(raw, "its progress", row.Progress, &j.Progress)
	}
	if err == nil {
		err = table.DecodeOptional(raw, "its session", row.Session, &j.Session)
	}
	if err != nil {
		return nil, err
	}
	attempts, err := table.LongText(raw, "Attempts", row.Attempts)
	if err == nil {
		err = table.DecodeOptional(raw, "its attempts", attempts, &j.Attempts)
	}
	if err != nil {
		return nil, err
	}
	return j, nil
}
