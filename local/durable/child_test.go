package durable

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"dsvmpools/local/internal/mutant"
	"dsvmpools/local/servicebus"
	"dsvmpools/local/tables"
)

// childEnv is the variable with the order for a test binary that another one has started.
const childEnv = "DSVM_DURABLE_CHILD"

// order says what a child serves.
type order struct {
	Folder   string
	Plain    []string // queues
	Sessions []string // queues with sessions
	Mutation string   // "" = none
	Often    bool     // changes go into the trees after a few of them
}

// mutations are what the stores of a child may do wrong.
var mutations = map[string]*bool{
	"acknowledge first":          &mutant.AckFirst,
	"skip the replay":            &mutant.SkipReplay,
	"drop the log before a save": &mutant.DropEarly,
}

// address holds the connection strings of a child. The ports change with each restart,
// because another program may take a fixed one while no child runs.
type address struct{ Bus, Tables string }

const (
	account    = "devaccount"
	accountKey = "YW4gYWNjb3VudCBvZiBhIHRlc3Q="
	// maxDeliveries is more than a message reaches here, although each kill may count while
	// it is locked.
	maxDeliveries = 2000
)

// serve runs the servers in the child, until it is killed or its parent ends.
func serve(o order) error {
	if m := mutations[o.Mutation]; m != nil {
		*m = true
	}
	mutant.Often = o.Often
	cfg := servicebus.Config{Addr: "127.0.0.1:0", Path: filepath.Join(o.Folder, "bus.db"),
		AccessKeys: []servicebus.AccessKey{{Name: "root", Key: "cm9vdA==", Send: true, Listen: true, Manage: true}}}
	for _, name := range o.Plain {
		cfg.Queues = append(cfg.Queues, servicebus.QueueConfig{Name: name, MaxDeliveryCount: maxDeliveries})
	}
	for _, name := range o.Sessions {
		cfg.Queues = append(cfg.Queues, servicebus.QueueConfig{Name: name, MaxDeliveryCount: maxDeliveries, RequiresSession: true})
	}
	bus, err := servicebus.Start(cfg)
	if err != nil {
		return err
	}
	rows, err := tables.Start(
		tables.Config{Addr: "127.0.0.1:0", Path: filepath.Join(o.Folder, "tables.db"), Account: account, Key: accountKey},
	)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(address{bus.ConnectionString("root"), rows.ConnectionString()}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// child is a server process.
type child struct {
	address
	command *exec.Cmd
	in      io.Closer
	started time.Duration
	said    bytes.Buffer // on its standard error; read after its end
}

// errNoStart is wrapped by the error of servers that did not start.
var errNoStart = errors.New("the servers did not start")

// launch starts a child. If dieAfter is not zero, it kills the child after that time and
// returns nil.
func launch(o order, dieAfter time.Duration) (*child, error) {
	begin := time.Now()
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	c := &child{command: exec.Command(os.Args[0])}
	c.command.Env = append(os.Environ(), childEnv+"="+string(text))
	c.command.Stderr = &c.said
	if c.in, err = c.command.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.command.Start(); err != nil {
		return nil, err
	}
	if dieAfter != 0 {
		<-time.After(dieAfter)
		c.kill()
		return nil, nil
	}
	timer := time.AfterFunc(time.Minute, func() { c.command.Process.Kill() })
	defer timer.Stop()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &c.address)
	}
	if err != nil {
		c.kill()
		return nil, fmt.Errorf("%w: %w: %s", errNoStart, err, &c.said)
	}
	c.started = time.Since(begin)
	return c, nil
}

// kill ends the child as kill -9 does, and waits for its end.
func (c *child) kill() {
	c.command.Process.Kill()
	c.command.Wait()
	c.in.Close()
}

// runAll runs f for each number below n at the same time.
func runAll(n int, f func(int)) {
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { f(i) })
	}
	wait.Wait()
}
