package person

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// defaultEvery is between two counts of votes.
const defaultEvery = time.Minute

// probeWithin bounds one look: at JupyterLab, at the GPUs, and by the pool's own probe.
const probeWithin = 10 * time.Second

// From here on a session is in use.
const (
	busyCPU = 0.05    // of one processor
	busyIO  = 1 << 20 // bytes a minute, read and written
	busyGPU = 5       // percent
)

// Voters, as they are shown.
const (
	voteInput   = "input"
	voteKernels = "kernels"
	voteCPU     = "cpu"
	voteGPU     = "gpu"
	voteIO      = "io"
	voteHeld    = "held"
	voteProbe   = "probe"
)

// vote is what one voter says.
type vote struct {
	busy, unknown bool
	words         string
	since         time.Time // of an idle one that knows it: when it was busy last; zero = not known
}

// votes is what the voters remember from one count to the next.
type votes struct {
	at       time.Time
	began    time.Time
	busyAt   time.Time // when one was busy last
	cpu      int64     // nanoseconds used
	cpuOf    map[int]int64
	io       int64 // bytes
	hasCount bool
}

// countVotes counts at once and then again and again.
func (k *keeper) countVotes() {
	every := k.plan.Every
	if every <= 0 {
		every = defaultEvery
	}
	k.votes.began, k.votes.busyAt = time.Now(), time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		k.count(every)
		select {
		case <-tick.C:
		case <-k.ended:
			return
		}
	}
}

// count asks all voters. A connection that is open is no vote: it is shown.
func (k *keeper) count(every time.Duration) {
	now, door := time.Now(), k.readDoor()
	all := map[string]vote{
		voteInput: k.voteOfInput(now, every, door),
		voteCPU:   k.voteOfCPU(now),
		voteHeld:  k.voteOfHold(now),
	}
	for name, ask := range map[string]func(time.Time) (vote, bool){
		voteKernels: k.voteOfKernels,
		voteGPU:     k.voteOfGPU,
		voteIO:      k.voteOfIO,
		voteProbe:   k.voteOfProbe,
	} {
		if v, has := ask(now); has {
			all[name] = v
		}
	}
	if v, has := k.voteOfDesktop(now, every); has { // before the others count what it takes in
		all[voteDesktop] = v
	}
	k.votes.at, k.votes.hasCount = now, true
	words, busy, unknown := map[string]string{}, false, false
	for name, v := range all {
		words[name] = v.words
		busy, unknown = busy || v.busy, unknown || v.unknown
		if v.since.After(k.votes.busyAt) {
			k.votes.busyAt = v.since
		}
	}
	if busy {
		k.votes.busyAt = now
	}
	k.mu.Lock()
	connections := map[string]int{"ssh": len(k.conns), "rdp": door.Desktop, "jupyter": door.Jupyter}
	k.mu.Unlock()
	k.change(func(s *State) {
		s.Idle = int64(now.Sub(k.votes.busyAt) / time.Second)
		if !busy && s.Idle == 0 {
			s.Idle = 1 // 0 says that one is busy
		}
		s.Unknown, s.Votes, s.Connections = unknown, words, connections
		s.Relayed, s.DoorClosed = door.Relayed, door.Closed
	})
}

// doorState is what the door writes.
type doorState struct {
	Desktop   int       `json:"desktop"`
	Jupyter   int       `json:"jupyter"`
	Relayed   int64     `json:"relayed"`
	LastInput time.Time `json:"lastInput"`
	Closed    string    `json:"closed"`
}

// readDoor reads it; a door that has written nothing has seen nothing.
func (k *keeper) readDoor() (d doorState) {
	f, err := os.Open(k.plan.DoorState)
	if err != nil {
		return d
	}
	defer f.Close()
	const most = 4 << 10
	if json.NewDecoder(io.LimitReader(f, most)).Decode(&d) != nil {
		return doorState{Closed: "what the door says of itself cannot be read"}
	}
	return d
}

// voteOfInput: somebody typed or clicked. The time of a terminal's last read is the honest
// clock of its keys; keepalives and output do not move it.
func (k *keeper) voteOfInput(now time.Time, every time.Duration, door doorState) vote {
	last := k.votes.began
	if door.LastInput.After(last) && door.LastInput.Before(now) {
		last = door.LastInput
	}
	for _, path := range k.terminals() {
		var at unix.Stat_t
		if unix.Stat(path, &at) == nil {
			if typed := time.Unix(at.Atim.Unix()); typed.After(last) {
				last = typed
			}
		}
	}
	idle := now.Sub(last)
	switch {
	case idle < every:
		return vote{busy: true, words: "busy: input in the last " + ago(every)}
	case door.Closed != "":
		return vote{unknown: true, words: "unknown: the door is closed, so nobody can come in"}
	}
	return vote{words: "idle for " + ago(idle), since: last}
}

func ago(d time.Duration) string {
	if d < time.Minute {
		return strconv.Itoa(int(d/time.Second)) + " s"
	}
	return strconv.Itoa(int(d/time.Minute)) + " min"
}

func (k *keeper) voteOfKernels(time.Time) (vote, bool) {
	k.mu.Lock()
	l := k.lab
	k.mu.Unlock()
	if l == nil {
		return vote{}, false
	}
	busy, all, err := l.kernels()
	switch {
	case l.isHub && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED)):
		return vote{words: "idle: JupyterLab is not started"}, true
	case err != nil:
		return vote{unknown: true, words: "unknown: JupyterLab does not answer"}, true
	case busy > 0:
		return vote{busy: true, words: fmt.Sprintf("busy: %d of %d", busy, all)}, true
	}
	return vote{words: fmt.Sprintf("idle: 0 of %d compute", all)}, true
}

// voteOfCPU compares the counter of the control group, which does not go back when a process
// ends. Without one it adds up what lives.
func (k *keeper) voteOfCPU(now time.Time) vote {
	used, ok := groupCPU(k.plan.Groups)
	spent := used - k.votes.cpu
	k.votes.cpu = used
	if !ok {
		spent = k.cpuOfProcesses()
	}
	passed := now.Sub(k.votes.at)
	if !k.votes.hasCount || passed <= 0 {
		return vote{words: "idle: counting has begun"}
	}
	part := float64(spent) / float64(passed)
	words := fmt.Sprintf("%.1f%% of a processor", 100*part)
	if part > busyCPU {
		return vote{busy: true, words: "busy: " + words}
	}
	return vote{words: "idle: " + words}
}

func (k *keeper) voteOfIO(now time.Time) (vote, bool) {
	bytes, ok := groupIO(k.plan.Groups)
	if !ok {
		return vote{}, false
	}
	moved, passed := bytes-k.votes.io, now.Sub(k.votes.at)
	k.votes.io = bytes
	if !k.votes.hasCount || passed <= 0 {
		return vote{words: "idle: counting has begun"}, true
	}
	rate := float64(moved) / passed.Minutes()
	words := fmt.Sprintf("%.1f MB a minute", rate/(1<<20))
	if rate > busyIO {
		return vote{busy: true, words: "busy: " + words}, true
	}
	return vote{words: "idle: " + words}, true
}

// voteOfGPU: a process of the session computes on a GPU. Memory that is held is no work.
func (k *keeper) voteOfGPU(time.Time) (vote, bool) {
	if len(k.plan.GPUs) == 0 {
		return vote{}, false
	}
	tool, err := exec.LookPath("nvidia-smi")
	if err != nil {
		return vote{}, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeWithin)
	defer cancel()
	text, err := k.reaper.runOut(ctx, command{argv: []string{tool, "pmon", "-c", "1"}, env: toolEnvironment, dir: "/"})
	if err != nil {
		return vote{unknown: true, words: "unknown: nvidia-smi does not answer"}, true
	}
	ours := map[int]bool{}
	for _, pid := range descendants(os.Getpid()) {
		ours[pid] = true
	}
	if most := busiestGPU(text, ours); most > busyGPU {
		return vote{busy: true, words: fmt.Sprintf("busy: %d%%", most)}, true
	}
	return vote{words: "idle"}, true
}

// busiestGPU reads what `nvidia-smi pmon` prints: lines of gpu, pid, type, sm and more, a
// header with # above; - is nothing.
func busiestGPU(text string, ours map[int]bool) (most int) {
	const pid, percent = 1, 3
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) <= percent || strings.HasPrefix(line, "#") {
			continue
		}
		id, err1 := strconv.Atoi(f[pid])
		used, err2 := strconv.Atoi(f[percent])
		if err1 == nil && err2 == nil && ours[id] {
			most = max(most, used)
		}
	}
	return most
}

// keepFile is where the person says how long the session is wanted: a time as in RFC 3339.
const keepFile = ".dsvm-keep-until"

func (k *keeper) voteOfHold(now time.Time) vote {
	text := k.readHome(keepFile)
	until, err := time.Parse(time.RFC3339, text)
	switch {
	case text == "":
		return vote{words: "idle: not held"}
	case err != nil:
		return vote{words: "idle: ~/" + keepFile + " holds no time such as 2026-01-31T18:00:00Z"}
	case until.After(now):
		return vote{busy: true, words: "busy: held until " + until.UTC().Format(time.RFC3339)}
	}
	return vote{words: "idle: the hold is over"}
}

// voteOfProbe runs the pool's own script, as the person.
func (k *keeper) voteOfProbe(time.Time) (vote, bool) {
	p := k.plan
	if p.Probe == "" {
		return vote{}, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeWithin)
	defer cancel()
	argv := []string{"/bin/bash", "-c", p.Probe}
	_, err := k.reaper.runOut(ctx, command{argv: argv, as: k.person(), env: k.environment(), dir: p.home()})
	switch {
	case err == nil:
		return vote{busy: true, words: "busy: the pool's probe says so"}, true
	case exitCode(err) > 0:
		return vote{words: "idle: the pool's probe says so"}, true
	}
	return vote{unknown: true, words: "unknown: the pool's probe has not ended by itself"}, true
}

// groupCPU is what a session has used of processors, in nanoseconds.
func groupCPU(groups []string) (int64, bool) {
	for _, dir := range groups {
		if n, ok := readNumber(filepath.Join(dir, "cpuacct.usage"), ""); ok {
			return n, true
		}
		if n, ok := readNumber(filepath.Join(dir, "cpu.stat"), "usage_usec"); ok {
			return n * int64(time.Microsecond), true
		}
	}
	return 0, false
}

// groupIO is what a session has read and written, in bytes.
func groupIO(groups []string) (total int64, ok bool) {
	for _, dir := range groups {
		if text, err := os.ReadFile(filepath.Join(dir, "io.stat")); err == nil {
			for _, f := range strings.Fields(string(text)) {
				name, value, _ := strings.Cut(f, "=")
				if n, err := strconv.ParseInt(value, 10, 64); err == nil && (name == "rbytes" || name == "wbytes") {
					total += n
				}
			}
			return total, true
		}
		if n, ok := readNumber(filepath.Join(dir, "blkio.throttle.io_service_bytes"), "Total"); ok {
			return n, true
		}
	}
	return 0, false
}

// readNumber reads the number of a file, or that after a name in it.
func readNumber(path, name string) (int64, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), name)
		if !ok {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64); err == nil {
			return n, true
		}
	}
	return 0, false
}

// clockTick is the unit of the times in /proc: 1/100 s on every Linux of today.
const clockTick = 10 * time.Millisecond

// cpuOfProcesses is what the processes that live have used since the last count, in
// nanoseconds. What has ended meanwhile is missing.
func (k *keeper) cpuOfProcesses() (spent int64) {
	now := map[int]int64{}
	for _, pid := range descendants(os.Getpid()) {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			continue
		}
		const user, system = 11, 12 // after the name, which ends with the last parenthesis
		f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(f) <= system {
			continue
		}
		for _, i := range []int{user, system} {
			n, _ := strconv.ParseInt(f[i], 10, 64)
			now[pid] += n * int64(clockTick)
		}
		spent += max(now[pid]-k.votes.cpuOf[pid], 0)
	}
	k.votes.cpuOf = now
	return spent
}
