// Package budget says how much work may cost, and what happens on the way there: the documents
// of budgets, their periods, and where a budget stands. It serves the use cases, the rows of
// pools and the scheduler. It is pure: it reads no clock and no table, it moves no job, and it
// never takes an unknown price for zero.
package budget

import (
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/usage"
)

// Limits of budgets.
const (
	// Most bounds the budgets of a deployment.
	Most = 100
	// MaxBoard bounds what a pool keeps of budgets, in bytes of JSON: it is one property of the
	// pool's head, which holds 64 KiB of UTF-16.
	MaxBoard     = 30_000
	maxSteps     = 10
	maxValue     = 200 // bytes of a team, a user or a label, as in a job
	maxNotify    = 20
	maxGrace     = job.Duration(24 * time.Hour)
	defaultGrace = job.Duration(10 * time.Minute)
)

// What a step does. A later word of this list contains the earlier ones.
const (
	Notify = "notify" // nothing but being shown
	Low    = "low"    // work of the scope takes room that nothing else wants, and no node is asked for on its behalf
	Hold   = "hold"   // work of the scope waits; what runs goes on
	Cancel = "cancel" // what runs is ended, too, after the grace
)

// actions in the order of their severity.
var actions = []string{"", Notify, Low, Hold, Cancel}

// severity is the place of an action in that order; -1: it is none.
func severity(do string) int { return slices.Index(actions, do) }

// What a step looks at.
const (
	OfSpent    = "spent"    // what was spent, with what runs up to now
	OfForecast = "forecast" // what the period is expected to cost
)

// Step is what happens from a part of the amount on.
type Step struct {
	At string `json:"at"`           // part of the amount, decimal: 0.8
	Of string `json:"of,omitempty"` // OfForecast; "" = OfSpent
	Do string `json:"do"`
}

// Budget is how much the work of a scope may cost in a period.
type Budget struct {
	Name     string
	Scope    Scope
	Amount   string // decimal
	Currency string // ISO 4217
	Period   Period
	Steps    []Step
	// HoldUnknown: use whose price nobody knows holds the scope. Otherwise it is left out, and
	// the sum is a least one.
	HoldUnknown bool
	Grace       job.Duration // between reaching a step that cancels and the end of what runs
	Notify      []string     // names of who is told; kept, and nobody is told yet

	document []byte
}

var (
	namePattern     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
	currencyPattern = regexp.MustCompile(`^[A-Z]{3}$`)
)

var fields = []string{"name", "scope", "amount", "currency", "period", "timeZone", "steps", "unknown", "grace", "notify"}

// hints say what to write for names that people know from elsewhere.
var hints = document.Hints{
	"limit":      "the amount of money is `amount`",
	"thresholds": "write `steps: [{at: 0.8, do: notify}, {at: 1, do: hold}]`",
	"team":       "write `scope: {team: …}`",
	"user":       "write `scope: {user: …}`",
	"pool":       "write `scope: {pool: …}`",
	"timegrain":  "write `period: month`",
}

// CheckName says what is wrong with the name of a budget.
func CheckName(name string) error {
	if !namePattern.MatchString(name) {
		return fault.New(fault.Invalid, "name", "`name` is %q; write 1 to 40 characters of a-z 0-9 -, not - at either end", document.Clip(name))
	}
	return nil
}

// None is the error for a name that no budget has.
func None(name string) *fault.Error {
	return fault.New(fault.NotFound, "name", "there is no budget %q; `dsvm budget list` shows the budgets", document.Clip(name))
}

// ParseAll reads one budget, or an object with the list `budgets`. Errors are *fault.Error with
// code Invalid.
func ParseAll(body []byte, contentType string) ([]Budget, error) {
	n, err := document.Parse(body, contentType)
	if err != nil {
		return nil, err
	}
	if len(n.Fields) == 0 || n.Fields[0].Name != "budgets" {
		b, err := parse(n)
		return []Budget{b}, err
	}
	r := document.Read(n, "budgets")
	items := r.Objects("budgets", "[{name: …, scope: …}]")
	switch {
	case r.Err() != nil:
		return nil, r.Err()
	case len(items) == 0 || len(items) > Most:
		return nil, fault.New(fault.Invalid, "budgets", "`budgets` has %d budgets; write 1 to %d", len(items), Most)
	}
	var all []Budget
	for _, item := range items {
		b, err := parse(item.Node())
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(other Budget) bool { return other.Name == b.Name }) {
			return nil, fault.New(fault.Invalid, "name", "line %d: there are two budgets %q; give each its own name", item.Node().Line, b.Name)
		}
		all = append(all, b)
	}
	return all, nil
}

// Parse reads one document, as Document has it.
func Parse(body []byte) (Budget, error) {
	n, err := document.Parse(body, "application/json")
	if err != nil {
		return Budget{}, err
	}
	return parse(n)
}

// Document is the budget as it was written, as JSON: Parse reads it again.
func (b *Budget) Document() []byte { return b.document }

func parse(n *document.Node) (Budget, error) {
	r := document.ReadWithHints(n, hints, fields...)
	b := Budget{Name: r.String("name", "vision"), Currency: r.String("currency", "USD"), Amount: r.Scalar("amount", "1000"),
		Notify: r.Strings("notify", `["ann"]`), Grace: defaultGrace}
	if err := CheckName(b.Name); err != nil {
		r.Fail("name", "%v", err)
	}
	b.Scope = readScope(r)
	if amount, ok := usage.ParsePrice(b.Amount); !ok || amount.Sign() == 0 {
		r.Fail("amount", "`amount` is %q; write how much may be spent in the period, such as 1000 or 99.50", document.Clip(b.Amount))
	}
	if b.Currency == "" {
		b.Currency = "USD"
	}
	if !currencyPattern.MatchString(b.Currency) {
		r.Fail("currency", "`currency` is %q; write the code of the ledger's currency, such as USD or EUR", document.Clip(b.Currency))
	}
	b.Period = readPeriod(r)
	b.Steps = readSteps(r)
	switch unknown := r.String("unknown", Hold); unknown {
	case "", "ignore":
	case Hold:
		b.HoldUnknown = true
	default:
		r.Fail("unknown", "`unknown` is %q; write hold, or ignore for a sum of what has a price", document.Clip(unknown))
	}
	r.Text("grace", "10m", &b.Grace)
	if b.Grace < 0 || b.Grace > maxGrace {
		r.Fail("grace", "`grace` is %s; write at most %s", b.Grace, maxGrace)
	}
	if len(b.Notify) > maxNotify {
		r.Fail("notify", "`notify` has %d names; write at most %d", len(b.Notify), maxNotify)
	}
	if slices.ContainsFunc(b.Notify, func(name string) bool { return name == "" || len(name) > maxValue }) {
		r.Fail("notify", "`notify` has an empty name or one of more than %d bytes; write the names of targets", maxValue)
	}
	if err := r.Err(); err != nil {
		return Budget{}, err
	}
	var err error
	b.document, err = n.MarshalJSON()
	return b, err
}

// defaultSteps are those of a document without steps.
var defaultSteps = []Step{{At: "0.8", Do: Notify}, {At: "1", Do: Hold}}

var maxAt = big.NewRat(10, 1)

func readSteps(r *document.Reader) []Step {
	if !r.Has("steps") {
		return defaultSteps
	}
	items := r.OneOrMore("steps", "[{at: 0.8, do: notify}, {at: 1, do: hold}]", "at", "of", "do")
	if len(items) > maxSteps {
		r.Fail("steps", "`steps` has %d steps; write at most %d", len(items), maxSteps)
	}
	var steps []Step
	for _, item := range items {
		s := Step{At: item.Scalar("at", "0.8"), Of: item.String("of", OfSpent), Do: item.String("do", Hold)}
		if at, ok := usage.ParsePrice(s.At); !ok || at.Sign() == 0 || at.Cmp(maxAt) > 0 {
			item.Fail("at", "`at` is %q; write the part of the amount, such as 0.8 or 1", document.Clip(s.At))
		}
		if severity(s.Do) < 1 {
			item.Fail("do", "`do` is %q; write %s", document.Clip(s.Do), "notify, low, hold or cancel")
		}
		switch s.Of {
		case OfSpent:
			s.Of = ""
		case "":
		case OfForecast:
			if s.Do != Notify {
				item.Fail("do", "`do` is %s at a part of the forecast, which is no ground to stop work; write notify, or leave `of` out", s.Do)
			}
		default:
			item.Fail("of", "`of` is %q; write spent or forecast", document.Clip(s.Of))
		}
		steps = append(steps, s)
	}
	return steps
}

// WithAmount is the budget with another amount.
func (b *Budget) WithAmount(amount string) (Budget, error) {
	n, err := document.Parse(b.document, "application/json")
	if err != nil {
		return Budget{}, err
	}
	for i := range n.Fields {
		if n.Fields[i].Name == "amount" {
			n.Fields[i].Value = &document.Node{Kind: document.String, Text: amount, Line: n.Fields[i].Line}
		}
	}
	return parse(n)
}

// Raise is the budget with an amount that is to, or that is more by so much; one of them is "".
func (b *Budget) Raise(to, by string) (Budget, error) {
	if (to == "") == (by == "") {
		return Budget{}, fault.New(fault.Invalid, "to", "write either the new amount in `to`, or in `by` how much it is more")
	}
	before, _ := usage.ParsePrice(b.Amount)
	field, text := "to", to
	if by != "" {
		field, text = "by", by
	}
	amount, ok := usage.ParsePrice(text)
	if !ok || amount.Sign() == 0 {
		return Budget{}, fault.New(fault.Invalid, field, "`%s` is %q; write an amount of money, such as 1500", field, document.Clip(text))
	}
	if by != "" {
		amount.Add(amount, before)
	}
	if amount.Cmp(before) <= 0 {
		return Budget{}, fault.New(fault.Invalid, field,
			"the amount is %s already, and %s is not more; apply the document with `dsvm budget apply` to lower it", b.Amount, usage.Amount(amount))
	}
	return b.WithAmount(usage.Amount(amount))
}

// Scope is whose work a budget is about. One of its kinds is set.
type Scope struct {
	Team  string `json:"team,omitempty"`
	User  string `json:"user,omitempty"`
	Pool  string `json:"pool,omitempty"`
	Label string `json:"label,omitempty"` // name of a label
	Value string `json:"value,omitempty"` // of that label
}

// Covers reports whether a job of a pool is in the scope.
func (s *Scope) Covers(pool string, j *job.Spec) bool {
	switch {
	case s.Pool != "":
		return s.Pool == pool
	case s.Team != "":
		return s.Team == j.Team
	case s.User != "":
		return s.User == j.User
	}
	value, has := j.Labels[s.Label]
	return has && value == s.Value
}

// Filter is the scope as reports have it.
func (s *Scope) Filter() usage.Filter {
	if s.Label != "" {
		return usage.Filter{Labels: map[string]string{s.Label: s.Value}}
	}
	return usage.Filter{Pool: s.Pool, Team: s.Team, User: s.User}
}

// String names the scope in a sentence.
func (s *Scope) String() string {
	switch {
	case s.Pool != "":
		return fmt.Sprintf("pool %q", s.Pool)
	case s.Team != "":
		return fmt.Sprintf("team %q", s.Team)
	case s.User != "":
		return fmt.Sprintf("user %q", s.User)
	}
	return fmt.Sprintf("label %q", s.Label+"="+s.Value)
}

const scopeExample = "{team: vision}"

func readScope(r *document.Reader) Scope {
	sub := r.Sub("scope", scopeExample, "team", "user", "pool", "label")
	if sub == nil {
		r.Fail("scope", "`scope` is missing; write whose work the budget is about: %s, or user, pool or label: {project: x}", scopeExample)
		return Scope{}
	}
	s := Scope{Team: sub.String("team", "vision"), User: sub.String("user", "ann"), Pool: sub.String("pool", "gpu")}
	labels := sub.Map("label", "{project: x}")
	if len(labels) > 1 {
		sub.Fail("label", "`scope.label` has %d labels; write one", len(labels))
	}
	for name, value := range labels {
		s.Label, s.Value = name, value
	}
	set := 0
	for _, text := range []string{s.Team, s.User, s.Pool, s.Label} {
		if text != "" {
			set++
		}
		if len(text) > maxValue || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' }) {
			sub.Fail("", "`scope` names something of more than %d bytes or several lines; no job has such a name", maxValue)
		}
	}
	if s.Label != "" && s.Value == "" {
		sub.Fail("label", "`scope.label` has no value, as work without the label has none; write {%s: VALUE}", document.Clip(s.Label))
	}
	if len(s.Value) > maxValue {
		sub.Fail("label", "the value of `scope.label` has more than %d bytes; no job has such a label", maxValue)
	}
	if set != 1 {
		r.Fail("scope", "`scope` names %d of team, user, pool and label; write one of them: %s", set, scopeExample)
	}
	return s
}
