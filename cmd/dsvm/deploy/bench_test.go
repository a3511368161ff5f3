package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvmpools/cmd/dsvm/cli"
	"dsvmpools/cmd/dsvm/pack"
	"dsvmpools/shared/client"
	"dsvmpools/shared/wire"
)

// bench is a cloud with the program az in front of it, and a package to deploy.
type bench struct {
	t          *testing.T
	dir        string
	app, agent string
	az         string // the program; "" = the one of the tests
	in         string // what somebody types; "" = nobody is there
	unanswered int    // looks at the API before it answers
	denied     int    // of these, how many refuse the key
}

func newBench(t *testing.T, change func(*cloud)) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir()}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(b.dir, "az")); err != nil {
		t.Skip("no links here: ", err)
	}
	c := newCloud()
	if change != nil {
		change(c)
	}
	b.put(c)
	program := make([]byte, 64) // the header of a program for Linux on x86-64
	copy(program, "\x7fELF\x02\x01\x01")
	program[16], program[18], program[20], program[52] = 2, 62, 1, 64
	built := filepath.Join(b.dir, "built")
	if err := os.WriteFile(built, program, 0o700); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(b.dir, "dist")
	if _, err := pack.Build(t.Context(), pack.Options{Out: out, Handler: built, Agent: built}); err != nil {
		t.Fatal(err)
	}
	b.app, b.agent = filepath.Join(out, pack.AppZip), filepath.Join(out, pack.AgentFile)
	return b
}

func (b *bench) put(c *cloud) {
	text, err := json.Marshal(c)
	if err == nil {
		err = os.WriteFile(filepath.Join(b.dir, "cloud.json"), text, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) cloud() *cloud {
	b.t.Helper()
	c := &cloud{}
	text, err := os.ReadFile(filepath.Join(b.dir, "cloud.json"))
	if err == nil {
		err = json.Unmarshal(text, c)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// change changes the cloud between two runs.
func (b *bench) change(change func(*cloud)) {
	c := b.cloud()
	c.Call, c.DieAt, c.Calls = 0, 0, nil
	change(c)
	b.put(c)
}

type noPools struct {
	b   *bench
	key string
}

func (n noPools) Pools(context.Context) ([]wire.Pool, error) {
	if n.key != "the-key" {
		return nil, errors.New("wrong key " + n.key)
	}
	if n.b.denied > 0 {
		n.b.denied--
		return nil, &client.Denied{Address: "https://fn.example"}
	}
	if n.b.unanswered > 0 {
		n.b.unanswered--
		return nil, errors.New("status 503")
	}
	return nil, nil
}

// run runs a command and returns its exit code and what it has printed.
func (b *bench) run(args ...string) (code int, out, said string) {
	b.t.Helper()
	var stdout, stderr bytes.Buffer
	p := &cli.Program{In: strings.NewReader(b.in), Asks: b.in != "", Out: &stdout, Err: &stderr, Now: time.Now, Zone: time.UTC,
		Getenv: func(string) string { return "" }, Dir: b.dir}
	o := outside{
		pause:   func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		connect: func(_, key string) (pools, error) { return noPools{b, key}, nil },
	}
	az := filepath.Join(b.dir, "az")
	if b.az != "" {
		az = b.az
	}
	args = append(args, "--az", az)
	if args[0] != "destroy" {
		args = append(args, "--app", b.app, "--agent", b.agent)
	}
	code = p.Main(b.t.Context(), args, commands(o)...)
	return code, stdout.String(), stderr.String()
}

// calls are the words of the calls of az, in their order.
func (c *cloud) calls() (all []string) {
	for _, call := range c.Calls {
		all = append(all, strings.Join(verbs(call), " "))
	}
	return all
}
