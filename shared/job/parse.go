package job

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
)

// Limits of a job's fields.
const (
	maxRetries    = 100 // a job that fails more often has another problem
	maxCPUs       = 1024
	maxTextLength = 200 // of name, team, user and labels
)

// defaultBackoff is the pause before a retry when the job does not say.
const defaultBackoff = Duration(10 * time.Second)

var (
	idPattern   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)
	poolPattern = regexp.MustCompile(`^[a-z0-9-]{1,24}$`)
	envPattern  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	exitPattern = regexp.MustCompile(`^exitCode:(0|[1-9][0-9]{0,3})$`)
)

// fields of the contract, in its order.
var fields = []string{"id", "pool", "name", "team", "user", "command", "script", "workdir", "env", "secrets", "image", "resources", "nodes",
	"priority", "after", "notBefore", "timeout", "retry", "sweep", "source", "labels", "maxCost", "notify"}

// causes of a retry, besides exitCode:N.
var causes = map[string]AttemptState{"nodeLost": AttemptNodeLost, "evicted": AttemptEvicted, "startFailed": AttemptStartFailed,
	"timeout": AttemptTimedOut, "agentRestarted": AttemptAgentRestarted}

// Parse reads a job's document, checks it and fills in the defaults. On an
// error the id and the pool are still filled in where they can be read, so that
// the refusal can name the job. Errors are *fault.Error with code Invalid.
func Parse(body []byte, contentType string) (Spec, error) {
	n, err := document.Parse(body, contentType)
	if err != nil {
		return Spec{}, err
	}
	r := document.Read(n, fields...)
	s := Spec{ID: peek(n, "id"), Pool: peek(n, "pool")}
	r.String("id", "nightly-1")
	r.String("pool", "cpu")
	s.Name, s.Team, s.User = r.String("name", "nightly eval"), r.String("team", "vision"), r.String("user", "ann")
	s.Command = r.Strings("command", `["python", "train.py"]`)
	s.Script = r.String("script", "python train.py")
	s.Workdir = r.String("workdir", "src")
	s.Env = r.Map("env", `{"K": "v"}`)
	s.Labels = r.Map("labels", `{"project": "x"}`)
	s.NotBefore = r.Time("notBefore")
	s.Timeout = duration(r, "timeout", 0)
	s.Priority = Priority(r.String("priority", "normal"))
	if s.Priority == "" {
		s.Priority = Normal
	}
	s.Resources.CPUs = 1
	if sub := r.Sub("resources", `{"cpus": 1}`, "cpus", "gpus", "memory"); sub != nil {
		s.Resources.CPUs = sub.Int("cpus", 1, 1, maxCPUs)
		sub.Later("gpus", "memory")
	}
	s.Retry.Backoff = defaultBackoff
	if sub := r.Sub("retry", `{"max": 2}`, "max", "on", "backoff"); sub != nil {
		s.Retry.Max = sub.Int("max", 0, 0, maxRetries)
		s.Retry.On = sub.Strings("on", `["nodeLost"]`)
		s.Retry.Backoff = duration(sub, "backoff", defaultBackoff)
	}
	if nodes := r.Int("nodes", 1, 1, 1000); nodes > 1 {
		r.Fail("nodes", "`nodes` above 1 is not supported yet; leave it out")
	}
	r.Later("secrets", "image", "after", "sweep", "source", "maxCost", "notify")
	if err := r.Err(); err != nil {
		return s, err
	}
	return s, s.Validate()
}

// peek reads a text field whatever else is wrong with the document.
func peek(n *document.Node, name string) string {
	for _, f := range n.Fields {
		if f.Name == name && f.Value.Kind == document.String {
			return f.Value.Text
		}
	}
	return ""
}

func duration(r *document.Reader, name string, or Duration) Duration {
	if !r.Has(name) {
		return or
	}
	d, err := ParseDuration(r.String(name, "15m"))
	if err != nil && r.Err() == nil {
		r.Fail(name, "`%s`: %v", name, err)
	}
	return d
}

// CheckID reports whether a text can be a job's id.
func CheckID(id string) error {
	if !idPattern.MatchString(id) || id == "." || id == ".." {
		return invalid("id", "`id` is %q; write 1 to 100 characters of A-Z a-z 0-9 . _ -", clip(id))
	}
	return nil
}

func invalid(field, format string, args ...any) error {
	return fault.New(fault.Invalid, field, format, args...)
}

// clip keeps a quoted value readable.
func clip(s string) string {
	const most = 60
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// Validate checks what Parse has read, or what a program has put together.
func (s Spec) Validate() error {
	if s.ID != "" {
		if err := CheckID(s.ID); err != nil {
			return err
		}
	}
	switch {
	case s.Pool == "":
		return invalid("pool", "`pool` is missing; name the pool the job is to run in")
	case !poolPattern.MatchString(s.Pool):
		return invalid("pool", "`pool` is %q; a pool's name has 1 to 24 characters of a-z 0-9 -", clip(s.Pool))
	case len(s.Command) == 0 && s.Script == "":
		return invalid("command", "`command` is missing; give `command` as a list of texts, or `script` as a text")
	case len(s.Command) > 0 && s.Script != "":
		return invalid("script", "`command` and `script` are both there; keep one of them")
	case len(s.Command) > 0 && s.Command[0] == "":
		return invalid("command", "the first element of `command` is empty; it names the program")
	case s.Priority != Low && s.Priority != Normal && s.Priority != High:
		return invalid("priority", "`priority` is %q; write low, normal or high", clip(string(s.Priority)))
	case s.Resources.CPUs < 1 || s.Resources.CPUs > maxCPUs:
		return invalid("resources.cpus", "`resources.cpus` is %d; write 1 to %d", s.Resources.CPUs, maxCPUs)
	case s.Retry.Max < 0 || s.Retry.Max > maxRetries:
		return invalid("retry.max", "`retry.max` is %d; write 0 to %d", s.Retry.Max, maxRetries)
	case s.Timeout != 0 && time.Duration(s.Timeout) < time.Second:
		return invalid("timeout", "`timeout` is %s; write at least 1s", s.Timeout)
	}
	for _, on := range s.Retry.On {
		if _, ok := causes[on]; !ok && !exitPattern.MatchString(on) {
			return invalid("retry.on", "`retry.on` has %q; write nodeLost, evicted, startFailed, timeout, agentRestarted or exitCode:N", clip(on))
		}
	}
	return s.validateTexts()
}

func (s Spec) validateTexts() error {
	for name, v := range map[string]string{"name": s.Name, "team": s.Team, "user": s.User} {
		if len(v) > maxTextLength || strings.ContainsFunc(v, unicode.IsControl) {
			return invalid(name, "`%s` has more than %d bytes, or control characters; shorten it", name, maxTextLength)
		}
	}
	for k := range s.Env {
		switch {
		case !envPattern.MatchString(k):
			return invalid("env", "`env` has the name %q; a name has letters, digits and _, and does not begin with a digit", clip(k))
		case strings.HasPrefix(k, "DSVM_"):
			return invalid("env", "`env` sets %s; names that begin with DSVM_ are set by the platform", k)
		}
	}
	all := append([]string{s.Script, s.Workdir}, s.Command...)
	for _, v := range s.Env {
		all = append(all, v)
	}
	for _, v := range all {
		if strings.ContainsRune(v, 0) {
			return invalid("command", "a text holds a NUL character; remove it")
		}
	}
	for _, part := range strings.FieldsFunc(s.Workdir, func(r rune) bool { return r == '/' || r == '\\' }) {
		if part == ".." {
			return invalid("workdir", "`workdir` leads upwards; name a directory below the job's own, or one on the share")
		}
	}
	for k, v := range s.Labels {
		if len(k) > maxTextLength || len(v) > maxTextLength {
			return invalid("labels", "a label has more than %d bytes; shorten it", maxTextLength)
		}
	}
	return nil
}

// Hash is the same for two documents that ask for the same job, however they
// are written. The id is no part of it.
func (s Spec) Hash() string {
	s.ID = ""
	canonical, err := json.Marshal(s) // struct order is fixed and maps are sorted
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:16])
}

// Covers reports whether an attempt that ended so is to be followed by another.
// Without a list of causes it is every end but success, cancel and timeout.
func (r Retry) Covers(state AttemptState, exitCode int) bool {
	if state == AttemptSucceeded || state == AttemptCancelled {
		return false
	}
	if len(r.On) == 0 {
		return state != AttemptTimedOut
	}
	for _, on := range r.On {
		if causes[on] == state && state != "" {
			return true
		}
		if code, ok := strings.CutPrefix(on, "exitCode:"); ok && code == strconv.Itoa(exitCode) {
			return true
		}
	}
	return false
}
