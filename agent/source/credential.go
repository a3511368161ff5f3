package source

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"dsvmpools/agent/process"
	"dsvmpools/agent/startfault"
)

// maxCredential bounds a credential's file, and fits into a pipe at once.
const maxCredential = 16 << 10

// credential is a secret that the node's agent keeps for repositories. Its file
// has lines NAME=VALUE:
//
//   - url: it is for this address and what is below it. Required.
//   - username, password: for https. A token is a password.
//   - key, hosts: for ssh, the files of the private key and of the known hosts.
type credential struct {
	url                *url.URL
	username, password string
	key, hosts         string
}

// readCredential reads the credential of a name. The error is a sentence for the
// job's owner and quotes nothing of the file.
func readCredential(dir, name string) (*credential, error) {
	if dir == "" {
		return nil, fmt.Errorf("the source names the credential %q, and this node has none; set DSVM_CREDENTIALS_DIR", name)
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDONLY|process.OpenAtOnce, 0)
	if err != nil {
		return nil, fmt.Errorf("the source's credential %q cannot be read on this node: %w", name, startfault.Innermost(err))
	}
	defer f.Close()
	at, err := f.Stat()
	if err != nil || !at.Mode().IsRegular() || !process.IsPrivate(at) {
		return nil, fmt.Errorf("the source's credential %q is not used: its file on the node may be read by others; chmod 600 it", name)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxCredential+1))
	if err != nil || len(text) > maxCredential {
		return nil, fmt.Errorf("the source's credential %q cannot be read on this node: its file has more than %d bytes", name, maxCredential)
	}
	c, err := parseCredential(string(text))
	if err != nil {
		return nil, fmt.Errorf("the source's credential %q cannot be used: its file on the node %w", name, err)
	}
	return c, nil
}

// parseCredential reads the lines of a credential's file.
func parseCredential(text string) (*credential, error) {
	c := &credential{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, errors.New("has a line that is not NAME=VALUE")
		}
		switch name {
		case "url":
			u, err := url.Parse(value)
			if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
				return nil, errors.New("has a url that is not like https://github.com/acme")
			}
			if _, secret := u.User.Password(); secret {
				return nil, errors.New("has a password in its url; write it as password=")
			}
			c.url = u
		case "username":
			c.username = value
		case "password":
			c.password = value
		case "key":
			c.key = value
		case "hosts":
			c.hosts = value
		default:
			return nil, errors.New("has a name other than url, username, password, key and hosts")
		}
	}
	if c.url == nil {
		return nil, errors.New("does not say with url= which repositories it is for")
	}
	switch c.url.Scheme {
	case "https", "http":
		if c.password == "" || c.key != "" {
			return nil, errors.New("has no password=, or a key, which is for ssh")
		}
		if c.username == "" {
			c.username = "git" // the services look at the token alone
		}
	case "ssh":
		if !filepath.IsAbs(c.key) || !filepath.IsAbs(c.hosts) || strings.ContainsAny(c.key+c.hosts, " \"'\\%$`") {
			return nil, errors.New("lacks key= or hosts=, absolute paths of plain characters")
		}
	default:
		return nil, errors.New("has a url that is neither https nor ssh")
	}
	return c, nil
}

// covers reports whether a credential is for a repository.
func (c *credential) covers(repository string) bool {
	u, err := url.Parse(repository)
	if c == nil || err != nil {
		return false
	}
	// A way around in the path would leave what the credential is for.
	base := strings.TrimRight(c.url.EscapedPath(), "/") + "/"
	return u.Scheme == c.url.Scheme && strings.EqualFold(u.Host, c.url.Host) && strings.HasPrefix(u.EscapedPath()+"/", base)
}

// helperConfig is the configuration of git for a credential, without its secret: whom to ask,
// for that host only, wherever a server redirects it.
func (c *credential) helperConfig() []string {
	if c == nil || c.url.Scheme == "ssh" {
		return nil
	}
	return []string{fmt.Sprintf("credential.%s://%s.helper=!f() { cat <&%d; }; f", c.url.Scheme, c.url.Host, helperFD)}
}

// sshCommand is how git calls ssh: without anything of a user's, and never
// asking. Without a credential it knows no host, and fails. host says whom it connects to.
func (c *credential) sshCommand(host string) string {
	command := "ssh -F /dev/null" + host + " -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes" +
		" -o ConnectTimeout=60 -o GlobalKnownHostsFile=/dev/null"
	if c == nil || c.url.Scheme != "ssh" {
		return command + " -o UserKnownHostsFile=/dev/null -o IdentityFile=none"
	}
	return command + " -o UserKnownHostsFile=" + c.hosts + " -i " + c.key
}

// openPipe returns a file from which the credential can be read once.
func (c *credential) openPipe() (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	if c.url.Scheme != "ssh" {
		if _, err := fmt.Fprintf(w, "username=%s\npassword=%s\n", c.username, c.password); err != nil {
			r.Close()
			return nil, err
		}
	}
	return r, nil
}

// scrub takes a credential out of a text, in the forms it could be quoted in.
func (c *credential) scrub(text string) string {
	if c == nil || c.password == "" {
		return text
	}
	basic := base64.StdEncoding.EncodeToString([]byte(c.username + ":" + c.password))
	const hidden = "***"
	return strings.NewReplacer(basic, hidden, c.password, hidden,
		url.QueryEscape(c.password), hidden, url.PathEscape(c.password), hidden).Replace(text)
}
