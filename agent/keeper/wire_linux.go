package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A message is its kind, the length of its body as four bytes, and the body. The
// files of a start travel with its first byte.
const (
	kindStart  = 'S' // agent: start this
	kindSignal = 'T' // agent: body is the signal, and 1 for the first process alone
	kindKill   = 'K' // agent: kill everything
	kindPID    = 'P' // keeper: started, or the number of the error
	kindEnded  = 'E' // keeper: the first process has ended
	kindEmpty  = 'C' // keeper: now nothing is left either
)

// maxBody bounds a start: an assignment is at most 200 KiB, and variables are added.
const maxBody = 1 << 20

// files of a start: standard input, output and error.
const files = 3

func send(c *net.UnixConn, kind byte, body []byte, rights ...int) error {
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)))
	var oob []byte
	if len(rights) > 0 {
		oob = unix.UnixRights(rights...)
	}
	message := append(head, body...)
	n, _, err := c.WriteMsgUnix(message, oob, nil)
	if err == nil && n < len(message) {
		_, err = c.Write(message[n:])
	}
	return err
}

// receive reads a message and the files that came with it.
func receive(c *net.UnixConn) (kind byte, body []byte, rights []int, err error) {
	var head [5]byte
	oob := make([]byte, unix.CmsgSpace(files*4))
	n, oobn, _, _, err := c.ReadMsgUnix(head[:], oob)
	if err != nil {
		return 0, nil, nil, err
	}
	if n == 0 {
		return 0, nil, nil, io.EOF
	}
	if oobn > 0 {
		all, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			return 0, nil, nil, err
		}
		for _, m := range all {
			fds, err := unix.ParseUnixRights(&m)
			if err != nil {
				return 0, nil, nil, err
			}
			rights = append(rights, fds...)
		}
	}
	if _, err = io.ReadFull(c, head[n:]); err != nil {
		return 0, nil, rights, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxBody {
		return 0, nil, rights, fmt.Errorf("a message of %d bytes", size)
	}
	body = make([]byte, size)
	_, err = io.ReadFull(c, body)
	return head[0], body, rights, err
}

// withTTY says that standard input is a terminal, which becomes the process's own.
const withTTY = "tty"

// encode writes the order to start a process. None of its texts has a zero byte.
func encode(argv0 string, argv []string, attr *syscall.ProcAttr) []byte {
	as := ""
	if c := attr.Sys.Credential; c != nil {
		ids := []string{strconv.FormatUint(uint64(c.Uid), 10), strconv.FormatUint(uint64(c.Gid), 10)}
		for _, g := range c.Groups {
			ids = append(ids, strconv.FormatUint(uint64(g), 10))
		}
		as = strings.Join(ids, ",")
	}
	tty := ""
	if attr.Sys.Setctty {
		tty = withTTY
	}
	parts := append([]string{argv0, attr.Dir, as, tty, strconv.Itoa(len(argv))}, argv...)
	return []byte(strings.Join(append(parts, attr.Env...), "\x00"))
}

func decode(body []byte) (argv0 string, argv []string, attr *syscall.ProcAttr, err error) {
	const fixed = 5
	bad := errors.New("a start that cannot be read")
	parts := strings.Split(string(body), "\x00")
	if len(parts) < fixed {
		return "", nil, nil, bad
	}
	n, err := strconv.Atoi(parts[4])
	if err != nil || n < 1 || n > len(parts)-fixed {
		return "", nil, nil, bad
	}
	attr = &syscall.ProcAttr{Dir: parts[1], Env: parts[fixed+n:], Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}}
	attr.Sys.Setctty = parts[3] == withTTY
	if parts[2] != "" {
		var ids []uint32
		for id := range strings.SplitSeq(parts[2], ",") {
			n, err := strconv.ParseUint(id, 10, 32)
			if err != nil {
				return "", nil, nil, bad
			}
			ids = append(ids, uint32(n))
		}
		if len(ids) < 2 {
			return "", nil, nil, bad
		}
		attr.Sys.Credential = &syscall.Credential{Uid: ids[0], Gid: ids[1], Groups: ids[2:]}
	}
	return parts[0], parts[fixed : fixed+n], attr, nil
}

// conn makes a connection of one end of a pair of sockets, which it takes over.
func conn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "keeper")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("not a Unix socket")
	}
	return u, nil
}
