package agent

import (
	"fmt"
	"io"
	"os"

	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
)

// What stands where the agent wants a file or a directory may have been put there
// by a job: a pipe would hold the agent until somebody reads it, a link would lead
// it elsewhere, to write what the job may not. So files are opened without waiting
// and without following a link, and looked at before they are used.

// obstacle is something of another kind, or of another name, where a file or a
// directory of an attempt belongs.
type obstacle struct{ name, want string }

func (o obstacle) Error() string {
	return fmt.Sprintf("something that is no plain %s stands in the place of %s; remove it", o.want, o.name)
}

// obstacleFault is the job's: what stands there stands there for every node.
func obstacleFault(name, want string) error {
	return startfault.Fault{Cause: job.CauseNoWorkdir, Err: obstacle{name, want}}
}

// writeFile writes a small file that only its owner reads.
func writeFile(dir, name, text string, o owner) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	f, err := openFileAt(d, name, 0, 0o600)
	if err != nil {
		return err
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteString(text)
	}
	if err == nil {
		err = o.giveFile(f)
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// emptyFile removes what is in an open file: the next byte is its first.
func emptyFile(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// giveFile gives an open file to the owner, or leaves it.
func (o owner) giveFile(f *os.File) error {
	if o.uid < 0 {
		return nil
	}
	return f.Chown(o.uid, o.gid)
}
