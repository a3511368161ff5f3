package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"dsvmpools/agent/process"
	"dsvmpools/agent/secret"
	"dsvmpools/agent/source"
	"dsvmpools/agent/startfault"
	"dsvmpools/shared/job"
	"dsvmpools/shared/patience"
	"dsvmpools/shared/protocol"
	"dsvmpools/shared/version"
)

// jobLang gives UTF-8 on every image without asking for a translation.
const jobLang = "C.UTF-8"

// maxCalls is how many calls to the share may be under way: those of the starters
// and of sources, and some that hang. Each that hangs holds a thread.
const maxCalls = 16

// maxEnds is how many attempts may be put away at once: as many as end together on a
// large node, since each has a goroutine of its own already.
const maxEnds = 512

// launcher prepares attempts and starts their processes.
type launcher struct {
	cfg       Config
	log       *slog.Logger
	share     shareDir
	slots     *slots
	secrets   *secret.Reader
	local     string // directory of the attempts' scratch directories
	null      *os.File
	as        *process.User // nil = the agent's own user; a slot may have another
	owner     owner
	login     string
	calls     *patience.Calls // to the share and the disk, where they may hang
	ends      *patience.Calls // the same, of attempts that have ended
	givenUp   chan struct{}   // closed when the node is to do nothing any more; nil = never
	handStall time.Duration   // after how long without a file the report of an end does not wait any more

	mu     sync.Mutex
	under  map[int64]*underway // by assignment
	shares map[string]string   // paths of the pool's other shares, by variable; replaced as a whole
}

// newLauncher makes the local directories and looks up the user.
func newLauncher(cfg Config) (*launcher, error) {
	l := &launcher{
		cfg: cfg,
		log: cfg.Log,
		share: shareDir{
			share:   cfg.Share,
			pool:    cfg.Pool,
			vmid:    cfg.VMID,
			mounted: cfg.ShareMounted,
			ownLogs: cfg.LogBound == 0,
			life:    strconv.FormatInt(time.Now().UnixNano(), 36),
			network: cfg.network,
		},
		local:     filepath.Join(cfg.InstanceDir, "attempts"),
		owner:     nobodyElse,
		calls:     patience.New(maxCalls),
		ends:      patience.New(maxEnds),
		handStall: handStall,
		under:     map[int64]*underway{},
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	var err error
	own, _ := job.ParseSecretRef(cfg.DoorCertificate) // or it is a path
	l.secrets, err = secret.New(secret.Config{
		Own:        own,
		File:       cfg.SecretsFile,
		Suffix:     cfg.VaultSuffix,
		Credential: cfg.identity,
		ClientID:   cfg.clientID,
	})
	if err != nil {
		return nil, err
	}
	if err := l.lookUpUser(); err != nil {
		return nil, err
	}
	// Nobody uses the scratch directories of an earlier life any more.
	os.RemoveAll(l.local)
	// Passable, so that another user reaches its scratch directory.
	if err := os.MkdirAll(l.local, 0o711); err != nil {
		return nil, fmt.Errorf("the scratch directories cannot be made; check DSVM_INSTANCE_DIR: %w", err)
	}
	if l.null, err = os.Open(os.DevNull); err != nil {
		return nil, err
	}
	l.share.probe = l.probeShare
	l.slots = &slots{launcher: l, taken: map[int64]*slot{}}
	if l.slots.site, err = newSite(l); err != nil {
		return nil, err
	}
	return l, nil
}

// key names an attempt across all nodes.
func (l *launcher) key(n int64) string {
	return l.node() + "." + strconv.FormatInt(n, 10)
}

// node is the node's key among those of a machine.
func (l *launcher) node() string { return l.cfg.Pool + "." + l.cfg.VMID }

// dir is an attempt's directory on the share.
func (l *launcher) dir(w protocol.Assignment) string {
	return filepath.Join(l.cfg.Share, "jobs", l.cfg.Pool, w.Job, strconv.Itoa(w.Attempt))
}

// launch is an attempt that is ready to start.
type launch struct {
	argv0 string
	argv  []string
	attr  process.StartAttr
	as    *process.User // nil = the agent's own user
	dir   *attemptDir
	slot  *slot
	named bool // the job has named the directory that it starts in
}

// checkAssignment says what of an assignment can never be started. The error is a sentence
// for the job's owner.
func checkAssignment(w protocol.Assignment) error {
	if w.Unknown != "" {
		return startfault.New(job.CauseRelease,
			"this node's agent is of the release %s, which does not know the field %q of the assignment; the job needs a newer node",
			version.Read().Version, startfault.Clip(w.Unknown))
	}
	if err := job.CheckID(w.Job); err != nil {
		return startfault.New(job.CauseDocument, "the job's id is not a safe name; it has 1 to 100 characters of A-Z a-z 0-9 . _ -")
	}
	if w.Attempt < 1 {
		return startfault.New(job.CauseDocument, "the attempt's number is %d; it counts from 1", w.Attempt)
	}
	if (len(w.Command) == 0) == (w.Script == "") && !readsFile(w) {
		return startfault.New(job.CauseDocument, "the job has neither a command nor a script, or both; give one of them")
	}
	for _, variables := range []map[string]string{w.Env, w.Secrets} {
		for name, value := range variables {
			if !isVariableName(name) || strings.ContainsRune(value, 0) {
				return startfault.New(job.CauseDocument,
					"the job's variable %q cannot be set; names have letters, digits and _, values no zero byte", startfault.Clip(name))
			}
		}
	}
	if g := w.Gang; g != nil && (g.Rank < 0 || g.Rank >= len(g.Hosts)) {
		return startfault.New(job.CauseDocument, "the job's rank is %d of %d; the pool that sent it is of another release", g.Rank, len(g.Hosts))
	}
	if strings.ContainsRune(w.Script, 0) {
		return startfault.New(job.CauseScript, "the job's script holds a zero byte, so that no shell can read it; write a plain text")
	}
	for _, word := range slices.Concat(w.Command, w.Args) {
		if strings.ContainsRune(word, 0) {
			return startfault.New(job.CauseDocument, "the job's command holds a zero byte; write plain words")
		}
	}
	if err := w.Source.Validate(); err != nil {
		return startfault.New(job.CauseDocument, "%w", err)
	}
	return checkSystem(w)
}

// readsFile reports whether an assignment is there to read the jobs in its source.
func readsFile(w protocol.Assignment) bool {
	return w.Source != nil && len(w.Command) == 0 && w.Script == ""
}

// prepare makes an attempt's directories and works out its command. Tree is the
// work tree of its source, if it has one. It may be repeated. The error is a
// sentence for the job's owner.
func (l *launcher) prepare(n int64, w protocol.Assignment, tree source.Tree) (_ *launch, err error) {
	if err := checkAssignment(w); err != nil {
		return nil, err
	}
	if err := l.checkGPUs(w); err != nil {
		return nil, err
	}
	// They are in the environment of the process and nowhere else: not on the disk, and in no
	// command line.
	secrets, err := l.secrets.ReadAll(context.Background(), w.Secrets)
	if err != nil {
		return nil, err
	}
	slot, err := l.slots.take(n, w)
	if err != nil {
		return nil, err
	}
	dir, err := l.placeAttempt(slot, w)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			dir.close()
		}
	}()
	slot.made = true
	if dir.root != nil { // a ready tree is hidden already
		if err = slot.hide(dir.path); err != nil {
			return nil, startfault.New(startfault.OnShare(err),
				"the attempt's directory cannot be hidden from other jobs of the node: %w", startfault.Innermost(err))
		}
	}
	start := &launch{dir: dir, slot: slot, named: w.Workdir != ""}
	switch {
	case tree.Dir != "" && !filepath.IsAbs(w.Workdir):
		start.attr.Dir, err = tree.Workdir(w.Source.Path, w.Workdir)
	case dir.root == nil:
		start.attr.Dir = filepath.Join(dir.path, workdirOfFirst)
	default:
		start.attr.Dir, err = dir.workdir(l.cfg.Share, workdirName(w), w.Workdir, slot.owner)
	}
	if err != nil {
		return nil, err
	}
	if err = slot.makeScratch(); err != nil {
		return nil, err
	}
	env := l.environment(n, w, secrets, dir.path, slot)
	if tree.Dir != "" {
		env["DSVM_SOURCE"] = tree.Dir
	}
	if w.Gang != nil {
		if err = l.addGangVariables(env, w, slot); err != nil {
			return nil, err
		}
	}
	start.attr.Env = listEnvironment(env)
	start.as = slot.credential(l.cfg.Pool, w)
	start.attr.Sys = process.Attr(start.as)
	start.argv = w.Command
	path := env["PATH"]
	if w.Script != "" {
		file := slot.scratch + ".sh"
		if err = l.writeScript(file, w.Script, slot.owner); err != nil {
			return nil, err
		}
		start.argv, path = job.ScriptCommand(w.Script, file, w.Args), process.Path
		if with := job.ScriptInterpreter(w.Script); with != "" {
			if _, err = process.LookUp(with, path, start.attr.Dir); err != nil {
				return nil, err
			}
		}
	}
	if start.argv0, err = process.LookUp(start.argv[0], path, start.attr.Dir); err != nil {
		return nil, err
	}
	if err = slot.setBounds(w); err != nil {
		return nil, err
	}
	if l.cfg.LogBound == 0 {
		start.attr.Files = []uintptr{l.null.Fd(), dir.stdout.Fd(), dir.stderr.Fd()}
		return start, nil
	}
	if slot.pipes == nil {
		if slot.pipes, err = newLogPipes(slot.processOwner()); err != nil {
			return nil, err
		}
	}
	logs := &logDir{find: func() (*os.File, error) { return l.share.openAttemptDir(w, slot.owner) }}
	dir.logs = newAttemptLogs(slot.pipes, logs, int64(l.cfg.LogBound), rankOf(w), slot.owner.last())
	start.attr.Files = append([]uintptr{l.null.Fd()}, slot.pipes.ends()...)
	return start, nil
}

// addGangVariables says to a rank where the others are: in variables, which torchrun and
// similar programs read, and in a file, which mpirun reads.
func (l *launcher) addGangVariables(env map[string]string, w protocol.Assignment, k *slot) error {
	g := w.Gang
	env["MASTER_ADDR"], env["MASTER_PORT"] = g.Hosts[0], strconv.Itoa(g.Port)
	env["RANK"], env["NODE_RANK"], env["WORLD_SIZE"] = strconv.Itoa(g.Rank), strconv.Itoa(g.Rank), strconv.Itoa(len(g.Hosts))
	env["DSVM_HOSTS"], env["DSVM_HOSTFILE"] = strings.Join(g.Hosts, ","), k.scratch+".hosts"
	slots := fmt.Sprintf(" slots=%d\n", max(w.CPUs, 1))
	return l.writeScript(env["DSVM_HOSTFILE"], strings.Join(g.Hosts, slots)+slots, k.owner)
}

// makeScratch makes the slot's scratch directory, unless it is there and empty.
func (k *slot) makeScratch() error {
	if k.scratchAt != (dirStamp{}) {
		return nil
	}
	err := os.Mkdir(k.scratch, 0o700)
	if errors.Is(err, os.ErrExist) { // the source is in it already, or somebody has made something else
		var at os.FileInfo
		if at, err = os.Lstat(k.scratch); err == nil && !at.IsDir() {
			err = syscall.ENOTDIR
		}
	} else if err == nil {
		if k.owner.uid >= 0 {
			err = os.Chown(k.scratch, k.owner.uid, k.owner.gid)
		}
		if err == nil {
			k.scratchAt, err = stampOf(k.scratch)
		}
	}
	if err != nil {
		return startfault.New(startfault.OnNode(err), "the scratch directory cannot be made on the node: %w", startfault.Innermost(err))
	}
	return nil
}

// emptyScratch removes what an attempt has left in its scratch directory, with the directory.
func (k *slot) emptyScratch() {
	if k.scratchAt != (dirStamp{}) && k.bare && isUnused(k.scratch, k.scratchAt, k.since) {
		return
	}
	k.scratchAt = dirStamp{}
	os.RemoveAll(k.scratch)
}

// writeScript writes a job's script, or its file of hosts, to where only its user reads
// it.
func (l *launcher) writeScript(file, text string, o owner) error {
	if err := writeFile(l.local, filepath.Base(file), text, o); err != nil {
		return startfault.New(startfault.OnNode(err),
			"the file %s cannot be written on the node: %w", filepath.Base(file), startfault.Innermost(err))
	}
	return nil
}

// clean removes what is local of an attempt, and gives its slot back. Where a call for
// the attempt hangs, that is done when it has ended, and what it has made on the share
// is put away first.
func (l *launcher) clean(n int64, w protocol.Assignment) {
	if !l.postpone(n, func() {
		l.putAway(n, w, new(atomic.Int64))
		l.removeLocal(n, w)
	}) {
		l.removeLocal(n, w)
	}
}

func (l *launcher) removeLocal(n int64, w protocol.Assignment) {
	if k := l.slots.slotOf(n); k != nil {
		k.emptyScratch()
		if w.Script != "" {
			os.Remove(k.scratch + ".sh")
		}
		if w.Gang != nil {
			os.Remove(k.scratch + ".hosts")
		}
		if err := k.emptyFolders(); err != nil {
			l.log.Error("emptying the attempt's /tmp has failed; its slot is not used again", "job", startfault.Clip(w.Job), "error", err.Error())
			k.bare = false
		}
	}
	l.slots.release(n)
}

// environment is the whole environment of an attempt's process. It starts empty: what the
// agent knows, above all its connection string, does not reach the process. Secrets are the
// values of those that the job names, by variable.
func (l *launcher) environment(n int64, w protocol.Assignment, secrets map[string]string, dir string, k *slot) map[string]string {
	scratch := k.scratch
	// A home of its own: a login shell runs what it finds there, attempts are
	// killed in the middle of things, and a person's home holds credentials.
	env := systemEnvironment(scratch, k.login)
	setVariables(env, w.Env)
	setVariables(env, l.extraShares())
	setVariables(env, secrets)
	for name, value := range map[string]string{
		"DSVM_JOB_ID": w.Job, "DSVM_ATTEMPT": strconv.Itoa(w.Attempt), "DSVM_POOL": l.cfg.Pool, "DSVM_NODE": l.cfg.Node,
		"DSVM_TEAM": w.Team, "DSVM_SHARE": l.cfg.Share, "DSVM_OUTPUT": filepath.Join(dir, "output"), "DSVM_SCRATCH": scratch,
		process.KeyVariable: l.key(n),
	} {
		env[name] = strings.ReplaceAll(value, "\x00", "")
	}
	if w.Index != nil {
		env["DSVM_INDEX"] = strconv.Itoa(*w.Index)
	}
	// A job that asked for no GPU sees none: they belong to others.
	env["CUDA_VISIBLE_DEVICES"] = strings.Trim(strings.Join(strings.Fields(fmt.Sprint(w.GPUs)), ","), "[]")
	return env
}

func listEnvironment(env map[string]string) []string {
	all := make([]string, 0, len(env))
	for name, value := range env {
		all = append(all, name+"="+value)
	}
	sort.Strings(all)
	return all
}

// isVariableName reports whether a text can be the name of a variable.
func isVariableName(name string) bool {
	for i, r := range name {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}

// start starts the process, on its slot's thread.
func (s *launch) start() (pid int, err error) {
	pid, err = s.slot.startOnThread(s)
	// The files' numbers were in use until here.
	runtime.KeepAlive(s.dir)
	if err == nil {
		s.dir.close()
		return pid, nil
	}
	s.drop()
	return 0, s.explainFailure(err)
}

// drop ends what only a process would have had use for.
func (s *launch) drop() {
	s.dir.close()
	if s.dir.logs != nil {
		s.dir.logs.close()
	}
}
