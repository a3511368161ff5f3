package process_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"dsvmpools/agent/process"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
)

const (
	role    = "DSVM_TEST_ROLE"
	patient = 2 * time.Minute // for a loaded machine
)

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		if err := process.OpenConsole(); err != nil {
			fmt.Fprintln(os.Stderr, "no console:", err)
		}
		os.Exit(m.Run())
	case "code":
		n, _ := strconv.ParseUint(os.Args[1], 10, 32)
		windows.ExitProcess(uint32(n))
	case "break":
		heard := make(chan os.Signal, 1)
		signal.Notify(heard, os.Interrupt)
		fmt.Println("ready")
		<-heard
		os.Exit(7)
	case "parent":
		begun, tell, _ := os.Pipe()
		child, err := os.StartProcess(os.Args[0], []string{"child"}, &os.ProcAttr{
			Env: []string{role + "=sleep", "SystemRoot=" + os.Getenv("SystemRoot")}, Files: []*os.File{nil, tell, os.Stderr}})
		tell.Close()
		_, _ = bufio.NewReader(begun).ReadString('\n')
		fmt.Println("ready", err)
		if child != nil {
			os.Exit(0)
		}
	case "sleep":
		fmt.Println("sleeping")
		time.Sleep(time.Hour)
	case "words":
		fmt.Printf("%q %q\n", os.Args[1:], os.Getenv("X"))
	}
	os.Exit(0)
}

// start starts this program in a role, and returns what it writes.
func start(t *testing.T, j *process.Job, as string, args ...string) (*process.Child, *bufio.Reader) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	c, err := j.Start(os.Args[0], append([]string{os.Args[0]}, args...), &process.StartAttr{
		Dir: os.TempDir(), Sys: process.Attr(nil), Files: []uintptr{null.Fd(), write.Fd(), write.Fd()},
		Env: []string{role + "=" + as, "SystemRoot=" + os.Getenv("SystemRoot"), "x=other", "X=Grüße ☃"}})
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); read.Close() })
	return c, bufio.NewReader(read)
}

func newJob(t *testing.T, l process.Limits) *process.Job {
	t.Helper()
	j, err := process.NewJob(strings.ReplaceAll(t.Name(), "/", "."), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	return j
}

func wait(t *testing.T, c *process.Child) uint32 {
	t.Helper()
	type end struct {
		code uint32
		err  error
	}
	ended := make(chan end, 1)
	go func() { code, err := c.Wait(); ended <- end{code, err} }()
	select {
	case e := <-ended:
		if e.err != nil {
			t.Fatal(e.err)
		}
		return e.code
	case <-time.After(patient):
		t.Fatal("the process has not ended")
		return 0
	}
}

func TestExitCodesStayAsTheyAre(t *testing.T) {
	j := newJob(t, process.Limits{})
	for _, want := range []uint32{0, 3, 256, 70000, 0xC0000005} {
		c, _ := start(t, j, "code", strconv.FormatUint(uint64(want), 10))
		if got := wait(t, c); got != want {
			t.Errorf("got exit code %d, want %d", got, want)
		}
	}
}

func TestWordsArriveAsTheyWere(t *testing.T) {
	words := []string{`a b`, `"quoted"`, `back\slash\`, `tail\"`, "", `%PATH%`, "ü☃"}
	c, out := start(t, newJob(t, process.Limits{}), "words", words...)
	text, _ := io.ReadAll(out)
	wait(t, c)
	if want := fmt.Sprintf("%q %q\n", words, "Grüße ☃"); string(text) != want {
		t.Errorf("got %s, want %s", text, want)
	}
}

func TestInterruptCanBeHeard(t *testing.T) {
	c, out := start(t, newJob(t, process.Limits{}), "break")
	if line, err := out.ReadString('\n'); err != nil {
		t.Fatal(line, err)
	}
	err := c.Interrupt()
	if errors.Is(err, windows.ERROR_INVALID_HANDLE) {
		t.Skip("this system, such as Wine 8, passes no Ctrl+Break on")
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := wait(t, c); got != 7 {
		t.Errorf("got exit code %d, want 7", got)
	}
}

func TestKillAllEndsWhatIsLeft(t *testing.T) {
	j := newJob(t, process.Limits{})
	c, out := start(t, j, "parent")
	if line, err := out.ReadString('\n'); err != nil || !strings.HasPrefix(line, "ready <nil>") {
		t.Fatal(line, err)
	}
	wait(t, c)
	if j.IsEmpty() {
		t.Fatal("the child of the process has ended with it")
	}
	if !j.KillAll() {
		t.Fatal("the job does not become empty")
	}
	if _, err := out.ReadString('\n'); err != io.EOF { // nobody has the pipe any more
		t.Error(err)
	}
}

func TestCloseEndsWhatRuns(t *testing.T) {
	j, err := process.NewJob(t.Name(), process.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	c, _ := start(t, j, "sleep")
	j.Close()
	wait(t, c)
}

func TestNameIsOfOneJob(t *testing.T) {
	first := newJob(t, process.Limits{})
	c, _ := start(t, first, "sleep")
	if _, err := process.NewJob(t.Name(), process.Limits{}); err != process.ErrJobLeft {
		t.Errorf("got %v, want %v", err, process.ErrJobLeft)
	}
	wait(t, c) // it is killed all the same
	c.Close()
	first.Close()
	second := newJob(t, process.Limits{})
	if !second.IsEmpty() {
		t.Error("the second job has something of the first one")
	}
}

func TestLookUp(t *testing.T) {
	dir, err := os.MkdirTemp("", "programs")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{"tool.exe", "script.bat"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	system := filepath.Join(os.Getenv("SystemRoot"), "system32")
	tests := []struct {
		name, path, want string
		cause            job.Cause
	}{
		{"cmd", process.Path, filepath.Join(system, "cmd.exe"), ""},
		{"CMD.EXE", process.Path, filepath.Join(system, "CMD.EXE"), ""},
		{"tool", dir, filepath.Join(dir, "tool.exe"), ""},
		{"tool", "relative;" + dir, filepath.Join(dir, "tool.exe"), ""},
		{`.\tool`, "", filepath.Join(dir, "tool.exe"), ""},
		{filepath.Join(dir, "tool.exe"), "", filepath.Join(dir, "tool.exe"), ""},
		{"script.bat", dir, "", job.CauseNotExecutable},
		{"script", dir, "", job.CauseNoProgram},
		{"nothing", process.Path, "", job.CauseNoProgram},
		{dir, "", "", job.CauseNoProgram},
	}
	for _, test := range tests {
		got, err := process.LookUp(test.name, test.path, dir)
		if !strings.EqualFold(got, test.want) || (err == nil) != (test.cause == "") ||
			err != nil && startfault.CauseOf(err, startfault.OnNode) != test.cause {
			t.Errorf("%s: got %q, %v; want %q, cause %q", test.name, got, err, test.want, test.cause)
		}
	}
}
