package job_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/job"
)

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		want time.Duration
		text string
	}{
		{"90s", 90 * time.Second, "1m30s"},
		{"15m", 15 * time.Minute, "15m"},
		{"2h", 2 * time.Hour, "2h"},
		{"1d", 24 * time.Hour, "1d"},
		{"36h", 36 * time.Hour, "1d12h"},
		{"1h30m", 90 * time.Minute, "1h30m"},
		{"1d2h3m4s5ms", 26*time.Hour + 3*time.Minute + 4*time.Second + 5*time.Millisecond, "1d2h3m4s5ms"},
		{"200ms", 200 * time.Millisecond, "200ms"},
		{"0s", 0, "0s"},
		{"007m", 7 * time.Minute, "7m"},
		{"106751d", 106751 * 24 * time.Hour, "106751d"}, // the most that fits
	} {
		got, err := job.ParseDuration(c.in)
		if err != nil || time.Duration(got) != c.want || got.String() != c.text {
			t.Errorf("%s: got %d %q, %v, want %d %q", c.in, got, got, err, c.want, c.text)
		}
	}
}

func TestParseDurationRefuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "5", "s", "-5m", "+5m", "1.5h", "5 m", " 5m", "5m ", "5M", "5min", "5us", "1w", "1h1h", "30m1h", "1m1ms1s", "1h30",
		"106752d", "9223372036855s", "9223372036854775808s", "99999999999999999999d", "106751d24h", "٣m"} {
		if got, err := job.ParseDuration(in); err == nil || got != 0 {
			t.Errorf("%q: got %s, %v, want a refusal", in, got, err)
		}
	}
	_, err := job.ParseDuration(strings.Repeat("9", 5000) + "s")
	if err == nil || len(err.Error()) > 200 {
		t.Errorf("got %v, want a short refusal", err)
	}
}

func TestDurationString(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   job.Duration
		want string
	}{
		{5, "0s"},
		{-job.Duration(time.Hour), "0s"},
		{job.Duration(1500 * time.Microsecond), "1ms"},
		{math.MaxInt64, "106751d23h47m16s854ms"},
	} {
		if got := c.in.String(); got != c.want {
			t.Errorf("%d: got %q, want %q", int64(c.in), got, c.want)
		}
	}
}

func TestDurationInJSON(t *testing.T) {
	t.Parallel()
	in := job.Retry{Backoff: job.Duration(90 * time.Second)}
	body, err := json.Marshal(in)
	if want := `{"max":0,"backoff":"1m30s"}`; err != nil || string(body) != want {
		t.Fatalf("got %s, %v, want %s", body, err, want)
	}
	var out job.Retry
	if err := json.Unmarshal(body, &out); err != nil || out.Backoff != in.Backoff {
		t.Errorf("got %s, %v, want %s", out.Backoff, err, in.Backoff)
	}
	if err := json.Unmarshal([]byte(`{"backoff":"soon"}`), &out); err == nil {
		t.Errorf("got %s, want an error", out.Backoff)
	}
}

func FuzzDuration(f *testing.F) {
	for _, seed := range []string{"90s", "1d2h3m4s5ms", "106751d23h47m16s854ms", "1h1h", "-1s", "9223372036854775807ms"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		d, err := job.ParseDuration(in)
		if err != nil {
			return
		}
		if d < 0 {
			t.Fatalf("%q: got %d, less than nothing", in, int64(d))
		}
		if again, err := job.ParseDuration(d.String()); err != nil || again != d {
			t.Fatalf("%q: got %s, %v, want %s", in, again, err, d)
		}
	})
}
