// Package durable holds the proof that the local servers keep what they have
// acknowledged: it kills them in the middle of work, again and again. It has no
// code of its own beside the tests.
package durable

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"dsvmpools/local/servicebus"
	"dsvmpools/local/tables"
)

// childEnv tells the test binary that it is to be the servers, and where.
const childEnv = "DSVM_DURABLE_TEST_CHILD"

// place is where the servers live; ports are kept from the first start on.
type place struct {
	Dir         string
	Bus, Tables string // addresses
}

const (
	account  = "durable"
	key      = "ZHVyYWJsZWR1cmFibGVkdXJhYmxlZHVyYWJsZQ=="
	sessions = "sessions"
	// Messages come again with every kill; none may be given up for that.
	deliveries = 2000
)

func TestMain(m *testing.M) {
	at := os.Getenv(childEnv)
	if at == "" {
		os.Exit(m.Run())
	}
	if err := serve(at); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve is the child: it serves until its standard input ends, or it is killed.
func serve(at string) error {
	var p place
	if err := json.Unmarshal([]byte(at), &p); err != nil {
		return err
	}
	bus, err := servicebus.Start(servicebus.Config{Addr: p.Bus, Path: filepath.Join(p.Dir, "servicebus.db"),
		Queues: []servicebus.QueueConfig{
			{Name: queueName(0), MaxDeliveryCount: deliveries, LockDuration: 5 * time.Minute},
			{Name: queueName(1), MaxDeliveryCount: deliveries, LockDuration: 5 * time.Minute},
			{Name: sessions, RequiresSession: true, MaxDeliveryCount: deliveries, LockDuration: 5 * time.Minute}},
		Rules: []servicebus.Rule{{Name: "all", Key: key, Send: true, Listen: true, Manage: true}}})
	if err != nil {
		return err
	}
	defer bus.Close()
	tab, err := tables.Start(tables.Config{Addr: p.Tables, Path: filepath.Join(p.Dir, "tables.db"), Account: account, Key: key})
	if err != nil {
		return err
	}
	defer tab.Close()
	if err := json.NewEncoder(os.Stdout).Encode(endpoints{place{p.Dir, bus.Addr(), tab.Addr()}, bus.ConnectionString("all"), tab.ConnectionString()}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func queueName(i int) string { return fmt.Sprint("queue", i) }

// endpoints is what the child says when it serves.
type endpoints struct {
	Place       place
	Bus, Tables string // connection strings
}

// child is the servers in a process of their own.
type child struct {
	endpoints
	cmd *exec.Cmd
	in  io.Closer // ends with this process, and the child with it
}

func start(t *testing.T, p place) *child {
	t.Helper()
	at, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(at))
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &c.endpoints)
	}
	if err != nil {
		c.kill()
		t.Fatalf("the servers do not come up: %v", err)
	}
	return c
}

// kill ends the child as a power cut does, as far as a process can be cut off.
func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
	c.in.Close()
}
