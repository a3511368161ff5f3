//go:build unix

package agent

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
)

// logPipes are the pipes of a slot.
type logPipes struct {
	streams [2]*logPipe
}

// newLogPipes makes pipes. They belong to the user who writes to them, so that a program may
// open /dev/stdout.
func newLogPipes(writer owner) (*logPipes, error) {
	p := &logPipes{}
	for i := range p.streams {
		pipe, err := newLogPipe(writer)
		if err != nil {
			p.close()
			return nil, startfault.New(job.CauseNoProcess,
				"the pipes of the attempt's logs cannot be made on the node: %w", startfault.Innermost(err))
		}
		p.streams[i] = pipe
	}
	return p, nil
}

// ends are the open files that a process gets.
func (p *logPipes) ends() []uintptr {
	return []uintptr{uintptr(p.streams[0].write), uintptr(p.streams[1].write)}
}

// close ends the pipes, as soon as no process has them any more, or after lastWords.
func (p *logPipes) close() {
	if p == nil {
		return
	}
	for _, s := range p.streams {
		if s != nil {
			s.closeWrite()
			time.AfterFunc(lastWords, func() { _ = s.read.SetReadDeadline(time.Now()) })
		}
	}
}

// logPipe is the pipe of one stream, with the log that it goes to.
type logPipe struct {
	read  *os.File
	conn  syscall.RawConn
	fd    int       // of read
	write int       // the slot's copy of the end that processes write to; < 0 = it is closed
	made  pipeState // of that end, as it was made

	mu    sync.Mutex // held while something is read and written, so that it stays in order
	ended bool       // nothing is read any more
	logs  *attemptLogs
	log   *attemptLog // nil = no attempt writes
}

// pipeBuffers are what pipes are read into. A pipe in which nothing is has none, so that an
// attempt that writes nothing costs no memory to speak of.
var pipeBuffers = sync.Pool{New: func() any { return new([copied]byte) }}

func newLogPipe(writer owner) (*logPipe, error) {
	read, write, err := openPipe()
	if err != nil {
		return nil, err
	}
	_ = writer.giveDescriptor(write) // else /dev/stdout cannot be opened, and everything else works
	p := &logPipe{read: os.NewFile(uintptr(read), "pipe"), fd: read, write: write}
	if p.made, err = pipeStateOf(write); err == nil {
		p.conn, err = p.read.SyscallConn()
	}
	if err != nil {
		p.closeWrite()
		p.read.Close()
		return nil, err
	}
	go p.copy()
	return p, nil
}

// attach has the pipe go to a log.
func (p *logPipe) attach(logs *attemptLogs, log *attemptLog) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.logs, p.log = logs, log
}

// detach ends the log that the pipe goes to. The caller holds p.mu.
func (p *logPipe) detach() {
	if p.log == nil {
		return
	}
	p.log.close()
	p.logs.endStream()
	p.logs, p.log = nil, nil
}

// copy writes what comes out of the pipe until nobody can write to it any more.
func (p *logPipe) copy() {
	last := -1 // how much is read yet of what is left in a pipe that stays open; < 0 = it is not known to stay open
	for last < maxPipe {
		n, err := p.copyNext()
		if last < 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			last = 0
		} else if err != nil {
			break // nobody can write to it any more, or nothing is left in it
		}
		if last >= 0 {
			last += n
			_ = p.read.SetReadDeadline(time.Now().Add(lastLook))
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.detach()
	p.read.Close()
}

// copyNext waits until something is in the pipe, and writes it to the log.
func (p *logPipe) copyNext() (n int, err error) {
	var buffer *[copied]byte
	wait := p.conn.Read(func(fd uintptr) bool {
		p.mu.Lock()
		buffer, n, err = readPipe(fd)
		if buffer == nil {
			p.mu.Unlock()
		}
		return buffer != nil
	})
	if buffer == nil {
		return 0, wait
	}
	defer p.mu.Unlock()
	defer pipeBuffers.Put(buffer)
	switch {
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	p.pass(buffer[:n])
	return n, nil
}

// readPipe reads what is in a pipe; no buffer = nothing is in it yet.
func readPipe(fd uintptr) (buffer *[copied]byte, n int, err error) {
	buffer = pipeBuffers.Get().(*[copied]byte)
	n, err = retry(func() (int, error) { return unix.Read(int(fd), buffer[:]) })
	if errors.Is(err, unix.EAGAIN) {
		pipeBuffers.Put(buffer)
		return nil, 0, nil
	}
	return buffer, n, err
}

// pass gives what was read to the log. The caller holds p.mu.
func (p *logPipe) pass(text []byte) {
	if p.log == nil {
		return // of nobody: its attempt has ended, with all its processes
	}
	p.log.write(text, time.Now())
	p.logs.written.Add(int64(len(text)))
}

// drain writes what is left in a pipe that no process of its attempt can write to any more,
// and ends the log. It reports whether the pipe is as it was made, for another attempt.
func (p *logPipe) drain() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, err := pipeStateOf(p.write)
	empty := p.readRest(max(maxPipe, now.size))
	p.detach()
	// A lock belongs to the open file, which the next attempt gets.
	return !p.ended && err == nil && empty && now == p.made && unix.Flock(p.write, unix.LOCK_UN) == nil
}

// readRest reads what is left in the pipe, and somewhat more than a number of bytes at most. It
// reports whether nothing is in it then: somebody who has the pipe may go on writing. The caller
// holds p.mu.
func (p *logPipe) readRest(most int) (empty bool) {
	for read := 0; !p.ended && read <= most; {
		buffer, n, err := readPipe(uintptr(p.fd))
		if buffer == nil {
			return true
		}
		p.pass(buffer[:max(n, 0)])
		pipeBuffers.Put(buffer)
		if read += n; n <= 0 || err != nil {
			return false // copy sees it, too
		}
	}
	return false
}

// pipeState is what an attempt can change of a pipe's end that it writes to.
type pipeState struct {
	flags, size int
	mode        uint32
	uid, gid    uint32
}

func pipeStateOf(fd int) (s pipeState, err error) {
	var at unix.Stat_t
	if err = unix.Fstat(fd, &at); err == nil {
		s.flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	}
	if err == nil {
		s.size, err = pipeSize(fd)
	}
	s.mode, s.uid, s.gid = uint32(widen(at.Mode)), at.Uid, at.Gid
	return s, err
}

// closeWrite closes the slot's copy of the end that processes write to.
func (p *logPipe) closeWrite() {
	if p.write >= 0 {
		unix.Close(p.write)
		p.write = -1
	}
}

// Bounds of reading a pipe that stays open after its attempt.
const (
	maxPipe  = 1 << 20 // what a pipe holds, at most
	lastLook = 50 * time.Millisecond
)
