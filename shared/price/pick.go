// Package price says what a node costs per hour. It picks the one price of a thing out of
// the rows of Azure's Retail Prices API, keeps the history of prices as a book, and adds the
// parts of a node up; for the use cases and for what asks the API. It is pure: it reads no
// clock and no network. It never takes the first of several prices, and never takes a price
// that nobody knows for zero.
package price

import (
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"time"

	"dsvmpools/shared/fault"
)

// What is what a price is for.
type What string

// What a node costs, beside the balancer, which a pool may have.
const (
	VM       What = "vm"
	Disk     What = "disk"
	Address  What = "address"
	Balancer What = "balancer"
)

// Want is one thing that a price is wanted for.
type Want struct {
	What    What
	SKU     string // of a VM its size, of a disk its tier, such as E10; "" for the others, which have one meter
	Windows bool   // of a VM: its license is in the price
	Spot    bool   // of a VM
}

// Item is a row of the Retail Prices API, with what decides which row is the price. Its
// fields are those of api-version 2023-01-01-preview.
type Item struct {
	CurrencyCode         string      `json:"currencyCode"`
	TierMinimumUnits     json.Number `json:"tierMinimumUnits"`
	RetailPrice          json.Number `json:"retailPrice"`
	ArmRegionName        string      `json:"armRegionName"`
	EffectiveStartDate   string      `json:"effectiveStartDate"`
	EffectiveEndDate     string      `json:"effectiveEndDate,omitempty"` // "" = it has none
	MeterID              string      `json:"meterId"`
	MeterName            string      `json:"meterName"`
	SKUID                string      `json:"skuId"`
	ProductName          string      `json:"productName"`
	SKUName              string      `json:"skuName"`
	ServiceName          string      `json:"serviceName"`
	UnitOfMeasure        string      `json:"unitOfMeasure"`
	Type                 string      `json:"type"`
	IsPrimaryMeterRegion bool        `json:"isPrimaryMeterRegion"`
	ArmSKUName           string      `json:"armSkuName"`
}

// Price is what one thing costs from a time on.
type Price struct {
	PerHour string    // decimal, in the currency that was asked for
	From    time.Time // since when, or from when on, it counts
	MeterID string
	SKUID   string
}

// Names that the API has for what nodes need. Sources: the pages of the Retail Prices API,
// and rows that it has answered.
const (
	vmService       = "Virtual Machines"
	diskService     = "Storage"
	diskProduct     = "Standard SSD Managed Disks"
	addressService  = "Virtual Network"
	addressMeter    = "Standard IPv4 Static Public IP"
	balancerService = "Load Balancer"
	balancerMeter   = "Standard Included LB Rules and Outbound Rules"
	globalRegion    = "Global" // balancers have no regional price
	currencyCode    = "USD"    // the others are for reference, and on no invoice
	hourUnit        = "1 Hour"
	monthUnit       = "1/Month"
)

// region is the one that the API has the price under.
func (w Want) region(region string) string {
	if w.What == Balancer {
		return globalRegion
	}
	return region
}

// Filter is the filter for the rows among which the price of a thing is. The API knows no
// `or`, and with it nothing but one request for each thing; the prices of one size as Spot,
// as regular and for Windows have the same filter.
func (w Want) Filter(region string) string {
	where := " and armRegionName eq " + quote(w.region(region)) + " and priceType eq 'Consumption'"
	switch w.What {
	case VM:
		return "serviceName eq " + quote(vmService) + where + " and armSkuName eq " + quote(w.SKU)
	case Disk:
		return "serviceName eq " + quote(diskService) + where + " and productName eq " + quote(diskProduct) +
			" and skuName eq " + quote(w.SKU+" LRS")
	case Address:
		return "serviceName eq " + quote(addressService) + where + " and meterName eq " + quote(addressMeter)
	default:
		return "serviceName eq " + quote(balancerService) + where + " and meterName eq " + quote(balancerMeter)
	}
}

// quote writes a text of OData.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// Pick finds the price of a thing in a region at a time, in USD. Errors have code NotFound:
// no row is its price, or rows with different prices are. The reason is a sentence.
func Pick(items []Item, w Want, region string, at time.Time) (Price, error) {
	var found []Item
	for _, item := range items {
		if item.isOf(w, region) && item.isForSale() && item.countsAt(at) {
			found = append(found, item)
		}
	}
	// Of a meter that several regions share, the one of the primary region is billed.
	if slices.ContainsFunc(found, func(i Item) bool { return i.IsPrimaryMeterRegion }) {
		found = slices.DeleteFunc(found, func(i Item) bool { return !i.IsPrimaryMeterRegion })
	}
	if len(found) == 0 {
		return Price{}, fault.New(fault.NotFound, "", "the price service has no price for %s in %s", w, w.region(region))
	}
	picked, first := Price{}, new(big.Rat)
	for i, item := range found {
		perHour, ok := perHour(item.RetailPrice.String(), item.UnitOfMeasure)
		amount, known := parse(perHour)
		if !ok || !known {
			return Price{}, fault.New(fault.NotFound, "", "the price service has a price for %s that is no number: %.40q per %.20q",
				w, item.RetailPrice, item.UnitOfMeasure)
		}
		if i > 0 && amount.Cmp(first) != 0 {
			return Price{}, fault.New(fault.NotFound, "", "the price service has several prices for %s in %s: %s and %s per hour; "+
				"`dsvm price set` says which one counts", w, w.region(region), picked.PerHour, perHour)
		}
		if i == 0 {
			picked, first = Price{PerHour: perHour, MeterID: item.MeterID, SKUID: item.SKUID}, amount
		}
		if from, _ := instant(item.EffectiveStartDate); i == 0 || from.After(picked.From) {
			picked.From = from
		}
	}
	return picked, nil
}

// mostAnnounced bounds the changes of one price that are known before they count.
const mostAnnounced = 4

// Announced are the prices of a thing that count later than at, the next one first, as far
// as the API says them. One that could not be picked ends the list.
func Announced(items []Item, w Want, region string, at time.Time) []Price {
	var times []time.Time
	for _, item := range items {
		if from, ok := instant(item.EffectiveStartDate); ok && from.After(at) && item.isOf(w, region) && item.isForSale() {
			times = append(times, from)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	var all []Price
	for _, from := range slices.CompactFunc(times, time.Time.Equal) {
		p, err := Pick(items, w, region, from)
		if err != nil || len(all) == mostAnnounced {
			break
		}
		p.From = from
		all = append(all, p)
	}
	return all
}

// isOf reports whether a row is about a thing, and not about one that is bought in another
// way: the license of Windows, Spot and Low Priority have rows under the same size.
func (i *Item) isOf(w Want, region string) bool {
	if i.CurrencyCode != currencyCode || !strings.EqualFold(i.ArmRegionName, w.region(region)) {
		return false
	}
	switch w.What {
	case VM:
		return i.ServiceName == vmService && i.UnitOfMeasure == hourUnit && strings.EqualFold(i.ArmSKUName, w.SKU) &&
			!strings.Contains(i.ProductName, "Cloud Services") && // the same sizes under another service
			strings.HasSuffix(i.ProductName, " Windows") == w.Windows &&
			i.isNamed(" Spot") == w.Spot && !i.isNamed(" Low Priority") // obsolete, and still listed
	case Disk:
		return i.ServiceName == diskService && i.ProductName == diskProduct && i.MeterName == w.SKU+" LRS Disk" && i.UnitOfMeasure == monthUnit
	case Address:
		return i.ServiceName == addressService && i.MeterName == addressMeter && i.UnitOfMeasure == hourUnit
	case Balancer:
		return i.ServiceName == balancerService && i.MeterName == balancerMeter && i.UnitOfMeasure == hourUnit
	}
	return false
}

func (i *Item) isNamed(ending string) bool {
	return strings.HasSuffix(i.SKUName, ending) || strings.HasSuffix(i.MeterName, ending)
}

// isForSale reports whether anybody pays the row's price: it is neither for development and
// tests nor a reservation, it is more than zero, which stands for a meter that is not sold
// yet, and it counts from the first unit.
func (i *Item) isForSale() bool {
	price, ok := parse(i.RetailPrice.String())
	least, known := parse(i.TierMinimumUnits.String())
	return i.Type == "Consumption" && (!ok || price.Sign() > 0) && (i.TierMinimumUnits == "" || known && least.Sign() == 0)
}

// countsAt reports whether the row's price counts at a time.
func (i *Item) countsAt(at time.Time) bool {
	from, ok := instant(i.EffectiveStartDate)
	if !ok || from.After(at) {
		return false
	}
	if i.EffectiveEndDate == "" {
		return true
	}
	until, ok := instant(i.EffectiveEndDate)
	return ok && until.After(at)
}

// instant reads a time of the API.
func instant(text string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, text)
	return t.UTC(), err == nil
}

// String names a thing for people.
func (w Want) String() string {
	switch w.What {
	case VM:
		kind := ""
		if w.Windows {
			kind += " with Windows"
		}
		if w.Spot {
			kind += " as Spot"
		}
		return "size " + w.SKU + kind
	case Disk:
		return "a disk of tier " + w.SKU
	case Address:
		return "a public address"
	default:
		return "a load balancer"
	}
}
