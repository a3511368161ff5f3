package agent

import (
	"os"
	"sync"
	"sync/atomic"
	"time"

	"dsvmpools/shared/job"
)

// An attempt writes its logs through pipes of its slot, from which the agent keeps the first
// and the last part of each log within a bound. What cannot be written at once, since the
// share is slow or away, waits in the pipe, and then the attempt waits.
//
// The pipes of a slot are used again when the attempt has left no process and the next one is
// of the same team and user. Then nobody else can read or write what goes through them.

// copied is how much is read of a pipe at a time: half of what it holds.
const copied = 32 << 10

// logStreams are what an attempt writes, in the order of its open files.
var logStreams = [2]string{"stdout", "stderr"}

// logDir is the directory that an attempt's logs are made in. It is opened with the first
// byte of a log: an attempt that writes nothing costs no call on the share.
type logDir struct {
	find func() (*os.File, error)

	mu   sync.Mutex
	file *os.File // nil = it is not open
}

func (d *logDir) open() (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file != nil {
		return d.file, nil
	}
	var err error
	d.file, err = d.find()
	return d.file, err
}

func (d *logDir) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file != nil {
		d.file.Close()
		d.file = nil
	}
}

// attemptLogs are the logs of one attempt.
type attemptLogs struct {
	pipes   *logPipes
	logs    [2]*attemptLog
	dir     *logDir
	written atomic.Int64  // bytes of both, so far
	open    atomic.Int32  // streams that have not ended
	done    chan struct{} // closed when both have ended
}

// newAttemptLogs begins the logs of an attempt, which go through a slot's pipes.
func newAttemptLogs(pipes *logPipes, dir *logDir, bound int64, rank int, has owner) *attemptLogs {
	l := &attemptLogs{pipes: pipes, dir: dir, done: make(chan struct{})}
	l.open.Store(int32(len(l.logs)))
	for i, p := range pipes.streams {
		l.logs[i] = newAttemptLog(dir, logStreams[i], rank, bound, has)
		p.attach(l, l.logs[i])
	}
	return l
}

// endStream ends a stream, after its log was closed.
func (l *attemptLogs) endStream() {
	if l.open.Add(-1) == 0 {
		l.dir.close()
		close(l.done)
	}
}

// lastWords is how long a pipe may stay open after everything of its attempt has ended: some
// program that does not belong to the attempt holds it.
const lastWords = 2 * time.Second

// finish ends the logs of an attempt that has ended: what it has written is in them then.
// Empty: no process of the attempt is left. It reports whether the pipes can be used by
// another attempt; else they end when nobody has them any more, which is awaited for a
// while. It may hang on the share.
func (l *attemptLogs) finish(empty bool) (reusable bool) {
	if empty {
		out, err := l.pipes.streams[0].drain(), l.pipes.streams[1].drain()
		if out && err {
			return true
		}
	}
	l.pipes.close()
	<-l.done
	return false
}

// size is how many bytes the attempt has written.
func (l *attemptLogs) size() int64 {
	if l == nil {
		return 0
	}
	return l.written.Load()
}

// cut says how much of the logs is missing.
func (l *attemptLogs) cut() job.LogsCut {
	if l == nil {
		return job.LogsCut{}
	}
	return job.LogsCut{Stdout: l.logs[0].missing.Load(), Stderr: l.logs[1].missing.Load()}
}

// close ends the logs of an attempt whose process was not started.
func (l *attemptLogs) close() {
	for _, p := range l.pipes.streams {
		p.mu.Lock()
		if p.logs == l {
			p.detach()
		}
		p.mu.Unlock()
	}
}
