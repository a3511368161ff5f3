package process

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// CheckPeer returns an error unless a process of this user listens at the other end of a socket.
func CheckPeer(c net.Conn, uid int) error {
	socket, isSocket := c.(*net.UnixConn)
	if !isSocket {
		return errors.New("it is no unix socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	if int(peer.Uid) != uid {
		return errors.New("another user listens at the socket")
	}
	return nil
}
