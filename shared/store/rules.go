package store

import (
	"context"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/push"
	"dsvmpools/shared/store/table"
)

// Pushes is the table of rules: the rules for pushes, what pushes have started
// according to them, and the watches over commit statuses.
type Pushes struct{ table *table.Table }

// RuleRow is a rule for pushes as it was written.
type RuleRow struct {
	Name      string
	Document  string // JSON
	ChangedAt time.Time
}

// rulePartition holds the rules by their names.
const rulePartition = "rule"

// noRule is push.NoRule with the answer of the table as its cause.
func noRule(name string, cause error) error {
	missing := push.NoRule(name)
	missing.Err = cause
	return missing
}

func encodeRule(r *RuleRow) ([]byte, error) {
	e := table.NewRow(rulePartition, idKey(r.Name))
	e.Text("Name", r.Name)
	e.Time("ChangedAt", r.ChangedAt)
	if !e.Long("Document", r.Document) {
		return nil, fault.New(fault.Invalid, "name", "rule %q is too long to be kept", r.Name)
	}
	return e.JSON(), nil
}

func decodeRule(raw []byte) (RuleRow, error) {
	var row struct {
		Name, Document string
		ChangedAt      time.Time
	}
	if err := table.Decode(raw, &row); err != nil {
		return RuleRow{}, err
	}
	document, err := table.LongText(raw, "Document", row.Document)
	return RuleRow{Name: row.Name, Document: document, ChangedAt: row.ChangedAt}, err
}

// PutRule writes a rule. It replaces the one of that name.
func (p *Pushes) PutRule(ctx context.Context, r RuleRow) error {
	row, err := encodeRule(&r)
	if err != nil {
		return err
	}
	return p.table.Put(ctx, "write a rule", row)
}

// Rules lists all rules by name.
func (p *Pushes) Rules(ctx context.Context) ([]RuleRow, error) {
	q := table.Query{Filter: table.Between(rulePartition, "", "~")}
	return readAll(ctx, p.table, "list the rules", q, decodeRule)
}

// Rule reads one rule.
func (p *Pushes) Rule(ctx context.Context, name string) (RuleRow, error) {
	raw, _, err := p.table.Get(ctx, "read a rule", rulePartition, idKey(name))
	if fault.CodeOf(err) == fault.NotFound {
		return RuleRow{}, noRule(name, err)
	}
	if err != nil {
		return RuleRow{}, err
	}
	return decodeRule(raw)
}

// DeleteRule removes a rule. It does not touch the jobs that were started.
func (p *Pushes) DeleteRule(ctx context.Context, name string) error {
	err := p.table.Delete(ctx, "delete a rule", rulePartition, idKey(name), table.Any)
	if fault.CodeOf(err) == fault.NotFound {
		return noRule(name, err)
	}
	return err
}
