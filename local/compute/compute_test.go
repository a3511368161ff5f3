//go:build unix

package compute_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsvmpools/local/compute"
	"dsvmpools/shared/fault"
	"dsvmpools/shared/fleet"
)

// The test binary is also the init and the agent of instances, and the server in the test
// that kills one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "instance":
			os.Exit(compute.Supervise(os.Args[2:]))
		case "agent":
			playAgent()
		case "machine":
			s, err := start(os.Args[2])
			if err != nil {
				panic(err)
			}
			fmt.Println(s.URL())
			select {}
		}
	}
	os.Exit(m.Run())
}

// playAgent starts a process that leaves its session, writes both pids into a file for the
// test, and runs on.
func playAgent() {
	child := exec.Command("/bin/sh", "-c", "sleep 600 & sleep 600")
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		panic(err)
	}
	pids := fmt.Sprintf("%d %d", os.Getpid(), child.Process.Pid)
	file := filepath.Join(os.Getenv("TEST_PIDS"), os.Getenv("DSVM_NODE"))
	if err := os.WriteFile(file+".new", []byte(pids), 0o600); err != nil {
		panic(err)
	}
	os.Rename(file+".new", file)
	select {}
}

const token = "secret-token"

func start(dir string) (*compute.Server, error) {
	return compute.Start(
		compute.Config{
			Addr:           "127.0.0.1:0",
			Path:           filepath.Join(dir, "arm.db"),
			Dir:            filepath.Join(dir, "instances"),
			LogDir:         filepath.Join(dir, "logs"),
			Token:          token,
			SubscriptionID: "sub",
			ResourceGroup:  "Group",
			Location:       "westeurope",
			Supervisor:     []string{os.Args[0], "instance"},
			Agent:          []string{os.Args[0], "agent"},
			Env:            []string{"TEST_PIDS=" + dir},
			BootDelay:      20 * time.Millisecond,
			DeleteDelay:    10 * time.Millisecond,
			RestartDelay:   20 * time.Millisecond,
			RetryAfter:     20 * time.Millisecond,
		},
	)
}

// fixture is a server with a client.
type fixture struct {
	*compute.Server
	*fleet.Client
	dir string
	ctx context.Context
}

func setup(t *testing.T) fixture {
	t.Helper()
	dir := t.TempDir()
	s, err := start(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return fixture{s, clientOf(t, s.URL()), dir, t.Context()}
}

func clientOf(t *testing.T, url string) *fleet.Client {
	t.Helper()
	c, err := fleet.New(
		fleet.Config{
			SubscriptionID: "sub",
			ResourceGroup:  "group",
			Region:         "westeurope",
			Endpoint:       url,
			Credential:     fleet.StaticCredential(token),
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func model() fleet.Model {
	return fleet.Model{
		Pool:         "cpu",
		Size:         "Standard_D2s_v5",
		Region:       "westeurope",
		Image:        fleet.Image{Publisher: "p", Offer: "o", SKU: "s", Version: "latest"},
		CustomData:   []byte("#cloud-config"),
		SubnetID:     "/subscriptions/sub/subnets/x",
		AdminUser:    "dsvm",
		SSHPublicKey: "ssh-ed25519 AAAA",
	}
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s did not come about", what)
		}
	}
}

func (f fixture) poll(t *testing.T, op fleet.Operation, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if op.Token == "" {
		return
	}
	until(t, "the end of the operation", func() bool {
		done, _, err := f.Poll(f.ctx, op.Token)
		if err != nil {
			t.Fatal(err)
		}
		return done
	})
}

func (f fixture) list(t *testing.T) fleet.Listing {
	t.Helper()
	l, err := f.List(f.ctx, "set")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// pids waits for an instance's agent and returns its pid and its child's.
func pids(t *testing.T, dir, name string) (agent, child int) {
	t.Helper()
	until(t, "the agent of "+name, func() bool {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return false
		}
		n, _ := fmt.Sscan(string(b), &agent, &child)
		return n == 2
	})
	return agent, child
}

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

func TestGrowAndRemove(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if l := f.list(t); l.Exists {
		t.Fatal("a set is listed before it was made")
	}
	op, err := f.Grow(f.ctx, "set", model(), 2)
	f.poll(t, op, err)
	op, err = f.Grow(f.ctx, "SET", model(), 1) // never lowers; names are not case-sensitive
	f.poll(t, op, err)
	l := f.list(t)
	if l.Capacity != 2 || len(l.Instances) != 2 || l.Instances[0].Power != "running" || l.Instances[0].Provisioning != "Succeeded" ||
		l.Instances[1].Name != "set_1" {
		t.Errorf("got %+v", l)
	}
	agent, child := pids(t, f.dir, "set_0")
	op, err = f.Client.Remove(f.ctx, "set", []string{"0"})
	f.poll(t, op, err)
	if l := f.list(t); l.Capacity != 1 || len(l.Instances) != 1 || l.Instances[0].ID != "1" {
		t.Errorf("after the removal: got %+v", l)
	}
	if alive(agent) || alive(child) {
		t.Error("a process of a deleted instance is left")
	}
	if _, err := os.Stat(filepath.Join(f.dir, "instances", "set_0")); !os.IsNotExist(err) {
		t.Errorf("the deleted instance's directory: %v", err)
	}
	op, err = f.Grow(f.ctx, "set", model(), 2)
	f.poll(t, op, err)
	if l := f.list(t); len(l.Instances) != 2 || l.Instances[1].ID != "2" {
		t.Errorf("ids are not given twice: got %+v", l)
	}
	op, err = f.Drop(f.ctx, "set")
	f.poll(t, op, err)
	if l := f.list(t); l.Exists {
		t.Error("the set is still there")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if _, err := f.Client.Remove(f.ctx, "set", nil); fault.CodeOf(err) != fault.Internal {
		t.Errorf("an empty removal: got %v", err)
	}
	bad := model()
	bad.SubnetID = ""
	if _, err := f.Grow(f.ctx, "set", bad, 1); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("a model without subnet: got %v", err)
	}
	if _, _, err := f.Poll(f.ctx, "no token"); fault.CodeOf(err) != fault.Gone {
		t.Errorf("a token of nobody: got %v", err)
	}
	stranger, err := fleet.New(
		fleet.Config{SubscriptionID: "sub", ResourceGroup: "group", Endpoint: f.URL(), Credential: fleet.StaticCredential("wrong")},
	)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.List(f.ctx, "set"); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("a wrong token: got %v", err)
	}
}

// A write under an old ETag is refused, as the service does.
func TestStaleETag(t *testing.T) {
	t.Parallel()
	f := setup(t)
	op, err := f.Grow(f.ctx, "set", model(), 0)
	f.poll(t, op, err)
	r, _ := http.NewRequest(http.MethodPatch,
		f.URL()+"/subscriptions/sub/resourceGroups/group/providers/Microsoft.Compute/virtualMachineScaleSets/set?api-version=1",
		strings.NewReader(`{"sku":{"capacity":3}}`))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("If-Match", `"0"`)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusPreconditionFailed {
		t.Errorf("got %d, want 412", answer.StatusCode)
	}
}

func TestPaging(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := compute.Start(
		compute.Config{Addr: "127.0.0.1:0", Path: filepath.Join(dir, "arm.db"), Dir: dir, LogDir: dir, Token: token, SubscriptionID: "sub",
			ResourceGroup: "group", Location: "x", Supervisor: []string{"/bin/true"}, Agent: nil, BootDelay: time.Hour, RetryAfter: time.Millisecond},
	)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := clientOf(t, s.URL())
	if _, err := c.Grow(t.Context(), "set", model(), 250); err != nil {
		t.Fatal(err)
	}
	if l, err := c.List(t.Context(), "set"); err != nil || len(l.Instances) != 250 {
		t.Errorf("got %d instances, %v, want 250", len(l.Instances), err)
	}
}

func TestAgentIsStartedAgain(t *testing.T) {
	t.Parallel()
	f := setup(t)
	op, err := f.Grow(f.ctx, "set", model(), 1)
	f.poll(t, op, err)
	first, child := pids(t, f.dir, "set_0")
	os.Remove(filepath.Join(f.dir, "set_0"))
	syscall.Kill(first, syscall.SIGKILL)
	second, _ := pids(t, f.dir, "set_0")
	if second == first || alive(child) {
		t.Errorf("agent %d after %d; its child is left: %v", second, first, alive(child))
	}
	if err := f.Server.Remove("set_0"); err != nil {
		t.Fatal(err)
	}
	until(t, "the instance's end", func() bool { return len(f.list(t).Instances) == 0 && !alive(second) })
}

// When the server is killed, all processes of its instances end. After a restart it has the
// same instances.
func TestMachineIsKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	machine := exec.Command(os.Args[0], "machine", dir)
	out, err := machine.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := machine.Start(); err != nil {
		t.Fatal(err)
	}
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	c := clientOf(t, strings.TrimSpace(url))
	if _, err := c.Grow(t.Context(), "set", model(), 1); err != nil {
		t.Fatal(err)
	}
	agent, child := pids(t, dir, "set_0")
	before, err := c.List(t.Context(), "set")
	if err != nil {
		t.Fatal(err)
	}
	machine.Process.Kill()
	machine.Wait()
	until(t, "the end of what the machine ran", func() bool { return !alive(agent) && !alive(child) })
	os.Remove(filepath.Join(dir, "set_0"))

	s, err := start(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	pids(t, dir, "set_0")
	after, err := clientOf(t, s.URL()).List(t.Context(), "set")
	if err != nil || len(after.Instances) != 1 || after.Instances[0].VMID != before.Instances[0].VMID {
		t.Errorf("after the restart: got %+v, %v", after, err)
	}
}
