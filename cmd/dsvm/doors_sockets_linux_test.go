package main

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// socket is one that others can reach.
type socket struct {
	program, network, address string
}

// listening lists the sockets of processes that others can reach: TCP that listens,
// UDP that is bound and not connected, and Unix sockets, also abstract ones, that
// listen or take datagrams.
func listening(t *testing.T, pids []int) []socket {
	t.Helper()
	owners := map[string]int{}
	for _, pid := range pids {
		files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		for _, f := range files {
			to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, f.Name()))
			if inode, ok := strings.CutPrefix(to, "socket:["); ok {
				owners[strings.TrimSuffix(inode, "]")] = pid
			}
		}
	}
	var all []socket
	add := func(inode, network, address string) {
		if pid, ok := owners[inode]; ok {
			args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			all = append(all, socket{strings.ReplaceAll(string(args), "\x00", " "), network, address})
		}
	}
	for network, state := range map[string]string{"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07", "udplite": "07", "udplite6": "07", "raw": "07", "raw6": "07"} {
		for _, f := range lines("/proc/net/" + network) {
			if len(f) > 9 && f[3] == state {
				add(f[9], network, address(t, f[1]))
			}
		}
	}
	for _, f := range lines("/proc/net/unix") {
		// Num RefCount Protocol Flags Type St Inode Path; a datagram socket with a
		// name takes what anybody sends.
		if len(f) < 7 {
			continue
		}
		flags, _ := strconv.ParseUint(f[3], 16, 32)
		const accepting = 1 << 16
		if flags&accepting != 0 || f[4] == "0002" && len(f) > 7 {
			add(f[6], "unix", strings.Join(f[7:], " "))
		}
	}
	return all
}

func lines(file string) (all [][]string) {
	b, _ := os.ReadFile(file) // a kernel without this kind of socket has no such file
	for line := range strings.Lines(string(b)) {
		all = append(all, strings.Fields(line))
	}
	return all
}

// address reads an address as /proc/net writes it: words of 32 bits in the machine's
// order, and the port.
func address(t *testing.T, text string) string {
	t.Helper()
	host, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil {
		t.Fatalf("%s is no address", text)
	}
	for i := 0; i+4 <= len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	return net.JoinHostPort(net.IP(raw).String(), fmt.Sprint(n))
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}
