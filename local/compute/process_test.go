//go:build unix

package compute_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsvmpools/local/compute"
)

// patience is how long an event may take on a busy machine.
const patience = 20 * time.Second

// visit is a process that has connected. gone is closed when it has ended.
type visit struct {
	role string
	pid  int
	info []string
	conn net.Conn
	gone chan struct{}
}

// reception is the listener to which the processes of a test connect.
type reception struct {
	listener net.Listener
	visits   chan *visit
}

func receive(t *testing.T) *reception {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	r := &reception{l, make(chan *visit, 1000)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go r.greet(conn)
		}
	}()
	return r
}

func (r *reception) greet(conn net.Conn) {
	in := bufio.NewReader(conn)
	line, err := in.ReadString('\n')
	v := &visit{conn: conn, gone: make(chan struct{})}
	var info string
	if _, scan := fmt.Sscan(line, &v.role, &v.pid, &info); err != nil || scan != nil {
		return
	}
	v.info = strings.Split(info, ",")
	r.visits <- v
	in.ReadByte()
	close(v.gone)
}

func (r *reception) address() string { return r.listener.Addr().String() }

// next waits for processes of these roles, in any order.
func (r *reception) next(t *testing.T, roles ...string) map[string]*visit {
	t.Helper()
	got := map[string]*visit{}
	late := time.After(patience)
	for slices.ContainsFunc(roles, func(role string) bool { return got[role] == nil }) {
		select {
		case v := <-r.visits:
			got[v.role] = v
		case <-late:
			t.Fatalf("of %v only %d came", roles, len(got))
		}
	}
	return got
}

func (v *visit) awaitGone(t *testing.T) {
	t.Helper()
	select {
	case <-v.gone:
	case <-time.After(patience):
		t.Fatalf("%s %d is still there", v.role, v.pid)
	}
}

// isGone reports whether the process has ended already, without waiting.
func (v *visit) isGone() bool {
	err := syscall.Kill(v.pid, 0)
	if err != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", v.pid))
	if err != nil {
		return runtime.GOOS == "linux"
	}
	return bytes.Contains(stat, []byte(") Z "))
}

func launch(t *testing.T, cfg compute.Config) *compute.Server {
	t.Helper()
	s, err := compute.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

const setPath = "/subscriptions/" + subscription + "/resourceGroups/" + group + "/providers/Microsoft.Compute/virtualMachineScaleSets/"

// call makes one call and reads its answer.
func call(t *testing.T, base, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	if !strings.Contains(path, "api-version") {
		path += "?api-version=2026-04-01"
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp, b.String()
}

// finish polls an operation until its end and returns the last answer.
func finish(t *testing.T, base string, accepted *http.Response) string {
	t.Helper()
	path := strings.TrimPrefix(accepted.Header.Get("Azure-AsyncOperation"), base)
	for late := time.Now().Add(patience); ; {
		_, body := call(t, base, http.MethodGet, path, "")
		if !strings.Contains(body, `"InProgress"`) {
			return body
		}
		if time.Now().After(late) {
			t.Fatal("the operation does not end")
		}
		runtime.Gosched()
	}
}

func grow(t *testing.T, s *compute.Server, set string, capacity int) *http.Response {
	t.Helper()
	resp, body := call(t, s.URL(), http.MethodPut, setPath+set, resource(capacity))
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("create: got %d %s", resp.StatusCode, body)
	}
	return resp
}

func TestInstanceIsGivenItsEnvironment(t *testing.T) {
	t.Parallel()
	r, dir := receive(t), t.TempDir()
	s := launch(t, config(dir, r.address(), "plain"))
	accepted := grow(t, s, "cpu", 1)
	agent := r.next(t, "agent")["agent"]
	inst := s.Instances()[0]
	want := []string{"cpu_0", inst.VMID, filepath.Join(dir, "instances", "cpu_0", "custom-data"), filepath.Join(dir, "instances", "cpu_0")}
	if got := strings.Join(agent.info[:len(want)], " "); got != strings.Join(want, " ") {
		t.Errorf("got  %s\nwant %s", got, strings.Join(want, " "))
	}
	if data, err := os.ReadFile(want[2]); err != nil || string(data) != "#cloud-config" {
		t.Errorf("custom data: got %q, %v", data, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "logs", "cpu_0.log")); err != nil ||
		string(got) != "the agent's output\nthe agent's errors\n" {
		t.Errorf("log: got %q, %v", got, err)
	}
	if got := finish(t, s.URL(), accepted); !strings.Contains(got, "Succeeded") {
		t.Errorf("operation: got %s", got)
	}
	accepted, _ = call(t, s.URL(), http.MethodPost, setPath+"cpu/delete", `{"instanceIds":["0"]}`)
	finish(t, s.URL(), accepted)
	if !agent.isGone() {
		t.Error("the deletion was over while the agent ran")
	}
	if _, err := os.Stat(want[3]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the instance's directory: got %v, want none", err)
	}
}

func TestDeletingKillsTheWholeTree(t *testing.T) {
	t.Parallel()
	r := receive(t)
	s := launch(t, config(t.TempDir(), r.address(), "tree"))
	grow(t, s, "cpu", 1)
	there := r.next(t, treeRoles()...)
	accepted, _ := call(t, s.URL(), http.MethodDelete, setPath+"cpu", "")
	finish(t, s.URL(), accepted)
	for _, v := range there {
		if !v.isGone() {
			t.Errorf("the deletion was over while %s %d ran", v.role, v.pid)
		}
	}
}

// treeRoles are the processes of mode tree that end with their instance. On systems where
// a process cannot become the parent of orphans, one that has left its session and lost
// its parent is not found.
func treeRoles() []string {
	if runtime.GOOS == "linux" {
		return []string{"agent", "job", "orphan"}
	}
	return []string{"agent", "job"}
}

func TestCrashedAgentIsStartedAgainAlone(t *testing.T) {
	t.Parallel()
	r := receive(t)
	s := launch(t, config(t.TempDir(), r.address(), "tree"))
	grow(t, s, "cpu", 1)
	first := r.next(t, treeRoles()...)
	syscall.Kill(first["agent"].pid, syscall.SIGKILL)
	second := r.next(t, treeRoles()...)
	for _, v := range first {
		v.awaitGone(t)
	}
	if got, want := second["agent"].info[1], first["agent"].info[1]; got != want {
		t.Errorf("VMID after the crash: got %s, want %s", got, want)
	}
}

// parent is the pid of a process's parent.
func parent(t *testing.T, pid int) int {
	t.Helper()
	out, err := exec.Command("ps", "-o", "ppid=", "-p", fmt.Sprint(pid)).Output()
	var p int
	if _, scan := fmt.Sscan(string(out), &p); err != nil || scan != nil {
		t.Fatalf("the parent of %d: %v %v", pid, err, scan)
	}
	return p
}

func TestKilledSupervisorLeavesNothingThatNamesTheInstance(t *testing.T) {
	t.Parallel()
	r := receive(t)
	s := launch(t, config(t.TempDir(), r.address(), "tree"))
	grow(t, s, "cpu", 1)
	first := r.next(t, treeRoles()...)
	syscall.Kill(parent(t, first["agent"].pid), syscall.SIGKILL)
	second := r.next(t, "agent")
	first["agent"].awaitGone(t)
	first["job"].awaitGone(t)
	if first["agent"].info[1] != second["agent"].info[1] {
		t.Error("the instance came back as another VM")
	}
	// The orphan cleared its environment before the test killed its supervisor. So the
	// server cannot find it, and the test ends it.
	if o := first["orphan"]; o != nil {
		o.conn.Close()
		o.awaitGone(t)
	}
}

func TestStuckSupervisorIsKilledWithItsTree(t *testing.T) {
	t.Parallel()
	r := receive(t)
	cfg := config(t.TempDir(), r.address(), "tree")
	cfg.KillAfter = 50 * time.Millisecond
	s := launch(t, cfg)
	grow(t, s, "cpu", 1)
	there := r.next(t, treeRoles()...)
	syscall.Kill(parent(t, there["agent"].pid), syscall.SIGSTOP)
	accepted, _ := call(t, s.URL(), http.MethodDelete, setPath+"cpu", "")
	finish(t, s.URL(), accepted)
	for _, v := range there {
		if !v.isGone() {
			t.Errorf("the deletion was over while %s %d ran", v.role, v.pid)
		}
	}
}

func TestCloseStopsInstancesAndStartReboots(t *testing.T) {
	t.Parallel()
	r, dir := receive(t), t.TempDir()
	cfg := config(dir, r.address(), "tree")
	s := launch(t, cfg)
	grow(t, s, "cpu", 1)
	first := r.next(t, treeRoles()...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, v := range first {
		if !v.isGone() {
			t.Errorf("the server was closed while %s %d ran", v.role, v.pid)
		}
	}
	launch(t, cfg)
	second := r.next(t, "agent")
	if got, want := second["agent"].info[1], first["agent"].info[1]; got != want {
		t.Errorf("VMID after the restart: got %s, want %s", got, want)
	}
}

func TestKilledServerTakesItsInstancesAlong(t *testing.T) {
	t.Parallel()
	r, dir := receive(t), t.TempDir()
	var out bytes.Buffer
	child := exec.Command(os.Args[0], "test-server", r.address(), dir)
	child.Stderr = &out
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	server := r.next(t, "server")["server"]
	base := server.info[0]
	accepted, body := call(t, base, http.MethodPut, setPath+"cpu", resource(2))
	if accepted.StatusCode != http.StatusCreated {
		t.Fatalf("create: got %d %s", accepted.StatusCode, body)
	}
	going, _ := call(t, base, http.MethodGet, setPath+"cpu", "")
	if going.StatusCode != http.StatusOK {
		t.Fatalf("get: got %d", going.StatusCode)
	}
	var first []*visit
	for range 2 * len(treeRoles()) {
		select {
		case v := <-r.visits:
			first = append(first, v)
		case <-time.After(patience):
			t.Fatalf("only %d processes came", len(first))
		}
	}
	child.Process.Kill()
	child.Wait()
	for _, v := range first {
		v.awaitGone(t)
	}
	// The recorded instances and the operation continue.
	s := launch(t, config(dir, r.address(), "plain"))
	r.next(t, "agent")
	path := accepted.Header.Get("Azure-AsyncOperation")
	accepted.Header.Set("Azure-AsyncOperation", s.URL()+strings.TrimPrefix(path, base))
	if got := finish(t, s.URL(), accepted); !strings.Contains(got, "Succeeded") {
		t.Errorf("the operation after the restart: got %s", got)
	}
	if got, want := len(s.Instances()), 2; got != want {
		t.Errorf("instances after the restart: got %d, want %d", got, want)
	}
}
