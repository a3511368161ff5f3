package entrance

import (
	"errors"
	"os"
	"testing"
	"time"
)

// gone is where output goes when its person has gone.
type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, errors.New("the connection has ended") }

// A program has ended, and what it has left behind keeps its output open: whoever goes then, before
// all is read, is not kept inside.
func TestOutputThatIsLeftOpenIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	from, leftOpen, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	defer leftOpen.Close()
	if _, err := leftOpen.Write(make([]byte, chunk+1)); err != nil {
		t.Fatal(err)
	}
	if err := from.SetReadDeadline(time.Now().Add(-time.Second)); err != nil { // as the end of the program sets it
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		copyOut(gone{}, from, nil, 0)
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("output that nobody reads is waited for")
	}
}
