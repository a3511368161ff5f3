package relay_test

import (
	"context"
	"io"
	"net"
	"testing"

	"dsvmpools/shared/relay"
)

// sink takes connections, says one byte when all that a test wants to send has come, and returns
// its address.
func sink(b *testing.B, size int64) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.CopyN(io.Discard, c, size)
				_, _ = c.Write([]byte{1})
			}()
		}
	}()
	return l.Addr().String()
}

const streamSize = 64 << 20

// stream sends a stream of 64 MiB, and waits until all has come.
func stream(b *testing.B, dial func() (net.Conn, error)) {
	b.Helper()
	buffer := make([]byte, 32<<10)
	b.SetBytes(streamSize)
	for b.Loop() {
		c, err := dial()
		if err != nil {
			b.Fatal(err)
		}
		for sent := 0; sent < streamSize; sent += len(buffer) {
			if _, err := c.Write(buffer); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := io.ReadFull(c, buffer[:1]); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

// BenchmarkTCP is what BenchmarkDoor is to be compared with: a bare copy by one process more.
func BenchmarkTCP(b *testing.B) {
	to := sink(b, streamSize)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go through(c, to)
		}
	}()
	stream(b, func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) })
}

func through(c net.Conn, to string) {
	defer c.Close()
	d, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer d.Close()
	go func() { _, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{d}); c.Close() }()
	_, _ = io.Copy(struct{ io.Writer }{d}, struct{ io.Reader }{c})
}

// BenchmarkDoor has sender, relay and listener in one process: six connections' ends in all.
func BenchmarkDoor(b *testing.B) {
	s := start(b, "127.0.0.1:0")
	to := sink(b, streamSize)
	token := s.toListen("lab-0")
	listens(b, &relay.Listener{Address: s.Address("lab-0"), Token: func() string { return token }, Socket: func(ctx context.Context, in *relay.Incoming) {
		if c, err := in.AcceptStream(ctx); err == nil {
			through(c, to)
		}
	}})
	send := s.toSend("lab-0")
	stream(b, func() (net.Conn, error) {
		return relay.Dial(context.Background(), s.Address("lab-0")+relay.SSH, send)
	})
}
