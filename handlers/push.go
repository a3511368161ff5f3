package handlers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dsvmpools/handlers/httpapi"
	"dsvmpools/shared/bus"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/push"
	"dsvmpools/shared/store"
	"dsvmpools/shared/wire"
)

// hour is what `limits.pushesPerHour` counts in.
const hour = time.Hour

// maxSecrets bounds the secrets that one delivery is tried with. Whoever sends one
// has proven nothing yet, and each secret costs a hash over up to 25 MB: about
// 50 ms, which 20 of them keep near a second.
const maxSecrets = 20

// overtaking is how long deliveries may take to overtake each other: Git hosts give
// up on one, or have sent it again, within minutes.
const overtaking = 10 * time.Minute

// Push takes a delivery of a Git host: it finds the rules whose secret proves
// the delivery, and has them start their jobs.
func (b backend) Push(ctx context.Context, provider push.Provider, header push.Header, proof push.Proof, body []byte) (wire.PushAnswer, error) {
	answer := wire.PushAnswer{Rules: []wire.PushOutcome{}}
	rules, err := b.proven(ctx, provider, proof, body)
	if err != nil {
		return answer, err
	}
	if len(rules) == 0 {
		return answer, httpapi.ErrProof
	}
	delivery, err := push.Parse(provider, header, body)
	if err != nil {
		b.log.Warn("a delivery was refused", "provider", provider, "reason", err)
		return answer, err
	}
	answer.Ignored = delivery.Ignored
	key := push.Key(provider, header, body)
	for i := range delivery.Pushes {
		p := &delivery.Pushes[i]
		for _, rule := range rules {
			outcome, err := b.startJobs(ctx, rule, p, key)
			if err != nil {
				return answer, err
			}
			answer.Rules = append(answer.Rules, outcome)
			b.log.Info("a push was judged", "rule", rule.Name, "repository", p.Repository, "ref", p.Ref, "commit", p.Commit, "delivery", p.Delivery, "jobs", len(outcome.Jobs), "reason", outcome.Reason)
		}
	}
	return answer, nil
}

// proven are the rules for a provider whose secret made the proof. Each secret
// is tried once, however many rules name it.
func (b backend) proven(ctx context.Context, provider push.Provider, proof push.Proof, body []byte) ([]*push.Rule, error) {
	stored, err := b.store.Rules(ctx)
	if err != nil {
		return nil, err
	}
	tried := map[string]bool{}
	var rules []*push.Rule
	for _, s := range stored {
		rule, err := parseRule(s)
		if err != nil {
			b.log.Error("a rule cannot be read; apply it again", "rule", s.Name, "error", err)
			continue
		}
		if rule.Provider != provider {
			continue
		}
		good, known := tried[rule.Secret]
		if !known && len(tried) == maxSecrets {
			b.log.Error("a rule is left out of a delivery: the rules before it have used up the secrets that are tried; have rules share secrets", "rule", s.Name, "provider", provider, "secrets", maxSecrets)
			continue
		}
		if !known {
			good = proof.Verify(b.setting(rule.Secret), body)
			tried[rule.Secret] = good
		}
		if good {
			rules = append(rules, rule)
		}
	}
	return rules, nil
}

// startJobs has a rule start its jobs for a push. Each step may be done again:
// the ids of the jobs follow from the delivery, and the row says how far it is.
func (b backend) startJobs(ctx context.Context, rule *push.Rule, p *push.Push, key string) (wire.PushOutcome, error) {
	out := wire.PushOutcome{Rule: rule.Name, Ref: p.Ref, Commit: p.Commit, Jobs: []string{}}
	fits, reason := rule.Match(p)
	if out.Reason = reason; !fits {
		return out, nil
	}
	starts, err := rule.MakeJobs(p, key)
	if fault.CodeOf(err) == fault.Invalid {
		out.Reason = fmt.Sprintf("The jobs cannot be made: %v.", err)
		return out, nil
	}
	if err != nil {
		return out, err
	}
	row := store.PushRecord{Rule: rule.Name, Key: push.RefKey(key, p.Ref), Repository: p.Repository, Ref: p.Ref, Before: p.Before, Commit: p.Commit, Jobs: idsOf(starts), At: b.now()}
	if rule.FromFile {
		if err := keepForFile(&row, rule, p, starts[0]); err != nil {
			return out, err
		}
	}
	if row, out.Reason, err = b.begin(ctx, rule, row, reason); err != nil || out.Reason != reason {
		return out, err
	}
	var older []store.PushRecord
	if rule.CancelPrevious {
		newer := false
		if older, newer, err = b.others(ctx, row, p.Forced || p.Created); err != nil {
			return out, err
		}
		if newer {
			out.Reason = fmt.Sprintf("A newer push to %s has come before this one.", p.Ref)
			_, err := b.store.ChangePush(ctx, row.Rule, row.Key, func(st *store.PushRecord) bool { st.Sent, st.Superseded = true, true; return true })
			return out, err
		}
	}
	if err := b.send(ctx, rule, p, starts); err != nil {
		return out, err
	}
	for _, o := range older {
		if err := b.supersede(ctx, o); err != nil {
			return out, err
		}
	}
	out.Jobs = idsOf(starts)
	_, err = b.store.ChangePush(ctx, row.Rule, row.Key, func(st *store.PushRecord) bool {
		st.Sent, st.Jobs = true, merged(st.Jobs, out.Jobs)
		return true
	})
	return out, err
}

func idsOf(starts []push.Job) []string {
	ids := make([]string, len(starts))
	for i, s := range starts {
		ids[i] = s.ID
	}
	return ids
}

// merged adds the ids that are not there yet.
func merged(ids, more []string) []string {
	for _, id := range more {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// send puts jobs on their queue, and has their states told to the commit.
func (f *Functions) send(ctx context.Context, rule *push.Rule, p *push.Push, starts []push.Job) error {
	messages := make([]bus.Message, len(starts))
	for i, s := range starts {
		messages[i] = bus.Message{ID: s.ID, Body: s.Document, ContentType: "application/json"}
		if s.ReadsFile {
			messages[i].Properties = map[string]any{propReader: "true"}
		}
	}
	if err := f.bus.Send(ctx, f.bus.Queues().Jobs, messages...); err != nil {
		return err
	}
	return f.follow(ctx, rule, p, starts)
}

// begin notes a push before anything is done for it. It returns another reason
// when nothing is to be done.
func (b backend) begin(ctx context.Context, rule *push.Rule, row store.PushRecord, reason string) (store.PushRecord, string, error) {
	stands, err := b.store.Push(ctx, rule.Name, row.Key)
	switch {
	case err == nil && stands.Sent:
		return stands, "This delivery has been taken before; nothing is done twice.", nil
	case err == nil: // it was cut short: go on
		return stands, reason, nil
	case fault.CodeOf(err) != fault.NotFound:
		return row, reason, err
	}
	if rule.PerHour > 0 {
		n, err := b.store.CountPushes(ctx, rule.Name, row.At.Add(-hour), rule.PerHour)
		if err != nil {
			return row, reason, err
		}
		if n >= rule.PerHour {
			return row, fmt.Sprintf("The rule has let %d pushes start jobs within the last hour, and `limits.pushesPerHour` allows no more; have it delivered again later.", n), nil
		}
	}
	stands, err = b.store.BeginPush(ctx, row)
	if err == nil && stands.Sent {
		return stands, "This delivery has been taken before; nothing is done twice.", nil
	}
	return stands, reason, err
}

// others finds what older pushes to the same ref have started, and whether a
// newer one has come before this one: deliveries overtake each other. A push that
// set the ref anew, by force or as a new one, may lead back to where one began that
// was long before it: in between may be pushes that have started nothing.
func (b backend) others(ctx context.Context, row store.PushRecord, anew bool) (older []store.PushRecord, newer bool, err error) {
	all, err := b.store.PushesOfRef(ctx, row.Rule, row.Repository, row.Ref)
	for _, o := range all {
		goesOn := o.Before != "" && o.Before == row.Commit && o.Commit != row.Before
		switch {
		case o.Key == row.Key:
		case o.At.After(row.At), goesOn && !(anew && row.At.Sub(o.At) > overtaking):
			newer = true
		default:
			older = append(older, o)
		}
	}
	return older, newer, err
}

// supersede cancels what an older push has started, and what the file that one of
// its jobs has read meanwhile adds.
func (b backend) supersede(ctx context.Context, older store.PushRecord) error {
	for !older.Superseded {
		for _, id := range older.Jobs {
			if _, err := b.Cancel(ctx, id); err != nil {
				// Mostly its message is still on the queue: it is cancelled as soon as it is known.
				if err := b.store.PutStatusWatch(ctx, store.StatusWatch{Job: id, Cancel: true, Rule: older.Rule, At: b.now()}); err != nil {
					return err
				}
			}
		}
		now, err := b.store.ChangePush(ctx, older.Rule, older.Key, func(st *store.PushRecord) bool {
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

// follow notes the jobs whose states are to be told to the commit.
func (f *Functions) follow(ctx context.Context, rule *push.Rule, p *push.Push, starts []push.Job) error {
	if rule.Status.Token == "" {
		return nil
	}
	var errs []error
	for _, s := range starts {
		errs = append(errs, f.store.PutStatusWatch(ctx, store.StatusWatch{Job: s.ID, Rule: rule.Name, Repository: p.Repository, Commit: p.Commit, Context: s.Context, At: f.now()}))
	}
	return errors.Join(errs...)
}
