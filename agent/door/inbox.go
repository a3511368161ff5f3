package door

import (
	"context"
	"net"
	"sync"
)

// inbox is a listener for a server of HTTP that is given its connections one by one.
type inbox struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newInbox() *inbox { return &inbox{conns: make(chan net.Conn), closed: make(chan struct{})} }

// give has the server answer on a connection, and returns when it is closed, or ctx ends.
func (i *inbox) give(ctx context.Context, c *browserConn) {
	c.done = make(chan struct{})
	select {
	case i.conns <- c:
	case <-i.closed:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-c.done:
	case <-ctx.Done():
	}
}

// Accept returns the next connection.
func (i *inbox) Accept() (net.Conn, error) {
	select {
	case c := <-i.conns:
		return c, nil
	case <-i.closed:
		return nil, net.ErrClosed
	}
}

// Close lets nobody in any more.
func (i *inbox) Close() error {
	i.once.Do(func() { close(i.closed) })
	return nil
}

// Addr is nowhere.
func (i *inbox) Addr() net.Addr { return &net.TCPAddr{} }

// browserConn is a connection of a browser.
type browserConn struct {
	net.Conn
	heard func() // somebody with a good way has come by it
	isHop bool   // the door of another node has passed it on
	once  sync.Once
	done  chan struct{} // closed with the connection
}

// Close closes it.
func (c *browserConn) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Conn.Close()
}
