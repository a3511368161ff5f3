package cli

import (
	"bytes"
	"testing"
)

// What a job writes cannot do more to a terminal than colour its text.
func TestScreen(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ color, text, want string }{
		"text":                       {"", "one\ttwo\r\nthree", "one\ttwo\r\nthree"},
		"a progress bar":             {"", "10%\r\x1b[K20%\b\b", "10%\r\x1b[K20%\b\b"},
		"colours":                    {"", "\x1b[1;31mred\x1b[0m\n", "\x1b[1;31mred\x1b[0m\x1b[0m\n"},
		"a colour that is left":      {"", "\x1b[31mred", "\x1b[31mred\x1b[0m"},
		"a cursor that moves":        {"", "a\x1b[2J\x1b[10;10Hb\x1b[A", "ab"},
		"a private sequence":         {"", "a\x1b[?1049hb\x1b[>4;2mc", "abc"},
		"the window's title":         {"", "a\x1b]0;owned\x07b\x1b]52;c;eA==\x1b\\c", "abc"},
		"a device control":           {"", "a\x1bP$q\"p\x1b\\b", "ab"},
		"a title without end":        {"", "a\x1b]0;owned\nb", "ab"},
		"a reset":                    {"", "a\x1bcb", "acb"},
		"controls of eight bits":     {"", "a\u009b2Jb\x9b2Jc", "a2Jb\ufffd2Jc"},
		"no characters":              {"", "a\xff\xfeb\x00\x07c", "a\ufffd\ufffdbc"},
		"a character that is cut":    {"", "a\xe2\x82", "a\ufffd"},
		"a sequence that is cut":     {"", "a\x1b[3", "a"},
		"a text that turns round":    {"", "a\u202eb", "ab"},
		"a character of three bytes": {"", "\u20ac", "\u20ac"},
		"of one colour":              {colorYellow, "one\n\ntwo", "\x1b[33mone\x1b[0m\n\n\x1b[33mtwo\x1b[0m"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{1, 2, 3, len(test.text)} {
				var got bytes.Buffer
				s := newScreen(&got, true, test.color)
				for text := []byte(test.text); len(text) > 0; text = text[min(size, len(text)):] {
					if n, err := s.Write(text[:min(size, len(text))]); n != min(size, len(text)) || err != nil {
						t.Fatal(n, err)
					}
				}
				s.end()
				if got.String() != test.want {
					t.Errorf("%d bytes at a time: got %q, want %q", size, got.String(), test.want)
				}
			}
			var got bytes.Buffer
			s := newScreen(&got, false, test.color)
			s.Write([]byte(test.text))
			s.end()
			if got.String() != test.text {
				t.Errorf("in a pipe: got %q", got.String())
			}
		})
	}
}

func FuzzScreen(f *testing.F) {
	f.Add([]byte("a\x1b[31mb\x1b]0;x\x07"), 3)
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		var whole, parts bytes.Buffer
		a, b := newScreen(&whole, true, ""), newScreen(&parts, true, "")
		a.Write(text)
		a.end()
		size = max(1, size)
		for len(text) > 0 {
			n := min(size, len(text))
			b.Write(text[:n])
			text = text[n:]
		}
		b.end()
		if whole.String() != parts.String() {
			t.Errorf("got %q at once, %q in parts", whole.String(), parts.String())
		}
	})
}
