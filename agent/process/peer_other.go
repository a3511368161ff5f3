//go:build !linux

package process

import (
	"errors"
	"net"
)

// CheckPeer is for Linux, where the nodes are.
func CheckPeer(net.Conn, int) error {
	return errors.New("who listens at a socket is found out on Linux only")
}
