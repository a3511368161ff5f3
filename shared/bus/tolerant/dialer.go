package tolerant

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
)

// Endpoint is where a connection string leads to, and whether that is an emulator,
// which has no TLS. "" = it does not say.
func Endpoint(connectionString string) (host string, plain bool) {
	for part := range strings.SplitSeq(connectionString, ";") {
		name, value, _ := strings.Cut(part, "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "endpoint":
			_, rest, _ := strings.Cut(value, "://")
			host, _, _ = strings.Cut(rest, "/")
		case "usedevelopmentemulator":
			plain = strings.EqualFold(strings.TrimSpace(value), "true")
		}
	}
	return host, plain
}

// Dialer makes the connections of one client, and knows what came over all of them.
type Dialer struct {
	Host  string
	Plain bool

	mu  sync.Mutex
	all []*Conn
}

// Dial makes a connection. It is what the option NewWebSocketConn of the Service Bus
// client wants, though it is plain AMQP.
func (d *Dialer) Dial(ctx context.Context) (net.Conn, error) {
	c, err := Dial(ctx, d.Host, d.Plain)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, c)
	return &dialed{c, d}, nil
}

// Take is what a message really holds, by its delivery tag; nil = what the client
// says.
func (d *Dialer) Take(tag []byte) *Original {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.all {
		if o, ok := c.Take(tag); ok {
			return o
		}
	}
	return nil
}

// dialed is forgotten when it is closed.
type dialed struct {
	*Conn
	by *Dialer
}

func (c *dialed) Close() error {
	c.by.mu.Lock()
	c.by.all = slices.DeleteFunc(c.by.all, func(other *Conn) bool { return other == c.Conn })
	c.by.mu.Unlock()
	return c.Conn.Close()
}
