package doctor

import (
	"context"
	"fmt"

	"dsvmpools/shared/wire"
)

// prices checks that what nodes cost is known, is of this region, and is not old. Nothing
// stops without it: it is the ledger that is wrong then.
func (d *Doctor) prices(ctx context.Context) wire.Check {
	troubles, err := d.Prices(ctx)
	switch {
	case err != nil:
		return wire.Check{Check: "prices", State: wire.CheckUnknown, Detail: "the prices cannot be read; the check of the tables says why"}
	case len(troubles) == 0:
		return good("prices", "those of all that the pools use are known")
	}
	detail := troubles[0].Text
	if more := len(troubles) - 1; more > 0 {
		detail += fmt.Sprintf(", and something is to be said of %d more (`dsvm price list`)", more)
	}
	return wire.Check{Check: "prices", State: wire.CheckUnknown, Detail: detail, Mend: troubles[0].Do}
}
