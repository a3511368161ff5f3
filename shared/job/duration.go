package job

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"dsvmpools/shared/document"
)

// maxDurationLength is enough for every unit with all its digits.
const maxDurationLength = 40

// units of durations, longest first.
var units = []struct {
	suffix string
	length time.Duration
}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}}

// ParseDuration reads 90s, 15m, 2h, 1d, 200ms, and combinations like 1h30m, in
// which every unit is shorter than the one before it.
func ParseDuration(s string) (Duration, error) {
	bad := fmt.Errorf("%q is not a duration; write 90s, 15m, 2h or 1d", document.Clip(s))
	if s == "" || len(s) > maxDurationLength {
		return 0, bad
	}
	var total, last time.Duration
	for rest := s; rest != ""; {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		if err != nil {
			return 0, bad
		}
		rest = rest[digits:]
		letters := len(rest) - len(strings.TrimLeft(rest, "dhms"))
		unit := time.Duration(0)
		for _, u := range units {
			if u.suffix == rest[:letters] {
				unit = u.length
			}
		}
		if unit == 0 || last != 0 && unit >= last || n > int64(math.MaxInt64-total)/int64(unit) {
			return 0, bad
		}
		total, last = total+time.Duration(n)*unit, unit
		rest = rest[letters:]
	}
	return Duration(total), nil
}

// String writes the duration in the longest units that keep it exact. What is
// less than a millisecond is left off, and nothing is negative.
func (d Duration) String() string {
	left := time.Duration(d)
	if left < time.Millisecond {
		return "0s"
	}
	var b strings.Builder
	for _, u := range units {
		if n := left / u.length; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.suffix)
			left -= n * u.length
		}
	}
	return b.String()
}

// MarshalText and UnmarshalText are the form of documents and rows.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote, and what users write.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := ParseDuration(string(text))
	*d = v
	return err
}
