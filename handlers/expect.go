package handlers

import (
	"context"

	"dsvmpools/shared/push"
)

// Expects reports whether any rule could be proven by a delivery, before its body
// is read. What is wrong with a rule is said when the delivery is judged.
func (b backend) Expects(ctx context.Context, provider push.Provider, proof push.Proof) (bool, error) {
	stored, err := b.store.Rules(ctx)
	if err != nil {
		return false, err
	}
	for _, s := range stored {
		rule, err := parseRule(s)
		if err != nil || rule.Provider != provider {
			continue
		}
		secret := b.setting(rule.Secret)
		if secret != "" && (proof.OfBody() || proof.Verify(secret, nil)) {
			return true, nil
		}
	}
	return false, nil
}
