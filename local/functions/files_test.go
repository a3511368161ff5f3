//go:build unix

package functions

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func TestHostFile(t *testing.T) {
	t.Parallel()
	settings := map[string]string{
		"AzureFunctionsJobHost__functionTimeout":                             "-1",
		"AzureFunctionsJobHost__functions__0":                                "A",
		"AzureFunctionsJobHost__Extensions__serviceBus__maxMessageBatchSize": "7",
		"AzureFunctionsJobHost__customHandler__description__arguments":       `["x","%NAME%"]`,
		"NAME": "y",
	}
	for _, tt := range []struct {
		name, file string
		settings   map[string]string
		check      func(hostFile) bool
		err        string
	}{
		{"as it is", hostJSON, nil, func(h hostFile) bool {
			return h.FunctionTimeout.or(0) == 5*time.Minute && h.CustomHandler.EnableProxyingHTTPRequest && h.CustomHandler.Description.DefaultExecutablePath == "handler"
		}, ""},
		{"with overrides", hostJSON, settings, func(h hostFile) bool {
			return h.FunctionTimeout.set && h.FunctionTimeout.or(time.Hour) == 0 && reflect.DeepEqual(h.Functions, []string{"A"}) && h.Extensions.ServiceBus.MaxMessageBatchSize == 7 &&
				reflect.DeepEqual(h.CustomHandler.Description.Arguments, []string{"x", "%NAME%"})
		}, ""},
		{"another version", `{"version":"3.0"}`, nil, nil, `the version is "3.0"`},
		{"no JSON", `version: 2`, nil, nil, "not JSON"},
		{"no span", `{"version":"2.0","functionTimeout":"5m"}`, nil, nil, `"5m" is not a time span`},
		{"a list", `[]`, nil, nil, "not JSON"},
		{"batches that wait", `{"version":"2.0","extensions":{"serviceBus":{"minMessageBatchSize":5}}}`, nil, nil, "minMessageBatchSize"},
		{"names of old extensions", `{"version":"2.0","extensions":{"serviceBus":{"messageHandlerOptions":{}}}}`, nil, nil, "messageHandlerOptions"},
		{"prefetching", `{"version":"2.0","extensions":{"serviceBus":{"prefetchCount":5}}}`, nil, nil, "prefetchCount"},
		{"another transport", `{"version":"2.0","extensions":{"serviceBus":{"transportType":"amqpWebSockets"}}}`, nil, nil, "amqpTcp"},
		{"a number below 0", `{"version":"2.0","extensions":{"serviceBus":{"maxConcurrentSessions":-1}}}`, nil, nil, "below 0"},
		{"a number above all sense", `{"version":"2.0","extensions":{"serviceBus":{"maxConcurrentCalls":1000000}}}`, nil, nil, "above 10000"},
		{"no idle time", `{"version":"2.0","extensions":{"serviceBus":{"sessionIdleTimeout":"00:00:00"}}}`, nil, nil, "sessionIdleTimeout"},
		{"dynamic concurrency", `{"version":"2.0","concurrency":{"dynamicConcurrencyEnabled":true}}`, nil, nil, "dynamicConcurrencyEnabled"},
		{"retries", `{"version":"2.0","retry":{"strategy":"fixedDelay"}}`, nil, nil, "retry"},
		{"old forwarding", `{"version":"2.0","customHandler":{"enableForwardingHttpRequest":true}}`, nil, nil, "enableProxyingHttpRequest"},
		{"proxying wins", `{"version":"2.0","customHandler":{"enableForwardingHttpRequest":true,"enableProxyingHttpRequest":true}}`, nil, func(hostFile) bool { return true }, ""},
		{"routes without functions", `{"version":"2.0","customHandler":{"http":{"routes":[]}}}`, nil, nil, "function.json for each"},
		{"sessions", `{"version":"2.0","extensions":{"serviceBus":{"maxConcurrentSessions":3,"maxConcurrentCallsPerSession":2,"sessionIdleTimeout":"00:00:07","maxAutoLockRenewalDuration":"-00:00:00.0010000"}}}`, nil, func(h hostFile) bool {
			sb := h.Extensions.ServiceBus
			return sb.MaxConcurrentSessions == 3 && sb.MaxConcurrentCallsPerSession == 2 && sb.SessionIdleTimeout.or(0) == 7*time.Second && sb.MaxAutoLockRenewalDuration.or(0) == longestSpan
		}, ""},
		{"too large", `{"version":"2.0","x":"` + strings.Repeat("x", maxFile) + `"}`, nil, nil, "larger than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readHostFile(fstest.MapFS{"host.json": {Data: []byte(tt.file)}}, tt.settings)
			switch {
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("got %v, want an error with %q", err, tt.err)
			case tt.err == "" && (err != nil || !tt.check(got)):
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	if _, err := readHostFile(fstest.MapFS{}, nil); err == nil {
		t.Error("a host.json that is not there was read")
	}
}

func TestHandlerOfHostFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "handler"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, description string
		want              []string
	}{
		{"below the root", `{"defaultExecutablePath":"handler","arguments":["%A%"]}`, []string{filepath.Join(dir, "handler"), "b"}},
		{"on the path", `{"defaultExecutablePath":"sh"}`, []string{"sh"}},
		{"absolute", `{"defaultExecutablePath":"/bin/%A%"}`, []string{"/bin/b"}},
		{"none", `{}`, nil},
		{"missing setting", `{"defaultExecutablePath":"%B%"}`, nil},
	} {
		var h hostFile
		if err := json.Unmarshal([]byte(tt.description), &h.CustomHandler.Description); err != nil {
			t.Fatal(err)
		}
		got, err := h.argv(dir, map[string]string{"A": "b"})
		if !reflect.DeepEqual(got, tt.want) || (err == nil) != (tt.want != nil) {
			t.Errorf("%s: got %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{"00:05:00": 5 * time.Minute, "-1": 0, "1.02:03:04": 26*time.Hour + 3*time.Minute + 4*time.Second, "00:00:00.5": time.Second / 2, "10:00:00": 10 * time.Hour} {
		var got span
		if err := got.UnmarshalText([]byte(in)); err != nil || got.or(time.Nanosecond) != want {
			t.Errorf("%s: got %s, %v, want %s", in, got.d, err, want)
		}
	}
	for _, bad := range []string{"", "5", "1:2", "a:b:c", "-00:01:00", "1:2:3:4", "NaN:0:0", "1e9:0:0"} {
		if err := new(span).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestFunctionFiles(t *testing.T) {
	t.Parallel()
	settings := map[string]string{
		"JOBS":                           "jobs",
		"EMPTY":                          "",
		"Bus":                            "Endpoint=sb://x",
		"Named__fullyQualifiedNamespace": "x.servicebus.windows.net",
		"S":                              "0 */5 * * * *",
		"AzureWebJobs.Off.Disabled":      "true",
		"AzureWebJobs_Out_Disabled":      "1",
	}
	for _, tt := range []struct{ name, bindings, err string }{
		{"Batch", jobsBatch, ""},
		{"Named", strings.Replace(jobsBatch, `"Bus"`, `"Named"`, 1), ""},
		{"Six", `{"name":"t","type":"timerTrigger","schedule":"%S%"}`, ""},
		{"Five", `{"name":"t","type":"timerTrigger","schedule":"*/5 * * * *"}`, ""},
		{"Any", httpAny, ""},
		{"NoSetting", strings.Replace(jobsBatch, "%JOBS%", "%OTHER%", 1), "the setting OTHER is missing"},
		{"NoConnection", strings.Replace(jobsBatch, `"Bus"`, `"Other"`, 1), "the setting Other is missing"},
		{"NoQueue", strings.Replace(jobsBatch, `%JOBS%`, `%EMPTY%`, 1), "queueName is missing"},
		{"NoType", strings.Replace(jobsBatch, `,"dataType":"binary"`, ``, 1), `"dataType": "string" or "binary"`},
		{"Texts", strings.Replace(jobsBatch, `"binary"`, `"string"`, 1), ""},
		{"Sessions", strings.Replace(jobsBatch, `"cardinality"`, `"isSessionsEnabled":true,"cardinality"`, 1), ""},
		{"BadCardinality", strings.Replace(jobsBatch, `"many"`, `"some"`, 1), "one or many"},
		{"BadType", strings.Replace(jobsBatch, `"binary"`, `"stream"`, 1), "binary or string"},
		{"BadSize", strings.Replace(jobsBatch, `"cardinality"`, `"maxMessageBatchSize":-1,"cardinality"`, 1), "maxMessageBatchSize"},
		{"Span", `{"name":"t","type":"timerTrigger","schedule":"00:05:00"}`, "App Service plans only"},
		{"Zone", `{"name":"t","type":"timerTrigger","schedule":"TZ="}`, "no schedule has"},
		{"NoSchedule", `{"name":"t","type":"timerTrigger","schedule":"%T%"}`, "the setting T is missing"},
		{"BadSchedule", `{"name":"t","type":"timerTrigger","schedule":"every day"}`, "cannot be read"},
		{"Never", `{"name":"t","type":"timerTrigger","schedule":"0 0 0 30 2 *"}`, "never occurs"},
		{"BadLevel", strings.Replace(httpAny, `"function"`, `"nobody"`, 1), "authLevel"},
		{"BadConstraint", strings.Replace(httpAny, `{*path}`, `{id:guid}`, 1), `constraint "guid" is not supported by the local host`},
		{"BadRoute", strings.Replace(httpAny, `{*path}`, `{*path`, 1), "route"},
		{"Output", jobsBatch + `,{"name":"o","type":"serviceBus","direction":"out"}`, `unsupported binding type "serviceBus"`},
		{"TwoTriggers", jobsBatch + "," + jobsBatch, "2 triggers"},
		{"NoTrigger", ``, "0 triggers"},
		{"NoName", `{"type":"timerTrigger","schedule":"%S%"}`, "no name"},
		{"Blob", `{"name":"b","type":"blobTrigger"}`, `unsupported trigger type "blobTrigger"`},
		{"BadJSON", `{`, "cannot be read"},
		{"bad name", jobsBatch, "no name of a function"},
		{"host", jobsBatch, "no name of a function"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, errs := readFunctions(script(hostJSON, map[string]string{tt.name: tt.bindings}), settings, nil)
			if tt.err == "" {
				if len(got) != 1 || len(errs) != 0 || got[0].name != tt.name || strings.Contains(got[0].trigger.QueueName, "%") {
					t.Errorf("got %+v, %v", got, errs)
				}
				return
			}
			if len(got) != 0 || len(errs) != 1 || !strings.Contains(errs[0].Error(), tt.err) ||
				!strings.Contains(errs[0].Error(), tt.name) {
				t.Errorf("got %d functions, %v, want an error with %q", len(got), errs, tt.err)
			}
		})
	}
	all := script(hostJSON, map[string]string{"Off": timerYearly, "Out": timerYearly, "On": timerYearly})
	all["readme/text.md"], all["file.json"] = &fstest.MapFile{}, &fstest.MapFile{}
	got, errs := readFunctions(all, settings, nil)
	if len(got) != 3 || len(errs) != 0 || !got[0].disabled || got[1].disabled || !got[2].disabled {
		t.Errorf("disabled: got %+v, %v", got, errs)
	}
	if got, _ := readFunctions(all, settings, []string{"On"}); len(got) != 1 || got[0].name != "On" {
		t.Errorf("only some: got %+v", got)
	}
}

// The host skips a function with an error and starts. It does not start if it has skipped
// all functions.
func TestWrongFunctions(t *testing.T) {
	t.Parallel()
	root := script(hostJSON, map[string]string{"Good": timerYearly, "Bad": `{`, "Worse": jobsBatch})
	h, log := start(t, root, roleApp, newControl(t), nil)
	if len(h.functions) != 1 || !strings.Contains(log.String(), "function Bad") ||
		!strings.Contains(log.String(), "the setting JOBS is missing") {
		t.Errorf("got %d functions; the log says %s", len(h.functions), log)
	}
	delete(root, "Good/function.json")
	for name, cfg := range map[string]Config{
		"no function":  {Root: root, Addr: "127.0.0.1:0"},
		"no loopback":  {Root: script(hostJSON, sweepOnly), Addr: "0.0.0.0:0"},
		"no port":      {Root: script(hostJSON, sweepOnly), Addr: "127.0.0.1"},
		"no handler":   {Root: script(`{"version":"2.0"}`, sweepOnly), Addr: "127.0.0.1:0"},
		"no host.json": {Root: fstest.MapFS{}, Addr: "127.0.0.1:0"},
	} {
		if h, err := Start(cfg); err == nil {
			h.Close()
			t.Errorf("%s: the host started", name)
		}
	}
}

var sweepOnly = map[string]string{"Sweep": timerYearly}

// The host reads the app's own files without an error.
func TestOwnFunctions(t *testing.T) {
	t.Parallel()
	f, err := os.Open("../../local.settings.json.example")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var example struct{ Values map[string]string }
	if err := json.NewDecoder(io.LimitReader(f, maxFile)).Decode(&example); err != nil {
		t.Fatal(err)
	}
	host, err := readHostFile(appRoot(t), example.Values)
	if err != nil {
		t.Fatal(err)
	}
	got, errs := readFunctions(appRoot(t), example.Values, host.Functions)
	if len(errs) > 0 || len(got) < 8 {
		t.Errorf("got %d functions, %v", len(got), errs)
	}
	for _, f := range got {
		if f.trigger.Type == httpTrigger && !(f.plain && host.CustomHandler.EnableProxyingHTTPRequest) {
			t.Errorf("%s: its requests are not passed on as they are", f.name)
		}
		if f.trigger.Type == serviceBusTrigger && !f.takesBatches() {
			t.Errorf("%s takes single messages", f.name)
		}
	}
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte(hostJSON), []byte(`{"bindings":[`+jobsBatch+`]}`), "functions__0", "x")
	f.Add([]byte(hostJSON), []byte(`{"bindings":[`+httpAny+`]}`), "extensions__http__routePrefix", "-1")
	f.Fuzz(func(t *testing.T, host, function []byte, path, value string) {
		settings := map[string]string{"JOBS": "jobs", "Bus": "x", overridePrefix + path: value}
		_, _ = readHostFile(fstest.MapFS{"host.json": {Data: host}}, settings)
		if got, errs := readFunctions(fstest.MapFS{"F/function.json": {Data: function}}, settings, nil); len(got)+len(errs) != 1 {
			t.Errorf("%d functions and %d errors of one file", len(got), len(errs))
		}
	})
}
