package process

import "testing"

func TestParseStat(t *testing.T) {
	t.Parallel()
	const tail = " S 1 70 60 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 98765 0 0"
	tests := []struct {
		name, text string
		want       stat
		ok         bool
	}{
		{"plain", "7 (sleep)" + tail, stat{7, 70, 60, "98765", false}, true},
		{"a name with blanks and parentheses", "7 (a) S (b c)" + tail, stat{7, 70, 60, "98765", false}, true},
		{"zombie", "7 (x) Z 1 70 60 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 98765", stat{7, 70, 60, "98765", true}, true},
		{"short", "7 (x) S 1 70", stat{}, false},
		{"no number", "7 (x) S 1 a b 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 98765", stat{}, false},
		{"empty", "", stat{}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseStat(7, []byte(test.text))
			if got != test.want || (err == nil) != test.ok {
				t.Errorf("got %+v, %v; want %+v", got, err, test.want)
			}
		})
	}
}
