package wire

import (
	"encoding/json"
	"time"

	"dsvmpools/shared/budget"
)

// Budget is a budget, and where it stood when the app looked last.
type Budget struct {
	Name      string       `json:"name"`
	Scope     budget.Scope `json:"scope"`
	Amount    string       `json:"amount"`
	Currency  string       `json:"currency"`
	ChangedAt time.Time    `json:"changedAt"`
	// Level is what the budget does: ok, notify, low, hold or cancel; unknown where nobody has
	// looked yet, and ended where its time is not now.
	Level    string          `json:"level"`
	Since    *time.Time      `json:"since,omitempty"` // of Level
	Spent    string          `json:"spent,omitempty"` // with what runs; "" = nobody has looked yet
	AtLeast  bool            `json:"atLeast,omitempty"`
	Period   string          `json:"period,omitempty"` // the present one, for people
	From     *time.Time      `json:"from,omitempty"`   // of the period
	To       *time.Time      `json:"to,omitempty"`     // its end, itself not included
	AsOf     *time.Time      `json:"asOf,omitempty"`   // when the app looked
	Forecast *BudgetForecast `json:"forecast,omitempty"`
	// Problem says why the budget does nothing as it is; "" = nothing is known to be wrong.
	Problem string `json:"problem,omitempty"`
	// Budget is the document that was applied.
	Budget json.RawMessage `json:"budget"`
}

// BudgetForecast is what a period is expected to cost: a guess with its range.
type BudgetForecast struct {
	Low      string `json:"low"`
	Expected string `json:"expected"`
	High     string `json:"high"`
}

// Levels of a budget beside the actions of its steps.
const (
	BudgetOK      = "ok"
	BudgetUnknown = "unknown" // nobody has looked yet
	BudgetEnded   = "ended"   // its time is not now
)

// BudgetRaise asks for a higher amount: To, or By so much more.
type BudgetRaise struct {
	To string `json:"to,omitempty"`
	By string `json:"by,omitempty"`
}
