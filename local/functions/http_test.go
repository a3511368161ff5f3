//go:build unix

package functions

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func TestRequestsPassedOn(t *testing.T) {
	t.Parallel()
	h, _ := start(t, script(hostJSON, map[string]string{"Api": httpAny}), roleApp, newControl(t), nil)
	url := "http://" + h.Addr()
	for _, tt := range []struct {
		name, method, path, key string
		status                  int
		body                    string
	}{
		{"without a key", "GET", "/api/jobs", "", 401, ""},
		{"with another key", "GET", "/api/jobs", "fn-kez", 401, ""},
		{"with the function's key", "GET", "/api/jobs?a=b%20c", "fn-key", 418, "GET /api/jobs?a=b%20c"},
		{"with the master key", "PUT", "/api/jobs/a%2Fb", "master-key", 418, "PUT /api/jobs/a%252Fb"}, // and so ids never hold a slash
		{"dots", "GET", "/api/x/../jobs/./%2e%2e/y", "fn-key", 418, "GET /api/y"},
		{"dots at the end", "GET", "/api/x/..", "fn-key", 418, "GET /api/"},
		{"an empty part", "GET", "/api//jobs", "fn-key", 404, ""},
		{"letters that are no ASCII", "GET", "/api/%C3%A9%20x", "fn-key", 418, "GET /api/%C3%A9%20x"},
		{"with the key in the query", "DELETE", "/api/jobs?code=fn-key", "", 418, "DELETE /api/jobs?code=fn-key"},
		{"in whatever letters", "GET", "/api/jobs?CODE=fn-key", "", 418, "GET /api/jobs?CODE=fn-key"},
		{"the header goes before the query", "GET", "/api/jobs?code=fn-key", "wrong", 401, ""},
		{"the prefix alone", "GET", "/api", "fn-key", 404, ""}, // of the handler
		{"any method", "PROPFIND", "/api/x", "fn-key", 418, "PROPFIND /api/x"},
		{"elsewhere", "GET", "/jobs", "fn-key", 404, ""},
		{"a longer first word", "GET", "/apis/x", "fn-key", 404, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, body := request(t, tt.method, url+tt.path, tt.key, "body")
			if _, port, _ := net.SplitHostPort(h.Addr()); tt.body != "" {
				tt.body += fmt.Sprintf(" 127.0.0.1:%s 4", handlerPort(t, h))
				if strings.HasSuffix(tt.body, port+" 4") {
					t.Fatal("handler and host have one port")
				}
			}
			if r.StatusCode != tt.status || body != tt.body && tt.status != 404 {
				t.Errorf("got %d %q, want %d %q", r.StatusCode, body, tt.status, tt.body)
			}
			if tt.status == 418 {
				id, version, again := "", "", ""
				fmt.Sscan(r.Header.Get("X-Seen"), &id, &version, &again)
				if len(id) != 36 || version != hostVersion || again != id {
					t.Errorf("headers of the host: got %q", r.Header.Get("X-Seen"))
				}
			}
		})
	}
}

// handlerPort is where the handler listens now.
func handlerPort(t testing.TB, h *Host) string {
	port, err := h.worker.await(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(port)
}

// A host takes over what somebody has listened on for it, and closes it.
func TestListener(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h, _ := start(t, script(hostJSON, map[string]string{"Api": httpAny}), roleApp, newControl(t), func(cfg *Config) { cfg.Listener = l })
	if h.Addr() != l.Addr().String() {
		t.Errorf("got %s, want %s", h.Addr(), l.Addr())
	}
	response, err := http.Get("http://" + h.Addr() + "/api/jobs?code=fn-key")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if err := h.Close(); err != nil || response.StatusCode != 418 {
		t.Errorf("got %d, %v", response.StatusCode, err)
	}
	if c, err := l.Accept(); err == nil {
		c.Close()
		t.Error("the listener is still open")
	}
}

// Both directions are streams: each line is answered before the next is sent.
func TestStreams(t *testing.T) {
	t.Parallel()
	h, _ := start(t, script(hostJSON, map[string]string{"Api": httpAny}), roleApp, newControl(t), nil)
	body, send := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+h.Addr()+"/api/lines", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("x-functions-key", "fn-key")
	go func() { _, _ = send.Write([]byte("first\n")) }()
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	answers := bufio.NewReader(reply.Body)
	for _, line := range []string{"first\n", "second\n", "third\n"} {
		if line != "first\n" {
			go func() { _, _ = send.Write([]byte(line)) }()
		}
		got, err := answers.ReadString('\n')
		if err != nil || got != "got "+line {
			t.Fatalf("got %q, %v, want %q", got, err, "got "+line)
		}
	}
	send.Close()
}

// A request waits for a handler that is starting, and is not lost to one that
// has just died.
func TestRequestDuringRestart(t *testing.T) {
	t.Parallel()
	h, _ := start(t, script(hostJSON, map[string]string{"Api": httpAny}), roleApp, newControl(t, 1, 1), nil)
	if r, _ := request(t, "GET", "http://"+h.Addr()+"/api/x", "fn-key", ""); r.StatusCode != 418 {
		t.Errorf("while starting: got %d", r.StatusCode)
	}
	h.worker.restart()
	if r, _ := request(t, "POST", "http://"+h.Addr()+"/api/x", "fn-key", "body"); r.StatusCode != 418 &&
		r.StatusCode != http.StatusInternalServerError {
		t.Errorf("while dying: got %d", r.StatusCode)
	}
	eventually(t, "an answer", func() bool {
		r, _ := request(t, "POST", "http://"+h.Addr()+"/api/x", "fn-key", "body")
		return r.StatusCode == 418
	})
}

func TestRequestsAsPayload(t *testing.T) {
	t.Parallel()
	root := script(
		strings.Replace(hostJSON, `"enableProxyingHttpRequest":true`, `"initializationTimeout":"00:00:10"`, 1),
		map[string]string{
			"Payload": `{"name":"req","type":"httpTrigger","direction":"in","route":"pools/{name}/nodes/{n:int}","authLevel":"anonymous","methods":["post"]},{"name":"res","type":"http","direction":"out"}`,
			"Plain":   `{"name":"req","type":"httpTrigger","direction":"in","authLevel":"anonymous"}`,
			"Failing": `{"name":"req","type":"httpTrigger","direction":"in","authLevel":"admin"}`,
		},
	)
	h, _ := start(t, root, roleRaw, newControl(t), nil)
	url := "http://" + h.Addr() + "/api"
	r, body := request(t, "POST", url+"/pools/gpu/NODES/7?x=1", "", "hello")
	if r.StatusCode != 202 || r.Header.Get("X-A") != "b" {
		t.Errorf("got %d, header %q", r.StatusCode, r.Header.Get("X-A"))
	}
	for _, want := range []string{`"Params":{"n":"7","name":"gpu"}`, `"Query":{"x":"1"}`, `"Body":"hello"`, `"Method":"POST"`, `/api/pools/gpu/NODES/7?x=1"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the payload lacks %s: %s", want, body)
		}
	}
	for _, tt := range []struct {
		method, path, key string
		status            int
	}{
		{"GET", "/pools/gpu/nodes/7", "", 404}, {"POST", "/pools/gpu/nodes/x", "", 404}, {"POST", "/pools/gpu/nodes/7/more", "", 404},
		{"GET", "/plain", "", 200}, {"GET", "/failing", "fn-key", 401}, {"GET", "/failing", "master-key", 500},
	} {
		if r, _ := request(t, tt.method, url+tt.path, tt.key, ""); r.StatusCode != tt.status {
			t.Errorf("%s %s: got %d, want %d", tt.method, tt.path, r.StatusCode, tt.status)
		}
	}
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	root := script(hostJSON, map[string]string{"Sweep": timerYearly, "Api": httpAny, "Jobs": jobsBatch,
		"One": strings.NewReplacer(`"many"`, `"one"`, "%JOBS%", "other").Replace(jobsBatch)})
	h, _ := start(t, root, roleApp, c, func(cfg *Config) {
		cfg.Settings = map[string]string{
			"JOBS": "jobs",
			"Bus":  "Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=a;SharedAccessKey=Yg==;UseDevelopmentEmulator=true",
		}
	})
	url := "http://" + h.Addr() + "/admin/functions/"
	for _, tt := range []struct {
		name, key, body string
		status          int
	}{
		{"Sweep", "", `{"input":""}`, 401}, {"Sweep", "fn-key", `{"input":""}`, 403}, {"Sweep", "master-key", `{"input":""}`, 202},
		{"Jobs", "master-key", `{"input":"by hand"}`, 202},
		{"One", "master-key", `{"input":"by hand"}`, 202}, {"Api", "master-key", `{}`, 404}, {"Other", "master-key", `{}`, 404},
		{"Sweep", "master-key", `hello`, 400},
	} {
		if r, _ := request(t, "POST", url+tt.name, tt.key, tt.body); r.StatusCode != tt.status {
			t.Errorf("%s with %q and %s: got %d, want %d", tt.name, tt.key, tt.body, r.StatusCode, tt.status)
		}
	}
	seen := map[string]bool{}
	for range 3 {
		e := c.next(t)
		if seen[e.name] = true; e.name != "Sweep" && (len(e.msgs) != 1 || string(e.msgs[0].Body) != "by hand") {
			t.Errorf("%s got %+v", e.name, e.msgs)
		}
	}
	if len(seen) != 3 {
		t.Errorf("invoked: %v, want each of three once", seen)
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	const notPush = "api/{*path:regex(^(?!push/).*$)}"
	for _, tt := range []struct{ template, path, want string }{
		{"", "", "map[]"}, {"", "/", "map[]"}, {"", "/x", "-"},
		{"jobs", "/jobs", "map[]"}, {"jobs", "/Jobs/", "map[]"}, {"jobs", "/job", "-"}, {"jobs", "", "-"},
		{"jobs/{id}", "/jobs/a%2Fb", "map[id:a%2Fb]"}, {"jobs/{id}", "/jobs", "-"}, {"jobs/{id}", "/jobs/a/b", "-"},
		{"jobs/{id}", "/jobs/a/", "map[id:a]"},
		{"jobs/{id?}", "/jobs", "map[]"}, {"jobs/{id?}", "/jobs/a", "map[id:a]"},
		{"jobs/{id=all}", "/jobs", "map[id:all]"}, {"jobs/{id=all}", "/jobs/a", "map[id:a]"},
		{"n/{i:int}", "/n/12", "map[i:12]"}, {"n/{i:int}", "/n/x", "-"}, {"n/{i:int}", "/n/99999999999", "-"},
		{"n/{i:long}", "/n/99999999999", "map[i:99999999999]"},
		{"{*path}", "", "map[]"}, {"{*path}", "/a/b", "map[path:a/b]"}, {"{**path}", "/a/b/", "map[path:a/b/]"},
		{"x/{*rest}", "/x", "map[]"}, {"x/{*rest}", "/y", "-"},
		{"{*path=index}", "/", "map[path:index]"},
		{notPush, "/api/pools", "map[path:pools]"}, {notPush, "/api/pushx", "map[path:pushx]"}, {notPush, "/api/push", "map[path:push]"},
		{notPush, "/api/push/github", "-"},
		{notPush, "/API/PUSH/github", "-"}, {notPush, "/api", "-"}, {notPush, "/api/", "-"},
		{"{ignored:maxlength(0)?}", "/", "map[]"}, {"{ignored:maxlength(0)?}", "/x", "-"},
		{"{a:minlength(2):maxlength(3)}", "/x", "-"}, {"{a:minlength(2):maxlength(3)}", "/xy", "map[a:xy]"},
		{"{a:minlength(2):maxlength(3)}", "/xyzz", "-"},
		{"{a:regex(^\\d{{2}}$)}", "/12", "map[a:12]"}, {"{a:regex(^\\d{{2}}$)}", "/123", "-"},
	} {
		r, err := parseRoute(tt.template)
		if err != nil {
			t.Fatal(err)
		}
		got := "-"
		if params, ok := r.match(tt.path); ok {
			got = fmt.Sprint(params)
		}
		if got != tt.want {
			t.Errorf("%q against %q: got %s, want %s", tt.path, tt.template, got, tt.want)
		}
	}
	for _, bad := range []string{"{", "{}", "{a", "a{b}", "{a}{b}", "{a:guid}", "{*a}/b", "{a?}/b", "{a=1}/b", "{a}b", "a}b", "a//b", "{a:regex(}", "{a:regex([)}", "{a:maxlength}", "{a:maxlength(x)}", "{a:int=1?}", "{a:regex(x(?!y))}", "{a:regex((b|c)=(d))}"} {
		if _, err := parseRoute(bad); err == nil {
			t.Errorf("the route %q was taken", bad)
		}
	}
}

func FuzzRoute(f *testing.F) {
	f.Add("jobs/{id:int}/{*rest}", "/jobs/7/a%2Fb")
	f.Add("{", "%")
	f.Add("api/{*path:regex(^(?!push/).*$)}", "/api/../%2e%2e//x")
	f.Fuzz(func(t *testing.T, template, path string) {
		r, err := parseRoute(template)
		if err != nil {
			return
		}
		clean, _ := cleanPath(path)
		if again, _ := cleanPath(encodePath(clean)); again != clean && !strings.Contains(clean, "%") {
			t.Errorf("%q is %q, and that %q", path, clean, again)
		}
		if params, ok := r.match(clean); ok && len(params) > len(r) {
			t.Errorf("%d parameters of %d segments", len(params), len(r))
		}
	})
}

// A request that is too large is refused before anything of it is read, and one
// whose header does not end is dropped at its limit.
func TestLimitsOfRequests(t *testing.T) {
	t.Parallel()
	payload := `{"name":"req","type":"httpTrigger","direction":"in","route":"payload","authLevel":"function"}`
	h, _ := start(t, script(hostJSON, map[string]string{"Web": strings.Replace(httpAny, "{*path}", "raw", 1), "Payload": payload}), roleApp,
		newControl(t), nil)
	ready(t, h)
	key := "x-functions-key: fn-key\r\n"
	for _, tt := range []struct {
		name, request string
		want          int
	}{
		{"passed on", "POST /api/raw HTTP/1.1\r\nHost: a\r\n" + key + "Content-Length: 104857601\r\n\r\n", http.StatusInternalServerError},
		{"as payload", "POST /api/payload HTTP/1.1\r\nHost: a\r\n" + key + "Content-Length: 104857601\r\n\r\n", http.StatusInternalServerError},
		{"no key", "POST /api/raw HTTP/1.1\r\nHost: a\r\nContent-Length: 104857601\r\n\r\n", http.StatusUnauthorized},
		{"header", "GET /api/raw HTTP/1.1\r\nHost: a\r\n" + key + "X: " + strings.Repeat("x", 2*maxHeader) + "\r\n\r\n", http.StatusRequestHeaderFieldsTooLarge},
		{"within", "POST /api/raw HTTP/1.1\r\nHost: a\r\n" + key + "Content-Length: 1\r\n\r\nx", http.StatusTeapot},
	} {
		c, err := net.Dial("tcp", h.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(testTime))
		_, _ = io.WriteString(c, tt.request) // the host may have hung up in the middle of it
		reply, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		reply.Body.Close()
		if reply.StatusCode != tt.want {
			t.Errorf("%s: got status %d, want %d", tt.name, reply.StatusCode, tt.want)
		}
	}
}

// A request whose body has another length than its header says gets 400 and a
// sentence, whether the host passes it on or reads it itself.
func TestRequestOfTheWrongLength(t *testing.T) {
	t.Parallel()
	for name, root := range map[string]fstest.MapFS{
		"passed on": script(hostJSON, map[string]string{"Api": httpAny}),
		"read":      script(strings.Replace(hostJSON, `"enableProxyingHttpRequest":true`, `"enableProxyingHttpRequest":false`, 1), map[string]string{"Api": httpAny}),
	} {
		for form, body := range map[string]string{
			"short":     "Content-Length: 100\r\n\r\nshort",
			"bad chunk": "Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\nnone\r\n",
		} {
			t.Run(name+" "+form, func(t *testing.T) {
				t.Parallel()
				h, _ := start(t, root, roleApp, newControl(t), nil)
				ready(t, h)
				c, err := net.Dial("tcp", h.Addr())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(testTime))
				fmt.Fprint(c, "POST /api/x HTTP/1.1\r\nHost: x\r\nx-functions-key: fn-key\r\n"+body)
				if err := c.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
				r, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Body.Close()
				text, err := io.ReadAll(r.Body)
				if r.StatusCode != http.StatusBadRequest || !r.Close || err != nil ||
					!strings.Contains(string(text), "send the request again") {
					t.Errorf("got %d %q (%v), closed %v; want 400, a sentence, and the connection to be closed", r.StatusCode, text, err,
						r.Close)
				}
			})
		}
	}
}

func TestRequestKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ header, query, want string }{
		{"", "", ""},
		{"", "code=a", "a"},
		{"", "Code=a", "a"},
		{"", "x=1&CODE=b&code=a", "b"}, // the first one, in every run
		{"", "code=b&CODE=a&Code=c", "b"},
		{"", "code=a%2Bb+c", "a+b c"},
		{"", "co%64e=a", "a"},
		{"", "code=%zz&code=a", "a"},
		{"", "codes=a", ""},
		{"h", "code=a", "h"},
	} {
		r := &http.Request{Header: http.Header{}, URL: &url.URL{RawQuery: tt.query}}
		if tt.header != "" {
			r.Header.Set("x-functions-key", tt.header)
		}
		for range 20 {
			if got := requestKey(r); got != tt.want {
				t.Errorf("%q, %q: got %q, want %q", tt.header, tt.query, got, tt.want)
				break
			}
		}
	}
}
