package service

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/push"
	"dsvmpools/shared/store"
	"dsvmpools/shared/wire"
)

// overtaking is how long deliveries may take to overtake each other: Git hosts give
// up on one, or have sent it again, within minutes.
const overtaking = 10 * time.Minute

// Pushes takes deliveries of Git hosts, and keeps the rules that say which jobs they
// start.
type Pushes struct {
	*pushRules
	store  *store.Store
	jobs   *Jobs
	sender *jobSender
	log    *slog.Logger
	now    func() time.Time
}

// Push takes a delivery of a Git host: it finds the rules whose secret proves
// the delivery, and has them start their jobs.
func (s *Pushes) Push(
	ctx context.Context,
	provider push.Provider,
	header push.Header,
	proof push.Proof,
	body []byte,
) (wire.PushAnswer, error) {
	answer := wire.PushAnswer{Rules: []wire.PushOutcome{}}
	rules, err := s.proven(ctx, provider, proof, body)
	if err != nil {
		return answer, err
	}
	if len(rules) == 0 {
		return answer, push.ErrProof
	}
	delivery, err := push.Parse(provider, header, body)
	if err != nil {
		s.log.WarnContext(ctx, "delivery refused", "provider", provider, "reason", err)
		return answer, err
	}
	answer.Ignored = delivery.Ignored
	key := push.Key(provider, header, body)
	for i := range delivery.Pushes {
		p := &delivery.Pushes[i]
		for _, rule := range rules {
			outcome, err := s.startJobs(ctx, rule, p, key)
			if err != nil {
				return answer, err
			}
			answer.Rules = append(answer.Rules, outcome)
			s.log.InfoContext(
				ctx,
				"push judged",
				"rule",
				rule.Name,
				"repository",
				p.Repository,
				"ref",
				p.Ref,
				"commit",
				p.Commit,
				"delivery",
				p.Delivery,
				"jobs",
				len(outcome.Jobs),
				"reason",
				outcome.Reason,
			)
		}
	}
	return answer, nil
}

// startJobs has a rule start its jobs for a push. Each step may be done again:
// the ids of the jobs follow from the delivery, and the row says how far it is.
func (s *Pushes) startJobs(ctx context.Context, rule *push.Rule, p *push.Push, key string) (wire.PushOutcome, error) {
	out := wire.PushOutcome{Rule: rule.Name, Ref: p.Ref, Commit: p.Commit, Jobs: []string{}}
	fits, reason := rule.Match(p)
	if out.Reason = reason; !fits {
		return out, nil
	}
	starts, err := rule.MakeJobs(p, key)
	if fault.CodeOf(err) == fault.Invalid {
		out.Reason = fmt.Sprintf("the jobs cannot be made: %v", err)
		return out, nil
	}
	if err != nil {
		return out, err
	}
	row := store.PushRecord{
		Rule:       rule.Name,
		Key:        push.RefKey(key, p.Ref),
		Repository: p.Repository,
		Ref:        p.Ref,
		Before:     p.Before,
		Commit:     p.Commit,
		Jobs:       idsOf(starts),
		At:         s.now(),
	}
	if rule.FromFile {
		if err := keepForFile(&row, rule, p, starts[0]); err != nil {
			return out, err
		}
	}
	if row, out.Reason, err = s.begin(ctx, rule, row, reason); err != nil || out.Reason != reason {
		return out, err
	}
	var older []store.PushRecord
	if rule.CancelPrevious {
		newer := false
		if older, newer, err = s.olderPushes(ctx, row, p.Forced || p.Created); err != nil {
			return out, err
		}
		if newer {
			out.Reason = fmt.Sprintf("a newer push to %s has come before this one", p.Ref)
			_, err := s.store.ChangePush(
				ctx,
				row.Rule,
				row.Key,
				func(st *store.PushRecord) bool { st.Sent, st.Superseded = true, true; return true },
			)
			return out, err
		}
	}
	if err := s.sender.send(ctx, rule, p, starts); err != nil {
		return out, err
	}
	for _, o := range older {
		if err := s.supersede(ctx, o); err != nil {
			return out, err
		}
	}
	out.Jobs = idsOf(starts)
	_, err = s.store.ChangePush(ctx, row.Rule, row.Key, func(st *store.PushRecord) bool {
		st.Sent, st.Jobs = true, merged(st.Jobs, out.Jobs)
		return true
	})
	return out, err
}

// begin notes a push before anything is done for it. It returns another reason
// when there is nothing to do.
func (s *Pushes) begin(ctx context.Context, rule *push.Rule, row store.PushRecord, reason string) (store.PushRecord, string, error) {
	stands, err := s.store.Push(ctx, rule.Name, row.Key)
	switch {
	case err == nil && stands.Sent:
		return stands, "this delivery has been taken before; nothing is done twice", nil
	case err == nil: // it was cut short: go on
		return stands, reason, nil
	case fault.CodeOf(err) != fault.NotFound:
		return row, reason, err
	}
	if rule.PerHour > 0 {
		n, err := s.store.CountPushes(ctx, rule.Name, row.At.Add(-time.Hour), rule.PerHour)
		if err != nil {
			return row, reason, err
		}
		if n >= rule.PerHour {
			return row, fmt.Sprintf(
				"the rule has let %d pushes start jobs within the last hour, and `limits.pushesPerHour` allows no more; have it delivered again later",
				n,
			), nil
		}
	}
	stands, err = s.store.BeginPush(ctx, row)
	if err == nil && stands.Sent {
		return stands, "this delivery has been taken before; nothing is done twice", nil
	}
	return stands, reason, err
}

// olderPushes finds what older pushes to the same ref have started, and whether a
// newer one has come before this one: deliveries overtake each other. A push that
// set the ref again, by force or as a new one, may lead back to where one began that
// was long before it: in between may be pushes that have started nothing.
func (s *Pushes) olderPushes(ctx context.Context, row store.PushRecord, rewritten bool) (older []store.PushRecord, newer bool, err error) {
	all, err := s.store.PushesOfRef(ctx, row.Rule, row.Repository, row.Ref)
	for _, o := range all {
		goesOn := o.Before != "" && o.Before == row.Commit && o.Commit != row.Before
		switch {
		case o.Key == row.Key:
		case o.At.After(row.At), goesOn && !(rewritten && row.At.Sub(o.At) > overtaking):
			newer = true
		default:
			older = append(older, o)
		}
	}
	return older, newer, err
}

// supersede cancels what an older push has started, and what the file that one of
// its jobs has read in the meantime adds.
func (s *Pushes) supersede(ctx context.Context, older store.PushRecord) error {
	for !older.Superseded {
		for _, id := range older.Jobs {
			if _, err := s.jobs.Cancel(ctx, id); err != nil {
				// Mostly its message is still on the queue: it is cancelled as soon as it is known.
				if err := s.store.PutStatusWatch(ctx, store.StatusWatch{Job: id, Cancel: true, Rule: older.Rule, At: s.now()}); err != nil {
					return err
				}
			}
		}
		now, err := s.store.ChangePush(ctx, older.Rule, older.Key, func(st *store.PushRecord) bool {
			st.Superseded = st.Superseded || len(st.Jobs) == len(older.Jobs)
			return st.Superseded
		})
		if fault.CodeOf(err) == fault.NotFound {
			return nil // it is so old that it was forgotten meanwhile
		}
		if err != nil {
			return err
		}
		older = now
	}
	return nil
}
