//go:build unix

package entrance

import (
	"fmt"
	"io"
	"net"

	"golang.org/x/crypto/ssh"

	"dsvmpools/shared/door"
)

// serveForward joins a channel with a port of the loopback address, as who runs there reaches it.
func (v *visitor) serveForward(c ssh.NewChannel) {
	var want struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	const highestPort = 65535
	if ssh.Unmarshal(c.ExtraData(), &want) != nil || want.Port == 0 || want.Port > highestPort {
		_ = c.Reject(ssh.ConnectionFailed, "the address cannot be read")
		return
	}
	if !door.IsLoopback(want.Host) {
		_ = c.Reject(ssh.Prohibited, "only ports of localhost are reached here")
		return
	}
	there, err := v.inside.Dial(int(want.Port))
	if err != nil {
		_ = c.Reject(ssh.ConnectionFailed, fmt.Sprintf("nothing answers at port %d there", want.Port))
		return
	}
	defer there.Close()
	here, requests, err := c.Accept()
	if err != nil {
		return
	}
	defer here.Close()
	go func() {
		ssh.DiscardRequests(requests)
		there.Close() // the channel is closed for both ways, and a server may say nothing for ever
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(here, there)
		_ = here.CloseWrite()
	}()
	_, _ = io.Copy(there, here)
	if tcp, isTCP := there.(*net.TCPConn); isTCP {
		_ = tcp.CloseWrite()
	}
	<-done
}
