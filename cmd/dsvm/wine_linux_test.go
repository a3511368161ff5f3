package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"dsvmpools/local"
	"dsvmpools/shared/job"
)

// winePrefix is the folder of a Wine that can run programs of Go; .ci/wine makes it.
const winePrefix = "DSVM_TEST_WINE"

// wineJob is what jobs run in the tests with Wine.
const wineJob = `package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

func main() {
	switch os.Args[1] {
	case "code":
		n, _ := strconv.Atoi(os.Args[2])
		os.Exit(n)
	case "write":
		wd, _ := os.Getwd()
		fmt.Printf("%q in %s of %s\n", os.Args[2:], filepath.Base(wd), os.Getenv("DSVM_JOB_ID"))
		fmt.Fprintln(os.Stderr, "to standard error")
		if err := os.WriteFile(filepath.Join(os.Getenv("DSVM_OUTPUT"), "made.txt"), []byte("by Windows\n"), 0o600); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "child": // leaves a process that would go on
		child := exec.Command(os.Args[0], "sleep")
		child.Stdout = os.Stdout
		fmt.Println("child", child.Start())
	case "once":
		if os.Getenv("DSVM_ATTEMPT") != "1" {
			return
		}
		child := exec.Command(os.Args[0], "sleep", os.Getenv("DSVM_JOB_ID"))
		fmt.Println("started", child.Start())
		time.Sleep(time.Hour)
	case "sleep":
		fmt.Println("sleeping")
		time.Sleep(time.Hour)
	}
}
`

// wineProgram writes a program that plays the roles of this one, but that of the agent: Wine runs
// the agent for Windows then. Paths get the drive that Wine gives the root.
func wineProgram(t *testing.T, prefix string) (self, helper string) {
	t.Helper()
	dir := t.TempDir()
	build := func(out string, of ...string) {
		cmd := exec.Command("go", append([]string{"build", "-o", out}, of...)...)
		cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
	agent, source := filepath.Join(dir, "agent.exe"), filepath.Join(dir, "helper.go")
	helper = filepath.Join(dir, "helper.exe")
	if err := os.WriteFile(source, []byte(wineJob), 0o600); err != nil {
		t.Fatal(err)
	}
	build(agent, "dsvmpools/cmd/agent")
	build(helper, source)
	self = filepath.Join(dir, "dsvm")
	script := fmt.Sprintf(`#!/bin/bash
if [ "$1" != agent ]; then exec %q "$@"; fi
on_z() { local p="Z:$1"; echo "${p//\//\\}"; }
export WINEPREFIX=%q WINEDEBUG=-all DSVM_JOB_UIDS=off
SHARE_PATH=$(on_z "$SHARE_PATH") DSVM_INSTANCE_DIR=$(on_z "$DSVM_INSTANCE_DIR") exec wine %q
`, os.Args[0], prefix, agent)
	if err := os.WriteFile(self, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return self, helper
}

// onZ is a path as Wine's programs have it.
func onZ(path string) string { return `Z:` + strings.ReplaceAll(path, "/", `\`) }

// The agent for Windows takes jobs from the queue, runs them in job objects, and reports.
func TestAgentUnderWine(t *testing.T) {
	t.Parallel()
	prefix := os.Getenv(winePrefix)
	if prefix == "" {
		t.Skip(winePrefix + " is not set")
	}
	self, helper := wineProgram(t, prefix)
	i := startInstance(t, nil, func(c *local.Config) { c.Program = []string{self} })
	i.apply(`{"name":"win","sizes":["Standard_D2s_v5"],"nodes":{"max":1}}`)
	defer func() {
		if t.Failed() {
			showLogs(t, i)
		}
	}()
	run := func(id string, argv ...string) {
		t.Helper()
		text, err := json.Marshal(map[string]any{"id": id, "pool": "win", "command": append([]string{onZ(helper)}, argv...),
			"retry": map[string]any{"max": 1, "on": []string{"agentRestarted"}, "backoff": "10ms"}})
		if err != nil {
			t.Fatal(err)
		}
		i.send("jobs", &azservicebus.Message{Body: text})
	}
	folder := func(id string) string { return filepath.Join(i.Share, "jobs", "win", id, "1") }
	run("words", "write", "a b", `"q"`, `back\`, "ü")
	if j := i.job("words"); j.State != job.Succeeded {
		t.Fatalf("got %s: %s", j.State, j.Reason)
	}
	want := fmt.Sprintf("%q in wd of words\n", []string{"a b", `"q"`, `back\`, "ü"})
	for file, want := range map[string]string{"stdout.log": want, "stderr.log": "to standard error\n", "output/made.txt": "by Windows\n"} {
		if got, err := os.ReadFile(filepath.Join(folder("words"), file)); string(got) != want {
			t.Errorf("%s: got %q, %v; want %q", file, got, err, want)
		}
	}
	run("child", "child") // and the next one is not kept waiting by what it leaves
	run("code", "code", "70000")
	if j := i.job("child"); j.State != job.Succeeded {
		t.Errorf("got %s: %s", j.State, j.Reason)
	}
	if j := i.job("code"); j.State != job.Failed || len(j.Attempts) != 1 || *j.Attempts[0].ExitCode != 70000 {
		t.Errorf("got %+v, want exit code 70000", j)
	}
	run("nothing", "sleep")
	i.until("the start of a job", func() bool {
		text, _ := os.ReadFile(filepath.Join(folder("nothing"), "stdout.log"))
		return string(text) == "sleeping\n"
	})
	if _, err := i.client.Cancel(i.ctx, "nothing"); err != nil {
		t.Fatal(err)
	}
	if j := i.job("nothing"); j.State != job.Cancelled {
		t.Errorf("got %s: %s", j.State, j.Reason)
	}
	run("killed-agent", "once")
	i.until("the start of another job", func() bool {
		text, _ := os.ReadFile(filepath.Join(folder("killed-agent"), "stdout.log"))
		return string(text) == "started <nil>\n"
	})
	for _, pid := range processesOf(filepath.Base(filepath.Dir(filepath.Dir(helper))), "agent.exe") {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if j := i.job("killed-agent"); j.State != job.Succeeded || len(j.Attempts) != 2 || j.Attempts[0].State != job.AttemptAgentRestarted {
		t.Errorf("got %s of %+v: %s", j.State, j.Attempts, j.Reason)
	}
	i.until("the end of what the agent had started", func() bool { return len(processesOf("helper.exe", "killed-agent")) == 0 })
}

// processesOf lists the processes whose command lines hold words.
func processesOf(words ...string) (found []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		line, err := os.ReadFile(file)
		isOne := err == nil
		for _, word := range words {
			isOne = isOne && strings.Contains(string(line), word)
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); isOne && err == nil {
			found = append(found, pid)
		}
	}
	return found
}

// showLogs shows what the nodes have said.
func showLogs(t *testing.T, i *instance) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(i.Share), "logs", "*"))
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil {
			t.Logf("%s:\n%s", filepath.Base(file), text[max(0, len(text)-5000):])
		}
	}
}
