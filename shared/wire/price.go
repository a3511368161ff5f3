package wire

import "time"

// Price is what one thing that nodes need costs now.
type Price struct {
	What     string     `json:"what"`          // vm | disk | address | balancer
	SKU      string     `json:"sku,omitempty"` // of a vm its size, of a disk its tier, such as E10
	OS       string     `json:"os,omitempty"`  // of a vm: linux | windows
	Spot     bool       `json:"spot"`          // of a vm
	PerHour  string     `json:"perHour"`       // decimal, or "unknown"
	Currency string     `json:"currency"`
	List     string     `json:"list,omitempty"` // in USD, as the price list has it; "" = it is no price of the list
	Source   string     `json:"source"`         // retail | manual | builtin | unknown
	From     *time.Time `json:"from"`           // since when it counts; null = not known
	AskedAt  *time.Time `json:"askedAt"`        // when the price list was asked last; null = never
	Problem  string     `json:"problem,omitempty"`
	Next     *NextPrice `json:"next"` // the change that is announced; null = none is
	InUse    bool       `json:"inUse"`
}

// NextPrice is a price that does not count yet.
type NextPrice struct {
	PerHour string    `json:"perHour"`
	From    time.Time `json:"from"`
}

// SetPrice asks for a price to be set by hand.
type SetPrice struct {
	SKU     string `json:"sku"` // a size, a tier of disks such as E10, "address" or "balancer"
	OS      string `json:"os,omitempty"`
	Spot    bool   `json:"spot,omitempty"`
	PerHour string `json:"perHour,omitempty"` // decimal, in the currency of the deployment; "" = not by hand any more
}

// PricesRefreshed says what came of asking for the prices.
type PricesRefreshed struct {
	Asked    int      `json:"asked"`
	Changed  int      `json:"changed"`
	Problems []string `json:"problems"`
}

// Key names the thing that a price is for.
func (p *Price) Key() string {
	kind := ""
	if p.Spot {
		kind = "spot"
	}
	return p.What + " " + p.SKU + " " + p.OS + " " + kind
}
