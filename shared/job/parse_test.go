package job_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/job"
)

// minimal is the start of a document that lacks nothing, two lines long.
const minimal = "pool: cpu\ncommand: [echo, hi]\n"

func TestParse(t *testing.T) {
	t.Parallel()
	plain := job.Spec{Pool: "cpu", Command: []string{"echo", "hi"}, Resources: job.Resources{CPUs: 1}, Priority: job.Normal,
		Retry: job.Retry{Backoff: job.Duration(10 * time.Second)}}
	with := func(change func(*job.Spec)) job.Spec {
		s := plain
		change(&s)
		return s
	}
	for _, c := range []struct {
		name, body string
		want       job.Spec
	}{
		{"the least", minimal, plain},
		{"the least, as JSON", `{"pool": "cpu", "command": ["echo", "hi"]}`, plain},
		{"a script", "pool: cpu\nscript: |\n  echo hi\n", with(func(s *job.Spec) { s.Command, s.Script = nil, "echo hi\n" })},
		{"everything", minimal + `id: nightly-1.A_b
name: nightly éval
team: vision
user: ann
workdir: src/a..b
env: {K: v, _x9: ""}
resources: {cpus: 4}
priority: high
notBefore: 2026-01-31T21:00:00+01:00
timeout: 1h30m
retry: {max: 3, on: [nodeLost, timeout, "exitCode:137"], backoff: 1d}
labels: {project: x, "cost center": "4711"}
`, job.Spec{ID: "nightly-1.A_b", Pool: "cpu", Name: "nightly éval", Team: "vision", User: "ann", Command: []string{"echo", "hi"}, Workdir: "src/a..b",
			Env: map[string]string{"K": "v", "_x9": ""}, Resources: job.Resources{CPUs: 4}, Priority: job.High,
			NotBefore: time.Date(2026, 1, 31, 20, 0, 0, 0, time.UTC), Timeout: job.Duration(90 * time.Minute),
			Retry:  job.Retry{Max: 3, On: []string{"nodeLost", "timeout", "exitCode:137"}, Backoff: job.Duration(24 * time.Hour)},
			Labels: map[string]string{"project": "x", "cost center": "4711"}}},
		{"secrets", minimal + "env: {A: x}\nsecrets: {HF_TOKEN: keyvault:acme-vault/hf-token, _b: keyvault:v12/A}\n", with(func(s *job.Spec) {
			s.Env = map[string]string{"A": "x"}
			s.Secrets = map[string]string{"HF_TOKEN": "keyvault:acme-vault/hf-token", "_b": "keyvault:v12/A"}
		})},
		{"stop of the leader", minimal + "stop: leader\n", with(func(s *job.Spec) { s.Stop = job.StopLeader })},
		{"stop of the group, which is the default", minimal + "stop: group\n", plain},
		{"no backoff", minimal + "retry: {max: 1, backoff: 0s}\n", with(func(s *job.Spec) { s.Retry = job.Retry{Max: 1} })},
		{"an absolute workdir", minimal + "workdir: /mnt/share/x\n", with(func(s *job.Spec) { s.Workdir = "/mnt/share/x" })},
		{"after", minimal + "after: [a, b]\n", with(func(s *job.Spec) { s.After = []string{"a", "b"} })},
		{"all resources", minimal + "resources: {cpus: 2, gpus: 1, memory: 1536Mi}\n", with(func(s *job.Spec) { s.Resources = job.Resources{CPUs: 2, GPUs: 1, Memory: 3 * job.Gi / 2} })},
		{"lists and objects with nothing in them", minimal + "env: {}\nsecrets: {}\nresources: {gpus: 0}\nnodes: 1\nafter: []\nretry: {}\nlabels: {}\n", plain},
		{"empty values of one's own", minimal + "env: {A: ''}\nlabels: {b: ''}\n", with(func(s *job.Spec) {
			s.Env, s.Labels = map[string]string{"A": ""}, map[string]string{"b": ""}
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := job.Parse([]byte(c.body), "")
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// Each row is what a person reads who wrote this.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const noReference = "line 3: `secrets.A` is no reference to a secret; write keyv" +
		"ault:VAULT/SECRET, with the name of a Key Vault (3 to 24 of A-Z a-z 0-9 -) and that of a secret in it (1 to 127 of A-Z a-z 0-9 -)"
	for _, c := range []struct{ name, body, field, message string }{
		{"no pool", "command: [a]\n", "pool", "`pool` is missing; name the pool the job is to run in"},
		{"capitals in the pool", "pool: CPU\ncommand: [a]\n", "pool", "line 1: `pool` is \"CPU\"; a pool's name has 1 to 24 characters of a-z 0-9 -"},
		{"a long pool", "pool: " + strings.Repeat("a", 25) + "\ncommand: [a]\n", "pool", "line 1: `pool` is \"" + strings.Repeat("a", 25) + "\"; a pool's name has 1 to 24 characters of a-z 0-9 -"},
		{"a dot as id", minimal + "id: '.'\n", "id", "line 3: `id` is \".\"; write 1 to 100 characters of A-Z a-z 0-9 . _ -, other than . and .."},
		{"a slash in the id", minimal + "id: a/b\n", "id", "line 3: `id` is \"a/b\"; write 1 to 100 characters of A-Z a-z 0-9 . _ -, other than . and .."},
		{"a long id", minimal + "id: " + strings.Repeat("a", 101) + "\n", "id",
			"line 3: `id` is \"" + strings.Repeat("a", 60) + "...\"; write 1 to 100 characters of A-Z a-z 0-9 . _ -, other than . and .."},

		{"nothing to run", "pool: cpu\n", "command", "`command` is missing; give `command` as a list of texts, or `script` as a text"},
		{"an empty command", "pool: cpu\ncommand: []\n", "command", "line 2: `command` is missing; give `command` as a list of texts, or `script` as a text"},
		{"both", minimal + "script: x\n", "script", "line 3: `command` and `script` are both there; keep one of them"},
		{"no program", "pool: cpu\ncommand: ['', a]\n", "command", "line 2: the first element of `command` is empty; it names the program"},
		{"a blank script", "pool: cpu\nscript: \" \\n\"\n", "script", "line 2: `script` is blank; write what to run"},
		{"a command as a text", "pool: cpu\ncommand: python train.py\n", "command", "line 2: `command` is a text; write a list of its words, such as [\"python\", \"train.py\"], or name it `script`, which a shell reads"},
		{"a number in the command", "pool: cpu\ncommand: [sleep, 5]\n", "command[1]", "line 2: `command[1]` is a number; write it as a text, in quotes: \"5\""},
		{"NUL in the command", `{"pool": "cpu", "command": ["a", "b\u0000"]}`, "command[1]", "line 1: `command[1]` has a NUL character; remove it"},
		{"NUL in the script", "pool: cpu\nscript: \"a\\0\"\n", "script", "line 2: `script` has a NUL character; remove it"},
		{"a #! line of Windows", "pool: cpu\nscript: \"#!/bin/sh\\r\\necho\"\n", "script", "line 2: the first line of `script` ends with a carriage return (CR LF, as Windows writes it), so that no node finds its interpreter; write its lines with LF"},
		{"arguments without a script", minimal + "args: [x]\n", "args", "line 3: `args` are those of a `script`, and there is none; write them into `command`"},
		{"a NUL in an argument", "pool: cpu\nscript: x\nargs: [\"a\\0\"]\n", "args[0]", "line 3: `args[0]` has a NUL character; remove it"},

		{"a way up", minimal + "workdir: a/../b\n", "workdir", "line 3: `workdir` leads upwards; name a directory below the job's own, or one on the share"},
		{"a way up on Windows", minimal + "workdir: a\\..\n", "workdir", "line 3: `workdir` leads upwards; name a directory below the job's own, or one on the share"},
		{"a drive of Windows", minimal + "workdir: 'C:\\data'\n", "workdir", "line 3: `workdir` is \"C:\\\\data\", a path of Windows; write one with / below the job's own folder, or on the share"},
		{"NUL in the workdir", minimal + "workdir: \"a\\0\"\n", "workdir", "line 3: `workdir` has a NUL character; remove it"},
		{"a bad variable", minimal + "env: {9a: x}\n", "env.9a", "line 3: `env` has the name \"9a\"; a name has letters, digits and _, and does not begin with a digit"},
		{"a variable of the platform", minimal + "env:\n  A: x\n  DSVM_POOL: x\n", "env.DSVM_POOL", "line 5: `env` sets DSVM_POOL; names that begin with DSVM_ are set by the platform"},
		{"a number as a variable", minimal + "env: {K: 5}\n", "env.K", "line 3: `env.K` is a number; write it as a text, in quotes: \"5\""},
		{"NUL in a variable", minimal + "env: {K: \"\\0\"}\n", "env.K", "line 3: `env.K` has a NUL character; remove it"},

		{"no cpus", minimal + "resources: {cpus: 0}\n", "resources.cpus", "line 3: `resources.cpus` is 0; write a whole number from 1 to 1024"},
		{"half a cpu", minimal + "resources: {cpus: 0.5}\n", "resources.cpus", "line 3: `resources.cpus` is 0.5; write a whole number from 1 to 1024"},
		{"an unknown priority", minimal + "priority: urgent\n", "priority", "line 3: `priority` is \"urgent\"; write low, normal or high"},
		{"a day for a time", minimal + "notBefore: tomorrow\n", "notBefore", "line 3: `notBefore` is \"tomorrow\"; write a time as RFC 3339 has it, for example 2026-01-31T20:00:00Z"},
		{"a year too late", minimal + "notBefore: 9999-12-31T23:59:59-01:00\n", "notBefore",
			"line 3: `notBefore` is \"9999-12-31T23:59:59-01:00\"; write a time as RFC 3339 has it, for example 2026-01-31T20:00:00Z"},
		{"stop of somebody", minimal + "stop: children\n", "stop", "line 3: `stop` is \"children\"; write group or leader"},
		{"stop as a truth", minimal + "stop: true\n", "stop", "line 3: `stop` is a boolean; write a text, for example \"leader\""},
		{"no timeout", minimal + "timeout: 0s\n", "timeout", "line 3: `timeout` is zero; write at least 1s, or leave it out for a job without a limit"},
		{"a short timeout", minimal + "timeout: 500ms\n", "timeout", "line 3: `timeout` is 500ms; write at least 1s"},
		{"a negative timeout", minimal + "timeout: -5m\n", "timeout", "line 3: `timeout`: \"-5m\" is not a duration; write 90s, 15m, 2h or 1d"},
		{"a number as timeout", minimal + "timeout: 90\n", "timeout", "line 3: `timeout` is a number; write a text, for example \"15m\""},

		{"too many retries", minimal + "retry: {max: 101}\n", "retry.max", "line 3: `retry.max` is 101; write a whole number from 0 to 100"},
		{"fewer than no retries", minimal + "retry: {max: -1}\n", "retry.max", "line 3: `retry.max` is -1; write a whole number from 0 to 100"},
		{"an unknown cause", minimal + "retry:\n  on:\n  - nodeLost\n  - crash\n", "retry.on[1]",
			"line 6: `retry.on[1]` is \"crash\"; write nodeLost, evicted, startFailed, timeout, agentRestarted or exitCode:N"},
		{"no exit code", minimal + "retry: {on: ['exitCode:']}\n", "retry.on[0]",
			"line 3: `retry.on[0]` is \"exitCode:\"; write nodeLost, evicted, startFailed, timeout, agentRestarted or exitCode:N"},
		{"a padded exit code", minimal + "retry: {on: ['exitCode:07']}\n", "retry.on[0]",
			"line 3: `retry.on[0]` is \"exitCode:07\"; write nodeLost, evicted, startFailed, timeout, agentRestarted or exitCode:N"},
		{"no backoff at all", minimal + "retry: {backoff: soon}\n", "retry.backoff", "line 3: `retry.backoff`: \"soon\" is not a duration; write 90s, 15m, 2h or 1d"},

		{"a long name", minimal + "name: " + strings.Repeat("a", 201) + "\n", "name", "line 3: `name` has 201 bytes; shorten it to 200"},
		{"a line break in the team", minimal + "team: \"a\\nb\"\n", "team", "line 3: `team` has a character that cannot be shown, such as a line break; remove it"},
		{"a turn of direction in the user", minimal + "user: \"a\\u202eb\"\n", "user", "line 3: `user` has a character that cannot be shown, such as a line break; remove it"},
		{"a label without a name", minimal + "labels: {'': x}\n", "labels", "line 3: `labels` has a label without a name; name it"},
		{"a long label", minimal + "labels:\n  a: b\n  k: " + strings.Repeat("a", 201) + "\n", "labels.k", "line 5: `labels.k` has 201 bytes; shorten it to 200"},

		{"a slip", minimal + "retry:\n  backof: 1s\n", "retry.backof", "line 4: there is no field `retry.backof`; did you mean `backoff`?"},
		{"letters swapped", "polo: cpu\ncommand: [a]\n", "polo", "line 1: there is no field `polo`; did you mean `pool`?"},
		{"twice", minimal + "retry:\n  max: 1\n  max: 2\n", "retry.max", "line 5: `retry.max` stands here a second time (first in line 4); keep one of them"},

		{"the value of a secret", minimal + "secrets: {A: hunter2}\n", "secrets.A", noReference},
		{"a secret of a short vault", minimal + "secrets: {A: 'keyvault:ab/c'}\n", "secrets.A", noReference},
		{"a secret of a vault with --", minimal + "secrets: {A: 'keyvault:a--b/c'}\n", "secrets.A", noReference},
		{"a secret without its name", minimal + "secrets: {A: 'keyvault:abc/'}\n", "secrets.A", noReference},
		{"a secret with a version", minimal + "secrets: {A: 'keyvault:abc/d/1'}\n", "secrets.A", noReference},
		{"the key of the deployment's share", minimal + "secrets: {A: 'keyvault:abc/acme-SHARE-key'}\n", "secrets.A",
			"line 3: `secrets.A` names the key of a share by its secret's name, which no job may have: it opens the files of all; " +
				"give a secret of your own another name"},
		{"the key of an account", minimal + "secrets: {A: 'keyvault:abc/share-key-acmedata'}\n", "secrets.A",
			"line 3: `secrets.A` names the key of a share by its secret's name, which no job may have: it opens the files of all; " +
				"give a secret of your own another name"},
		{"a secret of the platform", minimal + "secrets: {DSVM_X: 'keyvault:abc/d'}\n", "secrets.DSVM_X",
			"line 3: `secrets` sets DSVM_X; names that begin with DSVM_ are set by the platform"},
		{"a secret and a variable", minimal + "env: {A: ''}\nsecrets: {A: 'keyvault:abc/d'}\n", "secrets.A",
			"line 4: `secrets` and `env` both set A; keep one of them"},
		{"a secret and a parameter", minimal + "secrets: {A: 'keyvault:abc/d'}\nsweep: {grid: {A: ['1']}}\n", "sweep.grid.A",
			"line 4: `sweep.grid.A` is set by `secrets` as well; remove one of them"},
		{"image", minimal + "image: a\n", "image", "line 3: `image` is not supported yet; leave it out"},
		{"gpus", minimal + "resources:\n  cpus: 2\n  gpus: 65\n", "resources.gpus", "line 5: `resources.gpus` is 65; write a whole number from 0 to 64"},
		{"memory", minimal + "resources: {memory: 4GB}\n", "resources.memory", "line 3: `resources.memory`: \"4GB\" is not an amount of memory; write 512Mi or 4Gi"},
		{"nodes", minimal + "nodes: 65\n", "nodes", "line 3: `nodes` is 65; write a whole number from 1 to 64"},
		{"after no id", minimal + "after: [a, b/c]\n", "after[1]", "line 3: `after[1]` is \"b/c\"; write the id of a job, with :failure or :any after it when it need not succeed"},
		{"after itself", "id: a\n" + minimal + "after: [a]\n", "after[0]", "line 4: `after[0]` is the job itself; name another"},
		{"two kinds of sweep", minimal + "sweep: {count: 3, list: [{A: b}]}\n", "sweep", "line 3: `sweep` has 2 of grid, list and count; give exactly one of them"},
		{"sweep of nothing", minimal + "sweep:\n  grid: {LR: []}\n", "sweep.grid.LR", "line 4: `sweep.grid.LR` has no values; give at least one, or remove it"},
		{"sweep too large", minimal + "sweep: {count: 100001}\n", "sweep.count", "line 3: `sweep.count` is 100001; write a whole number from 1 to 100000"},
		{"no failure allowed", minimal + "sweep: {count: 3, maxFails: 0}\n", "sweep.maxFails", "line 3: `sweep.maxFails` is 0; write a whole number from 1 to 100000"},
		{"failures in words", minimal + "sweep: {count: 3, maxFails: many}\n", "sweep.maxFails", "line 3: `sweep.maxFails` is a text; write a number, for example 1"},
		{"half a failure", minimal + "sweep: {count: 3, maxFails: 1.5}\n", "sweep.maxFails", "line 3: `sweep.maxFails` is 1.5; write a whole number from 1 to 100000"},
		{"failures below zero", minimal + "sweep: {count: 3, maxFails: -1}\n", "sweep.maxFails", "line 3: `sweep.maxFails` is -1; write a whole number from 1 to 100000"},
		{"maxFails misspelt", minimal + "sweep: {count: 3, maxFail: 1}\n", "sweep.maxFail", "line 3: there is no field `sweep.maxFail`; did you mean `maxFails`?"},
		{"grid too large", minimal + "sweep: {grid: {A: [" + strings.Repeat("1,", 400) + "1], B: [" + strings.Repeat("1,", 400) + "1]}}\n", "sweep", "line 3: `sweep` has more than 100000 members; make several sweeps of it"},
		{"parameter's name", minimal + "sweep: {list: [{A: b}, {DSVM_X: b}]}\n", "sweep.list[1].DSVM_X", "line 3: `sweep.list[1].DSVM_X` cannot be a parameter's name; a name has letters, digits and _, does not begin with a digit, nor with DSVM_"},
		{"parameter that is an object", minimal + "sweep: {list: [{A: {}}]}\n", "sweep.list[0].A", "line 3: `sweep.list[0].A` is an object; write a text, for example \"0.1\""},
		{"sweep's id too long", "id: " + strings.Repeat("x", 91) + "\n" + minimal + "sweep: {count: 3}\n", "id", "line 1: `id` has 91 characters; a sweep's has at most 90, since those of its members are longer"},
		{"maxCost", minimal + "maxCost: '25.00'\n", "maxCost", "line 3: `maxCost` is not supported yet; leave it out"},
		{"notify", minimal + "notify: [ann]\n", "notify", "line 3: `notify` is not supported yet; leave it out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := job.Parse([]byte(c.body), "")
			refused(t, err, c.field, c.message)
		})
	}
}

func refused(t *testing.T, err error, field, message string) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want a refusal: %s", err, message)
	}
	if f.Code != fault.Invalid || f.Field != field || f.Message != message {
		t.Errorf("got  %s [%s] %s\nwant %s [%s] %s", f.Code, f.Field, f.Message, fault.Invalid, field, message)
	}
}

// A refusal can name the job, whatever else is wrong with its document.
func TestParseNamesWhatItRefuses(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"id: one\npool: cpu\n",
		"id: one\npool: cpu\ncommand: [a]\nimage: b\n",
		"id: one\npool: cpu\nno: such\n",
	} {
		s, err := job.Parse([]byte(body), "")
		if err == nil || s.ID != "one" || s.Pool != "cpu" {
			t.Errorf("%q: got %q in %q, %v", body, s.ID, s.Pool, err)
		}
	}
}

// What a program puts together is held to the same rules as a document.
func TestValidate(t *testing.T) {
	t.Parallel()
	valid := func() job.Spec {
		return job.Spec{Pool: "cpu", Command: []string{"a"}, Resources: job.Resources{CPUs: 1}, Priority: job.Normal}
	}
	if err := valid().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name           string
		change         func(*job.Spec)
		field, message string
	}{
		{"no cpus", func(s *job.Spec) { s.Resources.CPUs = 0 }, "resources.cpus", "`resources.cpus` is 0; write 1 to 1024"},
		{"too many retries", func(s *job.Spec) { s.Retry.Max = 101 }, "retry.max", "`retry.max` is 101; write 0 to 100"},
		{"a negative backoff", func(s *job.Spec) { s.Retry.Backoff = -1 }, "retry.backoff", "`retry.backoff` is negative; write 0s or more"},
		{"a negative timeout", func(s *job.Spec) { s.Timeout = -1 }, "timeout", "`timeout` is 0s; write at least 1s"},
		{"a year without a form", func(s *job.Spec) { s.NotBefore = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "notBefore",
			"`notBefore` lies in the year 10000; write a time before the year 10000"},
		{"the first of two variables", func(s *job.Spec) { s.Env = map[string]string{"b b": "", "a a": ""} }, "env.a a",
			"`env` has the name \"a a\"; a name has letters, digits and _, and does not begin with a digit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := valid()
			c.change(&s)
			refused(t, s.Validate(), c.field, c.message)
		})
	}
}

func TestHash(t *testing.T) {
	t.Parallel()
	parse := func(body string) job.Spec {
		t.Helper()
		s, err := job.Parse([]byte(body), "")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	one := parse(minimal + "env: {A: '1', B: '2'}\ntimeout: 90m\nnotBefore: 2026-01-31T20:00:00Z\n")
	if got := len(one.Hash()); got != 32 {
		t.Errorf("got a hash of %d characters, want 32", got)
	}
	for _, same := range []string{
		`{"notBefore": "2026-01-31T21:00:00+01:00", "timeout": "1h30m", "env": {"B": "2", "A": "1"}, "command": ["echo", "hi"], "pool": "cpu"}`,
		minimal + "id: x\nenv: {A: '1', B: '2'}\ntimeout: 90m\nnotBefore: 2026-01-31T20:00:00Z\npriority: normal\nretry: {backoff: 10s}\nlabels: {}\n",
	} {
		if s := parse(same); s.Hash() != one.Hash() {
			t.Errorf("got  %s\nwant %s", s.Canonical(), one.Canonical())
		}
	}
	local := one
	local.NotBefore = one.NotBefore.In(time.FixedZone("", 3600))
	if local.Hash() != one.Hash() {
		t.Error("the zone a time is written in changed the hash")
	}
	for _, other := range []string{minimal, minimal + "env: {A: '1', B: '3'}\ntimeout: 90m\nnotBefore: 2026-01-31T20:00:00Z\n", "pool: cpu\ncommand: [echo hi]\n"} {
		if s := parse(other); s.Hash() == one.Hash() {
			t.Errorf("%s has the hash of %s", s.Canonical(), one.Canonical())
		}
	}
	const want = `{"pool":"cpu","command":["echo","hi"],"resources":{"cpus":1},"priority":"normal","retry":{"max":0,"backoff":"10s"}}`
	if got := string(parse(minimal + "id: x\n").Canonical()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A refusal goes into rows and messages, so it must be short.
const maxError = 1000

func FuzzParse(f *testing.F) {
	for _, seed := range []string{minimal, `{"pool":"cpu","command":["a"],"retry":{"max":1,"on":["exitCode:3"],"backoff":"1h30m"}}`,
		minimal + "notBefore: 2026-01-31T20:00:00.5Z\nenv: {A: '<'}\nlabels: {a.b: c}\n", minimal + "resources: {cpus: 010, gpus: 0}\ntimeout: 1d\n", "pool: &a cpu\nscript: *a\n",
		minimal + "source: {repository: 'https://h/p', commit: " + commit + ", path: a/b, lfs: true, credential: c}\n"} {
		f.Add([]byte(seed), "")
		f.Add([]byte(seed), "application/yaml")
	}
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		s, err := job.Parse(body, contentType)
		if err != nil {
			var refusal *fault.Error
			if !errors.As(err, &refusal) || refusal.Code != fault.Invalid || refusal.Message == "" ||
				len(refusal.Message)+len(refusal.Field) > maxError {
				t.Fatalf("got %#v, want a short refusal", err)
			}
			return
		}
		if err := s.Validate(); err != nil {
			t.Fatalf("it was read and is not valid: %v", err)
		}
		// What is stored reads back as the same job.
		stored, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if len(stored) > 32<<10 { // escapes may make it longer than a document may be
			return
		}
		again, err := job.Parse(stored, "application/json")
		if err != nil || again.Hash() != s.Hash() || again.ID != s.ID {
			t.Fatalf("got %s, %v, want %s", again.Canonical(), err, s.Canonical())
		}
	})
}
