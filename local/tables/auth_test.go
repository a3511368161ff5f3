package tables

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
)

func TestWrongKeyIsRefused(t *testing.T) {
	t.Parallel()
	s, c := newTable(t)
	wrong := strings.Replace(s.ConnectionString(), testKey, base64.StdEncoding.EncodeToString([]byte("another key")), 1)
	service, err := aztables.NewServiceClientFromConnectionString(wrong, options())
	if err != nil {
		t.Fatal(err)
	}
	stranger := service.NewClient("pools")
	_, err = stranger.AddEntity(deadline(t), row("p", "r"), nil)
	wantError(t, err, 403, "AuthenticationFailed")
	_, err = stranger.GetEntity(deadline(t), "p", "r", nil)
	wantError(t, err, 403, "AuthenticationFailed")
	_, err = stranger.SubmitTransaction(deadline(t), actions{add(row("p", "r"))}, nil)
	wantError(t, err, 403, "AuthenticationFailed")
	if got := filtered(t, c, ""); len(got) != 0 {
		t.Errorf("got %v, want nothing", got)
	}
}

// send is a request signed by hand.
func send(t *testing.T, s *Server, method, target, scheme string, at time.Time, body []byte, change func(*http.Request)) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(deadline(t), method, "http://"+s.Addr()+target, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	date := at.UTC().Format(http.TimeFormat)
	r.Header.Set("x-ms-date", date)
	r.Header.Set("Content-Type", "application/json")
	sign := date + "\n/" + testAccount + r.URL.EscapedPath()
	if comp := r.URL.Query().Get("comp"); comp != "" {
		sign += "?comp=" + comp
	}
	if scheme == "SharedKey" {
		sign = method + "\n\napplication/json\n" + sign
	}
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(sign))
	r.Header.Set("Authorization", scheme+" "+testAccount+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	if change != nil {
		change(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestSharedKeyInBothForms(t *testing.T) {
	t.Parallel()
	s, _ := newTable(t)
	now := time.Now()
	for _, test := range []struct {
		name, scheme string
		at           time.Time
		change       func(*http.Request)
		want         int
	}{
		{"lite", "SharedKeyLite", now, nil, 200},
		{"full", "SharedKey", now, nil, 200},
		{"unknown scheme", "SharedKeyHeavy", now, nil, 403},
		{"full, signed for another method", "SharedKey", now, func(r *http.Request) { r.Method = "POST" }, 403},
		{"signed for another path", "SharedKeyLite", now, func(r *http.Request) { r.URL.Path += "/x" }, 403},
		{"old", "SharedKeyLite", now.Add(-maxClockSkew - time.Minute), nil, 403},
		{"of the future", "SharedKeyLite", now.Add(maxClockSkew + time.Minute), nil, 403},
		{"no date", "SharedKeyLite", now, func(r *http.Request) { r.Header.Del("x-ms-date") }, 403},
		{"none", "SharedKeyLite", now, func(r *http.Request) { r.Header.Del("Authorization") }, 403},
		{"signature cut", "SharedKeyLite", now, func(r *http.Request) {
			r.Header.Set("Authorization", strings.TrimRight(r.Header.Get("Authorization"), "=")[:40])
		}, 403},
		{"another account", "SharedKeyLite", now, func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), testAccount, "other", 1))
		}, 403},
	} {
		resp := send(t, s, "GET", "/"+testAccount+"/Tables", test.scheme, test.at, nil, test.change)
		if resp.StatusCode != test.want {
			t.Errorf("%s: got %d, want %d", test.name, resp.StatusCode, test.want)
		}
	}
}

func TestPreferNoContent(t *testing.T) {
	t.Parallel()
	s, _ := newTable(t)
	quiet := func(r *http.Request) { r.Header.Set("Prefer", "return-no-content") }
	for target, body := range map[string][]byte{"/Tables": []byte(`{"TableName":"more"}`), "/pools": row("p", "r")} {
		r := send(t, s, "POST", "/"+testAccount+target, "SharedKeyLite", time.Now(), body, quiet)
		content, _ := io.ReadAll(r.Body)
		if r.StatusCode != 204 || r.Header.Get("Preference-Applied") != "return-no-content" || len(content) != 0 {
			t.Errorf("%s: got %d, applied %q, %q", target, r.StatusCode, r.Header.Get("Preference-Applied"), content)
		}
	}
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	s, _ := newTable(t)
	at := "/" + testAccount
	for _, test := range []struct {
		method, target, body string
		want                 int
		code                 string
	}{
		{"POST", at + "/pools", `{"PartitionKey":"p","RowKey":7}`, 400, "InvalidInput"},
		{"POST", at + "/pools", `{"PartitionKey":"p","RowKey":"r"} {}`, 400, "InvalidInput"},
		{"POST", at + "/pools", `{"PartitionKey":"p"}`, 400, "PropertiesNeedValue"},
		{"POST", at + "/pools", `{"PartitionKey":"p","PartitionKey":"q"}`, 400, "InvalidInput"},
		{"POST", at + "/pools", `{"PartitionKey":"p","RowKey":"r","A":1,"A":2}`, 400, "InvalidInput"},
		{"POST", at + "/pools", `[]`, 400, "InvalidInput"},
		{"POST", at + "/pools", "", 400, "InvalidInput"},
		{"POST", at + "/pools", "{\"PartitionKey\":\"p\",\"RowKey\":\"\xff\"}", 400, "InvalidInput"},
		{"PUT", at + "/pools(PartitionKey='p')", `{}`, 400, "InvalidInput"},
		{"PUT", at + "/pools(PartitionKey='p',RowKey='r'", `{}`, 400, "InvalidInput"},
		{"PUT", at + "/pools(PartitionKey='p',RowKey='r',X='y')", `{}`, 400, "InvalidInput"},
		{"PUT", at + "/pools(PartitionKey='p',RowKey='a%2Fb')", `{}`, 400, "OutOfRangeInput"},
		{"DELETE", at + "/pools(PartitionKey='p',RowKey='r')", ``, 400, "MissingRequiredHeader"},
		{"GET", at + "/pools?comp=lease", ``, 501, "NotImplemented"},
		{"OPTIONS", at + "/pools", ``, 405, "UnsupportedHttpVerb"},
		{"GET", at + "/pools?$top=0", ``, 400, "InvalidInput"},
		{"GET", at + "/pools?NextPartitionKey=p", ``, 400, "InvalidInput"},
		{"GET", at + "/p!", ``, 400, "InvalidResourceName"},
		{"GET", at + "x/pools", ``, 404, "ResourceNotFound"},
		{"GET", at + "/Tables('none')", ``, 404, "ResourceNotFound"},
		{"GET", at + "/Tables('pools')", ``, 200, ""},
		{"GET", at + "/pools()", ``, 200, ""},
		{"MERGE", at + "/pools(RowKey='r',PartitionKey='p')", `{"A":1}`, 204, ""},
		{"POST", at + "/$batch", `x`, 400, "InvalidInput"},
	} {
		r := send(t, s, test.method, test.target, "SharedKeyLite", time.Now(), []byte(test.body), nil)
		if code := r.Header.Get("x-ms-error-code"); r.StatusCode != test.want || code != test.code {
			t.Errorf("%s %s %s: got %d %s, want %d %s", test.method, test.target, test.body, r.StatusCode, code, test.want, test.code)
		}
		body, _ := io.ReadAll(r.Body)
		if test.code != "" &&
			!strings.HasPrefix(string(body), `{"odata.error":{"code":"`+test.code+`","message":{"lang":"en-US","value":"`) {
			t.Errorf("%s %s: got %s", test.method, test.target, body)
		}
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tables.db")
	for name, cfg := range map[string]Config{
		"all addresses":     {Addr: "0.0.0.0:0", Path: path, Account: testAccount, Key: testKey},
		"no host":           {Addr: ":0", Path: path, Account: testAccount, Key: testKey},
		"another machine":   {Addr: "192.0.2.1:0", Path: path, Account: testAccount, Key: testKey},
		"no key":            {Addr: "127.0.0.1:0", Path: path, Account: testAccount},
		"key not in base64": {Addr: "127.0.0.1:0", Path: path, Account: testAccount, Key: "???"},
		"no account":        {Addr: "127.0.0.1:0", Path: path, Key: testKey},
		"path in a file":    {Addr: "127.0.0.1:0", Path: "/dev/null/x", Account: testAccount, Key: testKey},
	} {
		s, err := Start(cfg)
		if err == nil {
			s.Close()
			t.Errorf("%s: started", name)
		}
	}
}

// TestClientThatLeaves sends half a request and goes: the server forgets it.
func TestClientThatLeaves(t *testing.T) {
	t.Parallel()
	s, c := newTable(t)
	for range 20 {
		conn, err := new(net.Dialer).DialContext(deadline(t), "tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "POST /"+testAccount+"/pools HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
		conn.Close()
	}
	ctx, cancel := context.WithCancel(deadline(t))
	cancel()
	if _, err := c.AddEntity(ctx, row("p", "r"), nil); err == nil {
		t.Error("a cancelled request must fail")
	}
	if _, err := c.AddEntity(deadline(t), row("p", "r2"), nil); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
