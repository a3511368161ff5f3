// Package store keeps pools, the ids of jobs, the ledger, and the rules and
// records of pushes in Azure Table Storage. Triggers, use cases and the driver
// read and write through it.
//
// It knows how rows look and how they are read and written safely. It decides
// nothing about pools and jobs, and it never keeps a row in memory between two
// calls; it only remembers which rows of the index of finished jobs it has
// written. Below it, package table is the one owner of retries; errors are the
// fault errors of that package.
//
//	Pools      table pools: the live and finished rows of each pool
//	IDs        table ids: what the id of a job stands for, and how it ended
//	Ledger     table usage: what was used and what it cost
//	Sums       table rollups: what the rows of the ledger add up to
//	Pushes     table rules: rules for pushes, what pushes started, watches
//	Users      table users: people's accounts, with uids that are given once
//	Budgets    table budgets: budgets, and where they stood
//	Audit      table audit: who has changed what
//	Prices     table prices: what nodes cost, and since when
//	Retention  pools and ids together: rows that are old, or of a deleted pool
package store

import (
	"context"
	"fmt"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/store/table"
)

// Names of the tables.
const (
	poolsTable = "pools"
	idsTable   = "ids"
	usageTable = "usage"
	sumsTable  = "rollups"
	rulesTable = "rules"
	usersTable = "users"
	auditTable = "audit"

	budgetsTable = "budgets"
	priceTable   = "prices"
)

// Tables returns the names of all tables. A deployment's template makes them.
func Tables() []string {
	return []string{poolsTable, idsTable, usageTable, sumsTable, rulesTable, usersTable, auditTable, budgetsTable, priceTable}
}

// Config says where the tables are.
type Config = table.Config

// Store reads and writes all tables. Its methods may be called concurrently.
type Store struct {
	*Pools
	*IDs
	*Ledger
	*Sums
	*Pushes
	*Users
	*Audit
	*Budgets
	*Prices
	*Retention

	service *table.Service
}

// Open prepares a store. It does not send a request yet.
func Open(cfg Config) (*Store, error) {
	service, err := table.Open(cfg)
	if err != nil {
		return nil, err
	}
	pools := &Pools{table: service.Table(poolsTable)}
	ids := &IDs{service.Table(idsTable), pools}
	return &Store{
		Pools:     pools,
		IDs:       ids,
		Ledger:    &Ledger{service.Table(usageTable)},
		Sums:      &Sums{service.Table(sumsTable)},
		Pushes:    &Pushes{service.Table(rulesTable)},
		Users:     &Users{service.Table(usersTable)},
		Audit:     &Audit{service.Table(auditTable)},
		Budgets:   &Budgets{service.Table(budgetsTable)},
		Prices:    &Prices{service.Table(priceTable)},
		Retention: &Retention{pools, ids},
		service:   service,
	}, nil
}

// Close closes idle connections. It does not disturb calls under way.
func (s *Store) Close() { s.service.Close() }

// CreateTables creates the tables that do not exist yet.
func (s *Store) CreateTables(ctx context.Context) error {
	return s.service.Create(ctx, Tables()...)
}

// readAll reads the rows of a query into a list.
func readAll[T any](ctx context.Context, t *table.Table, what string, q table.Query, decode func(raw []byte) (T, error)) ([]T, error) {
	var all []T
	_, err := t.Scan(ctx, what, q, func(raw []byte) error {
		row, err := decode(raw)
		if err != nil {
			return err
		}
		all = append(all, row)
		return nil
	})
	return all, err
}

// wrap makes a fault with a cause.
func wrap(code fault.Code, cause error, format string, args ...any) error {
	return &fault.Error{Code: code, Message: fmt.Sprintf(format, args...), Err: cause}
}
