package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const (
	suite       = "github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	suiteRecord = "github.com/Azure/azure-sdk-for-go/sdk/internal"
	// storageOnly leaves out the subtests that want a token, and those of Cosmos,
	// which speaks another dialect.
	storageOnly = ".*/.*_storage$"
)

// pause is where the suite waits for the cloud's caches, five minutes in all.
// The build leaves the waiting out: what is set must show at once here.
const pause = "\t\ttime.Sleep(duration)\n"

var (
	//go:embed passing.txt
	passingText string
	//go:embed leftout.txt
	leftOutText string
)

// runSuite builds the client's own tests and runs those for Table Storage
// against the local tables.
func runSuite(ctx context.Context) (bool, error) {
	dir, err := os.MkdirTemp("", "aztables-suite-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	binary, err := buildSuite(ctx, dir)
	if err != nil {
		return false, err
	}
	server, stop, err := startLocal()
	if err != nil {
		return false, err
	}
	defer stop()
	p, err := startProxy(server.Addr())
	if err != nil {
		return false, err
	}
	defer p.close()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, p.caFile, 0o600); err != nil {
		return false, err
	}
	leftOut := entries(leftOutText)
	var skip []string
	for name := range leftOut {
		skip = append(skip, name)
	}
	slices.Sort(skip)
	run := exec.CommandContext(
		ctx,
		"go",
		"tool",
		"test2json",
		binary,
		"-test.v=test2json",
		"-test.run",
		storageOnly,
		"-test.skip",
		"^("+strings.Join(skip, "|")+")$",
	)
	run.Dir = dir
	run.Env = append(os.Environ(),
		"HTTPS_PROXY=http://"+p.addr, "NO_PROXY=", "no_proxy=", "SSL_CERT_FILE="+ca, "AZURE_RECORD_MODE=live",
		"TABLES_STORAGE_ACCOUNT_NAME="+account, "TABLES_PRIMARY_STORAGE_ACCOUNT_KEY="+key,
		"TABLES_COSMOS_ACCOUNT_NAME=none", "TABLES_PRIMARY_COSMOS_ACCOUNT_KEY="+key)
	run.Stderr = os.Stderr
	out, err := run.Output() // that tests failed shows in the output
	results := readResults(out)
	if len(results) == 0 {
		return false, fmt.Errorf("the suite ran no test: %w\n%s", err, out)
	}
	listed, err := exec.CommandContext(ctx, "env", append(run.Env[len(os.Environ()):], binary, "-test.list", ".")...).Output()
	if err != nil {
		return false, err
	}
	return judge(results, strings.Fields(string(listed)), entries(passingText), leftOut), nil
}

// judge holds what happened against the two lists, which together must name
// every test there is.
func judge(results map[string]*result, top []string, passing, leftOut map[string]string) bool {
	passed, failed := 0, 0
	say := func(format string, args ...any) {
		failed++
		fmt.Printf(format+"\n", args...)
	}
	for _, name := range sorted(results) {
		r := results[name]
		_, wanted := passing[name]
		switch {
		case r.parent:
		case !wanted:
			say("UNKNOWN %s (%s): put it on passing.txt, or on leftout.txt with the reason", name, r.action)
		case r.action == "pass":
			passed++
			fmt.Println("ok      " + name)
		default:
			say("FAILED  %s (%s)\n%s", name, r.action, r.output.String())
		}
	}
	for _, name := range sorted(passing) {
		if results[name] == nil {
			say("MISSING %s is on passing.txt, but the suite does not have it", name)
		}
	}
	for _, name := range sorted(leftOut) {
		if !slices.Contains(top, name) {
			say("MISSING %s is on leftout.txt, but the suite does not have it", name)
		} else if leftOut[name] == "" {
			say("MISSING the reason for which %s is left out", name)
		}
	}
	return verdict(passed, failed)
}

// buildSuite builds the client's test binary, in the version of this module,
// with a copy of the package that waits.
func buildSuite(ctx context.Context, dir string) (string, error) {
	where, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", suiteRecord).Output()
	if err != nil {
		return "", fmt.Errorf("run this in its own folder, where go.mod is: %w", err)
	}
	patched := filepath.Join(dir, "internal")
	if err := os.CopyFS(patched, os.DirFS(strings.TrimSpace(string(where)))); err != nil {
		return "", err
	}
	file := filepath.Join(patched, "recording", "recording.go")
	source, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if bytes.Count(source, []byte(pause)) != 1 {
		return "", fmt.Errorf("%s waits in another way than expected", suiteRecord)
	}
	if err := os.Remove(file); err != nil { // it is read-only
		return "", err
	}
	if err := os.WriteFile(file, bytes.Replace(source, []byte(pause), []byte("\t\t_ = time.Sleep\n"), 1), 0o600); err != nil {
		return "", err
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		return "", err
	}
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		return "", err
	}
	mod = fmt.Appendf(mod, "\nreplace %s => %s\n", suiteRecord, patched)
	modErr := os.WriteFile(filepath.Join(dir, "go.mod"), mod, 0o600)
	sumErr := os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o600)
	if err := errors.Join(modErr, sumErr); err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "suite.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-modfile", filepath.Join(dir, "go.mod"), "-o", binary, suite)
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	return binary, build.Run()
}

// result is how one test ended.
type result struct {
	action string
	output bytes.Buffer
	parent bool // of tests that count by themselves
}

// readResults reads the events of test2json.
func readResults(out []byte) map[string]*result {
	results := map[string]*result{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var event struct{ Action, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &event) != nil || event.Test == "" {
			continue
		}
		r := results[event.Test]
		if r == nil {
			r = &result{action: "did not end"}
			results[event.Test] = r
			for parent := range results {
				if strings.HasPrefix(event.Test, parent+"/") {
					results[parent].parent = true
				}
			}
		}
		switch event.Action {
		case "output":
			r.output.WriteString(event.Output)
		case "pass", "fail", "skip":
			r.action = event.Action
		}
	}
	return results
}

// entries reads a list: a name, then what is said about it; # begins a comment.
func entries(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, reason, _ := strings.Cut(line, " ")
		out[name] = strings.TrimSpace(reason)
	}
	return out
}

func sorted[T any](m map[string]T) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
