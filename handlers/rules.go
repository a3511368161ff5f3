package handlers

import (
	"context"
	"fmt"
	"slices"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/push"
	"dsvmpools/shared/store"
	"dsvmpools/shared/wire"
)

func parseRule(s store.RuleRow) (*push.Rule, error) {
	rules, err := push.ParseRules([]byte(s.Document), "application/json")
	if err != nil {
		return nil, err
	}
	return &rules[0], nil
}

// Rules lists the rules.
func (b backend) Rules(ctx context.Context) ([]wire.Rule, error) {
	stored, err := b.store.Rules(ctx)
	if err != nil {
		return nil, err
	}
	rules := []wire.Rule{}
	for _, s := range stored {
		rules = append(rules, b.show(s))
	}
	return rules, nil
}

// show is a stored rule as the API shows it, with what keeps it from working.
func (b backend) show(s store.RuleRow) wire.Rule {
	rule, err := parseRule(s)
	if err != nil {
		return wire.Rule{Name: s.Name, Branches: []string{}, Tags: []string{}, ChangedAt: s.ChangedAt, Rule: []byte(s.Document), Problem: fmt.Sprintf("The rule cannot be read (%v); apply it again.", err)}
	}
	problem := ""
	for _, name := range []string{rule.Secret, rule.Status.Token} {
		if name != "" && b.setting(name) == "" {
			problem = fmt.Sprintf("The setting %s is missing; add it to the app's settings.", name)
			break
		}
	}
	return wire.NewRule(rule, s.ChangedAt, problem)
}

// Rule returns one rule.
func (b backend) Rule(ctx context.Context, name string) (wire.Rule, error) {
	s, err := b.store.Rule(ctx, name)
	if err != nil {
		return wire.Rule{}, err
	}
	return b.show(s), nil
}

// ApplyRules creates or changes rules.
func (b backend) ApplyRules(ctx context.Context, rules []push.Rule) ([]wire.Rule, error) {
	applied := []wire.Rule{}
	if err := b.fewSecrets(ctx, rules); err != nil {
		return applied, err
	}
	for i := range rules {
		s := store.RuleRow{Name: rules[i].Name, Document: string(rules[i].Document()), ChangedAt: b.now()}
		if err := b.store.PutRule(ctx, s); err != nil {
			return applied, err
		}
		applied = append(applied, b.show(s))
	}
	return applied, nil
}

// fewSecrets refuses rules that would name, with those that stay, more secrets for
// one provider than are tried.
func (b backend) fewSecrets(ctx context.Context, rules []push.Rule) error {
	stored, err := b.store.Rules(ctx)
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
			return fault.New(fault.Invalid, "secret", "with the rule %q the rules for %s name %d secrets, and at most %d are tried for a delivery; have rules share a secret", rules[i].Name, rules[i].Provider, n, maxSecrets)
		}
	}
	return nil
}

// DeleteRule removes a rule.
func (b backend) DeleteRule(ctx context.Context, name string) error {
	return b.store.DeleteRule(ctx, name)
}
