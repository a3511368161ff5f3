package prices

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fields are those that a filter may name.
var fields = map[string]bool{"armRegionName": true, "location": true, "meterId": true, "meterName": true, "productId": true, "skuId": true,
	"productName": true, "skuName": true, "serviceName": true, "serviceId": true, "serviceFamily": true, "priceType": true, "armSkuName": true}

// began is since when prices count that never changed.
const began = "2021-11-01T00:00:00Z"

// Disks and their prices per month, and the prices per hour of what has one meter.
var disks = map[string]float64{"E4": 2.4, "E6": 4.8, "E10": 9.6, "E15": 19.2, "E20": 38.4, "E30": 76.8, "E40": 153.6, "E50": 307.2}

const (
	addressPrice  = 0.005
	balancerPrice = 0.025
	windowsAdds   = 1.9 // times the price with Linux
	spotFactor    = 0.2
	lowFactor     = 0.3
)

// rows are all rows of a region that a request may be about: those of one size, or of all.
func (s *Server) rows(region, only string) []map[string]any {
	var all []map[string]any
	for _, size := range s.cfg.Sizes {
		if only == "" || size.Name == only {
			all = append(all, s.ofSize(region, size)...)
		}
	}
	for _, tier := range slices.Sorted(maps.Keys(disks)) { // in the same order on each page
		month := disks[tier]
		base := row(region, "Storage", "Standard SSD Managed Disks", tier+" LRS", tier+" LRS Disk", month)
		base["unitOfMeasure"] = "1/Month"
		all = append(all, base,
			with(base, "meterName", tier+" LRS Disk Operations", "retailPrice", 0.002, "unitOfMeasure", "10K"),
			with(base, "meterName", tier+" LRS Disk Mount", "retailPrice", month/10),
			with(base, "skuName", tier+" ZRS", "meterName", tier+" ZRS Disk", "retailPrice", month*1.5))
	}
	address := row(region, "Virtual Network", "IP Addresses", "Standard", "Standard IPv4 Static Public IP", addressPrice)
	balancer := row("Global", "Load Balancer", "Load Balancer", "Standard", "Standard Included LB Rules and Outbound Rules", balancerPrice)
	return append(all, address, with(address, "meterName", "Basic IPv4 Static Public IP", "retailPrice", 0.0036), balancer,
		with(balancer, "meterName", "Standard Overage LB Rules and Outbound Rules", "retailPrice", 0.01))
}

// ofSize are the rows of a size: its prices as regular and as Spot, with Linux and Windows,
// and beside them rows that are none of them.
func (s *Server) ofSize(region string, size Size) []map[string]any {
	short := strings.ReplaceAll(strings.TrimPrefix(size.Name, "Standard_"), "_", " ")
	product := "Virtual Machines " + short + " Series"
	var all []map[string]any
	prices := s.pricesOf(size)
	for i, p := range prices {
		perHour, err := strconv.ParseFloat(p.perHour, 64)
		if err != nil {
			continue
		}
		linux := row(region, "Virtual Machines", product, short, short, perHour)
		linux["armSkuName"], linux["effectiveStartDate"] = size.Name, p.from.UTC().Format(time.RFC3339)
		if i+1 < len(prices) {
			linux["effectiveEndDate"] = prices[i+1].from.UTC().Format(time.RFC3339)
		}
		windows := with(linux, "productName", product+" Windows", "retailPrice", perHour*windowsAdds)
		all = append(all,
			with(linux, "type", "DevTestConsumption", "retailPrice", perHour*0.9),
			with(linux, "type", "Reservation", "retailPrice", perHour*5000, "reservationTerm", "1 Year"),
			with(linux, "skuName", short+" Low Priority", "meterName", short+" Low Priority", "retailPrice", perHour*lowFactor),
			with(linux, "productName", short+" Series Cloud Services", "retailPrice", perHour*1.5),
			with(linux, "retailPrice", 0.0),
			with(linux, "tierMinimumUnits", 100.0, "retailPrice", perHour*0.8),
			with(linux, "isPrimaryMeterRegion", false, "retailPrice", perHour*1.1),
			with(linux, "effectiveStartDate", "2019-01-01T00:00:00Z", "effectiveEndDate", "2021-11-01T00:00:00Z", "retailPrice", perHour*1.2),
			linux, linux, // the same meter twice
			with(linux, "skuName", short+" Spot", "meterName", short+" Spot", "retailPrice", perHour*spotFactor),
			windows,
			with(windows, "skuName", short+" Spot", "meterName", short+" Spot", "retailPrice", perHour*windowsAdds*spotFactor))
	}
	return all
}

// pricesOf is what a size has cost, costs and will cost, in the order of time.
func (s *Server) pricesOf(size Size) []change {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, _ := time.Parse(time.RFC3339, began)
	all := []change{{first, size.PerHour}}
	for _, c := range s.changes[strings.ToLower(size.Name)] {
		i := len(all)
		for i > 1 && all[i-1].from.After(c.from) {
			i--
		}
		all = append(all[:i:i], append([]change{c}, all[i:]...)...)
	}
	return all
}

// row is a row as the service writes it.
func row(region, service, product, sku, meter string, price float64) map[string]any {
	return map[string]any{"currencyCode": "USD", "tierMinimumUnits": 0.0, "retailPrice": price, "unitPrice": price, "armRegionName": region,
		"location": region, "effectiveStartDate": began, "meterId": "meter " + meter, "meterName": meter, "productId": "product " + product,
		"skuId": "sku " + sku, "productName": product, "skuName": sku, "serviceName": service, "serviceId": service, "serviceFamily": "Compute",
		"unitOfMeasure": "1 Hour", "type": "Consumption", "isPrimaryMeterRegion": true, "armSkuName": ""}
}

// with is a row that differs in some fields: name, value, and so on.
func with(of map[string]any, changes ...any) map[string]any {
	changed := maps.Clone(of)
	for i := 0; i < len(changes); i += 2 {
		changed[changes[i].(string)] = changes[i+1]
	}
	if price, ok := changed["retailPrice"].(float64); ok { // six decimals, as the service has
		price = math.Round(price*1e6) / 1e6
		changed["retailPrice"], changed["unitPrice"] = price, price
	}
	return changed
}
