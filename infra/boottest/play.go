package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/local/servicebus"
	"dsvmpools/shared/protocol"
)

// busKey is the key of the local Service Bus, in base64.
const busKey = "bm9kZQ=="

// lookEvery is the time between two looks at the console.
const lookEvery = 200 * time.Millisecond

// play leads one node through its boot.
type play struct {
	state, metadata, https, wire, bus, console, root, away, reboot string
	within                                                         time.Duration

	azure    azure
	client   *azservicebus.Client
	receiver *azservicebus.Receiver
	began    time.Time
	counter  int64 // assignment numbers given
}

func (p *play) run() error {
	p.began = time.Now()
	if err := p.open(); err != nil {
		return err
	}
	p.azure.wrong.Store(true)
	steps := []struct {
		name string
		do   func() error
	}{
		{"the node waits for its metadata endpoint, and says so on the console", p.lateMetadata},
		{"an agent with a wrong hash is refused, and the console says so", p.wrongAgent},
		{"the console says that the share cannot be mounted, and the node takes no work", p.shareAway},
		{"the agent comes up and takes work", p.ready},
		{"a job runs as its own user, writes to the shares and reaches no metadata", p.job},
		{"the node boots again", p.again},
	}
	for _, s := range steps {
		err := s.do()
		if errors.Is(err, errSkipped) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Printf("%4.0f s  %s\n", time.Since(p.began).Seconds(), s.name)
	}
	return nil
}

var errSkipped = errors.New("skipped")

// open starts all but the metadata endpoint.
func (p *play) open() error {
	p.azure.state = p.state
	if err := p.azure.serveHTTPS(p.https); err != nil {
		return err
	}
	if p.wire != "" {
		if err := serveWire(p.wire); err != nil {
			return err
		}
	}
	server, err := servicebus.Start(servicebus.Config{
		Addr: p.bus,
		Path: filepath.Join(p.state, "bus.db"),
		Queues: []servicebus.QueueConfig{
			{Name: protocol.WorkQueue, RequiresSession: true, LockDuration: time.Minute},
			{Name: protocol.NodeEventsQueue},
		},
		AccessKeys: []servicebus.AccessKey{{Name: "node", Key: busKey, Send: true, Listen: true}},
	})
	if err != nil {
		return err
	}
	if p.client, err = azservicebus.NewClientFromConnectionString(server.ConnectionString("node"), nil); err != nil {
		return err
	}
	p.receiver, err = p.client.NewReceiverForQueue(protocol.NodeEventsQueue, nil)
	return err
}

func (p *play) lateMetadata() error {
	if err := p.consoleSays("the metadata endpoint gives no token"); err != nil {
		return err
	}
	return p.azure.serveMetadata(p.metadata)
}

func (p *play) wrongAgent() error {
	if err := p.consoleSays("and is not run"); err != nil {
		return err
	}
	if p.root != "" {
		if _, err := os.Stat(filepath.Join(p.root, "usr/local/bin/dsvm-agent")); err == nil {
			return errors.New("a file with the wrong hash is where the agent belongs")
		}
	}
	p.azure.wrong.Store(false)
	return nil
}

func (p *play) shareAway() error {
	if p.away == "" {
		return errSkipped
	}
	if err := p.consoleSays("mnt-share.mount fails"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second) // several tries of the agent
	defer cancel()
	err := p.reports(ctx, func(item protocol.ReportItem) (bool, error) { return item.Ready != nil, nil })
	if err == nil {
		return errors.New("the agent takes work without the share")
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return os.Remove(p.away)
}

// consoleSays waits until the console shows a text.
func (p *play) consoleSays(text string) error {
	for end := time.Now().Add(p.within); time.Now().Before(end); time.Sleep(lookEvery) {
		shown, err := os.ReadFile(p.console)
		if err == nil && strings.Contains(string(shown), text) {
			return nil
		}
	}
	return fmt.Errorf("the console does not show %q", text)
}

// reports reads what the node reports until a fact is the awaited one.
func (p *play) reports(ctx context.Context, isIt func(protocol.ReportItem) (bool, error)) error {
	for {
		got, err := p.receiver.ReceiveMessages(ctx, 1, nil)
		if err != nil {
			return err
		}
		for _, m := range got {
			if err := p.receiver.CompleteMessage(ctx, m, nil); err != nil {
				return err
			}
			r, err := protocol.DecodeReport(m.Body)
			if err != nil {
				return err
			}
			for _, item := range r.Items {
				if b := item.Booting; b != nil {
					fmt.Printf("%4.0f s    the node reports: booting, stage %s: %s\n", time.Since(p.began).Seconds(), b.Stage, b.Reason)
				}
				if found, err := isIt(item); found || err != nil {
					return err
				}
			}
		}
	}
}

func (p *play) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), p.within)
	defer cancel()
	var boot *protocol.Ready
	err := p.reports(ctx, func(item protocol.ReportItem) (bool, error) {
		boot = item.Ready
		return boot != nil, nil
	})
	if err != nil || !boot.Counter {
		return err
	}
	return p.give(protocol.WorkItem{Counter: &protocol.Counter{Boot: boot.Boot, N: p.counter}})
}

// checks is the job: each thing that must not be so has an exit code of its own.
const checks = `
# closed ADDRESS CODE: a connection is refused at once, which curl says by 7
closed() { curl -sS -m 5 -H Metadata:true "http://$1"; [ $? -eq 7 ] || exit "$2"; }
id; df -hT /mnt/share /mnt/data
closed 169.254.169.254/metadata/instance/compute 11
closed 168.63.129.16/machine 12
closed 168.63.129.16:32526/vmSettings 13
[ "$(id -u)" -ne 0 ] || exit 14
echo out >"$DSVM_OUTPUT/o.txt" && [ "$(cat "$DSVM_OUTPUT/o.txt")" = out ] || exit 15
echo in >/mnt/data/in.txt && [ "$(cat /mnt/data/in.txt)" = in ] || exit 16
ls /etc/dsvmpools/node.env && cat /etc/dsvmpools/node.env /etc/dsvmpools/*.cred && exit 17
exit 0
`

func (p *play) job() error {
	ctx, cancel := context.WithTimeout(context.Background(), p.within)
	defer cancel()
	p.counter++
	n := p.counter
	err := p.give(protocol.WorkItem{N: n, Assign: &protocol.Assignment{
		Job: fmt.Sprintf("boot-%d", n), Attempt: 1, Team: "t", Script: checks, CPUs: 1, TimeoutSeconds: 300,
	}})
	if err != nil {
		return err
	}
	return p.reports(ctx, func(item protocol.ReportItem) (bool, error) {
		f := item.Finished
		if f == nil || f.N != n {
			return false, nil
		}
		if f.State != "succeeded" {
			text, _ := json.Marshal(f)
			return true, fmt.Errorf("the job ends so: %s", text)
		}
		return true, p.give(protocol.WorkItem{Ack: []int64{n}})
	})
}

// again boots the node a second time, on which everything is there already.
func (p *play) again() error {
	if p.reboot == "" {
		return errSkipped
	}
	if out, err := exec.Command("/bin/sh", "-c", p.reboot).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if err := p.ready(); err != nil {
		return err
	}
	return p.job()
}

// give sends items into the node's session.
func (p *play) give(items ...protocol.WorkItem) error {
	ctx, cancel := context.WithTimeout(context.Background(), p.within)
	defer cancel()
	sender, err := p.client.NewSender(protocol.WorkQueue, nil)
	if err != nil {
		return err
	}
	defer sender.Close(ctx)
	body, err := json.Marshal(protocol.Work{V: protocol.Version, Items: items})
	if err != nil {
		return err
	}
	session := protocol.SessionID(poolName, vmid)
	return sender.SendMessage(ctx, &azservicebus.Message{Body: body, SessionID: &session}, nil)
}
