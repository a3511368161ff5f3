package cli

import (
	"io"
	"os"
	"runtime"
)

// Terminal is where somebody can be asked.
type Terminal = io.ReadWriteCloser

// openTTY opens the terminal of this process, also where its input is another file.
func openTTY() (Terminal, error) {
	if runtime.GOOS != "windows" {
		return os.OpenFile("/dev/tty", os.O_RDWR, 0)
	}
	in, err := os.OpenFile("CONIN$", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile("CONOUT$", os.O_RDWR, 0)
	if err != nil {
		in.Close()
		return nil, err
	}
	return &console{in, out}, nil
}

// console is the two files of a terminal of Windows.
type console struct{ in, out *os.File }

func (c *console) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c *console) Write(b []byte) (int, error) { return c.out.Write(b) }

// Close closes both.
func (c *console) Close() error {
	c.in.Close()
	return c.out.Close()
}
