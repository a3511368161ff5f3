package apptest

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"dsvmpools/shared/pool"
	"dsvmpools/shared/relay"
	"dsvmpools/shared/service"
	"dsvmpools/shared/sshca"
)

// WithDoors gives an instance a relay, https://lab.servicebus.windows.net, and a key that
// signs certificates, so that it may have interactive pools. Nothing answers at the relay.
func WithDoors(t testing.TB) Option {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := sshca.CreateFile(path); err != nil {
		t.Fatal(err)
	}
	ca, err := sshca.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at, err := relay.ParseNamespace("https://lab.servicebus.windows.net")
	if err != nil {
		t.Fatal(err)
	}
	return func(c *service.Config) {
		doors, err := service.NewDoors(ca, &relay.Doors{Namespace: at, ListenKey: "listen", SendKey: "send", Now: c.Now,
			Ensure: func(context.Context, string, bool) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		c.Doors, c.Network = doors, network{}
	}
}

// Balancer is the address of each balancer that an instance with doors has.
const Balancer = "lab.westeurope.cloudapp.example.com:22"

// network opens all that it is asked to open, at once.
type network struct{}

func (network) Open(_ context.Context, _ string, want pool.Network) (address string, after time.Duration, err error) {
	if want.Address {
		address = Balancer
	}
	return address, 0, nil
}
