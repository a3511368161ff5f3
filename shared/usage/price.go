package usage

import (
	"math/big"
	"math/bits"
	"strings"
	"time"
)

// ticksPerHour turns a price per hour into one per tick.
const ticksPerHour = int64(time.Hour / Tick)

// Decimals that are kept when an exact amount becomes text.
const (
	// rowDecimals is for the Cost of one row: a second of a small node costs
	// some millionths, and its share must not vanish in a sum over rows.
	rowDecimals = 10
	// reportDecimals is for the sums of a report.
	reportDecimals = 6
	// minDecimals is what every amount has, as is usual for money.
	minDecimals = 2
)

// maxPriceDigits bounds the digits of a price before the point, and those after it, so
// that a damaged row cannot cost memory or time.
const maxPriceDigits = 12

// ParsePrice reads a price per hour: digits, and after a point more digits. Anything
// else is not a price, also UnknownPrice and an empty text; it is never taken for zero.
func ParsePrice(s string) (*big.Rat, bool) {
	whole, fraction, pointed := strings.Cut(s, ".")
	if !isDigits(whole) || pointed && !isDigits(fraction) {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

// ParseAmount reads an amount as reports write it, which may be less than zero, as waste may.
// Anything else is no amount, also UnknownPrice.
func ParseAmount(s string) (*big.Rat, bool) {
	digits, negative := strings.CutPrefix(s, "-")
	r, ok := ParsePrice(digits)
	if ok && negative {
		r.Neg(r)
	}
	return r, ok
}

func isDigits(s string) bool {
	if len(s) == 0 || len(s) > maxPriceDigits {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// Amount writes an exact amount as reports do.
func Amount(r *big.Rat) string { return amount(r, reportDecimals) }

// amount writes an exact amount with at most the given number of decimals,
// half away from zero, without zeros at the end.
func amount(r *big.Rat, decimals int) string {
	s := r.FloatString(decimals)
	point := strings.IndexByte(s, '.')
	end := len(s)
	for end > point+1+minDecimals && s[end-1] == '0' {
		end--
	}
	if s = s[:end]; strings.Trim(s, "-0.") == "" {
		return strings.TrimPrefix(s, "-")
	}
	return s
}

// share is the part of a node that an entry pays for, as a fraction: all of it
// for a node's own interval; for an attempt the largest of its parts of cpus, GPUs
// and memory, since what it leaves of the others may be of no use to anybody. It is
// unknown when the node's size is.
func (e *Entry) share() (part, of int64, known bool) {
	if e.Kind == KindNode {
		return 1, 1, true
	}
	if e.NodeCPUs <= 0 || e.CPUs < 0 {
		return 0, 0, false
	}
	part, of = int64(e.CPUs), int64(e.NodeCPUs)
	for _, r := range [...][2]int64{{int64(e.GPUs), int64(e.NodeGPUs)}, {e.Memory, e.NodeMem}} {
		if r[0] > 0 && r[1] > 0 && isMore(r[0], r[1], part, of) {
			part, of = r[0], r[1]
		}
	}
	return min(part, of), of, true
}

// isMore reports whether a/b is more than c/d, exactly: bytes times bytes do not fit
// into 64 bits, and a fraction for every row of a report would be slow. None is
// negative.
func isMore(a, b, c, d int64) bool {
	high, low := bits.Mul64(uint64(a), uint64(d))
	otherHigh, otherLow := bits.Mul64(uint64(c), uint64(b))
	return high > otherHigh || high == otherHigh && low > otherLow
}

// length is the length of the entry. A clock that was set back makes it zero,
// never less.
func (e *Entry) length() Ticks {
	from, to := e.From.Truncate(Tick), e.To.Truncate(Tick)
	return max(ticksOf(to.Sub(from)), 0)
}

// Cost is what the entry costs, exactly: its share of the node, times the
// hours, times the price. It is unknown when the price or the share is.
func (e *Entry) Cost() (*big.Rat, bool) {
	price, ok := ParsePrice(e.Price)
	if !ok {
		return nil, false
	}
	part, of, ok := e.share()
	if !ok {
		return nil, false
	}
	used := new(big.Int).Mul(big.NewInt(part), big.NewInt(int64(e.length())))
	whole := new(big.Int).Mul(big.NewInt(of), big.NewInt(ticksPerHour))
	return price.Mul(price, new(big.Rat).SetFrac(used, whole)), true
}
