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
	d4 := size.Size{Name: "Standard_D4s_v5", CPUs: 4, MemoryGiB: 16, PricePerHour: "0.192", Currency: "USD", AcceleratedNetworking: true, TrustedLaunch: true}
	for _, c := range []struct {
		name string
		want size.Size
	}{
		{"Standard_D4s_v5", d4},
		{"STANDARD_d4S_V5", d4},
		{"Standard_NC64as_T4_v3", size.Size{Name: "Standard_NC64as_T4_v3", CPUs: 64, GPUs: 4, MemoryGiB: 440, PricePerHour: "4.352", Currency: "USD",
			LocalDiskGiB: 2816, AcceleratedNetworking: true, TrustedLaunch: true}},
		{"Standard_D8s_v3", size.Size{Name: "Standard_D8s_v3", CPUs: 8, MemoryGiB: 32, PricePerHour: "0.384", Currency: "USD",
			CacheGiB: 200, LocalDiskGiB: 64, AcceleratedNetworking: true, TrustedLaunch: true}},
		{"Standard_B2s", size.Size{Name: "Standard_B2s", CPUs: 2, MemoryGiB: 4, PricePerHour: "0.0416", Currency: "USD", LocalDiskGiB: 8, TrustedLaunch: true}},
		{"Standard_ND96asr_v4", size.Size{Name: "Standard_ND96asr_v4", CPUs: 96, GPUs: 8, MemoryGiB: 900, PricePerHour: "27.197", Currency: "USD",
			LocalDiskGiB: 6000, AcceleratedNetworking: true}},
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
		if features := line[strings.LastIndex(line, ",")+1:]; !regexp.MustCompile(`^(net)?\+?(trusted)?\n$`).MatchString(features) {
			t.Errorf("%s: %q are no features", n, features)
		}
		seen[strings.ToLower(n)] = true
	}
	if len(seen) < 60 {
		t.Errorf("got %d sizes, want at least 60", len(seen))
	}
}

// Sizes of some series do not start without accelerated networking, also those that came
// after this list; to ask for it where there is none is refused.
func TestHasAcceleratedNetworking(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"Standard_D2s_v5": true, "standard_d2S_V6": true, "Standard_E8-4ads_v5": true, "Standard_F16als_v7": true, "Standard_B12ms": true,
		"Standard_B2s": false, "Standard_DC4as_v5": false, "Standard_D2_v2": false, "Standard_M8ms_v5": false, "Standard_NC6s_v3": false, "": false,
	} {
		if got := size.HasAcceleratedNetworking(name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}
