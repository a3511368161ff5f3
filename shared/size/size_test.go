package size_test

import (
	_ "embed"
	"regexp"
	"strings"
	"testing"

	"dsvmpools/shared/size"
	"dsvmpools/shared/usage"
)

//go:embed sizes.csv
var list string

func TestLookup(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		want size.Size
	}{
		{"Standard_D4s_v5", size.Size{Name: "Standard_D4s_v5", CPUs: 4, MemoryGiB: 16, PricePerHour: "0.192", Currency: "USD"}},
		{"STANDARD_d4S_V5", size.Size{Name: "Standard_D4s_v5", CPUs: 4, MemoryGiB: 16, PricePerHour: "0.192", Currency: "USD"}},
		{"Standard_NC64as_T4_v3", size.Size{Name: "Standard_NC64as_T4_v3", CPUs: 64, GPUs: 4, MemoryGiB: 440, PricePerHour: "4.352", Currency: "USD"}},
	} {
		if got, ok := size.Lookup(c.name); !ok || got != c.want {
			t.Errorf("%s: got %+v, %v, want %+v", c.name, got, ok, c.want)
		}
	}
}

func TestLookupUnknown(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "Standard_D5s_v5", "D4s_v5", " Standard_D4s_v5", "# VM sizes: name"} {
		if got, ok := size.Lookup(name); ok || got != (size.Size{}) {
			t.Errorf("%q: got %+v, want nothing", name, got)
		}
	}
}

// Every line of the list is a size of its own that can be reckoned with.
func TestList(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^Standard_[A-Z]+[0-9]+[A-Za-z0-9_]*$`)
	seen := map[string]bool{}
	for line := range strings.Lines(list) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		n, _, _ := strings.Cut(line, ",")
		s, ok := size.Lookup(n)
		switch price, priced := usage.ParsePrice(s.PricePerHour); {
		case !ok || s.Name != n || !name.MatchString(n):
			t.Errorf("%q: got %+v, %v", n, s, ok)
		case seen[strings.ToLower(n)]:
			t.Errorf("%s stands here twice", n)
		case s.CPUs < 1 || s.MemoryGiB < 1 || s.GPUs < 0:
			t.Errorf("%s: got %+v, want at least one CPU and one GiB", n, s)
		case !priced || price.Sign() <= 0:
			t.Errorf("%s: %q is not a price above zero", n, s.PricePerHour)
		case strings.HasPrefix(n, "Standard_N") != (s.GPUs > 0):
			t.Errorf("%s: the sizes with a GPU are those of the N families, got %d", n, s.GPUs)
		}
		seen[strings.ToLower(n)] = true
	}
	if len(seen) < 60 {
		t.Errorf("got %d sizes, want at least 60", len(seen))
	}
}
