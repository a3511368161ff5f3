//go:build unix

package source

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"dsvmpools/agent/source/gittest"
)

const testSecret = "s3cret-%/of+the test"

func TestReadCredential(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		says       string // "" = it is read
	}{
		{"a token", "url=https://github.com/acme\npassword=x\n", 0o600, ""},
		{"on Windows", "url=https://github.com\r\nusername=a\r\npassword=x\r\n", 0o400, ""},
		{"ssh", "url=ssh://git@host/\nkey=/k\nhosts=/h\n", 0o600, ""},
		{"readable by others", "url=https://github.com\npassword=x\n", 0o644, "chmod 600"},
		{"too long", "url=https://github.com\npassword=" + strings.Repeat("x", maxCredential), 0o600, "more than"},
		{"a bare token", "ghp_secret", 0o600, "not NAME=VALUE"},
		{"no url", "password=x\n", 0o600, "url="},
		{"a relative url", "url=github.com/acme\npassword=x\n", 0o600, "like https://"},
		{"a password in the url", "url=https://a:secret@github.com\n", 0o600, "as password="},
		{"no password", "url=https://github.com\n", 0o600, "no password="},
		{"another name", "url=https://github.com\ntoken=secret\n", 0o600, "other than"},
		{"another scheme", "url=ftp://github.com\npassword=x\n", 0o600, "neither https nor ssh"},
		{"a key without hosts", "url=ssh://git@host/\nkey=/k\n", 0o600, "key= or hosts="},
		{"a key that is a command", "url=ssh://git@host/\nkey=/k -o ProxyCommand=x\nhosts=/h\n", 0o600, "key= or hosts="},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := gittest.Keep(t, "c", c.text)
			if err := os.Chmod(filepath.Join(dir, "c"), c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := readCredential(dir, "c")
			if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret")) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
	if _, err := readCredential("", "c"); err == nil {
		t.Error("a node without credentials gave one")
	}
	if _, err := readCredential(t.TempDir(), "."); err == nil {
		t.Error("a folder was read")
	}
}

func TestCredentialCovers(t *testing.T) {
	t.Parallel()
	c, err := parseCredential("url=https://GitHub.com/acme/\npassword=x\n")
	if err != nil {
		t.Fatal(err)
	}
	for repository, want := range map[string]bool{
		"https://github.com/acme/train": true, "https://github.com/acme": true,
		"https://github.com/acmeother/train": false, "https://github.com/other": false, "https://github.com.evil.example/acme/x": false,
		"https://github.com:444/acme/x": false, "http://github.com/acme/x": false, "ssh://git@github.com/acme/x": false,
	} {
		if got := c.covers(repository); got != want {
			t.Errorf("%s: got %v, want %v", repository, got, want)
		}
	}
	if got, want := strings.Join(c.helperConfig(), " "), "credential.https://GitHub.com.helper=!f() { cat <&3; }; f"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestScrub(t *testing.T) {
	t.Parallel()
	c := &credential{username: "ann", password: "p/w d"}
	const basic = "YW5uOnAvdyBk"
	if got, want := c.scrub("fatal: p/w d, p%2Fw%20d, p%2Fw+d, "+basic+"."), "fatal: ***, ***, ***, ***."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzCredential: whatever a file says, its refusal quotes nothing of it, and what
// is read cannot break out of git's configuration or ssh's command.
func FuzzCredential(f *testing.F) {
	for _, seed := range []string{"url=https://github.com/acme\nusername=a\npassword=b\n", "url=ssh://git@h/\nkey=/a\nhosts=/b\n",
		"# x\n\nurl=https://a:b@c\n", "url=https://[::1]:8/\npassword=\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCredential(text)
		if err != nil {
			if len(err.Error()) > 200 {
				t.Fatalf("got %v", err)
			}
			return
		}
		for _, line := range append(c.helperConfig(), c.sshCommand(""), strconv.Quote(c.username)) {
			if strings.ContainsAny(line, "\n\r\x00") {
				t.Fatalf("got %q", line)
			}
		}
	})
}
