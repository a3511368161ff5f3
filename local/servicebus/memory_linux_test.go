package servicebus_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"golang.org/x/sys/unix"

	"dsvmpools/local/servicebus"
)

// waiting asks for the test of a full store: it takes a minute and 2 GB of disk.
var waiting = flag.Int("waiting", 0, "how many messages of 1 KB wait in TestMemory; 0 = it is skipped")

// storeVariable names the store to the child process of TestMemory.
const storeVariable = "SERVICEBUS_TEST_STORE"

// Bounds of what a server may take.
const (
	maxAnonymous  = 40 << 20 // without a message
	maxPerMessage = 150
	maxStartUp    = 10 * time.Second
)

// TestMemory measures a server with many waiting messages, in a process of its
// own: RssAnon is what it takes from the machine, RssFile what it sees of the
// store file, which is the system's cache and is given back when needed.
func TestMemory(t *testing.T) {
	if path := os.Getenv(storeVariable); path != "" {
		serveStore(t, path)
		return
	}
	if *waiting == 0 {
		t.Skip("ask for it with -waiting 1000000")
	}
	path := filepath.Join(t.TempDir(), "bus.db")
	child := startChild(t, path)
	t.Logf("empty: %s", child.memory(t))
	begin := time.Now()
	child.fill(t, *waiting)
	t.Logf("%d messages sent in %.1f s: %s", *waiting, time.Since(begin).Seconds(), child.memory(t))
	child.stop(t)
	uncache(t, path)
	for _, after := range []string{"a stop", "a kill"} {
		child = startChild(t, path)
		usage := child.memory(t)
		t.Logf("started in %.1f s after %s: %s", child.took.Seconds(), after, usage)
		if limit := (maxAnonymous + *waiting*maxPerMessage) >> 10; usage.anon > limit || child.took > maxStartUp {
			t.Errorf("after %s: got %d kB and %s, want at most %d kB and %s", after, usage.anon, child.took, limit, maxStartUp)
		}
		child.take(t, 1000)
		t.Logf("after 1000 were received: %s", child.memory(t))
		must(t, child.cmd.Process.Kill())
		child.cmd.Wait()
		uncache(t, path)
	}
	info, err := os.Stat(path)
	must(t, err)
	t.Logf("the store file has %d MB", info.Size()>>20)
}

// serveStore is the child: a server until its input ends.
func serveStore(t *testing.T, path string) {
	s, err := servicebus.Start(servicebus.Config{Addr: "127.0.0.1:0", Path: path, Queues: queues, AccessKeys: rules})
	must(t, err)
	fmt.Println("\nconnect", s.ConnectionString("root"))
	io.Copy(io.Discard, os.Stdin)
	must(t, s.Close())
}

// child is a server in a process of its own.
type child struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	client *azservicebus.Client
	took   time.Duration // until it listened
}

func startChild(t *testing.T, path string) child {
	t.Helper()
	c := child{cmd: exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestMemory$")}
	c.cmd.Env = append(os.Environ(), storeVariable+"="+path)
	stdin, err := c.cmd.StdinPipe()
	must(t, err)
	c.stdin = stdin
	stdout, err := c.cmd.StdoutPipe()
	must(t, err)
	begin := time.Now()
	must(t, c.cmd.Start())
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if connection, ok := strings.CutPrefix(lines.Text(), "connect "); ok {
			c.took = time.Since(begin)
			c.client, err = azservicebus.NewClientFromConnectionString(connection, nil)
			must(t, err)
			go io.Copy(io.Discard, stdout)
			return c
		}
	}
	t.Fatal("the child did not start")
	return c
}

func (c child) stop(t *testing.T) {
	t.Helper()
	c.client.Close(t.Context())
	c.stdin.Close()
	must(t, c.cmd.Wait())
}

func (c child) fill(t *testing.T, n int) {
	t.Helper()
	s, err := c.client.NewSender("plain", nil)
	must(t, err)
	for n > 0 {
		batch, err := s.NewMessageBatch(t.Context(), nil)
		must(t, err)
		for ; n > 0 && batch.NumMessages() < 200; n-- {
			must(t, batch.AddMessage(&azservicebus.Message{Body: kilobyte}, nil))
		}
		must(t, s.SendMessageBatch(t.Context(), batch, nil))
	}
}

func (c child) take(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := c.client.NewReceiverForQueue("plain", nil)
	must(t, err)
	for n > 0 {
		ms, err := r.ReceiveMessages(ctx, min(n, 100), nil)
		must(t, err)
		for _, m := range ms {
			must(t, r.CompleteMessage(ctx, m, nil))
		}
		n -= len(ms)
	}
}

// uncache has the system forget what it has of a file, as after a restart of the
// machine.
func uncache(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

// usage is a process's memory in kB.
type usage struct{ peak, rss, anon, file int }

func (u usage) String() string {
	return fmt.Sprintf("VmHWM %d MB, VmRSS %d MB = RssAnon %d MB + RssFile %d MB", u.peak>>10, u.rss>>10, u.anon>>10, u.file>>10)
}

func (c child) memory(t *testing.T) (u usage) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	must(t, err)
	for line := range strings.Lines(string(status)) {
		for name, to := range map[string]*int{"VmHWM:": &u.peak, "VmRSS:": &u.rss, "RssAnon:": &u.anon, "RssFile:": &u.file} {
			if value, ok := strings.CutPrefix(line, name); ok {
				fmt.Sscan(value, to)
			}
		}
	}
	return u
}
