package agent

import (
	"crypto/rand"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/windows"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
)

// logPipes are the pipes of one attempt.
type logPipes struct {
	streams [2]*logPipe
}

// newLogPipes makes pipes.
func newLogPipes(owner) (*logPipes, error) {
	p := &logPipes{}
	for i := range p.streams {
		pipe, err := newLogPipe()
		if err != nil {
			p.close()
			return nil, startfault.New(job.CauseNoProcess,
				"the pipes of the attempt's logs cannot be made on the node: %w", startfault.Innermost(err))
		}
		p.streams[i] = pipe
	}
	return p, nil
}

// ends are the handles that a process gets.
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
	write windows.Handle // 0 = it is closed

	mu   sync.Mutex // held while something is written to the log
	logs *attemptLogs
	log  *attemptLog // nil = no attempt writes
}

// newLogPipe makes a pipe whose end that is read can have a deadline: a named one, of which there is
// one instance, for this machine alone, and open at both ends when this returns.
func newLogPipe() (*logPipe, error) {
	name, err := windows.UTF16PtrFromString(`\\.\pipe\dsvmpools-` + rand.Text())
	if err != nil {
		return nil, err
	}
	const first, one = windows.FILE_FLAG_FIRST_PIPE_INSTANCE, 1
	read, err := windows.CreateNamedPipe(name, windows.PIPE_ACCESS_INBOUND|windows.FILE_FLAG_OVERLAPPED|first,
		windows.PIPE_TYPE_BYTE|windows.PIPE_REJECT_REMOTE_CLIENTS, one, 0, 2*copied, 0, nil)
	if err != nil {
		return nil, err
	}
	write, err := windows.CreateFile(name, windows.GENERIC_WRITE, 0, nil, windows.OPEN_EXISTING, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		windows.CloseHandle(read)
		return nil, err
	}
	p := &logPipe{read: os.NewFile(uintptr(read), "pipe"), write: write}
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
	buffer := make([]byte, copied)
	for {
		n, err := p.read.Read(buffer)
		p.mu.Lock()
		if p.log != nil && n > 0 {
			p.log.write(buffer[:n], time.Now())
			p.logs.written.Add(int64(n))
		}
		if err != nil {
			p.detach()
			p.mu.Unlock()
			p.read.Close()
			return
		}
		p.mu.Unlock()
	}
}

// drain leaves the rest to copy: a pipe is of one attempt here.
func (p *logPipe) drain() bool { return false }

// closeWrite closes the agent's copy of the end that processes write to.
func (p *logPipe) closeWrite() {
	if p.write != 0 {
		windows.CloseHandle(p.write)
		p.write = 0
	}
}
