package durable

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

// tableClient writes rows of one partition.
type tableClient struct {
	rng       *rand.Rand
	partition string
	rows      map[string]int // acknowledged: what each row holds
	open      map[string]int // the last call's rows when its outcome is not known; gone = deleted
	next      int
	table     *aztables.Client
}

const (
	rowsMost = 40
	gone     = -1
)

func newTable(rng *rand.Rand, partition string) *tableClient {
	return &tableClient{rng: rng, partition: partition, rows: map[string]int{}}
}

func (c *tableClient) audit(ctx context.Context, e endpoints) (lost []string) {
	service, err := aztables.NewServiceClientFromConnectionString(e.Tables, &aztables.ClientOptions{ClientOptions: policy.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}}})
	if err != nil {
		return []string{err.Error()}
	}
	service.CreateTable(ctx, "durable", nil) // it may be there
	c.table = service.NewClient("durable")
	there := map[string]int{}
	filter := fmt.Sprintf("PartitionKey eq '%s'", c.partition)
	for pages := c.table.NewListEntitiesPager(&aztables.ListEntitiesOptions{Filter: &filter}); pages.More(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return []string{fmt.Sprintf("the rows of %s cannot be read: %v", c.partition, err)}
		}
		for _, raw := range page.Entities {
			var row struct {
				RowKey string
				N      int
				Text   string
			}
			if err := json.Unmarshal(raw, &row); err != nil || row.Text != text(row.N) {
				return []string{fmt.Sprintf("row %s is damaged: %s, %v", row.RowKey, raw, err)}
			}
			there[row.RowKey] = row.N
		}
	}
	// What is open happened as a whole or not at all.
	happened := map[string]int{}
	for k, v := range c.rows {
		happened[k] = v
	}
	for k, v := range c.open {
		if happened[k] = v; v == gone {
			delete(happened, k)
		}
	}
	if !same(there, c.rows) && !same(there, happened) {
		lost = append(lost, fmt.Sprintf("partition %s has %v\nacknowledged %v\nopen %v", c.partition, there, c.rows, c.open))
	}
	c.rows, c.open = there, nil
	return lost
}

func same(a, b map[string]int) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// text makes a row larger than its number, so that half of it would show.
func text(n int) string {
	b := make([]byte, 50+n%700)
	for i := range b {
		b[i] = byte('a' + (n+i)%26)
	}
	return string(b)
}

func (c *tableClient) entity(key string, n int) []byte {
	b, _ := json.Marshal(map[string]any{"PartitionKey": c.partition, "RowKey": key, "N": n, "Text": text(n)})
	return b
}

func (c *tableClient) work(ctx context.Context) error {
	count := 1
	if c.rng.IntN(3) == 0 {
		count = 2 + c.rng.IntN(15)
	}
	change := map[string]int{}
	var actions []aztables.TransactionAction
	for range count {
		key := fmt.Sprintf("%03d", c.rng.IntN(rowsMost))
		if _, twice := change[key]; twice {
			continue
		}
		c.next++
		_, there := c.rows[key]
		kind, n := aztables.TransactionTypeAdd, c.next
		switch {
		case there && c.rng.IntN(4) == 0:
			kind, n = aztables.TransactionTypeDelete, gone
		case there && c.rng.IntN(2) == 0:
			kind = aztables.TransactionTypeUpdateMerge
		case there:
			kind = aztables.TransactionTypeUpdateReplace
		}
		change[key] = n
		actions = append(actions, aztables.TransactionAction{ActionType: kind, Entity: c.entity(key, max(n, 0))})
	}
	c.open = change
	if err := c.send(ctx, actions); err != nil {
		return err
	}
	for k, v := range change {
		if c.rows[k] = v; v == gone {
			delete(c.rows, k)
		}
	}
	c.open = nil
	return nil
}

func (c *tableClient) send(ctx context.Context, actions []aztables.TransactionAction) error {
	if len(actions) > 1 {
		_, err := c.table.SubmitTransaction(ctx, actions, nil)
		return err
	}
	var err error
	switch a := actions[0]; a.ActionType {
	case aztables.TransactionTypeAdd:
		_, err = c.table.AddEntity(ctx, a.Entity, nil)
	case aztables.TransactionTypeDelete:
		var row struct{ RowKey string }
		if err = json.Unmarshal(a.Entity, &row); err == nil {
			_, err = c.table.DeleteEntity(ctx, c.partition, row.RowKey, nil)
		}
	case aztables.TransactionTypeUpdateMerge:
		_, err = c.table.UpdateEntity(ctx, a.Entity, &aztables.UpdateEntityOptions{UpdateMode: aztables.UpdateModeMerge})
	default:
		_, err = c.table.UpdateEntity(ctx, a.Entity, &aztables.UpdateEntityOptions{UpdateMode: aztables.UpdateModeReplace})
	}
	return err
}

func (c *tableClient) close(context.Context) {}
