package boot

import (
	"bytes"
	"encoding/json"
	"path"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"

	"dsvmpools/shared/pool"
)

// MaxCustomData is the most that Azure takes as custom data, in bytes before encoding.
const MaxCustomData = 65535

// Config is what custom data is made of: settings of the deployment, and the shares of one
// pool. Nothing in it is a secret.
type Config struct {
	Template string // that of package infra

	AgentURL    string // https, of a blob that the node's identity may read; "" = the image carries the agent
	AgentSHA256 string // of the agent, in hexadecimal
	ClientID    string // of the node's identity; "" = the machine's only one

	ServiceBusNamespace string // fully qualified
	WorkQueue           string // "" = the agent's default
	NodeEventsQueue     string // "" = the agent's default
	LogBound            string // DSVM_LOG_BOUND; "" = the agent's default
	DoorCertificate     string // DSVM_DOOR_CERTIFICATE; "" = the door of a node makes its own
	ResourceManager     string // endpoint; "" = that of the public cloud

	Share       Share        // the deployment's own, at pool.SharePath unless a share of the pool is there
	ShareKeyURL string       // https, of the vault's secret with the key of Share's account; its vault has the keys of other accounts
	Shares      []pool.Share // of the pool
	Sessions    bool         // people work on the pool's nodes, which needs an SSH server
}

// Share is the deployment's share; the zero Share is none, and the image mounts it.
type Share struct {
	Account string
	Name    string
	Auth    string // pool.AuthKey or pool.AuthIdentity
}

// KeySecretPrefix begins the names of the secrets with keys of other storage accounts than
// the deployment's: the name of the account follows.
const KeySecretPrefix = "share-key-"

// Suffixes of the public cloud, where no URL names another.
const (
	storageSuffix = "core.windows.net"
	publicVault   = "vault.azure.net"
)

var (
	accountPattern = regexp.MustCompile(`^[a-z0-9]{3,24}$`)
	namePattern    = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
	pathPattern    = regexp.MustCompile(`^(/[A-Za-z0-9._-]+)+$`)
	hostPattern    = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`)
	hashPattern    = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
)

// CloudInit renders the custom data of a pool's nodes. Its errors are faults with the code
// Invalid: a value that cannot be written safely is refused and never repaired.
func CloudInit(c Config) ([]byte, error) {
	shares := c.shares()
	files, err := c.files(shares)
	if err != nil {
		return nil, err
	}
	t, err := template.New("node").Option("missingkey=error").Funcs(template.FuncMap{"yaml": yamlText}).Parse(c.Template)
	if err != nil {
		return nil, invalid("", "the template of the custom data cannot be read: %v", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, files); err != nil {
		return nil, invalid("", "the custom data cannot be rendered: %v", err)
	}
	if b.Len() > MaxCustomData {
		return nil, invalid("", "the custom data of a node would have %d bytes; Azure takes at most %d: shorten the settings of the nodes",
			b.Len(), MaxCustomData)
	}
	return b.Bytes(), nil
}

// files are what the template writes.
type files struct {
	Environment string // of the agent and of the setup, for systemd
	Logins      string // one line for each account of shares
	Units       string // the names of the mount units, a line each
	Mounts      []mount
}

// mount is the unit of a share.
type mount struct{ File, Text string }

func (c Config) files(shares []pool.Share) (files, error) {
	var f files
	var err error
	if f.Environment, err = c.environment(); err != nil {
		return f, err
	}
	for _, s := range shares {
		if err := checkShare(s); err != nil {
			return f, err
		}
		login, err := c.login(s)
		if err != nil {
			return f, err
		}
		if !strings.Contains(f.Logins, login) {
			f.Logins += login
		}
		unit := unitName(s.Path)
		f.Units += unit + "\n"
		f.Mounts = append(f.Mounts, mount{File: "/etc/systemd/system/" + unit, Text: c.unit(s)})
	}
	return f, nil
}

// shares are those of the pool and the deployment's own, which a share of the pool at the
// same path replaces.
func (c Config) shares() []pool.Share {
	isOwn := func(s pool.Share) bool { return s.Path == pool.SharePath }
	if c.Share == (Share{}) || slices.ContainsFunc(c.Shares, isOwn) {
		return c.Shares
	}
	own := pool.Share{Account: c.Share.Account, Name: c.Share.Name, Path: pool.SharePath, Protocol: pool.ProtocolSMB, Auth: c.Share.Auth}
	if own.Auth == "" {
		own.Auth = pool.AuthKey
	}
	return slices.Concat([]pool.Share{own}, c.Shares)
}

// checkShare refuses what cannot stand in a unit or a line as it is, wherever it comes from.
func checkShare(s pool.Share) error {
	switch {
	case !accountPattern.MatchString(s.Account):
		return invalid("share.account", "the storage account %.60q of a share is no name of an account", s.Account)
	case !namePattern.MatchString(s.Name):
		return invalid("share.name", "%.80q is no name of a share", s.Name)
	case !pathPattern.MatchString(s.Path) || path.Clean(s.Path) != s.Path:
		return invalid("share.path", "the path %.80q of a share cannot be that of a mount", s.Path)
	case s.Protocol == pool.ProtocolNFS:
		return nil
	case s.Protocol != pool.ProtocolSMB || s.Auth != pool.AuthKey && s.Auth != pool.AuthIdentity:
		return invalid("share.protocol", "the share %s cannot be mounted by %.20q with %.20q", s.Name, s.Protocol, s.Auth)
	}
	return nil
}

// environment is the file of the settings: lines NAME="value" as systemd reads them.
func (c Config) environment() (string, error) {
	if (c.AgentURL == "") != (c.AgentSHA256 == "") || c.AgentSHA256 != "" && !hashPattern.MatchString(c.AgentSHA256) {
		return "", invalid("DSVM_AGENT_SHA256",
			"the agent has no SHA-256 that a node can check; set DSVM_AGENT_URL and DSVM_AGENT_SHA256, or neither")
	}
	if c.AgentURL != "" {
		if _, err := hostOf("DSVM_AGENT_URL", c.AgentURL); err != nil {
			return "", err
		}
	}
	settings := [][2]string{
		{"AZURE_CLIENT_ID", c.ClientID},
		{"AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential"},
		{"ServiceBusConnection__fullyQualifiedNamespace", c.ServiceBusNamespace},
		{"AZURE_RESOURCE_MANAGER_ENDPOINT", c.ResourceManager},
		{"WORK_QUEUE", c.WorkQueue},
		{"NODE_EVENTS_QUEUE", c.NodeEventsQueue},
		{"SHARE_PATH", pool.SharePath},
		{"DSVM_LOG_BOUND", c.LogBound},
		{"DSVM_DOOR_CERTIFICATE", c.DoorCertificate},
		{"DSVM_SESSIONS", c.sessions()},
		{"DSVM_AGENT_URL", c.AgentURL},
		{"DSVM_AGENT_SHA256", strings.ToLower(c.AgentSHA256)},
	}
	if c.ShareKeyURL != "" {
		host, err := hostOf("DSVM_SHARE_KEY_URL", c.ShareKeyURL)
		if err != nil {
			return "", err
		}
		_, suffix, _ := strings.Cut(host, ".")
		settings = append(settings, [2]string{"DSVM_VAULT_RESOURCE", "https://" + suffix})
		if suffix != publicVault {
			settings = append(settings, [2]string{"DSVM_VAULT_SUFFIX", suffix})
		}
	}
	var b strings.Builder
	for _, s := range settings {
		if s[1] == "" {
			continue
		}
		value, err := quoteEnvironment(s[1])
		if err != nil {
			return "", invalid(s[0], "%s of the nodes is %.60q, which has a character that no setting may have", s[0], s[1])
		}
		b.WriteString(s[0] + "=" + value + "\n")
	}
	return b.String(), nil
}

// sessions is the word for the setup of nodes on which people work.
func (c Config) sessions() string {
	if c.Sessions {
		return "true"
	}
	return ""
}

// login is the line for the account of a share: what the setup fetches for its mount.
func (c Config) login(s pool.Share) (string, error) {
	switch {
	case s.Protocol == pool.ProtocolNFS:
		return "nfs " + s.Account + " " + c.fileHost(s.Account) + "\n", nil
	case s.Auth == pool.AuthIdentity:
		return "identity " + s.Account + " " + c.fileHost(s.Account) + "\n", nil
	case c.ShareKeyURL == "":
		return "", invalid("share.auth",
			"the deployment names no vault with keys of storage accounts, so the share %s cannot be mounted by key; "+
				"write `auth: identity`, or set DSVM_SHARE_KEY_URL", s.Name)
	}
	secret := c.ShareKeyURL
	if s.Account != c.Share.Account {
		vault, err := hostOf("DSVM_SHARE_KEY_URL", c.ShareKeyURL)
		if err != nil {
			return "", err
		}
		secret = "https://" + vault + "/secrets/" + KeySecretPrefix + s.Account
	}
	return "key " + s.Account + " " + secret + "\n", nil
}

// fileHost is the host of an account's shares, in the cloud that the agent's blob is in.
func (c Config) fileHost(account string) string {
	suffix := storageSuffix
	if host, err := hostOf("", c.AgentURL); err == nil {
		if _, other, ok := strings.Cut(host, ".blob."); ok {
			suffix = other
		}
	}
	return account + ".file." + suffix
}

// Options of mounts. Of SMB: version 3.1.1 alone, encrypted; Azure Files keeps no owners,
// so all belongs to the group of the jobs' user; what others have written is seen after a
// second, so that logs can be followed. Of NFS: several connections, as Azure advises.
const (
	smbOptions = "_netdev,vers=3.1.1,seal,uid=dsvmjob,gid=dsvmjob,dir_mode=0770,file_mode=0660,serverino,nosharesock,mfsymlinks,actimeo=1"
	nfsOptions = "_netdev,vers=4.1,sec=sys,nconnect=4,actimeo=1"
)

// unit is the mount unit of a share, whose parts checkShare has judged: none has a
// character that systemd reads as anything but itself.
func (c Config) unit(s pool.Share) string {
	host := c.fileHost(s.Account)
	what, kind, options := "//"+host+"/"+s.Name, "cifs", smbOptions+",credentials=/etc/dsvmpools/"+s.Account+".cred"
	switch {
	case s.Protocol == pool.ProtocolNFS:
		what, kind, options = host+":/"+s.Account+"/"+s.Name, "nfs", nfsOptions
	case s.Auth == pool.AuthIdentity:
		options = smbOptions + ",sec=krb5,cruid=0"
	}
	return `[Unit]
Description=dsvmpools: share ` + s.Name + `
After=network-online.target dsvm-setup.service

[Mount]
What=` + what + `
Where=` + s.Path + `
Type=` + kind + `
Options=` + options + `
TimeoutSec=60
`
}

// unitName is the name that systemd demands of the unit for a mount at a path, as
// `systemd-escape --path` prints it.
func unitName(at string) string {
	name := strings.ReplaceAll(strings.TrimPrefix(at, "/"), "-", `\x2d`)
	if rest, hidden := strings.CutPrefix(name, "."); hidden {
		name = `\x2e` + rest
	}
	return strings.ReplaceAll(name, "/", "-") + ".mount"
}

// hostOf is the host of an https URL that can stand in a line of words.
func hostOf(setting, address string) (string, error) {
	rest, secure := strings.CutPrefix(address, "https://")
	host, _, _ := strings.Cut(rest, "/")
	if !secure || !hostPattern.MatchString(host) || strings.ContainsAny(address, "?#") ||
		strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", invalid(setting, "%s is %.80q; write an https URL without a query", setting, address)
	}
	return host, nil
}

// quoteEnvironment quotes a value for a file of systemd's EnvironmentFile. In double quotes
// systemd, like a shell, takes a backslash before these four characters, and nothing else.
func quoteEnvironment(value string) (string, error) {
	if err := checkText(value); err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range value {
		if strings.ContainsRune("\"\\`$", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	b.WriteByte('"')
	return b.String(), nil
}

// checkText refuses characters that systemd drops or that end a line.
func checkText(value string) error {
	if !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return invalid("", "%.60q has a character that cannot be printed", value)
	}
	return nil
}

// yamlText is a text as YAML reads it: JSON, whose strings are YAML's in double quotes.
func yamlText(text string) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}
