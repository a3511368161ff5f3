package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"dsvmpools/shared/invoke"
)

// probeReport is what a job of another user has found.
type probeReport struct {
	UID     int
	Read    []string          // files that it could read and should not
	Answers map[string]string // by address and request
	Env     []string
}

// tryAs runs a job of another user, through the product, that looks for doors.
func (m *machine) tryAs(user, base string, doors []knock) {
	m.t.Helper()
	program := filepath.Join(base, "probe")
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(program, self, 0o755); err != nil {
		m.t.Fatal(err)
	}
	var ports []string
	for _, d := range doors {
		ports = append(ports, d.address)
	}
	m.submit(
		"probe",
		fmt.Sprintf(
			`{"id":"probe","pool":"cpu","command":[%q],"env":{%q:%q,"ADDRESSES":%q}}`,
			program, probeEnv, m.dir, strings.Join(ports, ","),
		),
	)
	m.until("the end of the probe", func() bool {
		j, err := m.client.Job(m.ctx, "probe")
		return err == nil && j.State.Final()
	})
	var report probeReport
	out, err := os.ReadFile(filepath.Join(m.dir, "share", "jobs", "cpu", "probe", "1", "stdout.log"))
	if err == nil {
		err = json.Unmarshal(out, &report)
	}
	if err != nil || report.UID == 0 || len(report.Answers) < len(doors) {
		m.t.Fatalf("the probe's report: %v, %.500s", err, out)
	}
	for _, file := range report.Read {
		m.t.Errorf("%s reads %s", user, file)
	}
	for _, v := range report.Env {
		for _, secret := range []string{m.in.Key, m.in.ControlKey, "SharedAccessKey", "DSVM_METADATA", invoke.SecretSetting} {
			if strings.Contains(v, secret) {
				m.t.Errorf("a job's environment has %s", strings.SplitN(v, "=", 2)[0])
			}
		}
	}
	for what, answer := range report.Answers {
		if what == doors[0].address+" GET /" {
			continue // the page for people, which says nothing about the instance
		}
		if status, _ := strconv.Atoi(answer); status < 400 {
			m.t.Errorf("%s is answered %s by %s", user, answer, what)
		}
	}
}

// probe is the job: it tries what every job could.
func probe(dir string) error {
	report := probeReport{UID: os.Getuid(), Answers: map[string]string{}, Env: os.Environ()}
	reads := func(file string) {
		if b, err := os.ReadFile(file); err == nil && len(b) > 0 {
			report.Read = append(report.Read, file)
		}
	}
	filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if path == filepath.Join(dir, "share") {
			return filepath.SkipDir
		}
		if err == nil && entry.Type().IsRegular() && !strings.HasPrefix(path, filepath.Join(dir, "app")) {
			reads(path)
		}
		return nil
	})
	for _, name := range []string{"instance.json", "data/identity.json", "data/tables.db", "data/servicebus.db", "data/compute.db", "logs/servers.log", "logs/handler.log"} {
		reads(filepath.Join(dir, name))
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		var at syscall.Stat_t
		if syscall.Stat(p, &at) != nil || int(at.Uid) == report.UID {
			continue
		}
		reads(p + "/environ")
		files, _ := os.ReadDir(p + "/fd")
		for _, f := range files {
			reads(p + "/fd/" + f.Name())
		}
	}
	for _, address := range strings.Split(os.Getenv("ADDRESSES"), ",") {
		for _, what := range []string{"GET /", "GET /api/jobs", "POST /api/pools", "POST /api/jobs/stays/cancel", "POST /SubmitJob", "POST /faults", "GET /dsvmpools/Tables", "GET /$Resources/Queues",
			"GET /metadata/instance?api-version=2021-12-13", "POST /node/x/metadata/scheduledevents?api-version=2021-12-13"} {
			method, path, _ := strings.Cut(what, " ")
			r, err := http.NewRequest(method, "http://"+address+path, strings.NewReader(evilPool))
			if err != nil {
				return err
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Metadata", "true")
			reply, err := (&http.Client{Timeout: 20 * time.Second}).Do(r)
			if err != nil {
				return err
			}
			reply.Body.Close()
			report.Answers[address+" "+what] = fmt.Sprint(reply.StatusCode)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}
