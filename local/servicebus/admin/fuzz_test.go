package admin

import (
	"encoding/xml"
	"strings"
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]time.Duration{
		"PT1M": time.Minute, "PT45S": 45 * time.Second, "PT0M1S": time.Second, "P1DT2H": 26 * time.Hour, "PT60M0S": time.Hour,
		"P7D":    168 * time.Hour,
		"PT0.5S": 500 * time.Millisecond, Forever: 1<<63 - 1, "PT256204778H48M5.4775807S": 1<<63 - 1,
	} {
		if got, err := Duration(s); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "P", "PT", "1M", "PT1", "PTM", "PT1S1M", "P1M", "PT1X", "PT-1S", "PT1.2.3S", "PT" + strings.Repeat("1", 99) + "S"} {
		if got, err := Duration(s); err == nil {
			t.Errorf("%s: read as %v", s, got)
		}
	}
	for _, d := range []time.Duration{time.Second, 300 * time.Millisecond, 26 * time.Hour} {
		if got, err := Duration(Text(d)); err != nil || got != d {
			t.Errorf("%v as %s: got %v, %v", d, Text(d), got, err)
		}
	}
}

func FuzzDuration(f *testing.F) {
	f.Add("PT1M30S")
	f.Add(Forever)
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := Duration(s); err == nil && d < 0 {
			t.Errorf("%q: got %v", s, d)
		}
	})
}

func FuzzEntry(f *testing.F) {
	f.Add(
		`<entry xmlns="http://www.w3.org/2005/Atom"><content type="application/xml"><QueueDescription xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"><LockDuration>PT1M</LockDuration><MaxSizeInMegabytes>1024</MaxSizeInMegabytes></QueueDescription></content></entry>`,
	)
	f.Add(
		`<entry><content><QueueDescription><AuthorizationRules><AuthorizationRule><Rights><AccessRights>Send</AccessRights></Rights><KeyName>k</KeyName></AuthorizationRule></AuthorizationRules></QueueDescription></content></entry>`,
	)
	f.Add(
		`<entry><content><QueueDescription><EnablePartitioning>true</EnablePartitioning><MaxSizeInMegabytes>5120</MaxSizeInMegabytes></QueueDescription></content></entry>`,
	)
	f.Fuzz(func(t *testing.T, s string) {
		d, err := readEntry(strings.NewReader(s))
		if err != nil || d.Complete(false) != nil {
			return
		}
		same, err := d.Update(d, false)
		if err != nil {
			t.Fatalf("what was complete is refused: %v", err)
		}
		if *same.MaxSizeInMegabytes != *d.MaxSizeInMegabytes {
			t.Errorf("size: got %d, want %d", *same.MaxSizeInMegabytes, *d.MaxSizeInMegabytes)
		}
		if _, err := xml.Marshal(d); err != nil {
			t.Error(err)
		}
	})
}
