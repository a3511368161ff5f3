package way

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"dsvmpools/shared/fault"
)

// dialTime bounds connecting and the answer. A firewall in between that drops what comes says
// nothing, and there may be another way to try.
const dialTime = 5 * time.Second

// Dial connects to a session by the door that listens at address, HOST:PORT. ctx bounds the
// connecting alone.
//
// Errors: fault.NotFound: nobody listens there, or the session is not there now;
// fault.Forbidden: the way is not taken; else fault.Internal.
func Dial(ctx context.Context, address, way string) (net.Conn, error) { return dial(ctx, address, way) }

// Hop is Dial from the door of a node to that of another one, which leads no further.
func Hop(ctx context.Context, address, way string) (net.Conn, error) {
	return dial(ctx, address, wordHop+way)
}

func dial(ctx context.Context, address, line string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		code := fault.Internal
		if errors.Is(err, syscall.ECONNREFUSED) {
			code = fault.NotFound
		}
		return nil, &fault.Error{Code: code, Message: fmt.Sprintf("nobody answers at %s", address), Err: err}
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	answered, err := ask(conn, line)
	if !stop() && err == nil { // it was closed at the last moment
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		if ours := (*fault.Error)(nil); errors.As(err, &ours) {
			return nil, err
		}
		text := fmt.Sprintf("what listens at %s does not answer as the door of a node", address)
		return nil, &fault.Error{Code: fault.Internal, Message: text, Err: err}
	}
	return answered, nil
}

// ask sends the line and reads the answer.
func ask(conn net.Conn, line string) (net.Conn, error) {
	if err := write(conn, line); err != nil {
		return nil, err
	}
	answer, rest, err := readLine(conn)
	if err != nil {
		return nil, err
	}
	if answer == wordOK {
		return After(conn, rest), nil
	}
	if reason, isGone := strings.CutPrefix(answer, wordGone); isGone {
		return nil, fault.New(fault.NotFound, "", "%s", readable(reason))
	}
	if reason, isNo := strings.CutPrefix(answer, wordNo); isNo {
		return nil, fault.New(fault.Forbidden, "", "%s", readable(reason))
	}
	return nil, fmt.Errorf("the answer is %.40q", answer)
}

// After returns a connection whose first bytes have been read already.
func After(conn net.Conn, first []byte) net.Conn {
	if len(first) == 0 {
		return conn
	}
	return &after{Conn: conn, first: first}
}

type after struct {
	net.Conn
	first []byte
}

func (a *after) Read(p []byte) (int, error) {
	if len(a.first) == 0 {
		return a.Conn.Read(p)
	}
	n := copy(p, a.first)
	a.first = a.first[n:]
	return n, nil
}
