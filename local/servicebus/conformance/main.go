// Command conformance holds the local Service Bus against the live tests of
// azservicebus itself. It builds the test programs of the pinned version, starts
// two servers for each test (a Standard and a Premium namespace), and runs the
// tests that expected.txt names; leftout.txt names the others, with the reason.
// It fails when a listed test fails, and when a live test is in neither list.
//
// It is a module of its own: the tests of the SDK need modules that nothing else
// here needs. It runs on Linux, where all of 127.0.0.0/8 is this machine: one of
// the tests expects nobody to answer at 127.0.0.1.
package main

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// sdk is the module whose tests are run; its version is in go.mod.
const sdk = "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

// packages are those with live tests, by the name they have in the lists.
var packages = map[string]string{"root": "", "admin": "/admin", "internal": "/internal"}

// perTest is how long a test may take; the slowest waits for retries against a
// login host that does not answer.
const perTest = 2 * time.Minute

//go:embed expected.txt leftout.txt
var lists embed.FS

func main() {
	only := flag.String("run", "", "run only the listed tests that match, as in admin/TestAdminClient_UpdateQueue")
	parallel := flag.Int("parallel", 4*runtime.NumCPU(), "tests at a time; most of the time they wait")
	flag.Parse()
	passed, failed, err := run(*only, *parallel)
	if err != nil {
		fmt.Println(err)
		failed++
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

// suite is the built test programs and what they need.
type suite struct {
	dir string // temporary files
	src string // of the SDK
	ca  *authority
}

func run(only string, parallel int) (passed, failed int, err error) {
	match, err := regexp.Compile(only)
	if err != nil {
		return 0, 0, err
	}
	s := suite{}
	if s.dir, err = os.MkdirTemp("", "conformance"); err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(s.dir)
	if err := s.build(); err != nil {
		return 0, 0, err
	}
	expected, leftOut := read("expected.txt"), read("leftout.txt")
	if only == "" {
		if failed, err = s.complete(expected, leftOut); err != nil {
			return 0, failed, err
		}
	}
	expected = slices.DeleteFunc(expected, func(name string) bool { return !match.MatchString(name) })
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for _, name := range expected {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			out, err := s.test(name)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				passed++
				return
			}
			failed++
			fmt.Printf("FAILED %s: %v\n%s\n", name, err, out)
		})
	}
	wg.Wait()
	return passed, failed, nil
}

// read returns the names of a list: the first word of each line.
func read(file string) (names []string) {
	b, err := lists.ReadFile(file)
	if err != nil {
		panic(err) // it is compiled in
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) > 0 && !strings.HasPrefix(words[0], "#") {
			names = append(names, words[0])
		}
	}
	return names
}

// build compiles the test programs, and prepares what they look for.
func (s *suite) build() error {
	src, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", sdk).Output()
	if err != nil {
		return fmt.Errorf("the SDK's sources are not to be found: %w", err)
	}
	s.src = strings.TrimSpace(string(src))
	for name, path := range packages {
		if out, err := exec.Command("go", "test", "-c", "-o", filepath.Join(s.dir, name), sdk+path).CombinedOutput(); err != nil {
			return fmt.Errorf("the tests of %s%s were not built: %w\n%s", sdk, path, err, out)
		}
	}
	if s.ca, err = newAuthority(filepath.Join(s.dir, "ca.pem")); err != nil {
		return err
	}
	until := time.Now().Add(12 * time.Hour)
	az := fmt.Sprintf("#!/bin/sh\necho '{\"accessToken\":\"x\",\"expiresOn\":\"%s\",\"expires_on\":%d,\"tokenType\":\"Bearer\"}'\n",
		until.Format("2006-01-02 15:04:05.000000"), until.Unix())
	return os.WriteFile(filepath.Join(s.dir, "az"), []byte(az), 0o700)
}

var skipped = regexp.MustCompile(`(?m)^\s*--- SKIP: (\S+)`)

// complete checks that every live test is in one of the lists, and that the lists
// name no others. A live test is one that is skipped without a service.
func (s *suite) complete(expected, leftOut []string) (failed int, err error) {
	listed := map[string]bool{}
	for _, name := range slices.Concat(expected, leftOut) {
		if listed[name] {
			fmt.Printf("FAILED %s is listed twice\n", name)
			failed++
		}
		listed[name] = false
	}
	for name := range packages {
		out, err := s.command(context.Background(), name, ".", nil).CombinedOutput()
		if err != nil {
			return failed, fmt.Errorf("the offline tests of %s: %w\n%s", name, err, out)
		}
		for _, m := range skipped.FindAllSubmatch(out, -1) {
			test := name + "/" + string(m[1])
			if _, known := listed[test]; !known {
				fmt.Printf("FAILED %s is a live test that is in neither list\n", test)
				failed++
			}
			listed[test] = true
		}
	}
	for test, live := range listed {
		if !live {
			fmt.Printf("FAILED %s is listed, but there is no such live test\n", test)
			failed++
		}
	}
	return failed, nil
}

// command is a test program with an environment of its own.
func (s *suite) command(ctx context.Context, name, tests string, env []string) *exec.Cmd {
	c := exec.CommandContext(ctx, filepath.Join(s.dir, name), "-test.v", "-test.run", tests, "-test.timeout", perTest.String())
	c.Dir = filepath.Join(s.src, packages[name])
	c.Env = append([]string{"PATH=" + s.dir + ":" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + s.dir}, env...)
	return c
}

// test runs one test against two servers of its own.
func (s *suite) test(name string) (string, error) {
	pkg, test, _ := strings.Cut(name, "/")
	env, stop, err := s.servers()
	if err != nil {
		return "", err
	}
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), perTest+time.Minute)
	defer cancel()
	pattern := "^" + strings.ReplaceAll(test, "/", "$/^") + "$"
	out, err := s.command(ctx, pkg, pattern, env).CombinedOutput()
	if err == nil && !bytes.Contains(out, []byte("--- PASS: "+test)) {
		err = fmt.Errorf("it was not run")
	}
	return string(out), err
}
