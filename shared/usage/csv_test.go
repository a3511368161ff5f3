package usage

import (
	"strings"
	"testing"
	"time"
)

// A file has a line of names, ends of lines as RFC 4180 has them, and no cell that a spreadsheet would compute.
// Negative numbers stay numbers.
func TestCSV(t *testing.T) {
	t.Parallel()
	a := attempt("a", `=cmd|'/C calc'!A0`, time.Hour, 1, 4, "1", "EUR")
	b := attempt("b", "vision, \"b\"\nlab", 2*time.Hour, 4, 4, "1", "EUR")
	c := attempt("c", "", time.Hour, 1, 4, UnknownPrice, "")
	n := node(time.Hour, "1", "EUR")
	n.Idle = 15 * time.Minute
	report := build(t, aDay("day,team"), rows(a, b, c, n))
	var out strings.Builder
	if err := WriteCSV(&out, "day,team", report.Groups); err != nil {
		t.Fatal(err)
	}
	want := "day,team,jobs,seconds,nodeSeconds,cost,waste,boot,idle,draining,currency,open\r\n" +
		"2026-01-31,,0,0,-4500,0.00,-1.25,0.00,0.25,0.00,EUR,0\r\n" +
		"2026-01-31,,1,3600,900,unknown,,,,,,0\r\n" +
		"2026-01-31,'=cmd|'/C calc'!A0,1,3600,900,0.25,,,,,EUR,0\r\n" +
		"2026-01-31,\"vision, \"\"b\"\"\r\nlab\",1,7200,7200,2.00,,,,,EUR,0\r\n"
	if out.String() != want {
		t.Errorf("got\n%q\nwant\n%q", out.String(), want)
	}
	for text, want := range map[string]string{"": "", "a-b": "a-b", "-1": "'-1", "+x": "'+x", "@x": "'@x", "\tx": "'\tx", "'": "'"} {
		if got := PlainCell(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}
