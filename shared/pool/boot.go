package pool

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"dsvmpools/shared/document"
)

// Share is a file share that is mounted on every node of a pool.
type Share struct {
	Account  string `json:"account"` // the storage account
	Name     string `json:"name"`    // of the share within it
	Path     string `json:"path"`    // on the node: absolute and clean
	Protocol string `json:"protocol"`
	Auth     string `json:"auth,omitempty"` // of SMB: AuthKey or AuthIdentity; "" = NFS, which has no login
}

// Protocols of a share, and how a node logs in.
const (
	ProtocolSMB  = "smb"
	ProtocolNFS  = "nfs"
	AuthKey      = "key"      // with the key of the account, which the node reads from a vault
	AuthIdentity = "identity" // with the identity of the node
)

// SharePath is where the share of the deployment is on a node. A share of a pool with
// this path takes its place.
const SharePath = "/mnt/share"

// Limits of what a node does when it boots.
const (
	maxShares = 8
	maxSetup  = 16 << 10 // bytes: script and shares travel in 64 KiB of base64
)

var (
	accountPattern   = regexp.MustCompile(`^[a-z0-9]{3,24}$`)
	shareNamePattern = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	pathPattern      = regexp.MustCompile(`^(/[A-Za-z0-9._-]+)+$`)
)

// systemDirectories hold what the node itself needs: no share is mounted over them.
var systemDirectories = []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp",
	"/usr", "/var"}

// readShares reads the field `share`: one object, or a list of them.
func readShares(r *document.Reader) []Share {
	const example = `{"account": "acmedata", "name": "data", "path": "/mnt/data"}`
	var shares []Share
	for _, sub := range r.OneOrMore("share", example, "account", "name", "path", "protocol", "auth") {
		s := Share{
			Account:  sub.String("account", "acmedata"),
			Name:     sub.String("name", "data"),
			Path:     withDefault(sub.String("path", "/mnt/data"), SharePath),
			Protocol: withDefault(sub.String("protocol", ProtocolSMB), ProtocolSMB),
			Auth:     sub.String("auth", AuthKey),
		}
		if s.Protocol == ProtocolSMB {
			s.Auth = withDefault(s.Auth, AuthKey)
		}
		shares = append(shares, s)
	}
	return shares
}

func validateShares(shares []Share) error {
	if len(shares) > maxShares {
		return invalid("share", "`share` names %d shares; name at most %d", len(shares), maxShares)
	}
	for i, s := range shares {
		field := "share"
		if len(shares) > 1 {
			field = fmt.Sprintf("share[%d]", i)
		}
		if err := s.validate(field); err != nil {
			return err
		}
		for _, other := range shares[:i] {
			if isWithin(s.Path, other.Path) || isWithin(other.Path, s.Path) {
				return invalid(field+".path", "`%s.path` is %s, and another share is at %s; give each a path of its own, none below another",
					field, s.Path, other.Path)
			}
		}
	}
	return nil
}

func (s Share) validate(field string) error {
	switch {
	case !accountPattern.MatchString(s.Account):
		return invalid(field+".account", "`%s.account` is %q; the name of a storage account has 3 to 24 characters of a-z 0-9",
			field, document.Clip(s.Account))
	case len(s.Name) < 3 || len(s.Name) > 63 || !shareNamePattern.MatchString(s.Name):
		return invalid(field+".name", "`%s.name` is %q; the name of a share has 3 to 63 characters of a-z 0-9 -, "+
			"no - at an end, and no two together",
			field, document.Clip(s.Name))
	case !pathPattern.MatchString(s.Path) || path.Clean(s.Path) != s.Path || len(s.Path) > 200:
		return invalid(field+".path", "`%s.path` is %q; write an absolute path of A-Z a-z 0-9 . _ - and /, without . and .., such as /mnt/data",
			field, document.Clip(s.Path))
	case s.Protocol != ProtocolSMB && s.Protocol != ProtocolNFS:
		return invalid(field+".protocol", "`%s.protocol` is %q; write smb or nfs", field, document.Clip(s.Protocol))
	case s.Protocol == ProtocolNFS && s.Auth != "":
		return invalid(field+".auth", "`%s.auth` is %q, and NFS has no login: who is in the network may mount the share; leave `auth` out",
			field, document.Clip(s.Auth))
	case s.Protocol == ProtocolSMB && s.Auth != AuthKey && s.Auth != AuthIdentity:
		return invalid(field+".auth", "`%s.auth` is %q; write key or identity", field, document.Clip(s.Auth))
	case s.Path != SharePath && isWithin(s.Path, SharePath):
		return invalid(field+".path", "`%s.path` is %s, which lies in the deployment's share; write a path beside %s, such as /mnt/data",
			field, s.Path, SharePath)
	}
	for _, dir := range systemDirectories {
		if isWithin(s.Path, dir) || s.Path == "/mnt" || s.Path == "/home" || s.Path == "/opt" {
			return invalid(field+".path", "`%s.path` is %s, which the node needs itself; write another, such as /mnt/data", field, s.Path)
		}
	}
	return nil
}

// isWithin reports whether a path is a directory or lies below it.
func isWithin(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func validateSetup(script string) error {
	switch {
	case len(script) > maxSetup:
		return invalid("setup", "`setup` has %d bytes; shorten it to %d, and put what is longer on the share", len(script), maxSetup)
	case strings.ContainsRune(script, 0):
		return invalid("setup", "`setup` has a NUL character; remove it")
	case script != "" && strings.TrimSpace(script) == "":
		return invalid("setup", "`setup` is blank; write what a node runs before it takes work, or leave it out")
	}
	return nil
}
