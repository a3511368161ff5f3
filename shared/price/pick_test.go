package price_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/price"
)

const (
	region = "westeurope"
	d4     = "Standard_D4s_v5"
)

// good is the row of a regular VM with Linux.
func good(change func(*price.Item)) price.Item {
	i := price.Item{CurrencyCode: "USD", TierMinimumUnits: "0.0", RetailPrice: "0.23", ArmRegionName: region,
		EffectiveStartDate: "2021-11-01T00:00:00Z", MeterID: "m1", MeterName: "D4s v5", SKUID: "s1",
		ProductName: "Virtual Machines Dsv5 Series", SKUName: "D4s v5", ServiceName: "Virtual Machines", UnitOfMeasure: "1 Hour",
		Type: "Consumption", IsPrimaryMeterRegion: true, ArmSKUName: d4}
	if change != nil {
		change(&i)
	}
	return i
}

// wrong are rows that stand beside the price of a regular VM with Linux, and are not it.
var wrong = map[string]func(*price.Item){
	"with the license of Windows":      func(i *price.Item) { i.ProductName += " Windows" },
	"of Cloud Services":                func(i *price.Item) { i.ProductName = "Dsv5 Series Cloud Services" },
	"Spot, by the name of its SKU":     func(i *price.Item) { i.SKUName += " Spot" },
	"Spot, by the name of its meter":   func(i *price.Item) { i.MeterName += " Spot" },
	"Low Priority, by its SKU":         func(i *price.Item) { i.SKUName += " Low Priority" },
	"Low Priority, by its meter":       func(i *price.Item) { i.MeterName += " Low Priority" },
	"for development and tests":        func(i *price.Item) { i.Type = "DevTestConsumption" },
	"a reservation":                    func(i *price.Item) { i.Type, i.UnitOfMeasure = "Reservation", "1 Hour" },
	"zero: not sold yet":               func(i *price.Item) { i.RetailPrice = "0" },
	"zero with a point":                func(i *price.Item) { i.RetailPrice = "0.0" },
	"over":                             func(i *price.Item) { i.EffectiveEndDate = "2026-11-29T12:00:00Z" },
	"an end that is no time":           func(i *price.Item) { i.EffectiveEndDate = "soon" },
	"in the future":                    func(i *price.Item) { i.EffectiveStartDate = "2026-11-29T12:00:01Z" },
	"a begin that is no time":          func(i *price.Item) { i.EffectiveStartDate = "" },
	"from more units on":               func(i *price.Item) { i.TierMinimumUnits = "100.0" },
	"units that are no number":         func(i *price.Item) { i.TierMinimumUnits = "many" },
	"of another unit":                  func(i *price.Item) { i.UnitOfMeasure = "1/Month" },
	"of another size":                  func(i *price.Item) { i.ArmSKUName = "Standard_D4ds_v5" },
	"of another region":                func(i *price.Item) { i.ArmRegionName = "westeurope2" },
	"of another service":               func(i *price.Item) { i.ServiceName = "Azure Machine Learning" },
	"in another currency":              func(i *price.Item) { i.CurrencyCode = "EUR" },
	"a meter of another region's name": func(i *price.Item) { i.IsPrimaryMeterRegion = false },
}

// Each row that is not the price is refused beside the price, and alone.
func TestPickRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range wrong {
		bad := good(change)
		if !strings.HasPrefix(name, "zero") {
			bad.RetailPrice = "0.01"
		}
		for _, items := range [][]price.Item{{bad, good(nil)}, {good(nil), bad}} {
			got, err := price.Pick(items, price.Want{What: price.VM, SKU: d4}, region, now)
			if err != nil || got.PerHour != "0.23" || got.MeterID != "m1" || got.SKUID != "s1" {
				t.Errorf("%s: got %+v, %v, want 0.23", name, got, err)
			}
		}
		if !bad.IsPrimaryMeterRegion {
			continue // it is the price where there is no other
		}
		if got, err := price.Pick([]price.Item{bad}, price.Want{What: price.VM, SKU: d4}, region, now); fault.CodeOf(err) != fault.NotFound {
			t.Errorf("%s, alone: got %+v, %v, want no price", name, got, err)
		}
	}
}

// Of several rows none is taken unless they agree.
func TestPickNeverTakesTheFirst(t *testing.T) {
	t.Parallel()
	vm := price.Want{What: price.VM, SKU: d4}
	dear := good(func(i *price.Item) { i.RetailPrice, i.EffectiveStartDate = "0.24", "2026-01-01T00:00:00Z" })
	if got, err := price.Pick([]price.Item{good(nil), dear}, vm, region, now); fault.CodeOf(err) != fault.NotFound ||
		!strings.Contains(err.Error(), "0.23 and 0.24") {
		t.Errorf("two prices: got %+v, %v", got, err)
	}
	same := good(func(i *price.Item) { i.RetailPrice, i.EffectiveStartDate = "0.230", "2026-01-01T00:00:00Z" })
	got, err := price.Pick([]price.Item{good(nil), same, same}, vm, region, now)
	if err != nil || got.PerHour != "0.23" || got.From.Year() != 2026 {
		t.Errorf("the same meter several times: got %+v, %v", got, err)
	}
	if got, err := price.Pick(nil, vm, region, now); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("no row: got %+v, %v", got, err)
	}
}

// What a node needs beside its VM has rows of its own, and the VM others.
func TestPickOthers(t *testing.T) {
	t.Parallel()
	disk := price.Item{CurrencyCode: "USD", RetailPrice: "9.6", ArmRegionName: region, EffectiveStartDate: "2021-11-01T00:00:00Z",
		MeterName: "E10 LRS Disk", SKUName: "E10 LRS", ProductName: "Standard SSD Managed Disks", ServiceName: "Storage",
		UnitOfMeasure: "1/Month", Type: "Consumption", IsPrimaryMeterRegion: true}
	operations := disk
	operations.MeterName, operations.RetailPrice, operations.UnitOfMeasure = "E10 LRS Disk Operations", "0.002", "10K"
	mount := disk
	mount.MeterName, mount.RetailPrice = "E10 LRS Disk Mount", "0.5"
	address := good(func(i *price.Item) {
		i.ServiceName, i.MeterName, i.RetailPrice, i.ArmSKUName = "Virtual Network", "Standard IPv4 Static Public IP", "5E-03", ""
	})
	balancer := good(func(i *price.Item) {
		i.ServiceName, i.MeterName, i.RetailPrice = "Load Balancer", "Standard Included LB Rules and Outbound Rules", "0.025"
		i.ArmRegionName = "Global"
	})
	regional := balancer
	regional.ArmRegionName, regional.RetailPrice = region, "0.99"
	spot := good(func(i *price.Item) { i.MeterName, i.SKUName, i.RetailPrice = "D4s v5 Spot", "D4s v5 Spot", "0.04" })
	windows := good(func(i *price.Item) { i.ProductName, i.RetailPrice = i.ProductName+" Windows", "0.41" })
	all := []price.Item{disk, operations, mount, address, balancer, regional, spot, windows, good(nil)}
	for _, c := range []struct {
		want price.Want
		is   string
	}{
		{price.Want{What: price.Disk, SKU: "E10"}, "0.013151"},
		{price.Want{What: price.Address}, "0.005"},
		{price.Want{What: price.Balancer}, "0.025"},
		{price.Want{What: price.VM, SKU: "STANDARD_D4S_V5"}, "0.23"},
		{price.Want{What: price.VM, SKU: d4, Spot: true}, "0.04"},
		{price.Want{What: price.VM, SKU: d4, Windows: true}, "0.41"},
	} {
		if got, err := price.Pick(all, c.want, region, now); err != nil || got.PerHour != c.is {
			t.Errorf("%s: got %+v, %v, want %s", c.want, got, err, c.is)
		}
	}
}

// A change that the API announces is known before it counts.
func TestAnnounced(t *testing.T) {
	t.Parallel()
	vm := price.Want{What: price.VM, SKU: d4}
	now := now
	items := []price.Item{
		good(func(i *price.Item) { i.EffectiveEndDate = "2026-12-01T00:00:00Z" }),
		good(func(i *price.Item) { i.EffectiveStartDate, i.RetailPrice = "2026-12-01T00:00:00Z", "0.25" }),
		good(func(i *price.Item) {
			i.EffectiveStartDate, i.RetailPrice, i.SKUName = "2026-12-02T00:00:00Z", "9", "D4s v5 Spot"
		}),
	}
	change := (&price.Book{}).Update(vm, items, region, now)
	book := price.Book{Rows: change.Put, Looks: []price.Look{change.Look}}
	first := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	costs := book.Costs(price.Node{Size: d4}, now)
	if len(costs) != 2 || costs[0].PerHour != "0.23" || costs[1].PerHour != "0.25" || !costs[1].From.Equal(first) {
		t.Fatalf("got %+v, want 0.23, and 0.25 from %s", costs, first)
	}
	if again := book.Update(vm, items, region, now.Add(time.Hour)); len(again.Put)+len(again.Drop) != 0 {
		t.Errorf("the same answer again: got %+v, want no row", again)
	}
	if back := book.Update(vm, []price.Item{good(nil)}, region, now); len(back.Drop) != 1 || !back.Drop[0].From.Equal(first) || len(back.Put) != 0 {
		t.Errorf("a change that was taken back: got %+v, want it dropped", back)
	}
}

// Numbers are those of the API, exactly, and nothing else is taken for one.
func FuzzPick(f *testing.F) {
	for _, text := range []string{"0.23", "5E-03", "1e999999999", "NaN", "0x1p-2", "1/3", "", "-1", "00.10", strings.Repeat("9", 99)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		item := good(func(i *price.Item) { i.RetailPrice = json.Number(text) })
		got, err := price.Pick([]price.Item{item}, price.Want{What: price.VM, SKU: d4}, region, now)
		if err == nil && (got.PerHour == "" || strings.Trim(got.PerHour, "0.") == "" || strings.Trim(got.PerHour, "0123456789.") != "") {
			t.Errorf("%q became %q", text, got.PerHour)
		}
	})
}
