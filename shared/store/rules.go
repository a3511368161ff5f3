package store

import (
	"context"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/push"
)

// RuleRow is a rule for pushes as it was written.
type RuleRow struct {
	Name      string
	Document  string // JSON
	ChangedAt time.Time
}

// rulePartition of the table of rules holds the rules by their names.
const rulePartition = "rule"

// noRule is push.NoRule with the answer of the store as its cause.
func noRule(name string, cause error) error {
	missing := push.NoRule(name)
	missing.Err = cause
	return missing
}

// PutRule writes a rule, over the one of that name.
func (s *Store) PutRule(ctx context.Context, r RuleRow) error {
	row, err := encodeRule(&r)
	if err != nil {
		return err
	}
	return s.putRow(ctx, "write a rule", row)
}

func encodeRule(r *RuleRow) ([]byte, error) {
	e := newEntity(rulePartition, idKey(r.Name))
	e.text("Name", r.Name)
	e.time("ChangedAt", r.ChangedAt)
	if !e.long("Document", r.Document) {
		return nil, fault.New(fault.Invalid, "name", "rule %q is too long to be kept", r.Name)
	}
	return e.end(), nil
}

// Rules lists all rules by name.
func (s *Store) Rules(ctx context.Context) ([]RuleRow, error) {
	var rules []RuleRow
	_, err := s.scan(ctx, "list the rules", s.rules, query{filter: between(rulePartition, "", "~")}, func(raw []byte) error {
		r, err := decodeRule(raw)
		rules = append(rules, r)
		return err
	})
	return rules, err
}

// Rule reads one rule.
func (s *Store) Rule(ctx context.Context, name string) (RuleRow, error) {
	raw, _, err := s.get(ctx, "read a rule", s.rules, rulePartition, idKey(name))
	if fault.CodeOf(err) == fault.NotFound {
		return RuleRow{}, noRule(name, err)
	}
	if err != nil {
		return RuleRow{}, err
	}
	return decodeRule(raw)
}

// DeleteRule removes a rule. What it has started is not touched.
func (s *Store) DeleteRule(ctx context.Context, name string) error {
	err := s.deleteRow(ctx, "delete a rule", rulePartition, idKey(name))
	if fault.CodeOf(err) == fault.NotFound {
		return noRule(name, err)
	}
	return err
}

func decodeRule(raw []byte) (RuleRow, error) {
	var row struct {
		Name string
		longDocument
		ChangedAt time.Time
	}
	err := decode(raw, &row)
	return RuleRow{Name: row.Name, Document: row.text(), ChangedAt: row.ChangedAt}, err
}

// longDocument is a document as e.long writes it.
type longDocument struct {
	Document, Document1, Document2, Document3, Document4, Document5, Document6, Document7 string
}

func (d *longDocument) text() string {
	return d.Document + d.Document1 + d.Document2 + d.Document3 + d.Document4 + d.Document5 + d.Document6 + d.Document7
}

// putRow writes a row of the table of rules, whatever was there.
func (s *Store) putRow(ctx context.Context, what string, entity []byte) error {
	return s.call(ctx, what, func(ctx context.Context) error {
		_, err := s.rules.UpsertEntity(ctx, entity, &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeReplace})
		return err
	})
}

func (s *Store) deleteRow(ctx context.Context, what, partition, row string) error {
	always := azcore.ETagAny
	return s.call(ctx, what, func(ctx context.Context) error {
		_, err := s.rules.DeleteEntity(ctx, partition, row, &aztables.DeleteEntityOptions{IfMatch: &always})
		return err
	})
}
