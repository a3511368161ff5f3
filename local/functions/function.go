package functions

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/robfig/cron/v3"
)

// Types of triggers that are supported, in the letters of function.json.
const (
	serviceBusTrigger = "serviceBusTrigger"
	timerTrigger      = "timerTrigger"
	httpTrigger       = "httpTrigger"
)

// binding is one entry of a function.json.
type binding struct {
	Name      string
	Type      string
	Direction string

	QueueName            string
	TopicName            string
	Connection           string // name of a setting
	Cardinality          string // one, many
	DataType             string // binary, string
	IsSessionsEnabled    bool
	AutoCompleteMessages *bool
	MaxMessageBatchSize  int // above 0, it overrides host.json's

	Schedule     string
	RunOnStartup bool
	UseMonitor   *bool

	Route     *string
	AuthLevel string
	Methods   []string
}

// function is a folder with its trigger.
type function struct {
	name     string
	trigger  binding
	output   string // name of its HTTP output
	plain    bool   // only an HTTP trigger and an HTTP output: requests may be passed on
	disabled bool
	schedule cron.Schedule
	route    route
}

// takesBatches reports whether the trigger takes batches.
func (f *function) takesBatches() bool { return strings.EqualFold(f.trigger.Cardinality, "many") }

// isBinary reports whether bodies are bytes rather than texts.
func (f *function) isBinary() bool { return strings.EqualFold(f.trigger.DataType, "binary") }

var functionName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,127}$`)

// readFunctions reads each function.json one level below the root; if only is not empty,
// just the functions named in it. It skips a function with an error, and returns the error.
func readFunctions(root fs.FS, settings map[string]string, only []string) ([]*function, []error) {
	entries, err := fs.ReadDir(root, ".")
	if err != nil {
		return nil, []error{fmt.Errorf("the script root cannot be read: %w", err)}
	}
	var all []*function
	var wrong []error
	for _, e := range entries {
		if !e.IsDir() || len(only) > 0 && !slices.Contains(only, e.Name()) {
			continue
		}
		b, err := readSmall(root, e.Name()+"/function.json")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		f := &function{name: e.Name()}
		if err == nil {
			err = f.read(b, settings)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("function %s: %w", f.name, err))
			continue
		}
		all = append(all, f)
	}
	return all, wrong
}

// read reads a function.json.
func (f *function) read(b []byte, settings map[string]string) error {
	if !functionName.MatchString(f.name) || strings.EqualFold(f.name, "host") {
		return errors.New("the folder's name is no name of a function (a letter, then letters, digits, _ and -)")
	}
	var file struct {
		Disabled bool
		Bindings []binding
		Retry    *json.RawMessage
	}
	if err := json.Unmarshal(b, &file); err != nil {
		return fmt.Errorf("function.json cannot be read: %w", err)
	}
	if file.Retry != nil {
		return errors.New("retry is not supported by the local host; a message comes again by itself, and a timer at its next occurrence")
	}
	triggers := 0
	for _, b := range file.Bindings {
		switch {
		case strings.HasSuffix(b.Type, "Trigger"):
			f.trigger = b
			triggers++
		case b.Type == "http" && f.output == "":
			f.output = b.Name
		default:
			return fmt.Errorf("unsupported binding type %q; use a client for input and output", b.Type)
		}
	}
	if triggers != 1 {
		return fmt.Errorf("function.json has %d triggers, want 1", triggers)
	}
	if f.trigger.Name == "" {
		return errors.New("the trigger has no name")
	}
	f.disabled = file.Disabled || isTrue(settings["AzureWebJobs."+f.name+".Disabled"]) || isTrue(settings["AzureWebJobs_"+f.name+"_Disabled"])
	switch f.trigger.Type {
	case serviceBusTrigger:
		return f.readServiceBus(settings)
	case timerTrigger:
		return f.readTimer(settings)
	case httpTrigger:
		return f.readHTTP()
	}
	return fmt.Errorf("unsupported trigger type %q", f.trigger.Type)
}

func isTrue(s string) bool { return strings.EqualFold(s, "true") || s == "1" }

func (f *function) readServiceBus(settings map[string]string) error {
	t := &f.trigger
	if t.Connection == "" {
		t.Connection = "AzureWebJobsServiceBus"
	}
	var err error
	if t.QueueName, err = expand(t.QueueName, settings); err != nil {
		return fmt.Errorf("queueName: %w", err)
	}
	if t.Connection, err = expand(t.Connection, settings); err != nil {
		return fmt.Errorf("connection: %w", err)
	}
	switch {
	case t.TopicName != "" || t.QueueName == "":
		return errors.New("queueName is missing; topics are not supported by the local host")
	case t.Cardinality != "" && !f.takesBatches() && !strings.EqualFold(t.Cardinality, "one"):
		return fmt.Errorf("cardinality %q is not known; use one or many", t.Cardinality)
	case t.DataType != "" && !f.isBinary() && !strings.EqualFold(t.DataType, "string"):
		return fmt.Errorf("dataType %q is not supported by the local host; use binary or string", t.DataType)
	case t.MaxMessageBatchSize < 0 || t.MaxMessageBatchSize > maxAtOnce:
		return fmt.Errorf("maxMessageBatchSize is %d; it must be between 1 and %d", t.MaxMessageBatchSize, maxAtOnce)
	case f.takesBatches() && t.DataType == "":
		return errors.New(`cardinality many needs "dataType": "string" or "binary"; without it one body that is not JSON fails its whole batch`)
	case settings[t.Connection] == "" && settings[t.Connection+namespaceSuffix] == "":
		return fmt.Errorf("the setting %s is missing; it holds the connection string of Service Bus (or %s%s its namespace)",
			t.Connection, t.Connection, namespaceSuffix)
	}
	return nil
}

func (f *function) readTimer(settings map[string]string) error {
	schedule, err := expand(f.trigger.Schedule, settings)
	if err != nil {
		return fmt.Errorf("schedule: %w", err)
	}
	if f.schedule, err = parseSchedule(schedule); err != nil {
		return fmt.Errorf("the schedule %q cannot be read: %w (six fields: second minute hour day month weekday)", schedule, err)
	}
	return nil
}

func (f *function) readHTTP() error {
	template := f.name
	if f.trigger.Route != nil {
		template = *f.trigger.Route
	}
	switch strings.ToLower(f.trigger.AuthLevel) {
	case "", "anonymous", "function", "admin":
	default:
		return fmt.Errorf("authLevel %q is not known; use anonymous, function or admin", f.trigger.AuthLevel)
	}
	f.plain = f.output != ""
	var err error
	f.route, err = parseRoute(template)
	return err
}

var settingName = regexp.MustCompile(`%[^%]*%`)

// expand replaces %NAME% with the setting of that name. A % cannot be escaped.
func expand(s string, settings map[string]string) (string, error) {
	var missing error
	out := settingName.ReplaceAllStringFunc(s, func(m string) string {
		name := strings.Trim(m, "%")
		value, ok := settings[name]
		if !ok {
			missing = fmt.Errorf("the setting %s is missing; add it to the app settings", name)
		}
		return value
	})
	return out, missing
}
