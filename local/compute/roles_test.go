//go:build unix

package compute_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"dsvmpools/local/compute"
)

// The test binary is also every program of an instance. Its first argument says which one,
// before any test runs.
func init() {
	if len(os.Args) < 2 {
		return
	}
	switch role := os.Args[1]; role {
	case "test-supervisor":
		os.Exit(compute.Supervise(os.Args[2:]))
	case "test-agent", "test-job", "test-server":
		play(role, os.Args[2:])
		os.Exit(0)
	}
}

// play runs a process of an instance. Each process opens a connection to the test, which
// closes when it ends: so the test waits for events and not for times.
func play(role string, args []string) {
	switch role {
	case "test-agent":
		fmt.Println("the agent's output")
		fmt.Fprintln(os.Stderr, "the agent's errors")
		conn := hello(args[0], "agent")
		if args[1] == "tree" {
			job := exec.Command(os.Args[0], "test-job", args[0], "job")
			job.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			job.Start()
		}
		if args[1] == "own" {
			playOwnUnit(args[0])
		}
		await(conn)
	case "test-job":
		playJob(args[0], args[1])
	case "test-server": // a server for the test to kill
		s, err := compute.Start(config(args[1], args[0], "tree"))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		conn, err := net.Dial("tcp", args[0])
		if err != nil {
			os.Exit(1)
		}
		fmt.Fprintf(conn, "server %d %s\n", os.Getpid(), s.URL())
		await(conn)
	}
}

// playJob is a job that has left its session. Its grandchild does the same, loses its
// parent, has no environment and ignores SIGTERM.
func playJob(address, part string) {
	child := func(part string) *exec.Cmd {
		c := exec.Command(os.Args[0], "test-job", address, part)
		c.Env = []string{"NOTHING=here"}
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return c
	}
	switch part {
	case "job":
		conn := hello(address, "job")
		child("middle").Run()
		await(conn)
	case "middle":
		child("orphan").Start()
	case "orphan":
		signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
		await(hello(address, "orphan"))
	}
}

// hello connects to the test and reports the role and environment of the process.
func hello(address, role string) net.Conn {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		os.Exit(1)
	}
	var told []string
	for _, name := range []string{"DSVM_NODE", "DSVM_VMID", "DSVM_CUSTOM_DATA", "DSVM_INSTANCE_DIR", "DSVM_METADATA_ENDPOINT"} {
		told = append(told, os.Getenv(name))
	}
	fmt.Fprintf(conn, "%s %d %s\n", role, os.Getpid(), strings.Join(told, ","))
	return conn
}

// await ends when the test closes the connection, or ends itself.
func await(conn net.Conn) {
	var b [1]byte
	conn.Read(b[:])
}

const (
	subscription = "00000000-0000-0000-0000-000000000001"
	group        = "Pools"
)

func config(dir, address, mode string) compute.Config {
	return compute.Config{
		Addr: "127.0.0.1:0", Path: filepath.Join(dir, "compute.db"), Dir: filepath.Join(dir, "instances"),
		LogDir: filepath.Join(dir, "logs"), Token: token,
		SubscriptionID: subscription, ResourceGroup: group, Location: "westeurope",
		Supervisor: []string{os.Args[0], "test-supervisor"}, Agent: []string{os.Args[0], "test-agent", address, mode},
		BootDelay: 5 * time.Millisecond, RestartDelay: 5 * time.Millisecond, RetryAfter: 5 * time.Millisecond,
	}
}
