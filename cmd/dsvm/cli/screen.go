package cli

import (
	"bytes"
	"io"
	"unicode"
	"unicode/utf8"
)

// Signs that colour what follows on a terminal.
const (
	colorRed    = "\x1b[31m"
	colorGreen  = "\x1b[32m"
	colorYellow = "\x1b[33m"
	colorReset  = "\x1b[0m"
)

// screen writes what a job has written. A pipe or file gets the bytes as they are. A
// terminal gets text: of the escape sequences only those that colour text or erase a
// part of the line, so that what a job writes cannot rename the window, move the
// cursor to other lines, or answer in the user's name.
type screen struct {
	out      io.Writer
	terminal bool
	color    string // of all text; "" = as it comes

	rest    []byte // the begin of a sequence or character that is not complete
	skips   bool   // inside a sequence that ends with a string terminator
	begun   bool   // the line has text
	painted bool   // a colour may be set
}

func newScreen(out io.Writer, terminal bool, color string) *screen {
	return &screen{out: out, terminal: terminal, color: color}
}

const escape = 0x1b

// maxSequence is how long an escape sequence may be; a longer one is taken for text.
const maxSequence = 64

func (s *screen) Write(b []byte) (int, error) {
	if !s.terminal {
		return s.out.Write(b)
	}
	in := append(s.rest, b...)
	var out bytes.Buffer
	for len(in) > 0 {
		n := s.next(&out, in)
		if n == 0 {
			break
		}
		in = in[n:]
	}
	s.rest = bytes.Clone(in)
	if _, err := s.out.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(b), nil
}

// next takes one character or sequence from in. 0 = it is not complete.
func (s *screen) next(out *bytes.Buffer, in []byte) int {
	if s.skips {
		return s.skip(in)
	}
	if in[0] == escape {
		return s.sequence(out, in)
	}
	if !utf8.FullRune(in) {
		return 0
	}
	r, n := utf8.DecodeRune(in)
	switch {
	case r == '\n':
		if s.painted {
			out.WriteString(colorReset)
		}
		out.WriteByte('\n')
		s.begun, s.painted = false, false
	case r == '\t' || r == '\r' || r == '\b':
		out.WriteRune(r)
	case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
		// Without a place on the screen.
	default:
		if !s.begun && s.color != "" {
			out.WriteString(s.color)
			s.painted = true
		}
		s.begun = true
		out.WriteRune(r) // bytes that are no character become the sign for that
	}
	return n
}

// sequence takes an escape sequence from in.
func (s *screen) sequence(out *bytes.Buffer, in []byte) int {
	if len(in) < 2 {
		return 0
	}
	switch in[1] {
	case '[':
	case ']', 'P', 'X', '^', '_': // a text for the terminal itself
		s.skips = true
		return 2
	default:
		return 1 // what follows is text
	}
	for i := 2; i < len(in) && i < maxSequence; i++ {
		switch c := in[i]; {
		case c >= 0x40 && c <= 0x7e:
			if (c == 'm' || c == 'K') && onlyNumbers(in[2:i]) {
				out.Write(in[:i+1])
				s.painted = s.painted || c == 'm'
			}
			return i + 1
		case c < 0x20 || c > 0x7e:
			return i // no sequence
		}
	}
	if len(in) < maxSequence {
		return 0
	}
	return maxSequence
}

// onlyNumbers reports whether the parameters of a sequence are numbers.
func onlyNumbers(b []byte) bool {
	return len(bytes.Trim(b, "0123456789;:")) == 0
}

// skip takes what stands in a sequence that ends with a string terminator, a bell or a
// line's end.
func (s *screen) skip(in []byte) int {
	for i, c := range in {
		switch {
		case c == '\a', c == '\n':
			s.skips = false
			return i + 1
		case c == escape:
			if i > 0 {
				return i
			}
			if len(in) < 2 {
				return 0
			}
			s.skips = false
			if in[1] == '\\' {
				return 2
			}
			return 1
		}
	}
	return len(in)
}

// end writes what was not complete, and leaves the terminal without colour.
func (s *screen) end() {
	if !s.terminal {
		return
	}
	if len(s.rest) > 0 && s.rest[0] != escape && !s.skips {
		_, _ = io.WriteString(s.out, string(utf8.RuneError))
	}
	if s.painted {
		_, _ = io.WriteString(s.out, colorReset)
	}
	s.rest, s.painted, s.skips = nil, false, false
}
