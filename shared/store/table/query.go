package table

import (
	"context"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// maxTop is the largest page of the service.
const maxTop = 1000

// Query is a range of rows.
type Query struct {
	Filter string // OData; bound the keys in it, because only they are indexed
	Fields string // names of properties, with commas; "" = all
	Limit  int    // rows; 0 = no limit
	Bare   bool   // without types and links beside the properties: a 64-bit number is a text then
}

// Scan reads rows page by page, in the order of their keys, and returns the
// number of pages. A page may be empty and still not be the last. An error of
// row ends the reading and is returned as it is.
func (t *Table) Scan(ctx context.Context, what string, q Query, row func(raw []byte) error) (pages int, err error) {
	options := aztables.ListEntitiesOptions{Filter: &q.Filter}
	if q.Fields != "" {
		options.Select = &q.Fields
	}
	if q.Bare {
		options.Format = to.Ptr(aztables.MetadataFormatNone)
	}
	left := q.Limit
	for {
		if q.Limit > 0 {
			top := int32(min(left, maxTop))
			options.Top = &top
		}
		var page aztables.ListEntitiesResponse
		err := t.call(ctx, what, func(ctx context.Context) (err error) {
			page, err = t.client.NewListEntitiesPager(&options).NextPage(ctx)
			return err
		})
		if err != nil {
			return pages, err
		}
		pages++
		for _, raw := range page.Entities {
			if err := row(raw); err != nil {
				return pages, err
			}
		}
		left -= len(page.Entities)
		if page.NextPartitionKey == nil && page.NextRowKey == nil || q.Limit > 0 && left <= 0 {
			return pages, nil
		}
		options.NextPartitionKey, options.NextRowKey = page.NextPartitionKey, page.NextRowKey
	}
}

// Between is a filter for the rows of a partition whose keys are from <= key < to.
func Between(partition, from, to string) string {
	return fmt.Sprintf("PartitionKey eq '%s' and RowKey ge '%s' and RowKey lt '%s'", Quote(partition), Quote(from), Quote(to))
}

// Is is a filter for one row.
func Is(partition, row string) string {
	return fmt.Sprintf("PartitionKey eq '%s' and RowKey eq '%s'", Quote(partition), Quote(row))
}

// Quote makes a text safe between the apostrophes of a filter.
func Quote(s string) string { return strings.ReplaceAll(s, "'", "''") }
