package relay

import (
	"strings"
	"testing"
)

func TestParseMessage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		isGood     bool
	}{
		{"accept", `{"accept":{"address":"wss://g1.relay.example:443/$hc/lab-0/ssh?sb-hc-action=accept","id":"1","connectHeaders":{"A":"b"}}}`, true},
		{"a request to come for", `{"request":{"address":"wss://g1.relay.example/$hc/lab-0"}}`, true},
		{"a request", `{"request":{"address":"","id":"1","requestTarget":"/a?b","method":"GET"}}`, true},
		{"what is not known yet", `{"news":{}}`, true},
		{"accept without an address", `{"accept":{}}`, false},
		{"an address without TLS", `{"accept":{"address":"ws://127.0.0.1/$hc/lab-0"}}`, false},
		{"an address of HTTP", `{"request":{"address":"https://relay.example/$hc/lab-0"}}`, false},
		{"an address with a password", `{"accept":{"address":"wss://a:b@relay.example/$hc/lab-0"}}`, false},
		{"an address of another kind", `{"accept":{"address":"wss://relay.example/lab-0"}}`, false},
		{"a request without an id", `{"request":{"requestTarget":"/","method":"GET"}}`, false},
		{"a request for another host", `{"request":{"id":"1","requestTarget":"http://evil.example/","method":"GET"}}`, false},
		{"too many headers", `{"accept":{"address":"wss://relay.example/$hc/lab-0","connectHeaders":{` + manyHeaders() + `}}}`, false},
		{"no JSON", `accept`, false},
	} {
		if _, err := parseMessage([]byte(c.text), true); (err == nil) != c.isGood {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}

func manyHeaders() string {
	all := make([]string, maxHeaders+1)
	for i := range all {
		all[i] = `"` + strings.Repeat("x", i+1) + `":""`
	}
	return strings.Join(all, ",")
}

func TestSuffixOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ address, suffix, query string }{
		{"wss://n/$hc/lab-0/ssh?sb-hc-action=accept&a=b&SB-HC-id=1&c", "/ssh", "a=b&c"},
		{"wss://n/$hc/LAB-0", "", ""},
		{"wss://n/$hc/lab-0/a%2Fb", "/a/b", ""},
		{"wss://n/$hc/lab-01/ssh", "1/ssh", ""},
		{"wss://n/$hc/other/ssh", "", ""},
		{"wss://n/$hc/", "", ""},
	} {
		if suffix, query := suffixOf(c.address, "lab-0"); suffix != c.suffix || query != c.query {
			t.Errorf("%s: got %q and %q", c.address, suffix, query)
		}
	}
}

func FuzzParseMessage(f *testing.F) {
	for _, seed := range []string{`{"accept":{"address":"wss://n/$hc/lab-0/ssh?x","id":"1","connectHeaders":{"A":"b"}}}`, `{"request":{"id":"1","requestTarget":"/%zz","method":"G T","body":true}}`, `{`, `null`, `{"accept":null,"request":{}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseMessage(text, true)
		if err != nil {
			return
		}
		if m.Accept != nil {
			suffixOf(m.Accept.Address, "lab-0")
			headersOf(m.Accept.Headers)
			if !strings.HasPrefix(m.Accept.Address, "wss://") {
				t.Errorf("taken: %q", m.Accept.Address)
			}
		}
	})
}
