package way

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"dsvmpools/shared/plain"
)

// maxLine bounds a line: a way, and the words around it.
const maxLine = 2 << 10

// Words at the begin of a line.
const (
	greeting = "DSVM1 "
	wordHop  = "hop "
	wordOK   = "ok"
	wordGone = "absent "
	wordNo   = "no "
)

// errLine is the error of bytes that are no line of this package.
var errLine = errors.New("this is no way to a session")

// Line is the first line of a connection.
type Line struct {
	Way   string // as Read reads it
	IsHop bool   // the door of another node passes it on
	Rest  []byte // what has come behind it
}

// ReadLine reads the first line of a connection. The caller bounds the time. A line that is too
// long, or of another kind, is an error, as soon as that is seen.
func ReadLine(from io.Reader) (Line, error) {
	text, rest, err := readLine(from)
	if err != nil {
		return Line{}, err
	}
	token, isHop := strings.CutPrefix(text, wordHop)
	return Line{Way: token, IsHop: isHop, Rest: rest}, nil
}

// readLine reads what follows the greeting, up to the end of the line.
func readLine(from io.Reader) (text string, rest []byte, err error) {
	buffer := make([]byte, maxLine)
	for n := 0; n < len(buffer); {
		more, err := from.Read(buffer[n:])
		n += more
		known := min(n, len(greeting))
		if string(buffer[:known]) != greeting[:known] {
			return "", nil, errLine
		}
		if end := bytes.IndexByte(buffer[:n], '\n'); end >= 0 {
			if end < len(greeting) {
				return "", nil, errLine
			}
			return strings.TrimSuffix(string(buffer[len(greeting):end]), "\r"), bytes.Clone(buffer[end+1 : n]), nil
		}
		if err != nil {
			return "", nil, err
		}
	}
	return "", nil, errLine
}

// Accept answers that the bytes of the session follow.
func Accept(to io.Writer) error { return write(to, wordOK) }

// Refuse answers why a way is not taken. absent: something may lead there later. Nobody hears
// of an error: the connection is at its end.
func Refuse(to io.Writer, absent bool, reason error) {
	word := wordNo
	if absent {
		word = wordGone
	}
	_ = write(to, word+readable(reason.Error()))
}

func write(to io.Writer, text string) error {
	_, err := io.WriteString(to, greeting+text+"\n")
	return err
}

// maxReason bounds what is passed on of a reason.
const maxReason = 300

// readable is what is passed on of a reason that comes from elsewhere.
func readable(reason string) string { return plain.Clip(plain.Line(reason), maxReason) }
