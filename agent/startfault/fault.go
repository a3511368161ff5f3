package startfault

import (
	"errors"
	"fmt"
	"syscall"

	"dsvmpools/shared/job"
	"dsvmpools/shared/patience"
	"dsvmpools/shared/plain"
)

// Fault is why an attempt cannot start. Its text is a sentence for the job's
// owner.
type Fault struct {
	Cause job.Cause
	Err   error
}

func (f Fault) Error() string { return f.Err.Error() }

// Unwrap returns the error below.
func (f Fault) Unwrap() error { return f.Err }

// New makes a fault with a text of fmt.Errorf.
func New(cause job.Cause, format string, args ...any) error {
	return Fault{cause, fmt.Errorf(format, args...)}
}

// CauseOf returns the cause that an error carries, or else what guess says of the
// error.
func CauseOf(err error, guess func(error) job.Cause) job.Cause {
	var f Fault
	if errors.As(err, &f) {
		return f.Cause
	}
	return guess(err)
}

// Is reports whether an error is one of these errors of the system.
func Is(err error, of ...syscall.Errno) bool {
	for _, e := range of {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// IsExhausted reports whether the system has no room for another process or open
// file.
func IsExhausted(err error) bool {
	return Is(err, exhausted...)
}

// IsUnreachable reports whether a file system does not answer any more, or answers
// with errors only: a share that went away, a disk that is dying.
func IsUnreachable(err error) bool {
	return Is(err, unreachable...) || IsHanging(err)
}

// IsHanging reports whether a call was given up because the file system did not
// answer it, or because too many such calls are under way.
func IsHanging(err error) bool {
	return errors.Is(err, patience.ErrTooLong) || errors.Is(err, patience.ErrTooMany)
}

// IsFull reports whether a file system takes no more data.
func IsFull(err error) bool { return Is(err, full...) }

// OnShare returns the cause of an error of a call on the share, if the error is
// not known to be the job's fault. A share that is full or read-only is the
// share's own fault: another node may have mounted it in another way, and the job
// cannot change anything about it.
func OnShare(err error) job.Cause {
	if IsExhausted(err) {
		return job.CauseNoProcess
	}
	return job.CauseShare
}

// OnNode returns the cause of an error of a call on the node's own disk.
func OnNode(err error) job.Cause {
	switch {
	case IsExhausted(err):
		return job.CauseNoProcess
	case IsFull(err):
		return job.CauseDisk
	case IsHanging(err):
		return job.CauseShare
	}
	return job.CauseScratch
}

// OfPath returns the cause of an error about a path that the job has named. It is
// jobFault, the fault of the job, unless the file system or the node is to blame.
func OfPath(err error, jobFault job.Cause) job.Cause {
	switch {
	case IsExhausted(err):
		return job.CauseNoProcess
	case IsUnreachable(err):
		return job.CauseShare
	}
	return jobFault
}

// Innermost returns the error at the end of the chain: of an error about a file,
// what the system says, without the path.
func Innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// Clip shortens a text of a stranger, so that a sentence that quotes it stays
// readable.
func Clip(s string) string {
	const most = 100
	if len(s) > most {
		return plain.Clip(s, most) + "..."
	}
	return s
}
