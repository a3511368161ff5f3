package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/price"
	"dsvmpools/shared/store/table"
)

// Prices is the table of prices and of how asking for them went. The partition of a currency
// and a region has
//
//	<what>!<sku>!<system>!<kind>!<begin, the newest first>!<source>  a price and since when
//	look!<what>!<sku>!<system>!<kind>                                 the last look for it
//
// Rows of prices stay when they are over: they are the history.
type Prices struct{ table *table.Table }

const lookPrefix = "look!"

func pricePartition(currency, region string) string { return currency + "!" + region }

// priceKey is the key of a row: the newest first.
func priceKey(r *price.Row) string {
	return fmt.Sprintf("%s!%019d!%s", wantKey(r.Want), math.MaxInt64-r.From.Unix(), r.Source)
}

// ReadPrices reads all prices of a currency and a region, and the looks for them.
func (p *Prices) ReadPrices(ctx context.Context, currency, region string) ([]price.Row, []price.Look, error) {
	var rows []price.Row
	var looks []price.Look
	filter := "PartitionKey eq '" + table.Quote(pricePartition(currency, region)) + "'"
	_, err := p.table.Scan(ctx, "read the prices", table.Query{Filter: filter, Bare: true}, func(raw []byte) error {
		var row struct {
			What, SKU, PerHour, MeterID, SKUID, Source, Problem string
			Windows, Spot                                       bool
			From, FetchedAt, AskedAt, GoodAt                    time.Time
		}
		if err := table.Decode(raw, &row); err != nil {
			return err
		}
		of := price.Want{What: price.What(row.What), SKU: row.SKU, Windows: row.Windows, Spot: row.Spot}
		if row.Source == "" {
			looks = append(looks, price.Look{Want: of, AskedAt: row.AskedAt, GoodAt: row.GoodAt, Problem: row.Problem})
			return nil
		}
		rows = append(rows, price.Row{Want: of, Source: row.Source, FetchedAt: row.FetchedAt,
			Price: price.Price{PerHour: row.PerHour, From: row.From, MeterID: row.MeterID, SKUID: row.SKUID}})
		return nil
	})
	return rows, looks, err
}

// WritePrices writes rows and looks of a currency and a region, and deletes rows. It may be
// repeated.
func (p *Prices) WritePrices(ctx context.Context, currency, region string, c price.Change) error {
	partition := pricePartition(currency, region)
	var operations []table.Operation
	for i := range c.Put {
		operations = append(operations, table.Operation{Kind: table.Put, Row: encodePrice(partition, &c.Put[i])})
	}
	if c.Look.What != "" {
		e := table.NewRow(partition, lookPrefix+wantKey(c.Look.Want))
		writeWant(e, c.Look.Want)
		e.Time("AskedAt", c.Look.AskedAt)
		e.Time("GoodAt", c.Look.GoodAt)
		e.Sentence("Problem", c.Look.Problem)
		operations = append(operations, table.Operation{Kind: table.Put, Row: e.JSON()})
	}
	var errs []error
	for _, batch := range table.Batches(operations) {
		errs = append(errs, p.table.Transact(ctx, "write prices", batch))
	}
	for i := range c.Drop {
		if err := p.table.Delete(ctx, "drop a price", partition, priceKey(&c.Drop[i]), table.Any); fault.CodeOf(err) != fault.NotFound {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func writeWant(e *table.Row, w price.Want) {
	e.Text("What", string(w.What))
	e.Text("SKU", w.SKU)
	e.Bool("Windows", w.Windows)
	e.Bool("Spot", w.Spot)
}

func encodePrice(partition string, r *price.Row) []byte {
	e := table.NewRow(partition, priceKey(r))
	writeWant(e, r.Want)
	e.Text("PerHour", r.PerHour)
	e.Time("From", r.From)
	e.Text("MeterID", r.MeterID)
	e.Text("SKUID", r.SKUID)
	e.Text("Source", r.Source)
	e.Time("FetchedAt", r.FetchedAt)
	return e.JSON()
}

// wantKey names a thing, whatever its SKU has in it.
func wantKey(w price.Want) string {
	w.SKU = escapeKey(strings.ToLower(w.SKU))
	return w.Key()
}
