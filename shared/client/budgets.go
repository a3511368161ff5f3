package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"dsvmpools/shared/wire"
)

// Budgets lists all budgets.
func (c *Client) Budgets(ctx context.Context) ([]wire.Budget, error) {
	return list[wire.Budget](ctx, c, "/api/budgets", nil, everything)
}

// Budget asks for one budget.
func (c *Client) Budget(ctx context.Context, name string) (wire.Budget, error) {
	var b wire.Budget
	return b, c.call(ctx, request{method: "GET", path: budgetPath(name)}, &b)
}

// ApplyBudgets creates budgets or changes them to a document (JSON), and returns those of the
// document.
func (c *Client) ApplyBudgets(ctx context.Context, document []byte) ([]wire.Budget, error) {
	var applied wire.List[wire.Budget]
	err := c.call(ctx, request{method: "POST", path: "/api/budgets", body: document, header: ofJSON()}, &applied)
	return applied.Items, err
}

// RaiseBudget gives a budget a higher amount.
func (c *Client) RaiseBudget(ctx context.Context, name string, raise wire.BudgetRaise) (wire.Budget, error) {
	var b wire.Budget
	body, err := json.Marshal(raise)
	if err != nil {
		return b, err
	}
	return b, c.call(ctx, request{method: "POST", path: budgetPath(name) + "/raise", body: body, header: ofJSON()}, &b)
}

// DeleteBudget removes a budget.
func (c *Client) DeleteBudget(ctx context.Context, name string) error {
	return c.call(ctx, request{method: "DELETE", path: budgetPath(name)}, nil)
}

func budgetPath(name string) string { return "/api/budgets/" + url.PathEscape(name) }

func ofJSON() http.Header { return http.Header{"Content-Type": {"application/json"}} }
