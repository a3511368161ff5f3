package wire

import (
	"encoding/json"
	"time"

	"dsvmpools/shared/push"
)

// Rule is a rule for pushes.
type Rule struct {
	Name       string    `json:"name"`
	Provider   string    `json:"provider"`
	Repository string    `json:"repository"`
	Branches   []string  `json:"branches"`
	Tags       []string  `json:"tags"`
	Jobs       int       `json:"jobs"`
	FromFile   bool      `json:"fromFile,omitempty"` // Jobs is 1, the one that reads the file
	ChangedAt  time.Time `json:"changedAt"`
	// Problem says why the rule starts nothing as things are, such as a setting
	// that is missing; "" = nothing is known to be wrong.
	Problem string `json:"problem,omitempty"`
	// Rule is the document that was applied.
	Rule json.RawMessage `json:"rule"`
}

// NewRule is a rule as the API shows it.
func NewRule(r *push.Rule, at time.Time, problem string) Rule {
	return Rule{
		Name:       r.Name,
		Provider:   string(r.Provider),
		Repository: r.Repository,
		Branches:   append([]string{}, r.Branches...),
		Tags:       append([]string{}, r.Tags...),
		Jobs:       len(r.Jobs),
		FromFile:   r.FromFile,
		ChangedAt:  at,
		Problem:    problem,
		Rule:       r.Document(),
	}
}

// PushAnswer is what a delivery has led to.
type PushAnswer struct {
	// Ignored says why the delivery as a whole does nothing.
	Ignored string        `json:"ignored,omitempty"`
	Rules   []PushOutcome `json:"rules"`
}

// PushOutcome is what one rule made of one push.
type PushOutcome struct {
	Rule   string   `json:"rule"`
	Ref    string   `json:"ref"`
	Commit string   `json:"commit,omitempty"`
	Jobs   []string `json:"jobs"`   // ids
	Reason string   `json:"reason"` // why it starts something or not
}
