package apitest

import (
	"context"
	"slices"
	"strings"

	"dsvmpools/shared/push"
	"dsvmpools/shared/wire"
)

// RuleDocument is a rule as somebody applies it.
const RuleDocument = `{"name":"train","provider":"github","repository":"octo/model","secret":"GITHUB_PUSH_SECRET","source":false,"job":{"pool":"cpu","command":["make"]}}`

// PushSecret is the secret of every rule of a Backend.
const PushSecret = "It's a Secret to Everybody"

// Expects takes every proof for one that may be good.
func (b *Backend) Expects(context.Context, push.Provider, push.Proof) (bool, error) { return true, nil }

// Push judges a delivery by the rules and starts nothing.
func (b *Backend) Push(_ context.Context, provider push.Provider, header push.Header, proof push.Proof, body []byte) (wire.PushAnswer, error) {
	answer := wire.PushAnswer{Rules: []wire.PushOutcome{}}
	if !proof.Verify(PushSecret, body) {
		return answer, push.ErrProof
	}
	d, err := push.Parse(provider, header, body)
	if err != nil {
		return answer, err
	}
	answer.Ignored = d.Ignored
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range d.Pushes {
		for j := range b.rules {
			_, reason := b.rules[j].Match(&d.Pushes[i])
			answer.Rules = append(answer.Rules, wire.PushOutcome{Rule: b.rules[j].Name, Ref: d.Pushes[i].Ref, Jobs: []string{}, Reason: reason})
		}
	}
	return answer, b.err
}

// Rules lists the rules.
func (b *Backend) Rules(context.Context) ([]wire.Rule, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rules := []wire.Rule{}
	for i := range b.rules {
		rules = append(rules, wire.NewRule(&b.rules[i], b.Now, ""))
	}
	return rules, b.err
}

// Rule returns one rule.
func (b *Backend) Rule(ctx context.Context, name string) (wire.Rule, error) {
	rules, err := b.Rules(ctx)
	if err != nil {
		return wire.Rule{}, err
	}
	for _, r := range rules {
		if r.Name == name {
			return r, nil
		}
	}
	return wire.Rule{}, push.NoRule(name)
}

// ApplyRules creates or changes rules.
func (b *Backend) ApplyRules(ctx context.Context, rules []push.Rule) ([]wire.Rule, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	applied := []wire.Rule{}
	for i := range rules {
		b.rules = append(slices.DeleteFunc(b.rules, func(r push.Rule) bool { return r.Name == rules[i].Name }), rules[i])
		applied = append(applied, wire.NewRule(&rules[i], b.Now, ""))
	}
	slices.SortFunc(b.rules, func(x, y push.Rule) int { return strings.Compare(x.Name, y.Name) })
	return applied, b.err
}

// DeleteRule removes a rule.
func (b *Backend) DeleteRule(ctx context.Context, name string) error {
	if _, err := b.Rule(ctx, name); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rules = slices.DeleteFunc(b.rules, func(r push.Rule) bool { return r.Name == name })
	return nil
}
