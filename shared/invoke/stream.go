package invoke

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A payload is read as it comes, and of its bodies only what a function gets is
// kept: host and handler share the memory of a small instance, and a payload as
// a whole, with its bodies quoted twice, is several times its content.

// Bounds on what is kept of a payload.
const (
	// maxBodies is 100 messages of 256 KiB, the largest batch that host.json allows,
	// and room for one that was set higher.
	maxBodies = 64 << 20
	// maxMetadata is 64 KiB of properties for each of 100 messages, quoted twice, in
	// two lists, and room besides.
	maxMetadata = 32 << 20
	// maxMessages is what the host itself allows for a batch.
	maxMessages = 10_000
	// maxName bounds the name of a binding.
	maxName = 1 << 10
)

var errTooMuch = errors.New("the invocation brings more than the handler keeps at a time; lower maxMessageBatchSize in host.json")

// readMessages reads the payload of a serviceBusTrigger, one or many. text says
// that bodies are texts (dataType string) and not base64 (binary).
func readMessages(r io.Reader, text bool) ([]Message, error) {
	s := &scanner{bufio.NewReaderSize(r, 32<<10)}
	var e envelope
	var bodies [][]byte
	many, inputs := false, 0
	err := s.object(func(name string) error {
		switch {
		case strings.EqualFold(name, "Data"):
			return s.object(func(string) (err error) {
				if inputs++; inputs > 1 {
					_, err := s.value(maxBodies)
					return err
				}
				bodies, many, err = s.bodies(text)
				return err
			})
		case strings.EqualFold(name, "Metadata"):
			raw, err := s.value(maxMetadata)
			if err != nil {
				return err
			}
			return json.Unmarshal(raw, &e.Metadata)
		}
		_, err := s.value(maxMetadata)
		return err
	})
	switch {
	case errors.Is(err, errTooMuch), errors.Is(err, errBodies):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("the invocation is not the JSON that the host sends: %w", err)
	case inputs != 1:
		return nil, fmt.Errorf("the invocation has %d inputs; function.json must have the trigger as its only input", inputs)
	}
	if e.Metadata.MessageIDArray != nil || e.Metadata.SequenceNumberArray != nil {
		out := make([]Message, len(bodies))
		for i, b := range bodies {
			out[i].Body = b
		}
		return out, e.fill(out)
	}
	// One message. Run by hand, a function for many gets a list of one beside the
	// metadata of a single message.
	if many && len(bodies) != 1 {
		return nil, fmt.Errorf("%d messages came with the metadata of one", len(bodies))
	}
	m, err := e.message()
	m.Body = bodies[0]
	return []Message{m}, err
}

var errBodies = errors.New("the bodies cannot be read")

// bodies reads the value of the trigger. many: it is a list.
func (s *scanner) bodies(text bool) (bodies [][]byte, many bool, err error) {
	first, err := s.next()
	if err != nil {
		return nil, false, err
	}
	if first != '"' {
		raw, err := s.value(maxBodies)
		if err == nil && first == '[' {
			bodies, err = list(bytes.NewReader(raw), text)
			return bodies, true, err
		}
		return [][]byte{raw}, false, err // an object: the body was JSON and the host has parsed it
	}
	_, _ = s.ReadByte()
	inner := bufio.NewReader(&unquoted{r: s.Reader, most: maxBodies * 2})
	switch first, err := peek(inner); {
	case err == io.EOF:
		return [][]byte{{}}, false, nil
	case err != nil:
		return nil, false, err
	case first == '[':
		if bodies, err = list(inner, text); err != nil {
			return nil, true, err
		}
		many = true
	case first == '"': // a text of a single message: a string in a string
		var inside string
		raw, err := io.ReadAll(inner)
		if err != nil {
			return nil, false, err
		}
		if json.Unmarshal(raw, &inside) == nil {
			return [][]byte{[]byte(inside)}, false, nil
		}
		return [][]byte{raw}, false, nil
	default:
		raw, err := io.ReadAll(inner)
		if err != nil {
			return nil, false, err
		}
		if decoded, err := base64.StdEncoding.DecodeString(string(raw)); err == nil && !text {
			return [][]byte{decoded}, false, nil
		}
		return [][]byte{raw}, false, nil
	}
	_, err = io.Copy(io.Discard, inner) // to the end of the string
	return bodies, many, err
}

// list reads a JSON list of bodies, one at a time.
func list(r io.Reader, text bool) ([][]byte, error) {
	s := &scanner{bufio.NewReader(r)}
	bodies, total := [][]byte{}, 0
	var scratch bytes.Buffer
	err := s.list(func(first byte) error {
		var body []byte
		switch first {
		case 'n':
			if raw, err := s.value(maxName); err != nil || string(raw) != "null" {
				return errors.Join(fmt.Errorf("%q is no text", raw), err)
			}
		case '"':
			_, _ = s.ReadByte()
			scratch.Reset()
			if _, err := scratch.ReadFrom(&unquoted{r: s.Reader, most: maxBodies}); err != nil {
				return err
			}
			body = make([]byte, 0, scratch.Len())
			if text {
				body = append(body, scratch.Bytes()...)
				break
			}
			var err error
			if body, err = base64.StdEncoding.AppendDecode(body, scratch.Bytes()); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%q begins what is no text", first)
		}
		bodies = append(bodies, body)
		if total += len(body); total > maxBodies || len(bodies) > maxMessages {
			return errTooMuch
		}
		return nil
	})
	if err != nil && !errors.Is(err, errTooMuch) {
		want := map[bool]string{true: "string", false: "binary"}[text]
		err = fmt.Errorf("%w; the trigger in function.json needs \"dataType\": %q, or the program another one: %w", errBodies, want, err)
	}
	return bodies, err
}

// scanner reads JSON a part at a time.
type scanner struct{ *bufio.Reader }

// peek is the next byte that is no white space; it is not taken.
func peek(r *bufio.Reader) (byte, error) {
	for {
		c, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		if c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return c, r.UnreadByte()
		}
	}
}

func (s *scanner) next() (byte, error) {
	c, err := peek(s.Reader)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return c, err
}

// take takes the next byte, which has to be c.
func (s *scanner) take(c byte) error {
	got, err := s.next()
	if err != nil {
		return err
	}
	if got != c {
		return fmt.Errorf("%q came in the place of %q", got, c)
	}
	_, err = s.ReadByte()
	return err
}

// object reads an object, whose values field reads. null is one without fields.
func (s *scanner) object(field func(name string) error) error {
	if c, err := s.next(); err == nil && c == 'n' {
		_, err = s.value(maxName)
		return err
	}
	if err := s.take('{'); err != nil {
		return err
	}
	if c, err := s.next(); err == nil && c == '}' {
		return s.take('}')
	}
	for {
		raw, err := s.value(maxName)
		if err != nil {
			return err
		}
		var name string
		if err := json.Unmarshal(raw, &name); err != nil {
			return err
		}
		if err := s.take(':'); err != nil {
			return err
		}
		if err := field(name); err != nil {
			return err
		}
		c, err := s.next()
		if err != nil {
			return err
		}
		if c == '}' {
			return s.take('}')
		}
		if err := s.take(','); err != nil {
			return err
		}
	}
}

// list reads a list, whose values item reads; its argument is how each begins.
func (s *scanner) list(item func(first byte) error) error {
	if err := s.take('['); err != nil {
		return err
	}
	c, err := s.next()
	for first := true; err == nil && c != ']'; c, err = s.next() {
		if !first {
			if err := s.take(','); err != nil {
				return err
			}
			if c, err = s.next(); err != nil {
				return err
			}
		}
		if err := item(c); err != nil {
			return err
		}
		first = false
	}
	if err != nil {
		return err
	}
	return s.take(']')
}

// value reads one value whole. What it returns need not be JSON: it ends where
// one would.
func (s *scanner) value(most int) (json.RawMessage, error) {
	if _, err := s.next(); err != nil {
		return nil, err
	}
	var out []byte
	depth, quoted, escaped := 0, false, false
	for {
		c, err := s.ReadByte()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		if len(out) == most {
			return nil, errTooMuch
		}
		switch {
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case depth == 0 && (c == ',' || c == '}' || c == ']' || c == ':'): // the end of a number or a word
			return out, s.UnreadByte()
		case c == '}' || c == ']':
			depth--
		}
		out = append(out, c)
		if !quoted && depth == 0 && (c == '"' || c == '}' || c == ']') {
			return out, nil
		}
	}
}

// unquoted reads what a JSON string stands for, up to the quote that ends it; the
// one that begins it has been taken.
type unquoted struct {
	r     *bufio.Reader
	most  int
	store [utf8.UTFMax]byte
	rest  []byte // of a character that did not fit; lies in store
	ended bool
}

func (u *unquoted) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(u.rest) > 0 {
			k := copy(p[n:], u.rest)
			n, u.rest = n+k, u.rest[k:]
			continue
		}
		if u.ended {
			break
		}
		if u.r.Buffered() == 0 && n > 0 {
			return n, nil // before it waits for more
		}
		if _, err := u.r.Peek(1); err != nil {
			return n, noEnd(err)
		}
		run, _ := u.r.Peek(min(u.r.Buffered(), len(p)-n))
		if i := bytes.IndexAny(run, `"\`); i >= 0 {
			run = run[:i]
		}
		if u.most -= max(len(run), 1); u.most < 0 { // an escape counts as one
			return n, errTooMuch
		}
		n += copy(p[n:], run)
		_, _ = u.r.Discard(len(run))
		if len(run) == 0 {
			if err := u.special(); err != nil {
				return n, err
			}
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func noEnd(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// special reads the end, or what a backslash begins.
func (u *unquoted) special() error {
	c, err := u.r.ReadByte()
	if err != nil {
		return noEnd(err)
	}
	if c == '"' {
		u.ended = true
		return nil
	}
	if c, err = u.r.ReadByte(); err != nil {
		return noEnd(err)
	}
	switch i := strings.IndexByte(`"\/bfnrt`, c); {
	case i >= 0:
		u.rest = append(u.store[:0], "\"\\/\b\f\n\r\t"[i])
		return nil
	case c != 'u':
		return fmt.Errorf("a string has %q after a backslash", c)
	}
	r, err := u.unit()
	if err != nil {
		return err
	}
	if utf16.IsSurrogate(r) {
		low := rune(utf8.RuneError)
		if next, _ := u.r.Peek(2); string(next) == `\u` {
			_, _ = u.r.Discard(2)
			if low, err = u.unit(); err != nil {
				return err
			}
		}
		r = utf16.DecodeRune(r, low)
	}
	u.rest = utf8.AppendRune(u.store[:0], r)
	return nil
}

// unit is the number after \u.
func (u *unquoted) unit() (rune, error) {
	var digits [4]byte
	if _, err := io.ReadFull(u.r, digits[:]); err != nil {
		return 0, noEnd(err)
	}
	n, err := strconv.ParseUint(string(digits[:]), 16, 16)
	if err != nil {
		return 0, fmt.Errorf(`a string has %q after \u`, digits)
	}
	return rune(n), nil
}
