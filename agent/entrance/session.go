//go:build unix

package entrance

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// Bounds of one program.
const (
	longestLine = 64 << 10 // of a command
	longestTerm = 64       // of the name of a terminal
	largestTTY  = 10_000   // columns, or rows
	hangUpTime  = 5 * time.Second
	// ttyQuiet is how long a terminal must be silent after its program has ended until nothing more
	// comes: the system passes on what was written to it a moment later.
	ttyQuiet = 300 * time.Millisecond
)

// program is a channel in which one program runs.
type program struct {
	*visitor
	channel ssh.Channel
	tty     *tty // nil = it has none
	term    string
	process Process       // nil = it was not started
	done    chan struct{} // closed when its end was told
}

// serveSession serves a channel for a program to its end.
func (v *visitor) serveSession(c ssh.NewChannel) {
	v.sessions.Add(1)
	defer v.sessions.Done()
	channel, requests, err := c.Accept()
	if err != nil {
		return
	}
	p := &program{visitor: v, channel: channel, done: make(chan struct{})}
	defer channel.Close()
	for r := range requests {
		ok := p.answer(r)
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
		if ok && (r.Type == "shell" || r.Type == "exec") {
			go p.follow() // after the answer
		}
	}
	if p.process == nil {
		p.tty.close()
		return
	}
	p.hangUp()
	<-p.done
}

// answer does what is asked in the channel, and reports whether it could.
func (p *program) answer(r *ssh.Request) bool {
	switch r.Type {
	case "pty-req":
		var want struct {
			Term                  string
			Columns, Rows, XX, YY uint32
			Modes                 string
		}
		if ssh.Unmarshal(r.Payload, &want) != nil || p.tty != nil || p.process != nil || !isTerm(want.Term) {
			return false
		}
		t, err := openTTY()
		if err != nil {
			p.log.Warn("a terminal cannot be opened", "error", err.Error())
			return false
		}
		p.tty, p.term = t, want.Term
		p.tty.resize(want.Columns, want.Rows)
		return true
	case "window-change":
		var now struct{ Columns, Rows, XX, YY uint32 }
		if ssh.Unmarshal(r.Payload, &now) != nil || p.tty == nil {
			return false
		}
		p.tty.resize(now.Columns, now.Rows)
		return true
	case "shell":
		return p.start("")
	case "exec":
		var want struct{ Line string }
		if ssh.Unmarshal(r.Payload, &want) != nil || want.Line == "" || len(want.Line) > longestLine {
			return false
		}
		return p.start(want.Line)
	case "signal":
		var want struct{ Name string }
		signal, known := signals[""], false
		if ssh.Unmarshal(r.Payload, &want) == nil {
			signal, known = signals[want.Name]
		}
		if !known || p.process == nil {
			return false
		}
		p.process.Signal(signal)
		return true
	}
	return false // such as variables of the person's machine, or files by sftp
}

// signals that may be sent, by their names in the protocol (RFC 4254, 6.10).
var signals = map[string]syscall.Signal{"HUP": unix.SIGHUP, "INT": unix.SIGINT, "QUIT": unix.SIGQUIT, "TERM": unix.SIGTERM,
	"KILL": unix.SIGKILL, "USR1": unix.SIGUSR1, "USR2": unix.SIGUSR2}

func isTerm(name string) bool {
	return len(name) <= longestTerm && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
}

// ends are the person's ends of the files of a program.
type ends struct {
	in       *os.File
	out, err *os.File // err nil = a terminal, which has one for both
}

// start starts the program. What goes wrong is said to the person.
func (p *program) start(line string) bool {
	if p.process != nil || strings.ContainsRune(line, 0) {
		return false
	}
	command := Command{Line: line}
	var mine ends
	var theirs []*os.File
	if p.tty != nil {
		mine.in, mine.out = p.tty.master, p.tty.master
		theirs = []*os.File{p.tty.slave}
		command.TTY, command.Files = true, [3]*os.File{p.tty.slave, p.tty.slave, p.tty.slave}
		command.Env = []string{"TERM=" + p.term}
	} else {
		var all [6]*os.File
		for i := 0; i < len(all); i += 2 {
			var err error
			if all[i], all[i+1], err = os.Pipe(); err != nil {
				p.log.Warn("a program cannot be given its files", "error", err.Error())
				for _, f := range all[:i] {
					f.Close()
				}
				return false
			}
		}
		mine = ends{in: all[1], out: all[2], err: all[4]}
		theirs = []*os.File{all[0], all[3], all[5]}
		command.Files = [3]*os.File{all[0], all[3], all[5]}
	}
	process, err := p.inside.Start(command)
	for _, f := range theirs {
		f.Close()
	}
	if err != nil {
		p.process = failed{}
		go io.Copy(io.Discard, p.channel)
		text := "dsvm: " + err.Error() + "\n"
		if p.tty != nil {
			text = "dsvm: " + err.Error() + "\r\n"
		}
		_, _ = io.WriteString(p.channel.Stderr(), text)
		mine.close()
		return true
	}
	p.log.Info("a program was started", "terminal", p.tty != nil)
	p.process = &running{Process: process, ends: mine}
	return true
}

func (e ends) close() {
	for _, f := range []*os.File{e.in, e.out, e.err} {
		if f != nil {
			f.Close()
		}
	}
}

// running is a program with the person's ends of its files.
type running struct {
	Process
	ends
}

// failed is a program that could not be started.
type failed struct{}

func (failed) Wait() int             { return codeNotStarted }
func (failed) Signal(syscall.Signal) {}

// codeNotStarted is the exit code of what could not be started, as shells have it.
const codeNotStarted = 126

// follow passes bytes between the person and the program until that has ended, and tells how.
func (p *program) follow() {
	defer close(p.done)
	r, isRunning := p.process.(*running)
	if !isRunning {
		p.tell(p.process.Wait())
		return
	}
	ended := make(chan struct{})
	var output sync.WaitGroup
	quiet := time.Duration(0)
	if r.err == nil {
		quiet = ttyQuiet
	}
	output.Go(func() { copyOut(p.channel, r.out, ended, quiet) })
	if r.err != nil {
		output.Go(func() { copyOut(p.channel.Stderr(), r.err, ended, quiet) })
	}
	go func() {
		_, _ = io.Copy(r.in, p.channel)
		if r.err != nil {
			r.in.Close()
		}
		_, _ = io.Copy(io.Discard, p.channel) // a program that reads no more holds up nobody
	}()
	code := r.Wait()
	close(ended)
	output.Wait()
	r.close()
	if p.tty != nil && p.hasEnded() {
		_, _ = io.WriteString(p.channel.Stderr(), "\r\ndsvm: "+p.over+"\r\n")
	}
	p.tell(code)
}

// tell says how the program has ended, and ends the channel.
func (p *program) tell(code int) {
	_ = p.channel.CloseWrite()
	_, _ = p.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(code)})) //nolint:gosec // 0 to 255
	p.channel.Close()
}

// hangUp ends a program whose person has gone.
func (p *program) hangUp() {
	select {
	case <-p.done:
		return
	default:
	}
	p.process.Signal(unix.SIGHUP)
	go func() {
		select {
		case <-p.done:
		case <-time.After(hangUpTime):
			p.process.Signal(unix.SIGKILL)
		}
	}()
}

// chunk is how much of an output is in memory at a time.
const chunk = 32 << 10

// copyOut passes on what a program writes, until all that write there have ended, or the program
// has: then what it has written is passed on, and what others write later is not.
func copyOut(to io.Writer, from *os.File, ended <-chan struct{}, quiet time.Duration) {
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-ended:
			_ = from.SetReadDeadline(time.Now().Add(quiet))
		case <-over:
		}
	}()
	buffer := make([]byte, chunk)
	for left := -1; left != 0; {
		n, err := from.Read(buffer)
		if n > 0 {
			if left > 0 {
				left = max(left-n, 0)
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				if left < 0 { // the person has gone, and the program is ended
					_, _ = io.Copy(io.Discard, from)
				}
				return
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && left < 0:
			left = available(from)
			_ = from.SetReadDeadline(time.Time{})
		default:
			return
		}
	}
}
