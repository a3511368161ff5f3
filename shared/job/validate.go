package job

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"dsvmpools/shared/document"
	"dsvmpools/shared/fault"
)

// Limits of a job's fields.
const (
	maxRetries    = 100  // a job that fails more often has another problem
	maxCPUs       = 1024 // more than any size has
	maxGPUs       = 64   // same
	maxNodes      = 64   // of a gang: all of it is placed in one transaction
	maxAfter      = 100  // jobs that a job comes after
	maxTextLength = 200  // bytes of name, team, user and labels, which are shown in lists
	lastYear      = 9999 // of notBefore: a later one has no RFC 3339 form
)

var (
	envPattern  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	windowsPath = regexp.MustCompile(`^([A-Za-z]:|\\\\|[^/]*\\)`)
	exitPattern = regexp.MustCompile(`^exitCode:(0|[1-9][0-9]{0,3})$`)
)

func invalid(field, format string, args ...any) error {
	return fault.New(fault.Invalid, field, format, args...)
}

// Validate checks what Parse has read, or what a program has put together. Of
// several errors it is always the same one that is reported.
func (s Spec) Validate() error { return s.validate(false) }

func (s Spec) validateFileJob() error { return s.validate(true) }

func (s Spec) validate(reader bool) error {
	if s.ID != "" {
		if err := CheckNewID(s.ID); err != nil {
			return err
		}
	}
	switch {
	case s.Pool == "":
		return invalid("pool", "`pool` is missing; name the pool the job is to run in")
	}
	if err := CheckPool("pool", s.Pool); err != nil {
		return err
	}
	switch {
	case reader && !s.ReadsJobFile():
		return invalid("source", "the job is to read its source's own jobs; give it a `source`, and neither `command` nor `script`")
	case reader && s.Source.Tree != "":
		return invalid("source.tree",
			"the job is to read its source's own jobs, and these are in a repository; name its `repository` and `commit`")
	case !reader && len(s.Command) == 0 && s.Script == "":
		return invalid("command", "`command` is missing; give `command` as a list of texts, or `script` as a text")
	case len(s.Command) > 0 && s.Script != "":
		return invalid("script", "`command` and `script` are both there; keep one of them")
	case len(s.Command) > 0 && s.Command[0] == "":
		return invalid("command", "the first element of `command` is empty; it names the program")
	case s.Script != "" && strings.TrimSpace(s.Script) == "":
		return invalid("script", "`script` is blank; write what to run")
	case CheckPriority(s.Priority) != nil:
		return CheckPriority(s.Priority)
	case s.Stop != "" && s.Stop != StopLeader:
		return invalid("stop", "`stop` is %q; write group or leader", document.Clip(s.Stop))
	case s.Resources.CPUs < 1 || s.Resources.CPUs > maxCPUs:
		return invalid("resources.cpus", "`resources.cpus` is %d; write 1 to %d", s.Resources.CPUs, maxCPUs)
	case s.Resources.GPUs < 0 || s.Resources.GPUs > maxGPUs:
		return invalid("resources.gpus", "`resources.gpus` is %d; write 0 to %d", s.Resources.GPUs, maxGPUs)
	case s.Nodes < 0 || s.Nodes == 1 || s.Nodes > maxNodes:
		return invalid("nodes", "`nodes` is %d; write 2 to %d, or leave it out", s.Nodes, maxNodes)
	case s.Resources.Memory < 0:
		return invalid("resources.memory", "`resources.memory` is negative; write 512Mi or 4Gi, or leave it out")
	case s.Timeout != 0 && time.Duration(s.Timeout) < time.Second:
		return invalid("timeout", "`timeout` is %s; write at least 1s", s.Timeout)
	case s.NotBefore.UTC().Year() < 1 || s.NotBefore.UTC().Year() > lastYear:
		return invalid("notBefore", "`notBefore` lies in the year %d; write a time before the year %d", s.NotBefore.UTC().Year(),
			lastYear+1)
	}
	if err := s.validateScript(); err != nil {
		return err
	}
	if err := s.validateAfter(); err != nil {
		return err
	}
	if err := s.validateSweep(); err != nil {
		return err
	}
	if err := s.Source.Validate(); err != nil {
		return err
	}
	if err := s.Retry.validate(); err != nil {
		return err
	}
	return s.validateTexts()
}

// CheckPriority checks that a priority is one of the classes.
func CheckPriority(p Priority) error {
	if p != Low && p != Normal && p != High {
		return invalid("priority", "`priority` is %q; write low, normal or high", document.Clip(string(p)))
	}
	return nil
}

func (s Spec) validateAfter() error {
	if len(s.After) > maxAfter {
		return invalid("after", "`after` names %d jobs; name at most %d", len(s.After), maxAfter)
	}
	for i, text := range s.After {
		field := fmt.Sprintf("after[%d]", i)
		d, ok := ParseDependency(text)
		switch {
		case !ok:
			return invalid(field, "`%s` is %q; write the id of a job, with :failure or :any after it when it need not succeed",
				field, document.Clip(text))
		case strings.EqualFold(d.ID, s.ID):
			return invalid(field, "`%s` is the job itself; name another", field)
		}
	}
	return nil
}

func (r Retry) validate() error {
	switch {
	case r.Max < 0 || r.Max > maxRetries:
		return invalid("retry.max", "`retry.max` is %d; write 0 to %d", r.Max, maxRetries)
	case r.Backoff < 0:
		return invalid("retry.backoff", "`retry.backoff` is negative; write 0s or more")
	}
	for i, on := range r.On {
		if _, ok := causes[on]; !ok && !exitPattern.MatchString(on) {
			field := fmt.Sprintf("retry.on[%d]", i)
			return invalid(field, "`%s` is %q; write nodeLost, evicted, startFailed, timeout, agentRestarted or exitCode:N", field,
				document.Clip(on))
		}
	}
	return nil
}

func (s Spec) validateTexts() error {
	for _, t := range []struct{ field, text string }{{"name", s.Name}, {"team", s.Team}, {"user", s.User}} {
		if err := shown(t.field, t.text); err != nil {
			return err
		}
	}
	for _, k := range sorted(s.Env) {
		field := "env." + document.Clip(k)
		if err := checkVariable("env", k); err != nil {
			return err
		}
		if err := noNUL(field, s.Env[k]); err != nil {
			return err
		}
	}
	if err := s.validateSecrets(); err != nil {
		return err
	}
	for field, words := range map[string][]string{"command": s.Command, "args": s.Args} { // one of them is empty
		for i, word := range words {
			if err := noNUL(fmt.Sprintf("%s[%d]", field, i), word); err != nil {
				return err
			}
		}
	}
	for _, t := range []struct{ field, text string }{{"script", s.Script}, {"workdir", s.Workdir}} {
		if err := noNUL(t.field, t.text); err != nil {
			return err
		}
	}
	for _, part := range strings.FieldsFunc(s.Workdir, func(r rune) bool { return r == '/' || r == '\\' }) {
		if part == ".." {
			return invalid("workdir", "`workdir` leads upwards; name a directory below the job's own, or one on the share")
		}
	}
	if s.Workdir == "~" || strings.HasPrefix(s.Workdir, "~/") {
		return invalid("workdir", "`workdir` is %q, and no shell reads the ~; name a folder below the job's own, or one on the share",
			document.Clip(s.Workdir))
	}
	if windowsPath.MatchString(s.Workdir) {
		return invalid("workdir", "`workdir` is %q, a path of Windows; write one with / below the job's own folder, or on the share",
			document.Clip(s.Workdir))
	}
	for _, k := range sorted(s.Labels) {
		if k == "" {
			return invalid("labels", "`labels` has a label without a name; name it")
		}
		field := "labels." + document.Clip(k)
		if err := shown(field, k); err != nil {
			return err
		}
		if err := shown(field, s.Labels[k]); err != nil {
			return err
		}
	}
	return nil
}

// checkVariable checks the name of a variable that a document sets in a field.
func checkVariable(field, name string) error {
	switch at := field + "." + document.Clip(name); {
	case !envPattern.MatchString(name):
		return invalid(at, "`%s` has the name %q; a name has letters, digits and _, and does not begin with a digit",
			field, document.Clip(name))
	case strings.HasPrefix(name, "DSVM_"):
		return invalid(at, "`%s` sets %s; names that begin with DSVM_ are set by the platform", field, document.Clip(name))
	}
	return nil
}

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// shown checks a text that stands in lists and reports.
func shown(field, text string) error {
	if len(text) > maxTextLength {
		return invalid(field, "`%s` has %d bytes; shorten it to %d", field, len(text), maxTextLength)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return invalid(field, "`%s` has a character that cannot be shown, such as a line break; remove it", field)
	}
	return nil
}

// noNUL checks a text that goes to a process: it would end there.
func noNUL(field, text string) error {
	if strings.ContainsRune(text, 0) {
		return invalid(field, "`%s` has a NUL character; remove it", field)
	}
	return nil
}
