// Command boottest plays Azure for one node that boots, so that the custom data is proven
// by systemd and cloud-init themselves. `boottest tree` puts custom data and settings into
// the file tree of a node; `boottest play` serves what the node asks for, fails on purpose
// first, gives it a job, and judges how the node comes through. .ci/boot and .ci/boot-vm
// boot the tree; nothing of a deployment uses this program.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

// What the node believes of the world. All of these names lead to hostAddress.
const (
	hostAddress = "10.0.2.2" // of the host, as user networking of qemu has it
	blobHost    = "acmehost.blob.core.windows.net"
	vaultHost   = "acme.vault.azure.net"
	fileHost    = "acmeshare.file.core.windows.net"
	dataHost    = "acmedata.file.core.windows.net"
	poolName    = "cpu"
	vmid        = "11112222-3333-4444-5555-666677778888"
	clientID    = "99998888-7777-6666-5555-444433332222"
	token       = "token-of-the-node"
	shareKey    = "Testkey1=="
	dataKey     = "Testkey2=="
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "boottest:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("write tree or play, then -h for the flags")
	}
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	state := flags.String("state", "", "folder of keys, the agent and the queues' messages")
	switch args[0] {
	case "tree":
		root := flags.String("root", "", "root of the node's file tree")
		agent := flags.String("agent", "", "the agent's program, for the node's system")
		bus := flags.String("bus", "", "host:port at which the node finds the Service Bus")
		_ = flags.Parse(args[1:]) // ends the process on an error
		return writeTree(*root, *state, *agent, *bus)
	case "play":
		var p play
		flags.StringVar(&p.metadata, "metadata", "", "host:port of the metadata endpoint")
		flags.StringVar(&p.https, "https", "", "host:port of the agent's blob and of the vault")
		flags.StringVar(&p.wire, "wire", "", "host:port that plays the host's own agent; empty: none")
		flags.StringVar(&p.bus, "bus", "", "loopback host:port of the Service Bus")
		flags.StringVar(&p.console, "console", "", "file with what the node's console shows")
		flags.StringVar(&p.root, "root", "", "root of the node's file tree, if it can be seen; empty: it cannot")
		flags.StringVar(&p.away, "away", "", "file that keeps the share from being mounted while it is there; empty: none")
		flags.StringVar(&p.reboot, "reboot", "", "command that boots the node again; empty: once is enough")
		flags.DurationVar(&p.within, "within", time.Minute, "how long each step may take")
		_ = flags.Parse(args[1:])
		p.state = *state // parsed only now
		return p.run()
	}
	return fmt.Errorf("%q is no command; write tree or play", args[0])
}
