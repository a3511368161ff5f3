package store

import (
	"context"
	"time"

	"dsvmpools/shared/budget"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/store/table"
)

// Budgets is the table of budgets:
//
//	budget  <name>  the document of a budget, as it was written
//	state   <name>  where it stood when somebody looked last
//	look    seq     the number of the last look, and that of the last one after which there was nothing to do
type Budgets struct{ table *table.Table }

// BudgetRow is a budget as it was written.
type BudgetRow struct {
	Name      string
	Document  string // JSON
	ChangedAt time.Time
	ETag      table.ETag
}

// BudgetState is where a budget stood when somebody looked last.
type BudgetState struct {
	Name    string
	Spent   string    // decimal
	AtLeast bool      // something has no known price, or is in another currency
	Level   string    // what it does: "" = nothing, or an action of package budget
	Since   time.Time // of Level
	From    time.Time // of the period
	To      time.Time
	Period  string    // its name, for sentences
	AsOf    time.Time // when somebody looked
	// What the period is expected to cost, and when that was guessed; "" = not known.
	Forecast, ForecastLow, ForecastHigh string
	ForecastAt                          time.Time
}

const (
	budgetPartition      = "budget"
	budgetStatePartition = "state"
	budgetLookPartition  = "look"
	budgetLookKey        = "seq"
	// lookTries bounds the tries to be first with the next number.
	lookTries = 50
)

// PutBudget writes a budget, in place of the one of that name. With an ETag, the row must be as it
// was read; otherwise it is a conflict.
func (b *Budgets) PutBudget(ctx context.Context, r BudgetRow) error {
	e := table.NewRow(budgetPartition, idKey(r.Name))
	e.Text("Name", r.Name)
	e.Time("ChangedAt", r.ChangedAt)
	if !e.Long("Document", r.Document) {
		return fault.New(fault.Invalid, "name", "budget %q is too long to be kept", r.Name)
	}
	if r.ETag == "" {
		return b.table.Put(ctx, "write a budget", e.JSON())
	}
	return b.table.Replace(ctx, "write a budget", e.JSON(), r.ETag)
}

func decodeBudget(raw []byte) (BudgetRow, error) {
	var row struct {
		Name, Document string
		ChangedAt      time.Time
	}
	if err := table.Decode(raw, &row); err != nil {
		return BudgetRow{}, err
	}
	document, err := table.LongText(raw, "Document", row.Document)
	return BudgetRow{Name: row.Name, Document: document, ChangedAt: table.TimeOf(row.ChangedAt)}, err
}

// Budgets lists all budgets by name.
func (b *Budgets) Budgets(ctx context.Context) ([]BudgetRow, error) {
	return readAll(ctx, b.table, "list the budgets", table.Query{Filter: table.Between(budgetPartition, "", "~")}, decodeBudget)
}

// Budget reads one budget, with its ETag.
func (b *Budgets) Budget(ctx context.Context, name string) (BudgetRow, error) {
	raw, etag, err := b.table.Get(ctx, "read a budget", budgetPartition, idKey(name))
	if err != nil {
		return BudgetRow{}, noBudget(name, err)
	}
	row, err := decodeBudget(raw)
	row.ETag = etag
	return row, err
}

// DeleteBudget removes a budget and where it stood. Killed in between, a state is left that
// nobody reads.
func (b *Budgets) DeleteBudget(ctx context.Context, name string) error {
	if err := b.table.Delete(ctx, "delete a budget", budgetPartition, idKey(name), table.Any); err != nil {
		return noBudget(name, err)
	}
	err := b.table.Delete(ctx, "delete the state of a budget", budgetStatePartition, idKey(name), table.Any)
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	return err
}

// noBudget is budget.None with the answer of the table as its cause; another error stays.
func noBudget(name string, cause error) error {
	if fault.CodeOf(cause) != fault.NotFound {
		return cause
	}
	missing := budget.None(name)
	missing.Err = cause
	return missing
}

// PutBudgetState writes where a budget stands.
func (b *Budgets) PutBudgetState(ctx context.Context, s BudgetState) error {
	e := table.NewRow(budgetStatePartition, idKey(s.Name))
	e.Text("Name", s.Name)
	e.Text("Spent", s.Spent)
	e.Bool("AtLeast", s.AtLeast)
	e.Text("Level", s.Level)
	e.Time("Since", s.Since)
	e.Time("From", s.From)
	e.Time("To", s.To)
	e.Text("Period", s.Period)
	e.Time("AsOf", s.AsOf)
	e.Text("Forecast", s.Forecast)
	e.Text("ForecastLow", s.ForecastLow)
	e.Text("ForecastHigh", s.ForecastHigh)
	e.Time("ForecastAt", s.ForecastAt)
	return b.table.Put(ctx, "write the state of a budget", e.JSON())
}

// BudgetStates reads where the budgets stood, by name.
func (b *Budgets) BudgetStates(ctx context.Context) (map[string]BudgetState, error) {
	q := table.Query{Filter: table.Between(budgetStatePartition, "", "~")}
	all, err := readAll(ctx, b.table, "read the states of the budgets", q, func(raw []byte) (s BudgetState, err error) {
		err = table.Decode(raw, &s)
		for _, at := range []*time.Time{&s.Since, &s.From, &s.To, &s.AsOf, &s.ForecastAt} {
			*at = table.TimeOf(*at)
		}
		return s, err
	})
	states := map[string]BudgetState{}
	for _, s := range all {
		states[s.Name] = s
	}
	return states, err
}

// look is the row of looks.
type look struct {
	Seq    table.Number // of the last look that has begun
	Rested table.Number // of the last one that found no budgets, and of which every pool knows
	etag   table.ETag   // "" = there is no row
}

func (b *Budgets) readLook(ctx context.Context) (row look, err error) {
	raw, etag, err := b.table.Get(ctx, "read the number of the last look", budgetLookPartition, budgetLookKey)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		return look{}, nil
	case err == nil:
		err = table.Decode(raw, &row)
	}
	row.etag = etag
	return row, err
}

func (b *Budgets) writeLook(ctx context.Context, row look) error {
	e := table.NewRow(budgetLookPartition, budgetLookKey)
	e.Int64("Seq", int64(row.Seq))
	e.Int64("Rested", int64(row.Rested))
	if row.etag == "" {
		return b.table.Insert(ctx, "number the first look", e.JSON())
	}
	return b.table.Replace(ctx, "number a look", e.JSON(), row.etag)
}

// NextLook is a number that is higher than that of all looks before: of two looks, the one with
// the higher number has begun later.
func (b *Budgets) NextLook(ctx context.Context) (int64, error) {
	for range lookTries {
		row, err := b.readLook(ctx)
		if err != nil {
			return 0, err
		}
		row.Seq++
		err = b.writeLook(ctx, row)
		switch fault.CodeOf(err) {
		case "":
			return int64(row.Seq), nil
		case fault.Conflict, fault.NotFound: // somebody was first
		default:
			return 0, err
		}
	}
	return 0, fault.New(fault.Throttled, "", "too many look at the budgets at once; try again")
}

// Rests reports whether the last look that has begun has found no budgets, and every pool knows.
func (b *Budgets) Rests(ctx context.Context) (bool, error) {
	row, err := b.readLook(ctx)
	return err == nil && row.Seq == row.Rested, err
}

// Rest notes that a look has found no budgets, and that every pool knows. Where another look has
// begun since, nothing is noted.
func (b *Budgets) Rest(ctx context.Context, seq int64) error {
	row, err := b.readLook(ctx)
	if err != nil || int64(row.Seq) != seq {
		return err
	}
	row.Rested = row.Seq
	err = b.writeLook(ctx, row)
	if code := fault.CodeOf(err); code == fault.Conflict || code == fault.NotFound {
		return nil
	}
	return err
}
