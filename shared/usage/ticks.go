package usage

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Tick is the unit in which time is counted: what Table Storage keeps of a
// point in time.
const Tick = 100 * time.Nanosecond

// Ticks is a length of time for sums: node time adds up to more years than a
// time.Duration holds. As text and in JSON it is a number of seconds.
type Ticks int64

const ticksPerSecond = int64(time.Second / Tick)

func ticksOf(d time.Duration) Ticks { return Ticks(d / Tick) }

// String writes seconds, exact and without an exponent: 90, 0.25, 12.0000001.
func (t Ticks) String() string {
	sign, n := "", int64(t)
	if n < 0 {
		sign, n = "-", -n
	}
	s := sign + strconv.FormatInt(n/ticksPerSecond, 10)
	if rest := n % ticksPerSecond; rest != 0 {
		s += "." + strings.TrimRight(strconv.FormatInt(ticksPerSecond+rest, 10)[1:], "0")
	}
	return s
}

// MarshalJSON writes a JSON number.
func (t Ticks) MarshalJSON() ([]byte, error) { return []byte(t.String()), nil }

// maxSecondsText is longer than any number of seconds that Ticks can hold.
const maxSecondsText = 32

// UnmarshalJSON reads a JSON number of seconds; what is finer than a tick is
// cut off.
func (t *Ticks) UnmarshalJSON(data []byte) error {
	seconds, ok := new(big.Rat), false
	if len(data) <= maxSecondsText && !strings.ContainsAny(string(data), "eE/_xXpPbBoO") {
		seconds, ok = seconds.SetString(string(data))
	}
	if !ok {
		return fmt.Errorf("%.32q is not a plain number of seconds", data)
	}
	seconds.Mul(seconds, new(big.Rat).SetInt64(ticksPerSecond))
	n := new(big.Int).Quo(seconds.Num(), seconds.Denom())
	if !n.IsInt64() {
		return fmt.Errorf("%s seconds are more than can be counted", data)
	}
	*t = Ticks(n.Int64())
	return nil
}
