package plain_test

import (
	"testing"

	"dsvmpools/shared/plain"
)

func TestLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                  "",
		"déjà vu":           "déjà vu",
		"a\nb\tc\x1b[2J":    "a b c [2J",
		"c1 \u009b here":    "c1   here",
		"turned \u202e txt": "turned   txt",
		"no \xff text":      "no   text",
	} {
		if got := plain.Line(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		most int
		want string
	}{
		{"", 3, ""}, {"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aéé", 4, "aé"}, {"a\xffb", 3, "ab"}, {"é", 1, ""}, {"a", 0, ""},
	} {
		if got := plain.Clip(c.text, c.most); got != c.want {
			t.Errorf("%q cut to %d: got %q, want %q", c.text, c.most, got, c.want)
		}
	}
}
