package functions

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Defaults of host.json, as the real host has them.
const (
	defaultFunctionTimeout              = 30 * time.Minute // of the Flex, Premium and Dedicated plans
	defaultInitializationTimeout        = 30 * time.Second
	defaultMaxMessageBatchSize          = 1000
	defaultMaxConcurrentCalls           = 16 // for each core
	defaultMaxLockRenewal               = 5 * time.Minute
	defaultMaxConcurrentSessions        = 8
	defaultMaxConcurrentCallsPerSession = 1
	// defaultSessionIdle is the client's tryTimeout. It applies if sessionIdleTimeout is not
	// set.
	defaultSessionIdle = time.Minute
	defaultRoutePrefix = "api"
)

// overridePrefix begins the names of app settings that override a value in host.json. Two
// underscores separate the names of its path.
const overridePrefix = "AzureFunctionsJobHost__"

// maxAtOnce bounds the configured concurrency, so that a typing error does not overload the
// machine.
const maxAtOnce = 10_000

// maxFile bounds host.json and each function.json, in bytes.
const maxFile = 1 << 20

// hostFile is the part of host.json that is supported.
type hostFile struct {
	Version         string
	FunctionTimeout span
	Functions       []string // if any, only these
	CustomHandler   struct {
		Description struct {
			DefaultExecutablePath string
			WorkingDirectory      string
			Arguments             []string
		}
		InitializationTimeout       span
		EnableProxyingHTTPRequest   bool `json:"enableProxyingHttpRequest"`
		EnableForwardingHTTPRequest bool `json:"enableForwardingHttpRequest"`
		HTTP                        *json.RawMessage
	}
	Extensions struct {
		HTTP       struct{ RoutePrefix *string }
		ServiceBus struct {
			MaxMessageBatchSize          int
			MinMessageBatchSize          int
			MaxConcurrentCalls           int
			AutoCompleteMessages         *bool
			MaxAutoLockRenewalDuration   span
			MaxConcurrentSessions        int
			MaxConcurrentCallsPerSession int
			SessionIdleTimeout           span
			PrefetchCount                int
			TransportType                string
			ClientRetryOptions           struct{ TryTimeout span }

			// Settings of older extensions, which the present one does not read.
			MessageHandlerOptions, SessionHandlerOptions, BatchOptions *json.RawMessage
		}
	}
	Concurrency struct{ DynamicConcurrencyEnabled bool }
	Retry       *json.RawMessage
}

// check returns an error for a setting of host.json that works in the cloud but not here.
// So an accepted file does the same in the cloud.
func (h *hostFile) check() error {
	sb, own := &h.Extensions.ServiceBus, &h.CustomHandler
	for _, c := range []struct {
		wrong bool
		say   string
	}{
		{h.Version != "2.0", fmt.Sprintf(`the version is %q; the host takes "2.0" only`, h.Version)},
		{sb.MinMessageBatchSize > 1, "minMessageBatchSize above 1 is not supported by the local host; leave it out"},
		{sb.PrefetchCount > 0, "prefetchCount is not supported by the local host; leave it at 0"},
		{sb.TransportType != "" && !strings.EqualFold(sb.TransportType, "amqpTcp"),
			fmt.Sprintf("the transportType %q is not supported by the local host; use amqpTcp", sb.TransportType)},
		{sb.MessageHandlerOptions != nil || sb.SessionHandlerOptions != nil || sb.BatchOptions != nil,
			"messageHandlerOptions, sessionHandlerOptions and batchOptions do nothing since version 4 of the extension bundle; " +
				"put their settings right under serviceBus"},
		{min(sb.MaxMessageBatchSize, sb.MaxConcurrentCalls, sb.MaxConcurrentSessions, sb.MaxConcurrentCallsPerSession,
			sb.MinMessageBatchSize, sb.PrefetchCount) < 0, "a number under serviceBus is below 0"},
		{max(sb.MaxMessageBatchSize, sb.MaxConcurrentCalls, sb.MaxConcurrentSessions, sb.MaxConcurrentCallsPerSession) > maxAtOnce,
			fmt.Sprintf("a number under serviceBus is above %d", maxAtOnce)},
		{sb.SessionIdleTimeout.set && sb.SessionIdleTimeout.d <= 0, "sessionIdleTimeout must be above zero"},
		{h.Concurrency.DynamicConcurrencyEnabled,
			"dynamicConcurrencyEnabled is not supported by the local host; set the numbers under serviceBus"},
		{h.Retry != nil, "retry is not supported by the local host; a message comes again by itself, and a timer at its next occurrence"},
		{own.EnableForwardingHTTPRequest && !own.EnableProxyingHTTPRequest,
			"enableForwardingHttpRequest is not supported by the local host; use enableProxyingHttpRequest, which took its place"},
		{own.HTTP != nil, "customHandler.http is not supported by the local host; write a function.json for each function"},
	} {
		if c.wrong {
			return errors.New("host.json: " + c.say)
		}
	}
	return nil
}

// infiniteSpan is .NET's value for no limit; longestSpan replaces it here.
const (
	infiniteSpan = "-00:00:00.001"
	longestSpan  = 10 * 365 * 24 * time.Hour
)

// span is a .NET TimeSpan: [days.]hours:minutes:seconds, or -1 for no limit.
type span struct {
	set bool
	d   time.Duration // 0 = no limit
}

func (s span) or(d time.Duration) time.Duration {
	if s.set {
		return s.d
	}
	return d
}

// UnmarshalText reads a span.
func (s *span) UnmarshalText(b []byte) error {
	text := string(b)
	if s.set = true; text == "-1" {
		return nil
	}
	if rest, ok := strings.CutPrefix(text, infiniteSpan); ok && strings.Trim(rest, "0") == "" {
		s.d = longestSpan
		return nil
	}
	days, clock, found := strings.Cut(text, ".")
	if !found || strings.Contains(days, ":") { // the point belongs to the seconds, not to days
		days, clock = "0", text
	}
	parts := strings.Split(clock, ":")
	if len(parts) != 3 || strings.Trim(text, "0123456789.:") != "" {
		return fmt.Errorf("%q is not a time span; write hours:minutes:seconds, such as 00:05:00", text)
	}
	total := 0.0
	for i, p := range append([]string{days}, parts...) {
		n, err := strconv.ParseFloat(p, 64)
		if err != nil || n > 1e6 {
			return fmt.Errorf("%q is not a time span; write hours:minutes:seconds, such as 00:05:00", text)
		}
		total += n * []float64{24 * 3600, 3600, 60, 1}[i]
	}
	if total > longestSpan.Seconds() {
		return fmt.Errorf("%q is longer than ten years", text)
	}
	s.d = time.Duration(total * float64(time.Second))
	return nil
}

// readHostFile reads host.json with the overrides from the app settings.
func readHostFile(root fs.FS, settings map[string]string) (hostFile, error) {
	var h hostFile
	b, err := readSmall(root, "host.json")
	if err != nil {
		return h, fmt.Errorf("host.json cannot be read: %w", err)
	}
	var tree map[string]any
	if err := json.Unmarshal(b, &tree); err != nil {
		return h, fmt.Errorf("host.json is not JSON: %w", err)
	}
	for name, value := range settings {
		if path, ok := strings.CutPrefix(name, overridePrefix); ok {
			override(tree, strings.Split(path, "__"), value)
		}
	}
	if b, err = json.Marshal(tree); err != nil {
		return h, err
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return h, fmt.Errorf("host.json: %w", err)
	}
	return h, h.check()
}

func readSmall(root fs.FS, name string) ([]byte, error) {
	if info, err := fs.Stat(root, name); err == nil && info.Size() > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	return fs.ReadFile(root, name)
}

// override sets the value at a path to a setting's text. Names are compared without regard
// to case. A text that is JSON other than a string is parsed.
func override(tree map[string]any, path []string, value string) {
	name := path[0]
	for existing := range tree {
		if strings.EqualFold(existing, name) {
			name = existing
		}
	}
	if len(path) == 1 {
		var parsed any
		isText := value == "-1" || value == "2.0" // the two strings of host.json that look like numbers
		if json.Unmarshal([]byte(value), &parsed) != nil || isText {
			parsed = value
		}
		tree[name] = parsed
		return
	}
	if n, err := strconv.Atoi(path[1]); err == nil && len(path) == 2 { // an entry of a list
		list, _ := tree[name].([]any)
		if n >= 0 && n < 1000 {
			for len(list) <= n {
				list = append(list, "")
			}
			list[n] = value
			tree[name] = list
		}
		return
	}
	branch, ok := tree[name].(map[string]any)
	if !ok {
		branch = map[string]any{}
		tree[name] = branch
	}
	override(branch, path[1:], value)
}

// argv returns the handler's command line from host.json. A relative path is below dir if
// that file exists, and is searched in the PATH otherwise.
func (h *hostFile) argv(dir string, settings map[string]string) ([]string, error) {
	d := h.CustomHandler.Description
	if d.DefaultExecutablePath == "" {
		return nil, errors.New("host.json: customHandler.description.defaultExecutablePath is missing; it names the handler")
	}
	argv := append([]string{d.DefaultExecutablePath}, d.Arguments...)
	for i := range argv {
		var err error
		if argv[i], err = expand(argv[i], settings); err != nil {
			return nil, fmt.Errorf("host.json: customHandler.description: %w", err)
		}
	}
	if !filepath.IsAbs(argv[0]) {
		if path, err := filepath.Abs(filepath.Join(dir, argv[0])); err == nil {
			if _, err := os.Stat(path); err == nil {
				argv[0] = path
			}
		}
	}
	return argv, nil
}
