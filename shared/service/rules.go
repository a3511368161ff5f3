package service

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/push"
	"dsvmpools/shared/store"
	"dsvmpools/shared/wire"
)

// maxSecrets bounds the secrets that one delivery is tried with. Whoever sends one
// has proven nothing yet, and each secret costs a hash over up to 25 MB: about
// 50 ms, which 20 of them keep near a second.
const maxSecrets = 20

// pushRules keeps the rules for pushes, and finds those that a delivery proves.
type pushRules struct {
	store   *store.Store
	setting func(name string) string
	log     *slog.Logger
	now     func() time.Time
}

func parseRule(s store.RuleRow) (*push.Rule, error) {
	return push.ParseStoredRule([]byte(s.Document))
}

// Rules lists the rules.
func (r *pushRules) Rules(ctx context.Context) ([]wire.Rule, error) {
	stored, err := r.store.Rules(ctx)
	if err != nil {
		return nil, err
	}
	rules := []wire.Rule{}
	for _, s := range stored {
		rules = append(rules, r.show(s))
	}
	return rules, nil
}

// show is a stored rule as the API shows it, with what keeps it from working.
func (r *pushRules) show(s store.RuleRow) wire.Rule {
	rule, err := parseRule(s)
	if err != nil {
		return wire.Rule{
			Name:      s.Name,
			Branches:  []string{},
			Tags:      []string{},
			ChangedAt: s.ChangedAt,
			Rule:      []byte(s.Document),
			Problem:   fmt.Sprintf("the rule cannot be read (%v); apply it again", err),
		}
	}
	problem := ""
	for _, name := range []string{rule.Secret, rule.Status.Token} {
		if name != "" && r.setting(name) == "" {
			problem = fmt.Sprintf("the setting %s is missing; add it to the app's settings", name)
			break
		}
	}
	return wire.NewRule(rule, s.ChangedAt, problem)
}

// Rule returns one rule.
func (r *pushRules) Rule(ctx context.Context, name string) (wire.Rule, error) {
	s, err := r.store.Rule(ctx, name)
	if err != nil {
		return wire.Rule{}, err
	}
	return r.show(s), nil
}

// ApplyRules creates or changes rules.
func (r *pushRules) ApplyRules(ctx context.Context, rules []push.Rule) ([]wire.Rule, error) {
	applied := []wire.Rule{}
	if err := r.fewSecrets(ctx, rules); err != nil {
		return applied, err
	}
	for i := range rules {
		s := store.RuleRow{Name: rules[i].Name, Document: string(rules[i].Document()), ChangedAt: r.now()}
		if err := r.store.PutRule(ctx, s); err != nil {
			return applied, err
		}
		applied = append(applied, r.show(s))
	}
	return applied, nil
}

// fewSecrets refuses rules that would name, with those that stay, more secrets for
// one provider than are tried.
func (r *pushRules) fewSecrets(ctx context.Context, rules []push.Rule) error {
	stored, err := r.store.Rules(ctx)
	if err != nil {
		return err
	}
	named := map[push.Provider]map[string]bool{}
	note := func(rule *push.Rule) int {
		if named[rule.Provider] == nil {
			named[rule.Provider] = map[string]bool{}
		}
		named[rule.Provider][rule.Secret] = true
		return len(named[rule.Provider])
	}
	for _, s := range stored {
		replaced := slices.ContainsFunc(rules, func(r push.Rule) bool { return r.Name == s.Name })
		if rule, err := parseRule(s); err == nil && !replaced {
			note(rule)
		}
	}
	for i := range rules {
		if n := note(&rules[i]); n > maxSecrets {
			return fault.New(
				fault.Invalid,
				"secret",
				"with the rule %q the rules for %s name %d secrets, and at most %d are tried for a delivery; have rules share a secret",
				rules[i].Name,
				rules[i].Provider,
				n,
				maxSecrets,
			)
		}
	}
	return nil
}

// DeleteRule removes a rule.
func (r *pushRules) DeleteRule(ctx context.Context, name string) error {
	return r.store.DeleteRule(ctx, name)
}

// Expects reports whether any rule could be proven by a delivery, before its body
// is read. What is wrong with a rule is said when the delivery is judged.
func (r *pushRules) Expects(ctx context.Context, provider push.Provider, proof push.Proof) (bool, error) {
	stored, err := r.store.Rules(ctx)
	if err != nil {
		return false, err
	}
	for _, s := range stored {
		rule, err := parseRule(s)
		if err != nil || rule.Provider != provider {
			continue
		}
		secret := r.setting(rule.Secret)
		if secret != "" && (proof.OfBody() || proof.Verify(secret, nil)) {
			return true, nil
		}
	}
	return false, nil
}

// proven are the rules for a provider whose secret made the proof. Each secret
// is tried once, however many rules name it.
func (r *pushRules) proven(ctx context.Context, provider push.Provider, proof push.Proof, body []byte) ([]*push.Rule, error) {
	stored, err := r.store.Rules(ctx)
	if err != nil {
		return nil, err
	}
	tried := map[string]bool{}
	var rules []*push.Rule
	for _, s := range stored {
		rule, err := parseRule(s)
		if err != nil {
			r.log.ErrorContext(ctx, "push rule cannot be read; apply it again", "rule", s.Name, "error", err)
			continue
		}
		if rule.Provider != provider {
			continue
		}
		good, known := tried[rule.Secret]
		if !known && len(tried) == maxSecrets {
			r.log.ErrorContext(
				ctx,
				"skipping push rule: the rules before it use up the secrets that are tried; have rules share secrets",
				"rule",
				s.Name,
				"provider",
				provider,
				"secrets",
				maxSecrets,
			)
			continue
		}
		if !known {
			good = proof.Verify(r.setting(rule.Secret), body)
			tried[rule.Secret] = good
		}
		if good {
			rules = append(rules, rule)
		}
	}
	return rules, nil
}
