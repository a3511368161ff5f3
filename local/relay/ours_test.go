package relay_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"dsvmpools/shared/relay"
)

// echo sends back each message as what it was, until it is told to end.
func echo(ctx context.Context, in *relay.Incoming) {
	c, err := in.Accept(ctx, "")
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	for {
		kind, text, err := c.Read(ctx)
		if err != nil {
			return
		}
		if string(text) == "end" {
			_ = c.Close(1000, "")
			return
		}
		if c.Write(ctx, kind, text) != nil {
			return
		}
	}
}

// echoed sends bytes to who listens, and wants them back.
func echoed(t *testing.T, n relay.Namespace, token string) {
	t.Helper()
	c, err := relay.Dial(t.Context(), n.Address("lab-0")+relay.SSH, token)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := bytes.Repeat([]byte("there and back "), 100_000)
	go func() { _, _ = c.Write(sent) }()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("other bytes came back, error %v", err)
	}
}
