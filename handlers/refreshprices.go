package handlers

import (
	"context"

	"dsvmpools/shared/invoke"
)

// RefreshPrices asks Azure's price list once a day for what the pools use.
func (f *Functions) RefreshPrices(ctx context.Context, _ invoke.Tick) error {
	if f.service.Prices == nil {
		return nil
	}
	_, err := f.service.Prices.Refresh(ctx)
	return err
}
