package job

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"dsvmpools/shared/document"
)

// Bytes is an amount of memory, written as 512Mi or 4Gi, or as a plain number.
type Bytes int64

// Gi is a gibibyte.
const Gi Bytes = 1 << 30

var scales = []struct {
	suffix string
	size   Bytes
}{{"Ti", 1 << 40}, {"Gi", Gi}, {"Mi", 1 << 20}, {"Ki", 1 << 10}, {"", 1}}

// ParseBytes reads a whole number, with Ki, Mi, Gi or Ti or of bytes.
func ParseBytes(s string) (Bytes, error) {
	for _, scale := range scales {
		digits, ok := strings.CutSuffix(s, scale.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || strconv.FormatInt(n, 10) != digits || n > math.MaxInt64/int64(scale.size) {
			break
		}
		return Bytes(n) * scale.size, nil
	}
	return 0, fmt.Errorf("%q is not an amount of memory; write 512Mi or 4Gi", document.Clip(s))
}

// String writes the amount in the largest unit that keeps it exact.
func (b Bytes) String() string {
	for _, scale := range scales {
		if b >= scale.size && b%scale.size == 0 {
			return strconv.FormatInt(int64(b/scale.size), 10) + scale.suffix
		}
	}
	return "0"
}

// UnmarshalText reads documents and rows.
func (b *Bytes) UnmarshalText(text []byte) (err error) {
	*b, err = ParseBytes(string(text))
	return err
}

// MarshalText writes rows and answers.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }
