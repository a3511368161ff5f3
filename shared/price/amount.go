package price

import (
	"math/big"
	"strings"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/usage"
)

// mostText bounds a number that comes from outside.
const mostText = 40

// parse reads a number as JSON has it, which may have an exponent, as Go writes small ones.
func parse(text string) (*big.Rat, bool) {
	if text == "" || len(text) > mostText || strings.ContainsAny(text, "/xXpP_") {
		return nil, false
	}
	if _, exponent, has := strings.Cut(strings.ToLower(text), "e"); has && len(strings.TrimLeft(exponent, "+-0")) > 1 {
		return nil, false // no price has ten digits before or after its point
	}
	r, ok := new(big.Rat).SetString(text)
	return r, ok && r.Sign() >= 0
}

// perHour turns a price per unit into one per hour.
func perHour(text, unit string) (string, bool) {
	r, ok := parse(text)
	if !ok {
		return "", false
	}
	switch unit {
	case hourUnit:
	case monthUnit:
		r.Quo(r, big.NewRat(hoursPerMonth, 1))
	default:
		return "", false
	}
	return write(r), true
}

// digits are the decimals of a price per hour: a millionth of a dollar is less than a cent a year.
const digits = 6

// write writes a price with six decimals at most, rounded up, and without zeros at its end.
func write(r *big.Rat) string {
	scale := big.NewInt(1)
	for range digits {
		scale.Mul(scale, big.NewInt(10))
	}
	up := new(big.Int).Mul(r.Num(), scale)
	up.Add(up, new(big.Int).Sub(r.Denom(), big.NewInt(1)))
	up.Quo(up, r.Denom())
	text := new(big.Rat).SetFrac(up, scale).FloatString(digits)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// Factor is what a deployment pays for what the price list says, such as 0.82 after a
// discount, and in which currency. The zero Factor is 1 USD.
type Factor struct {
	rat      *big.Rat
	currency string
}

// Setting is the name of the setting that ParseFactor reads.
const Setting = "DSVM_PRICE_FACTOR"

// ParseFactor reads the setting: a decimal above 0 and at most 1000, and behind it, if the bill
// is not in USD, its currency: "0.82", "0.92 EUR". Empty = 1 USD.
func ParseFactor(text string) (Factor, error) {
	f := Factor{currency: currencyCode}
	number, currency, has := strings.Cut(strings.TrimSpace(text), " ")
	if number == "" {
		return f, nil
	}
	if has {
		f.currency = strings.TrimSpace(currency)
	}
	var ok bool
	f.rat, ok = usage.ParsePrice(number)
	if !ok || f.rat.Sign() == 0 || f.rat.Cmp(big.NewRat(1000, 1)) > 0 || !isCurrency(f.currency) {
		return Factor{}, fault.New(fault.Invalid, Setting,
			"%s is %.40q; write what you pay for one USD of the price list, such as 0.82, and behind it the currency, if it is another: 0.92 EUR",
			Setting, text)
	}
	return f, nil
}

// isCurrency reports whether a text looks like a code of ISO 4217.
func isCurrency(text string) bool {
	return len(text) == 3 && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// Currency is that of all amounts of a deployment.
func (f Factor) Currency() string {
	if f.currency == "" {
		return currencyCode
	}
	return f.currency
}

// of is what a list price is here.
func (f Factor) of(perHour string) string {
	r, ok := usage.ParsePrice(perHour)
	if f.rat == nil || !ok {
		return perHour
	}
	return write(r.Mul(r, f.rat))
}
