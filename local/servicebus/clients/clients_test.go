//go:build unix

// Package clients holds tests of the local servers by SDKs of other languages.
// They run where the environment names a Python, the modules of Node.js and the libraries of
// Java that have the SDKs.
package clients

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvmpools/local/chaos"
	"dsvmpools/local/compute"
	"dsvmpools/local/servicebus"
	"dsvmpools/local/tables"
	"dsvmpools/shared/fleet"
)

// limit bounds a suite. A client that hangs fails its test.
const limit = 3 * time.Minute

// start starts the servers of a suite. It returns the file of their certificate, and the
// environment that names them. When the test ends, every failure must have happened but those
// whose targets contain one of unmet.
func start(t *testing.T, unmet ...string) (certificate string, env []string) {
	t.Helper()
	const name, key = "root", "cm9vdA=="
	set := chaos.New(1)
	t.Cleanup(func() {
		all, _ := set.List()
		for _, i := range all {
			if i.Hits == 0 && !slices.ContainsFunc(unmet, func(part string) bool { return strings.Contains(i.Target, part) }) {
				t.Errorf("the suite has not met the failure %s of %s", i.Do, i.Target)
			}
		}
	})
	inject := func(target string, do chaos.Action) {
		t.Helper()
		if _, err := set.Add(chaos.Injection{Target: target, Do: do, Count: 1}); err != nil {
			t.Fatal(err)
		}
	}
	queues := []servicebus.QueueConfig{{Name: "jobs"}, {Name: "sessions", RequiresSession: true}}
	for queue, do := range map[string]chaos.Action{"busy": chaos.Throttle, "cut": chaos.Detach, "gone": chaos.Disconnect, "lost": chaos.Lose} {
		for _, queue := range []string{queue, "async-" + queue} {
			inject("servicebus/send/"+queue, do)
			queues = append(queues, servicebus.QueueConfig{Name: queue})
		}
	}
	inject("tables/insert/busy", chaos.Throttle)
	inject("tables/get/gone", chaos.Disconnect)
	certificate = filepath.Join(t.TempDir(), "bus.pem")
	s, err := servicebus.Start(servicebus.Config{
		Addr:            "127.0.0.1:0",
		Path:            filepath.Join(t.TempDir(), "bus.db"),
		Queues:          queues,
		AccessKeys:      []servicebus.AccessKey{{Name: name, Key: key, Send: true, Listen: true, Manage: true}},
		Chaos:           set,
		CertificatePath: certificate,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	rows, err := tables.Start(tables.Config{
		Addr:    "127.0.0.1:0",
		Path:    filepath.Join(t.TempDir(), "tables.db"),
		Account: "local",
		Key:     key,
		TLS:     s.TLS(),
		Chaos:   set,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rows.Close() })
	sets := startCompute(t, compute.Config{TLS: s.TLS(), Chaos: set})
	inject("compute/get/busy", chaos.Throttle)
	return certificate, append(os.Environ(), "BUS="+s.ConnectionString(name), "BUS_TLS="+s.SecureConnectionString(name), "KEY_NAME="+name, "KEY="+key,
		"TABLES="+rows.ConnectionString(), "TABLES_TLS="+rows.SecureConnectionString(), "ARM_TLS="+sets.SecureURL(),
		"CERTIFICATE="+certificate, "NODE_EXTRA_CA_CERTS="+certificate)
}

// Where the scale sets are. The suites have the same names.
const (
	subscription = "00000000-0000-4000-8000-000000000001"
	group        = "local"
	token        = "arm-token"
)

// startCompute starts a resource manager with the scale sets `cpu` of two instances, and
// `busy` of none. Processes that do nothing play the instances.
func startCompute(t *testing.T, cfg compute.Config) *compute.Server {
	t.Helper()
	dir := t.TempDir()
	cfg.Addr, cfg.Path, cfg.Dir = "127.0.0.1:0", filepath.Join(dir, "arm.db"), filepath.Join(dir, "instances")
	cfg.SubscriptionID, cfg.ResourceGroup, cfg.Location, cfg.Token = subscription, group, "westeurope", token
	cfg.Supervisor, cfg.KillAfter = []string{"sleep", "600"}, time.Millisecond
	cfg.BootDelay, cfg.DeleteDelay, cfg.RetryAfter = 10*time.Millisecond, 10*time.Millisecond, 100*time.Millisecond
	s, err := compute.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c, err := fleet.New(fleet.Config{
		SubscriptionID: subscription,
		ResourceGroup:  group,
		Region:         cfg.Location,
		Endpoint:       s.URL(),
		Credential:     fleet.StaticCredential(token),
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"cpu": 2, "busy": 0} {
		_, err := c.Grow(t.Context(), name, fleet.Model{
			Pool:         name,
			Size:         "Standard_D2s_v5",
			Region:       cfg.Location,
			Image:        fleet.Image{Publisher: "p", Offer: "o", SKU: "s", Version: "latest"},
			CustomData:   []byte("#cloud-config"),
			SubnetID:     "/subscriptions/" + subscription + "/subnets/x",
			AdminUser:    "dsvm",
			SSHPublicKey: "ssh-ed25519 AAAA",
		}, size)
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// run runs the program of a suite in a folder. It must count tests that pass, and none that
// fail.
func run(t *testing.T, dir string, env []string, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = env, dir, time.Second
	out, err := cmd.CombinedOutput()
	t.Logf("%s", bytes.TrimSpace(out))
	if err != nil || !passed.Match(out) {
		t.Errorf("got %v, want the count of tests and exit code 0", err)
	}
}

var passed = regexp.MustCompile(`(?m)^[1-9][0-9]* passed, 0 failed$`)

// suite returns the path of a suite's program.
func suite(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPython(t *testing.T) {
	t.Parallel()
	python := os.Getenv("DSVM_TEST_PYTHON")
	if python == "" {
		t.Skip("DSVM_TEST_PYTHON names no Python with azure-servicebus")
	}
	_, env := start(t)
	run(t, t.TempDir(), env, python, suite(t, "suite.py"))
}

func TestJavaScript(t *testing.T) {
	t.Parallel()
	modules := os.Getenv("DSVM_TEST_NODE")
	if modules == "" {
		t.Skip("DSVM_TEST_NODE names no folder with node_modules")
	}
	_, env := start(t, "async-")
	run(t, modules, env, "node", suite(t, "suite.mjs"))
}

func TestJava(t *testing.T) {
	t.Parallel()
	libraries := os.Getenv("DSVM_TEST_JAVA")
	if libraries == "" {
		t.Skip("DSVM_TEST_JAVA names no folder with the libraries of java/pom.xml")
	}
	certificate, env := start(t, "async-", "tables/", "compute/")
	const password = "changeit"
	trusted := filepath.Join(t.TempDir(), "trusted.p12")
	if out, err := exec.CommandContext(t.Context(), "keytool", "-importcert", "-noprompt", "-alias", "dsvm",
		"-file", certificate, "-keystore", trusted, "-storepass", password).CombinedOutput(); err != nil {
		t.Fatalf("keytool: %v\n%s", err, out)
	}
	run(t, t.TempDir(), env, "java", "-Djavax.net.ssl.trustStore="+trusted, "-Djavax.net.ssl.trustStorePassword="+password,
		"-cp", filepath.Join(libraries, "*"), suite(t, "java/Suite.java"))
}
