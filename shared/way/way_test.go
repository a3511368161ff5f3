package way_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/way"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func keys(t *testing.T) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return public, private
}

func TestWaysAreRead(t *testing.T) {
	t.Parallel()
	public, private := keys(t)
	other, stranger := keys(t)
	good := way.Way{For: way.SSH, Session: "s", Inside: "10.1.0.4:443", Expires: at.Add(15 * time.Minute).Unix()}
	sign := func(key ed25519.PrivateKey, change func(*way.Way)) string {
		w := good
		change(&w)
		text, err := way.Sign(key, w)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	same := func(*way.Way) {}
	text := sign(private, same)
	if got, err := way.Read(text, []ed25519.PublicKey{other, public}, at); err != nil || got != good {
		t.Fatalf("got %+v, %v", got, err)
	}
	body, _, _ := strings.Cut(text, ".")
	raw, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		t.Fatal(err)
	}
	bare := base64.RawURLEncoding.EncodeToString(ed25519.Sign(private, raw)) // as a ticket is signed
	longer := strings.Replace(string(raw), `"s"`, `"other"`, 1)
	for name, wrong := range map[string]string{
		"of a stranger":             sign(stranger, same),
		"expired":                   sign(private, func(w *way.Way) { w.Expires = at.Add(-2 * time.Minute).Unix() }),
		"without a time":            sign(private, func(w *way.Way) { w.Expires = 0 }),
		"for no session":            sign(private, func(w *way.Way) { w.Session = "" }),
		"signed for something else": body + "." + bare,
		"changed":                   base64.RawURLEncoding.EncodeToString([]byte(longer)) + text[strings.IndexByte(text, '.'):],
		"cut":                       text[:len(text)-2],
		"without a signature":       body,
		"empty":                     "",
		"too long":                  text + strings.Repeat("A", 2000),
		"no text":                   "\x00.\xff",
	} {
		if got, err := way.Read(wrong, []ed25519.PublicKey{public}, at); !errors.Is(err, way.ErrInvalid) || got != (way.Way{}) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	if _, err := way.Read(text, nil, at); !errors.Is(err, way.ErrInvalid) {
		t.Errorf("without a key: %v", err)
	}
}

func TestReadKey(t *testing.T) {
	t.Parallel()
	public, _ := keys(t)
	if got := way.ReadKey(base64.StdEncoding.EncodeToString(public)); !got.Equal(public) {
		t.Errorf("got %x, want %x", got, public)
	}
	for _, wrong := range []string{"", "AAAA", "?"} {
		if got := way.ReadKey(wrong); got != nil {
			t.Errorf("%q is %x", wrong, got)
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]way.Line{
		"DSVM1 abc.def\n":          {Way: "abc.def"},
		"DSVM1 abc.def\r\n":        {Way: "abc.def"},
		"DSVM1 hop abc.def\nSSH-2": {Way: "abc.def", IsHop: true, Rest: []byte("SSH-2")},
	} {
		// Byte by byte, what follows the line stays where it is.
		for _, from := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text))} {
			got, err := way.ReadLine(from)
			left, _ := io.ReadAll(from)
			got.Rest = append(got.Rest, left...)
			if err != nil || got.Way != want.Way || got.IsHop != want.IsHop || !bytes.Equal(got.Rest, want.Rest) {
				t.Errorf("%q: got %+v, %v", text, got, err)
			}
		}
	}
	for _, wrong := range []string{"", "\n", "DSVM1", "DSVM1 abc", "dsvm1 abc\n", "DSVM2 abc\n", "GET / HTTP/1.1\r\n\r\n", "\nDSVM1 a\n", "DSV\n M1 a\n"} {
		if got, err := way.ReadLine(strings.NewReader(wrong)); err == nil {
			t.Errorf("%q is read as %+v", wrong, got)
		}
	}
}

// counter is endless, and counts what is read of it.
type counter struct {
	begin string
	n     int
}

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		if p[i] = 'A'; c.n < len(c.begin) {
			p[i] = c.begin[c.n]
		}
		c.n++
	}
	return len(p), nil
}

// A line that never ends is not read for ever, and one that cannot be ours not to its end.
func TestLinesThatNeverEnd(t *testing.T) {
	t.Parallel()
	for begin, most := range map[string]int{"DSVM1 ": 2 << 10, "": 2 << 10} {
		from := &counter{begin: begin}
		if got, err := way.ReadLine(from); err == nil || from.n > most {
			t.Errorf("%q: got %+v, %v after %d bytes", begin, got, err, from.n)
		}
	}
	from := &counter{begin: "SSH"}
	if _, err := way.ReadLine(iotest.OneByteReader(from)); err == nil || from.n > 1 {
		t.Errorf("read %d bytes of another protocol, %v", from.n, err)
	}
}

func FuzzReadLine(f *testing.F) {
	for _, text := range []string{"DSVM1 a.b\n", "DSVM1 hop a.b\nrest", "DSVM1 \n", "SSH-2.0\n", ""} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := way.ReadLine(bytes.NewReader(text))
		if err == nil && (!bytes.HasPrefix(text, []byte("DSVM1 ")) || !bytes.HasSuffix(text, got.Rest) && len(text) <= 2<<10) {
			t.Errorf("%q is read as %+v", text, got)
		}
	})
}

// server answers one connection: with what answer writes for the line that came.
func server(t *testing.T, answer func(c net.Conn, line string)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			line := make([]byte, 200)
			n, _ := c.Read(line)
			answer(c, string(line[:n]))
		}
	}()
	return l.Addr().String()
}

func TestDial(t *testing.T) {
	t.Parallel()
	ok := server(t, func(c net.Conn, line string) {
		fmt.Fprintf(c, "DSVM1 ok\nSSH-2.0 for %s", line)
		c.Close()
	})
	for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){"DSVM1 w\n": way.Dial, "DSVM1 hop w\n": way.Hop} {
		c, err := dial(t.Context(), ok, "w")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		c.Close()
		if want := "SSH-2.0 for " + name; err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	for answer, want := range map[string]struct {
		code fault.Code
		says string
	}{
		"DSVM1 absent the session has ended\n": {fault.NotFound, "the session has ended"},
		"DSVM1 no \x1b[2Jthis way\n":           {fault.Forbidden, " [2Jthis way"},
		"SSH-2.0-OpenSSH\r\n":                  {fault.Internal, "does not answer as the door of a node"},
		"":                                     {fault.Internal, "does not answer as the door of a node"},
		"DSVM1 maybe\n":                        {fault.Internal, "does not answer as the door of a node"},
	} {
		address := server(t, func(c net.Conn, _ string) { io.WriteString(c, answer); c.Close() })
		if _, err := way.Dial(t.Context(), address, "w"); fault.CodeOf(err) != want.code || !strings.Contains(err.Error(), want.says) {
			t.Errorf("%q: got %v (%s), want %s", answer, err, fault.CodeOf(err), want.code)
		}
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	if _, err := way.Dial(t.Context(), gone.Addr().String(), "w"); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("where nobody listens: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	silent := server(t, func(net.Conn, string) { cancel() })
	if _, err := way.Dial(ctx, silent, "w"); fault.CodeOf(err) != fault.Internal {
		t.Errorf("who never answers: %v", err)
	}
}
