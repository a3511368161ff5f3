//go:build unix

// Package functions plays the Functions host on one machine: from the same
// host.json and function.json it drives the real handler process with the same
// requests, reads its replies by the same rules and restarts it as the host
// does. Triggers are Service Bus queues without sessions, timers and HTTP;
// there are no output bindings, since this app uses clients for output.
package functions

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"time"
)

// Config says what to host and how.
type Config struct {
	Root        fs.FS             // host.json, and a folder for each function
	Addr        string            // loopback host:port of the HTTP side
	Handler     []string          // argv of the handler
	Dir         string            // its working directory
	Settings    map[string]string // app settings; the handler gets them as environment
	FunctionKey string
	MasterKey   string
	StateDir    string    // timers keep their status here
	Output      io.Writer // what the handler writes
	Log         *slog.Logger

	FunctionTimeout time.Duration // 0 = host.json's
	RestartPause    time.Duration // after the third error the real host stops; this one goes on after a pause
}

// Times and limits of the host, as the real one has them.
const (
	defaultFunctionTimeout = 30 * time.Minute
	defaultBatch           = 1000
	readyEvery             = 25 * time.Millisecond
	readyWithin            = 30 * time.Second
	errorsToStop           = 3
	errorWindow            = 30 * time.Minute
	exitRestart            = 200 // a handler that asks to be started anew
	termGrace              = 2 * time.Second
	defaultRestartPause    = 5 * time.Second
)

// hostFile is the part of host.json that matters here.
type hostFile struct {
	Version         string
	FunctionTimeout string
	CustomHandler   struct {
		EnableProxyingHTTPRequest bool `json:"enableProxyingHttpRequest"`
	}
	Extensions struct {
		HTTP       struct{ RoutePrefix *string }
		ServiceBus struct{ MaxMessageBatchSize int }
	}
}

// binding is one entry of a function.json.
type binding struct {
	Name         string
	Type         string
	Direction    string
	QueueName    string
	Connection   string
	Cardinality  string
	DataType     string
	Schedule     string
	RunOnStartup bool
	UseMonitor   *bool
	Route        *string
	AuthLevel    string
	Methods      []string
	IsSessions   bool `json:"isSessionsEnabled"`
}

// function is a folder with its bindings.
type function struct {
	name     string
	trigger  binding
	proxied  bool // nothing but an HTTP trigger and an HTTP output
	disabled bool
}

var functionName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,127}$`)

// readHost reads host.json.
func readHost(root fs.FS) (hostFile, error) {
	var h hostFile
	b, err := fs.ReadFile(root, "host.json")
	if err != nil {
		return h, fmt.Errorf("host.json cannot be read: %w", err)
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return h, fmt.Errorf("host.json: %w", err)
	}
	if h.Version != "2.0" {
		return h, fmt.Errorf("host.json: version is %q, want 2.0", h.Version)
	}
	return h, nil
}

// readFunctions reads each function.json one level below the root. One that is
// wrong is left out, with its error.
func readFunctions(root fs.FS, settings map[string]string) ([]function, []error) {
	entries, err := fs.ReadDir(root, ".")
	if err != nil {
		return nil, []error{err}
	}
	var all []function
	var errs []error
	for _, e := range entries {
		b, err := fs.ReadFile(root, e.Name()+"/function.json")
		if errors.Is(err, fs.ErrNotExist) || !e.IsDir() {
			continue
		}
		f := function{name: e.Name()}
		if err == nil {
			err = f.read(b, settings)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("function %s is left out: %w", e.Name(), err))
			continue
		}
		all = append(all, f)
	}
	return all, errs
}

func (f *function) read(b []byte, settings map[string]string) error {
	if !functionName.MatchString(f.name) || strings.EqualFold(f.name, "host") {
		return errors.New("the folder's name is no function name")
	}
	var file struct{ Bindings []binding }
	if err := json.Unmarshal(b, &file); err != nil {
		return err
	}
	triggers, others := 0, 0
	for _, b := range file.Bindings {
		if strings.HasSuffix(b.Type, "Trigger") {
			f.trigger = b
			triggers++
		} else {
			others++
		}
	}
	if triggers != 1 {
		return fmt.Errorf("it has %d triggers, want 1", triggers)
	}
	f.proxied = f.trigger.Type == "httpTrigger" && others == 1
	f.disabled = settings["AzureWebJobs."+f.name+".Disabled"] == "true"
	for _, v := range []*string{&f.trigger.QueueName, &f.trigger.Schedule, &f.trigger.Connection} {
		expanded, err := expand(*v, settings)
		if err != nil {
			return err
		}
		*v = expanded
	}
	switch f.trigger.Type {
	case "serviceBusTrigger":
		if f.trigger.IsSessions || f.trigger.DataType != "binary" {
			return errors.New("a Service Bus trigger here needs dataType binary and a queue without sessions")
		}
	case "timerTrigger", "httpTrigger":
	default:
		return fmt.Errorf("a trigger of type %s is not known here", f.trigger.Type)
	}
	return nil
}

var settingName = regexp.MustCompile(`%[^%]+%`)

// expand puts settings in the place of %NAME%.
func expand(s string, settings map[string]string) (string, error) {
	var missing error
	out := settingName.ReplaceAllStringFunc(s, func(m string) string {
		v, ok := settings[strings.Trim(m, "%")]
		if !ok {
			missing = fmt.Errorf("the setting %s is missing; add it to the app settings", strings.Trim(m, "%"))
		}
		return v
	})
	return out, missing
}

// parseSpan reads a TimeSpan, hh:mm:ss; -1 is without end.
func parseSpan(s string, or time.Duration) time.Duration {
	if s == "-1" {
		return 0
	}
	var h, m, sec int
	if n, _ := fmt.Sscanf(s, "%d:%d:%d", &h, &m, &sec); n != 3 {
		return or
	}
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(sec)*time.Second
}

// environment of the handler: this process's, with the app settings over it.
func environment(settings map[string]string, extra ...string) []string {
	env := os.Environ()
	for k, v := range settings {
		env = append(env, k+"="+v)
	}
	return append(env, extra...)
}
