package boot

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"path"
	"strings"

	"dsvmpools/shared/fault"
	"dsvmpools/shared/pool"
)

// Version is that of the documents written here. A field that an older agent may pass over
// is added without a new one; a field that no agent may pass over raises it.
const Version = 1

// MaxDocument is the most that Azure takes as user data, in bytes before encoding.
const MaxDocument = 64 << 10

// Document is what a pool wants of its nodes before they take work: the user data of
// their scale set, as JSON.
type Document struct {
	V      int          `json:"v"`
	Shares []pool.Share `json:"shares,omitempty"` // mounted by units of systemd; locally each is a folder
	Setup  string       `json:"setup,omitempty"`  // script that the agent runs as root, once at every boot
}

// NewDocument returns the document of a pool's nodes.
func NewDocument(spec pool.Spec) Document {
	return Document{V: Version, Shares: spec.Shares, Setup: spec.Setup}
}

// JSON is the document as it is stored.
func (d Document) JSON() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(d) // texts and numbers alone: never fails
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Parse reads the user data of a node as the metadata endpoint answers with it: base64 of
// a document. Without user data the document is empty. Fields that are not known are
// passed over, so that an agent can run under a newer app; a newer version is refused,
// since it asks for something that this agent would not do.
func Parse(userData string) (Document, error) {
	userData = strings.TrimSpace(userData)
	if userData == "" {
		return Document{V: Version}, nil
	}
	if len(userData) > base64.StdEncoding.EncodedLen(MaxDocument) {
		return Document{}, invalid("", "the user data has %d characters; Azure takes %d bytes", len(userData), MaxDocument)
	}
	text, err := base64.StdEncoding.DecodeString(userData)
	if err != nil {
		return Document{}, invalid("", "the user data is no base64: %v", err)
	}
	var d Document
	if err := json.Unmarshal(text, &d); err != nil {
		return Document{}, invalid("", "the user data is no document: %v", err)
	}
	return d, d.check()
}

// check finds what an agent cannot do.
func (d Document) check() error {
	if d.V != Version {
		return invalid("v", "the user data has version %d, and this agent knows %d; replace the agent of the image", d.V, Version)
	}
	for _, s := range d.Shares {
		if s.Account == "" || s.Name == "" || !path.IsAbs(s.Path) || path.Clean(s.Path) != s.Path || s.Path == "/" ||
			strings.ContainsAny(s.Account+s.Name, "/\x00") || strings.Contains(s.Path, "\x00") ||
			s.Account == ".." || s.Name == ".." || s.Account == "." || s.Name == "." {
			return invalid("shares", "the share %q of account %q at %q is none that can be mounted", s.Name, s.Account, s.Path)
		}
	}
	if strings.ContainsRune(d.Setup, 0) {
		return invalid("setup", "the setup has a NUL character")
	}
	return nil
}

// Variables are the environment variables by which a job finds the shares of its pool,
// each with the name of its share: DSVM_SHARE_DATA_SETS is the path of the share
// data-sets. Where shares of different accounts have the same name, the account comes
// before it: DSVM_SHARE_ACMEDATA_DATA_SETS.
func (d Document) Variables() map[string]pool.Share {
	count := map[string]int{}
	for _, s := range d.Shares {
		count[s.Name]++
	}
	variables := make(map[string]pool.Share, len(d.Shares))
	for _, s := range d.Shares {
		name := s.Name
		if count[name] > 1 {
			name = s.Account + "-" + name
		}
		variables["DSVM_SHARE_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))] = s
	}
	return variables
}

func invalid(field, format string, args ...any) error {
	return fault.New(fault.Invalid, field, format, args...)
}
