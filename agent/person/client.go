package person

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"dsvmpools/agent/process"
)

// maxStateLine bounds what is read of one state or order.
const maxStateLine = 64 << 10

// talkWithin bounds one write to the other end.
const talkWithin = 5 * time.Second

// ErrGone says that a session has no keeper that lives.
var ErrGone = errors.New("the session's keeper does not live")

// Link is a connection to a keeper. It is used by one goroutine that reads, and by any that
// asks.
type Link struct {
	conn  net.Conn
	in    *bufio.Scanner
	write sync.Mutex
}

// Connect connects to the keeper of a session, and waits while it is just coming up.
// ErrGone = there is none.
func Connect(ctx context.Context, run string) (*Link, error) {
	const look = 20 * time.Millisecond
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(run, controlFile))
		if err == nil {
			in := bufio.NewScanner(c)
			in.Buffer(nil, maxStateLine)
			return &Link{conn: c, in: in}, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !Lives(run) {
			return nil, ErrGone
		}
		t := time.NewTimer(look)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// Lives reports whether a session has a keeper.
func Lives(run string) bool {
	f, err := os.Open(filepath.Join(run, lockFile))
	if err != nil {
		return false
	}
	defer f.Close()
	return process.TryLock(f, true) != nil
}

// Next waits for the keeper's next state. An error means that the keeper has ended, or the
// link was closed.
func (l *Link) Next() (State, error) {
	var s State
	if !l.in.Scan() {
		if err := l.in.Err(); err != nil {
			return s, err
		}
		return s, ErrGone
	}
	err := json.Unmarshal(l.in.Bytes(), &s)
	return s, err
}

// Warn has the person told. What was said before is replaced; a number comes once.
func (l *Link) Warn(w Warning) error { return l.ask(order{Warn: &w}) }

// Desktop has the account get a new password, sealed to a key. It comes with a state.
func (l *Link) Desktop(sealTo string) error { return l.ask(order{Desktop: &desktop{SealTo: sealTo}}) }

// End ends the session: nobody comes in any more, what runs is asked to end, and killed
// after the grace. The keeper says Ended and ends.
func (l *Link) End(reason string, grace time.Duration) error {
	return l.ask(order{End: &ending{Reason: reason, Grace: grace}})
}

func (l *Link) ask(o order) error {
	line, err := json.Marshal(o)
	if err != nil {
		return err
	}
	l.write.Lock()
	defer l.write.Unlock()
	l.conn.SetWriteDeadline(time.Now().Add(talkWithin))
	_, err = l.conn.Write(append(line, '\n'))
	return err
}

// Close ends the link and nothing else.
func (l *Link) Close() error { return l.conn.Close() }

// readPlan reads what write has written.
func readPlan(dir string) (p Plan, err error) {
	text, err := os.ReadFile(filepath.Join(dir, PlanFile))
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	return p, err
}

// Stored reads the plan of a session that was started, from its folder on the disk.
func Stored(state string) (Plan, error) { return readPlan(state) }

// RunFolders lists the run folders of a node's sessions, by the numbers of their assignments.
func RunFolders(key string) map[int64]string {
	all := map[int64]string{}
	prefix := strings.TrimSuffix(RunFolder(key, 0), "0")
	found, _ := filepath.Glob(prefix + "[0-9]*")
	for _, path := range found {
		if n, err := strconv.ParseInt(strings.TrimPrefix(path, prefix), 10, 64); err == nil {
			all[n] = path
		}
	}
	return all
}
