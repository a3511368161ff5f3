package tables

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"dsvmpools/local/chaos"
)

// withInjection starts a server with one empty table, then adds one injection.
func withInjection(t *testing.T, r chaos.Injection) *aztables.Client {
	t.Helper()
	faults := chaos.New(1)
	s, err := Start(
		Config{Addr: "127.0.0.1:0", Path: filepath.Join(t.TempDir(), "tables.db"), Account: testAccount, Key: testKey, Chaos: faults},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c := tableOf(t, s, "pools")
	if _, err := c.AddEntity(deadline(t), row("p", "there"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := faults.Add(r); err != nil {
		t.Fatal(err)
	}
	return c
}

var operations = map[operation]func(*testing.T, *aztables.Client) error{
	insert: func(t *testing.T, c *aztables.Client) error {
		_, err := c.AddEntity(deadline(t), row("p", "r"), nil)
		return err
	},
	get: func(t *testing.T, c *aztables.Client) error {
		_, err := c.GetEntity(deadline(t), "p", "there", nil)
		return err
	},
	query: func(t *testing.T, c *aztables.Client) error {
		_, err := c.NewListEntitiesPager(nil).NextPage(deadline(t))
		return err
	},
	replace: func(t *testing.T, c *aztables.Client) error {
		_, err := c.UpdateEntity(deadline(t), row("p", "there"), &aztables.UpdateEntityOptions{UpdateMode: aztables.UpdateModeReplace})
		return err
	},
	merge: func(t *testing.T, c *aztables.Client) error {
		_, err := c.UpdateEntity(deadline(t), row("p", "there"), &aztables.UpdateEntityOptions{UpdateMode: aztables.UpdateModeMerge})
		return err
	},
	upsert: func(t *testing.T, c *aztables.Client) error {
		_, err := c.UpsertEntity(deadline(t), row("p", "there"), nil)
		return err
	},
	remove: func(t *testing.T, c *aztables.Client) error {
		_, err := c.DeleteEntity(deadline(t), "p", "there", nil)
		return err
	},
	createTable: func(t *testing.T, c *aztables.Client) error { _, err := c.CreateTable(deadline(t), nil); return err },
	deleteTable: func(t *testing.T, c *aztables.Client) error { _, err := c.Delete(deadline(t), nil); return err },
}

func TestEveryOperationCanBeRefused(t *testing.T) {
	t.Parallel()
	for name, do := range operations {
		t.Run(string(name), func(t *testing.T) {
			t.Parallel()
			c := withInjection(
				t,
				chaos.Injection{Do: chaos.Refuse, Target: "tables/" + string(name) + "/pools", Code: "OperationTimedOut", Count: 1},
			)
			wantError(t, do(t, c), 500, "OperationTimedOut")
			err := do(t, c)
			if e := (*azcore.ResponseError)(nil); errors.As(err, &e) && e.ErrorCode == "OperationTimedOut" {
				t.Errorf("the second time: %v", err)
			}
		})
	}
}

func TestRefusalsInTheServicesForm(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule   chaos.Injection
		status int
		code   string
	}{
		{chaos.Injection{Do: chaos.Refuse, Code: "UpdateConditionNotSatisfied"}, 412, "UpdateConditionNotSatisfied"},
		{chaos.Injection{Do: chaos.Refuse, Code: "ServerBusy"}, 503, "ServerBusy"},
		{chaos.Injection{Do: chaos.Refuse}, 500, "InternalError"},
		{chaos.Injection{Do: chaos.Refuse, Code: "AccountIsDisabled"}, 500, "AccountIsDisabled"},
		{chaos.Injection{Do: chaos.Throttle, RetryAfter: 1500 * time.Millisecond}, 503, "ServerBusy"},
	} {
		test.rule.Target = "tables/replace/pools"
		c := withInjection(t, test.rule)
		err := operations[replace](t, c)
		wantError(t, err, test.status, test.code)
		if e := (*azcore.ResponseError)(nil); test.rule.RetryAfter > 0 && errors.As(err, &e) &&
			e.RawResponse.Header.Get("Retry-After") != "2" {
			t.Errorf("got Retry-After %q, want 2", e.RawResponse.Header.Get("Retry-After"))
		}
	}
}

func TestTransactionThatIsRefused(t *testing.T) {
	t.Parallel()
	submit := func(c *aztables.Client) error {
		_, err := c.SubmitTransaction(deadline(t), actions{add(row("p", "r1")), add(row("p", "r2"))}, nil)
		return err
	}
	c := withInjection(
		t,
		chaos.Injection{Do: chaos.Refuse, Target: "tables/transaction/pools", Code: "UpdateConditionNotSatisfied", Count: 1},
	)
	wantFailed(t, submit(c), 412, "UpdateConditionNotSatisfied", 0)
	if got := filtered(t, c, ""); len(got) != 1 {
		t.Errorf("refused, but got %v", got)
	}
	if err := submit(c); err != nil {
		t.Errorf("the second time: %v", err)
	}
	c = withInjection(t, chaos.Injection{Do: chaos.Throttle, Target: "tables/transaction"})
	wantError(t, submit(c), 503, "ServerBusy")
}

// TestConnectionThatEnds looks at what was done when no answer came.
func TestConnectionThatEnds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		do   chaos.Action
		name operation
		want int // rows there are afterwards
	}{
		{chaos.Disconnect, insert, 1}, {chaos.Lose, insert, 2},
		{chaos.Disconnect, remove, 1}, {chaos.Lose, remove, 0},
		{chaos.Disconnect, transaction, 1}, {chaos.Lose, transaction, 3},
	} {
		t.Run(string(test.do)+" "+string(test.name), func(t *testing.T) {
			t.Parallel()
			c := withInjection(t, chaos.Injection{Do: test.do, Target: "tables/" + string(test.name) + "/pools", Count: 1})
			do := operations[test.name]
			if test.name == transaction {
				do = func(t *testing.T, c *aztables.Client) error {
					_, err := c.SubmitTransaction(deadline(t), actions{add(row("p", "r1")), add(row("p", "r2"))}, nil)
					return err
				}
			}
			err := do(t, c)
			if e := (*azcore.ResponseError)(nil); err == nil || errors.As(err, &e) {
				t.Errorf("got %v, want no answer", err)
			}
			if got := filtered(t, c, ""); len(got) != test.want {
				t.Errorf("got %v, want %d rows", got, test.want)
			}
		})
	}
}

func TestDelay(t *testing.T) {
	t.Parallel()
	const delay = 50 * time.Millisecond
	c := withInjection(t, chaos.Injection{Do: chaos.Delay, Target: "tables/get", Delay: delay})
	begin := time.Now()
	if err := operations[get](t, c); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < delay {
		t.Errorf("answered after %v, want %v at least", took, delay)
	}
}
